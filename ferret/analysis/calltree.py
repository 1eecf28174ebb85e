"""The merged call tree, in memory for its paths alone: all spans of one name under one path of names are one node.

A run is read from its end. Parents are stored after their children, so that they come first, and a span's path is known
when it comes: its parent's, and its own name. A span is forgotten when all spans to come had ended before it began.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from ferret.analysis import chunks as chunking
from ferret.analysis.chunks import NameIndex, chunk_of, find, joined
from ferret.analysis.families import Families
from ferret.analysis.paths import COUNT, DEEPER, ERRORS, ROOT, SELF, TOTAL, Paths
from ferret.sinks.backwards import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ferret.analysis.chunks import Chunk, UInt64
    from ferret.analysis.tree import PathNode
    from ferret.packing import Int64
    from ferret.segment import Segment

MISSING: Final = 1 << 14
"""So many parents that were not seen may be awaited at a time. Beyond that, what is below the one that has been awaited
longest becomes roots: a parent that was lost, or that never ended, does not come."""


class _Open(NamedTuple):
    """The spans that may have children to come, sorted by id."""

    span_id: Int64
    path: Int64
    start_ns: Int64
    left_ns: Int64
    """Running time without that of the children so far; or the self time, where that was measured."""
    track: UInt64
    """0 where the self time was measured: no child's track is that."""


_NOTHING: Final = _Open._make([np.zeros(0, dtype=np.int64)] * 4 + [np.zeros(0, dtype=np.uint64)])


class PathTotals:
    """Fed with the chunks of a run from its end. Not thread-safe.

    Memory grows with the paths, and with how many spans were open at the same moment.

    Args:
        depth: how many levels to tell apart; all unless given.
    """

    def __init__(self, depth: int | None = None) -> None:
        self.names = NameIndex()
        self._limit = depth
        self._paths = Paths()
        self._missing: dict[int, int] = {}
        self._open = _NOTHING

    def add(self, chunk: Chunk, horizon: int) -> None:
        """Count the chunk's spans in.

        Args:
            chunk: spans that were stored before those of the last chunk; their names are numbered by `names`.
            horizon: when the latest of the spans that are still to come ended, in nanoseconds since the epoch.
        """
        families = Families(chunk.span_id, chunk.parent_id)
        outside = np.flatnonzero((families.parent < 0) & (chunk.parent_id != 0))
        known, at = find(self._open.span_id, chunk.parent_id[outside])
        inside = np.full(len(chunk.name), ROOT)
        inside[outside[known]] = self._open.path[at[known]]
        inside[outside[~known]] = self._awaited(chunk.parent_id[outside[~known]])
        path = self._paths_of(chunk, families, inside)

        seen = path != DEEPER
        totals = self._paths.totals
        np.add.at(totals[COUNT], path[seen], 1)
        np.add.at(totals[TOTAL], path[seen], chunk.duration_ns[seen])
        np.add.at(totals[ERRORS], path[seen], chunk.failed[seen])

        measured = chunk.self_ns >= 0
        left, track = chunk.running_ns.copy(), np.where(measured, np.uint64(0), chunk.track)
        children = np.flatnonzero(families.parent >= 0)
        _take(left, track, families.parent[children], chunk, children)
        _take(self._open.left_ns, self._open.track, at[known], chunk, outside[known])
        left[measured] = chunk.self_ns[measured]
        self._settle(_Open(chunk.span_id, path, chunk.start_ns, left, track), horizon)
        self._welcome(chunk, path)

    def roots(self) -> list[PathNode]:
        """What was added up: the roots, and below each its calls, the longest first. Nothing may be added after it."""
        self._settle(_NOTHING, NEVER)
        for path in self._missing.values():
            self._paths.move(path, ROOT)
        return self._paths.nodes(list(self.names.numbers), self._limit)

    def _paths_of(self, chunk: Chunk, families: Families, inside: Int64) -> Int64:
        """The path of each span, level by level: its name below its parent's; `inside` is that of parents elsewhere."""
        path = np.full(len(chunk.name), DEEPER)
        names = len(self.names)
        level = families.tops
        above = inside[level]
        while len(level):
            if self._limit is not None:
                seen = (above != DEEPER) & (self._paths.depth[above] < self._limit)
                level, above = level[seen], above[seen]
            key, place = np.unique(above * names + chunk.name[level], return_inverse=True)
            numbers = [self._paths.below(*divmod(one, names)) for one in key.tolist()]
            path[level] = np.array(numbers, dtype=np.int64)[place]
            children, count = families.children(level)
            above = np.repeat(path[level], count)
            level = children
        return path

    def _awaited(self, parent_id: Int64) -> Int64:
        """Paths for parents that were not seen: a child may end after its parent. Nobody knows yet where they lead."""
        ids, place = np.unique(parent_id, return_inverse=True)
        for one in ids.tolist():
            if one not in self._missing:
                self._missing[one] = self._paths.apart()
        return np.array([self._missing[one] for one in ids.tolist()], dtype=np.int64)[place]

    def _settle(self, new: _Open, horizon: int) -> None:
        """Keep the spans that may have children to come. Of the others the self time is known."""
        table = _Open._make(np.concatenate(both) for both in zip(self._open, new, strict=True))
        open_still = table.start_ns <= horizon
        done = ~open_still & (table.path != DEEPER)
        np.add.at(self._paths.totals[SELF], table.path[done], np.maximum(table.left_ns[done], 0))
        kept = np.flatnonzero(open_still)
        kept = kept[np.argsort(table.span_id[kept], kind="stable")]
        self._open = _Open._make(column[kept] for column in table)

    def _welcome(self, chunk: Chunk, path: Int64) -> None:
        """Bring what awaited a span of the chunk to where it belongs."""
        if not self._missing:
            return
        awaited = list(self._missing)
        order = np.argsort(chunk.span_id, kind="stable")
        came, at = find(chunk.span_id[order], np.array(awaited, dtype=np.int64))
        targets = dict.fromkeys(awaited[: max(len(awaited) - MISSING, 0)], ROOT)
        for index in np.flatnonzero(came).tolist():
            targets[awaited[index]] = int(path[order[at[index]]])
        gone: dict[int, int] = {}
        for span_id, found in targets.items():
            source, target = self._missing[span_id], _follow(gone, found)
            # spans can be each other's parents, in a file that is forged: they become roots in the end
            if not self._paths.is_below(target, source):
                del self._missing[span_id]
                gone |= self._paths.move(source, target)
        if gone:
            now = np.arange(len(self._paths.depth) + 1)
            now[list(gone)] = [_follow(gone, one) for one in gone]
            now[DEEPER] = DEEPER  # the last place, which is nobody's
            self._open = self._open._replace(path=now[self._open.path])


def merge_paths(segments: Iterable[tuple[Segment, int]], depth: int | None = None) -> list[PathNode]:
    """The roots of the merged call tree: spans of the same name under the same path are one node.

    Args:
        segments: those of one run from the last to the first, with their horizons: see `ferret.sinks.backwards`.
        depth: how many levels to build; all of them unless given.
    """
    totals = PathTotals(depth)
    for chunk, horizon in _backwards(segments, totals.names):
        totals.add(chunk, horizon)
    return totals.roots()


def _backwards(segments: Iterable[tuple[Segment, int]], names: NameIndex) -> Iterator[tuple[Chunk, int]]:
    waiting: list[Chunk] = []
    spans, horizon = 0, NEVER
    for segment, horizon in segments:
        if len(segment):
            waiting.append(chunk_of(segment, names))
            spans += len(segment)
        if spans >= chunking.CHUNK:
            yield joined(waiting[::-1]), horizon
            waiting, spans = [], 0
    if spans:
        yield joined(waiting[::-1]), horizon


def _take(left: Int64, track: UInt64, parent: Int64, chunk: Chunk, children: Int64) -> None:
    """Take from parents the time that their children on the same track took."""
    same = track[parent] == chunk.track[children]
    np.subtract.at(left, parent[same], chunk.running_ns[children[same]])


def _follow(gone: dict[int, int], path: int) -> int:
    while path in gone:
        path = gone[path]
    return path
