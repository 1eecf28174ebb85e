"""Trees of spans: each span as a node, or all the calls of one path merged into one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from ferret.aggregate.chunks import NameIndex, failed
from ferret.models import SpanModel, TraceNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ferret.segment import Int64, Segment


@dataclass
class PathNode:
    """All spans of one name under one path of names, taken together. Durations are in seconds.

    Children that ran side by side may add up to more than their parent.
    """

    name: str
    count: int
    total_duration: float
    error_count: int
    children: list[PathNode] = field(default_factory=list)
    """The longest in total first."""


def span_models(segment: Segment) -> Iterator[SpanModel]:
    """The segment's spans, each as a model."""
    for span in segment:
        yield SpanModel.model_validate(msgspec.structs.asdict(span))


def build_trees(segments: Iterable[Segment]) -> list[TraceNode]:
    """Each span as a node under its parent; a span whose parent is not among them is a root.

    Roots and children come in the order in which they started. Every span is there exactly once, whatever its
    ids say: of two spans with one id the first has the children, and in a circle of parents one is a root.
    """
    nodes: list[TraceNode] = []
    kept: list[tuple[Int64, ...]] = []
    for segment in segments:
        nodes += map(TraceNode, span_models(segment))
        kept.append((segment.span_id, segment.parent_id, segment.start_ns))
    if not nodes:
        return []
    span_id, parent_id, start_ns = (np.concatenate(column) for column in zip(*kept, strict=True))
    parents = parents_of(span_id, parent_id)
    order = np.lexsort((span_id, start_ns))
    roots: list[TraceNode] = []
    for index, parent in zip(order.tolist(), parents[order].tolist(), strict=True):
        siblings = nodes[parent].children if parent >= 0 else roots
        siblings.append(nodes[index])
    return roots


def merge_paths(segments: Iterable[Segment], depth: int | None = None) -> list[PathNode]:
    """The roots of the merged call tree: spans of the same name under the same path are one node.

    Holds about 130 bytes a span while it works, and a Python object per path, never one per span.

    Args:
        segments: the spans of one run.
        depth: how many levels to build; all of them unless given.
    """
    names = NameIndex()
    kept = [(one.span_id, one.parent_id, names.of(one), one.duration_ns, failed(one)) for one in segments if len(one)]
    if not kept:
        return []
    columns = _Columns(*(np.concatenate(column) for column in zip(*kept, strict=True)))
    return _merge(columns, list(names.numbers), depth)


class _Columns(NamedTuple):
    span_id: Int64
    parent_id: Int64
    name: Int64
    duration_ns: Int64
    failed: np.typing.NDArray[np.bool_]


def _merge(columns: _Columns, names: list[str], depth: int | None) -> list[PathNode]:
    """Level by level: a level's spans fall into paths, by their parent's path and their name."""
    parents = parents_of(columns.span_id, columns.parent_id)
    # the children of span i are by_parent[first[i + 1]:first[i + 2]], and the roots those of span -1
    by_parent = np.argsort(parents, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(parents + 1, minlength=len(parents) + 1))])
    top: list[PathNode] = []
    homes = [top]
    level, path = by_parent[: first[1]], np.zeros(first[1], dtype=np.int64)
    while len(level) and depth != 0:
        key, path = np.unique(path * len(names) + columns.name[level], return_inverse=True)
        nodes = [
            PathNode(names[one % len(names)], count, total / 1e9, int(errors))
            for one, count, total, errors in zip(
                key.tolist(),
                np.bincount(path).tolist(),
                np.bincount(path, weights=columns.duration_ns[level]).tolist(),
                np.bincount(path, weights=columns.failed[level]).tolist(),
                strict=True,
            )
        ]
        for one, node in zip(key.tolist(), nodes, strict=True):
            homes[one // len(names)].append(node)
        for siblings in homes:
            siblings.sort(key=lambda node: node.total_duration, reverse=True)
        homes = [node.children for node in nodes]
        start, count = first[level + 1], first[level + 2] - first[level + 1]
        path = np.repeat(path, count)
        level = by_parent[_ranges(start, count)]
        depth = None if depth is None else depth - 1
    return top


def _ranges(start: Int64, count: Int64) -> Int64:
    """`start[0], start[0] + 1, …` for `count[0]` numbers, then those from `start[1]`, and so on."""
    before = np.cumsum(count) - count
    ranges: Int64 = np.arange(count.sum()) + np.repeat(start - before, count)
    return ranges


def parents_of(span_id: Int64, parent_id: Int64) -> Int64:
    """Where each span's parent is, or -1 for none. Following it always ends at a -1."""
    order = np.argsort(span_id, kind="stable")
    found = order[np.minimum(np.searchsorted(span_id, parent_id, sorter=order), len(order) - 1)]
    parents: Int64 = np.where((span_id[found] == parent_id) & (parent_id != 0), found, -1)
    for start in _cycles(parents):
        parents[start] = -1
    return parents


def _cycles(parents: Int64) -> list[int]:
    """One span of every circle of parents. Only damaged or forged files have any."""
    ancestors = parents
    for _ in range(len(parents).bit_length()):  # 1, 2, 4, … generations up
        if (ancestors < 0).all():
            return []
        ancestors = np.where(ancestors < 0, -1, ancestors[ancestors])
    # after more generations than there are spans, an ancestor can only be in a circle
    chosen, seen = [], set()
    for start in np.unique(ancestors[ancestors >= 0]).tolist():
        if start not in seen:
            chosen.append(start)
        one = start
        while one not in seen:
            seen.add(one)
            one = int(parents[one])
    return chosen
