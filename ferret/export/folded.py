"""Folded stacks: a line `outer;inner;innermost 12345` for each path of names, for flamegraph.pl, inferno and speedscope.

The number is the self time of all the spans of the path, in nanoseconds: whole numbers are all that the tools take, and
microseconds would make nothing of what is short and frequent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ferret.analysis.selftime import self_times
from ferret.analysis.tree import parents_of
from ferret.export.columns import collect
from ferret.export.text import frame_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ferret.export.columns import Int32
    from ferret.models import RunInfo
    from ferret.packing import Int64
    from ferret.segment import Segment

_LINES = 4096


def write(info: RunInfo, segments: Iterable[Segment], out: BinaryIO) -> int:  # noqa: ARG001 - all formats are called alike
    """Write the run's paths; the number of spans on them."""
    spans = collect(segments)
    if len(spans):
        parents = parents_of(spans.span_id, spans.parent_id)
        own = self_times(parents, spans.track, spans.duration_ns, spans.suspended_ns, spans.self_ns)
        lines: list[bytes] = []
        for line in _lines(*_paths(spans.name, parents, own), spans.names):
            lines.append(line)
            if len(lines) == _LINES:
                out.write(b"".join(lines))
                lines = []
        out.write(b"".join(lines))
    return len(spans)


def _paths(name: Int32, parents: Int64, own: Int64) -> tuple[list[int], list[int], list[int]]:
    """Each path's parent among them (-1 for none), name and self time; parents come before their children."""
    many = int(name.max()) + 1
    outer, names, totals = list[int](), list[int](), list[int]()
    path = np.full(len(parents) + 1, -1, dtype=np.int64)  # the last is the parent of roots
    level = np.flatnonzero(parents < 0)
    by_parent = np.argsort(parents, kind="stable")
    first = np.searchsorted(parents, np.arange(len(parents) + 1), sorter=by_parent)
    while len(level):
        key, index = np.unique((path[parents[level]] + 1) * many + name[level], return_inverse=True)
        path[level] = index + len(outer)
        total = np.zeros(len(key), dtype=np.int64)
        np.add.at(total, index, own[level])
        outer += (key // many - 1).tolist()
        names += (key % many).tolist()
        totals += total.tolist()
        level = by_parent[_ranges(first[level], first[level + 1])]
    return outer, names, totals


def _ranges(first: Int64, last: Int64) -> Int64:
    """`first[0], first[0] + 1, …, last[0] - 1`, then those from `first[1]`, and so on."""
    lengths = last - first
    before = np.cumsum(lengths) - lengths
    ranges: Int64 = np.arange(lengths.sum()) + np.repeat(first - before, lengths)
    return ranges


def _lines(outer: list[int], name: list[int], total: list[int], names: list[str]) -> Iterator[bytes]:
    frames = [frame_name(one).encode() for one in names]
    inner: dict[int, list[int]] = {}
    for path, parent in enumerate(outer):
        inner.setdefault(parent, []).append(path)
    stack = [(b"", path) for path in reversed(inner.get(-1, []))]
    while stack:
        before, path = stack.pop()
        frame = before + frames[name[path]]
        yield b"%s %d\n" % (frame, total[path])
        before = frame + b";"
        stack += [(before, one) for one in reversed(inner.get(path, []))]
