"""The slowest single traces of a run, found in some passes over it and in memory for what is shown of them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from ferret.analysis import chunks as chunking
from ferret.analysis.chunks import find
from ferret.analysis.families import Families
from ferret.errors import FormatError
from ferret.models import SpanModel, Trace, TraceNode
from ferret.sinks.backwards import NEVER, with_horizon

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ferret.analysis.chunks import Bools
    from ferret.batch import SpanData
    from ferret.packing import Int64
    from ferret.segment import Segment
    from ferret.sinks.base import Readable

SPANS: Final = 1000
"""Spans of a trace that are kept, unless something else is asked for."""
AWAITED: Final = 1 << 17
"""So many parents that are not there may be awaited at a time; those that were awaited longest are given up."""

_PASSES: Final = 8
"""A child that is stored after its parent needs a pass of its own; deeper chains of such children are cut."""
_FIRST: Final = np.iinfo(np.int64).max
_NONE: Final = np.zeros(0, dtype=np.int64)


def slowest(readable: Readable, run_id: str, count: int, spans: int = SPANS) -> list[Trace]:
    """The longest roots of a run, each with what is below it; the longest first.

    A root is a span without a parent, or whose parent is not in the run. Of a trace of more than `spans` spans the longest
    are kept, and of those the ones whose parents are kept too.
    """
    roots = list(dict.fromkeys(_longest_roots(readable, run_id, count).tolist()))
    seeds = {root: number for number, root in enumerate(roots)}
    traces = _Traces(roots, seeds, spans)
    for _ in range(_PASSES if roots else 0):
        traces = _Traces(roots, seeds, spans)
        for part, horizon in _parts(with_horizon(readable, run_id)):
            traces.add(part, horizon)
        if not traces.late:
            break
        seeds |= traces.late
    return [traces.tree(number) for number in range(len(roots))]


def _longest_roots(readable: Readable, run_id: str, count: int) -> Int64:
    """The ids of the longest spans that have no parent in the run, the longest first."""
    longest = _Longest(count)
    awaited = _NONE
    for part, _ in _parts((segment, NEVER) for segment in readable.segments(run_id)):
        span_id, parent_id = _column(part, "span_id"), _column(part, "parent_id")
        longest.add(part, (parent_id == 0) | (parent_id == span_id))
        # parents come after their children; whoever has not come in the end is not there
        new = parent_id[(parent_id != span_id) & (parent_id != 0)]
        awaited = np.concatenate([awaited[~np.isin(awaited, span_id)], np.unique(new[~np.isin(new, span_id)])])
        awaited = awaited[np.sort(np.unique(awaited, return_index=True)[1])][-AWAITED:]
    if len(awaited):  # some may have come before their children
        for part, _ in _parts((segment, NEVER) for segment in readable.segments(run_id)):
            awaited = awaited[~np.isin(awaited, _column(part, "span_id"))]
    if len(awaited):
        for part, _ in _parts((segment, NEVER) for segment in readable.segments(run_id)):
            longest.add(part, np.isin(_column(part, "parent_id"), awaited))
    return longest.span_id


class _Longest:
    """The longest spans of all that were added."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.span_id = self._duration_ns = _NONE

    def add(self, part: list[Segment], wanted: Bools) -> None:
        span_id = np.concatenate([self.span_id, _column(part, "span_id")[wanted]])
        duration_ns = np.concatenate([self._duration_ns, _column(part, "duration_ns")[wanted]])
        first = np.argsort(-duration_ns, kind="stable")[: self._count]
        self.span_id, self._duration_ns = span_id[first], duration_ns[first]


class _Traces:
    """Fed with a run from its end: then a span's parent comes before it, and so does the trace that it is of.

    Args:
        roots: the id of each trace's root.
        seeds: ids of spans that are known beforehand to be of a trace, and its number.
        spans: how many of each trace are kept.

    Attributes:
        late: such spans, of which it was found out too late.
    """

    def __init__(self, roots: list[int], seeds: dict[int, int], spans: int) -> None:
        self.late: dict[int, int] = {}
        self._roots = roots
        self._seeds = seeds
        self._seed_ids = np.sort(np.array(list(seeds), dtype=np.int64))
        self._spans = spans
        self._sizes = np.zeros(len(roots), dtype=np.int64)
        self._kept: list[list[tuple[int, SpanData]]] = [[] for _ in roots]
        """Of each trace the longest spans so far, the longest first, with what they are ordered by: the root comes first."""
        # the spans that may have children to come, sorted by id: their trace, or -1, and their start
        self._open = _NONE, _NONE, _NONE
        # children whose parents were not seen: the parent's id, and the child's
        self._orphans = _NONE, _NONE

    def add(self, part: list[Segment], horizon: int) -> None:
        span_id, parent_id, start_ns = (_column(part, name) for name in ("span_id", "parent_id", "start_ns"))
        families = Families(span_id, parent_id)
        trace = self._traces_of(span_id, parent_id, families)
        members = np.flatnonzero(trace >= 0)
        self._sizes += np.bincount(trace[members], minlength=len(self._sizes))
        self._keep(part, members, trace)
        self._note_late(span_id, trace)
        table = [np.concatenate(both) for both in zip(self._open, (span_id, trace, start_ns), strict=True)]
        kept = np.flatnonzero(table[2] <= horizon)
        kept = kept[np.argsort(table[0][kept], kind="stable")]
        self._open = table[0][kept], table[1][kept], table[2][kept]

    def tree(self, number: int) -> Trace:
        """The trace: its root, with what is kept of what is below it, in the order in which it began."""
        (_, root), *others = self._kept[number]
        below: dict[str | None, list[SpanData]] = defaultdict(list)
        for _, span in others:
            below[span.parent_id].append(span)
        top = Trace(_model(root))
        todo: list[TraceNode] = [top]
        shown = 1
        while todo:
            node = todo.pop()
            children = below.pop(node.span.span_id, [])
            children.sort(key=lambda one: (one.start_time, one.span_id))
            node.children = [TraceNode(_model(child)) for child in children]
            shown += len(children)
            todo += node.children
        top.hidden = int(self._sizes[number]) - shown
        return top

    def _traces_of(self, span_id: Int64, parent_id: Int64, families: Families) -> Int64:
        """The trace that each span is of: its own, if it is a seed, or else its parent's; -1 for none that is wanted."""
        trace = np.full(len(span_id), -1)
        outside = np.flatnonzero((families.parent < 0) & (parent_id != 0) & (parent_id != span_id))
        known, at = find(self._open[0], parent_id[outside])
        trace[outside[known]] = self._open[1][at[known]]
        lost = outside[~known]
        self._orphans = (
            np.concatenate([self._orphans[0], parent_id[lost]])[-AWAITED:],
            np.concatenate([self._orphans[1], span_id[lost]])[-AWAITED:],
        )
        seeded, _ = find(self._seed_ids, span_id)
        own = {index: self._seeds[one] for index, one in
               zip(np.flatnonzero(seeded).tolist(), span_id[seeded].tolist(), strict=True)}  # fmt: skip
        trace[list(own)] = list(own.values())
        level = families.tops
        while len(level):
            children, count = families.children(level)
            inherited = np.repeat(trace[level], count)
            trace[children] = np.where(trace[children] >= 0, trace[children], inherited)
            level = children
        return trace

    def _note_late(self, span_id: Int64, trace: Int64) -> None:
        """A span's children that were stored after it came by before it, when nobody knew that they are wanted."""
        parent, child = self._orphans
        order = np.argsort(span_id, kind="stable")
        came, at = find(span_id[order], parent)
        for one, number in zip(child[came].tolist(), trace[order[at[came]]].tolist(), strict=True):
            if number >= 0 and one not in self._seeds:
                self.late[one] = number
        self._orphans = parent[~came], child[~came]

    def _keep(self, part: list[Segment], members: Int64, trace: Int64) -> None:
        """Take in the spans that are among the longest of their trace so far."""
        if not len(members):
            return
        rank = np.where(np.isin(_column(part, "span_id"), self._roots), _FIRST, _column(part, "duration_ns"))
        chosen: list[int] = []
        for number in np.unique(trace[members]).tolist():
            own = members[trace[members] == number]
            if len(self._kept[number]) == self._spans:
                own = own[rank[own] > self._kept[number][-1][0]]
            chosen += own[np.argsort(-rank[own], kind="stable")[: self._spans]].tolist()
        chosen.sort()
        for index, span in zip(chosen, _take(part, chosen), strict=True):
            self._kept[trace[index]].append((int(rank[index]), span))
        for kept in self._kept:
            kept.sort(key=lambda one: -one[0])
            del kept[self._spans :]


def _parts(segments: Iterable[tuple[Segment, int]]) -> Iterator[tuple[list[Segment], int]]:
    """Segments taken together until they are worth the calls, with the horizon of the last."""
    part: list[Segment] = []
    spans, horizon = 0, NEVER
    for segment, horizon in segments:
        part.append(segment)
        spans += len(segment)
        if spans >= chunking.CHUNK:
            yield part, horizon
            part, spans = [], 0
    if spans:
        yield part, horizon


def _column(part: list[Segment], name: str) -> Int64:
    column: Int64 = np.concatenate([getattr(segment, name) for segment in part])
    return column


def _take(part: list[Segment], rows: list[int]) -> Iterator[SpanData]:
    """Some spans of the segments, by their places in all of them; the places must ascend."""
    first = 0
    for segment in part:
        own = [row - first for row in rows if first <= row < first + len(segment)]
        try:
            yield from segment.take(own)
        except msgspec.MsgspecError as error:
            raise FormatError(f"segment {segment.id}: damaged tags: {error}") from error
        first += len(segment)


def _model(span: SpanData) -> SpanModel:
    return SpanModel.model_validate(msgspec.structs.asdict(span))
