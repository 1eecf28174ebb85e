"""Laying spans out on lanes, such that on each lane any two spans are apart, or one is within the other.

A track is what ran in one thread and task of one process, and most often its spans nest by themselves, as they called
each other. Spans that are ended by hand do not, nor do generators: what their caller does while they wait is within their
time, but is not theirs. Those go on further lanes of their track, so that what is drawn within a span is what it called.
All of it is sorting, apart from the tracks that need more than a lane.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ferret.analysis.tree import parents_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ferret.export.columns import Int32, Spans
    from ferret.packing import Int64


class Lane(NamedTuple):
    """A line of a timeline, on which spans nest."""

    track: int
    """Its index in `Spans.tracks`."""
    number: int
    """0 for a track's first lane."""
    first: int
    """Where its spans begin in `Layout.order`."""
    last: int
    """Where they end."""


class Layout(NamedTuple):
    """Every span on one lane."""

    lanes: list[Lane]
    """Each track's one after another."""
    order: Int32
    """The spans, lane by lane, as they open: a span comes after those that it is within."""
    depth: Int32
    """In how many spans of its lane each of them is."""
    end_ns: Int64
    """When each span ends as it is drawn (not in that order). It is when it ended, but where the file keeps times as
    floating-point seconds: there it may be up to 480 ns earlier, so that what touched does not overlap."""

    def events(self) -> tuple[Int32, NDArray[np.bool_]]:
        """Each span twice, as it opens and as it closes: which it is, and whether it opens.

        A lane's events are balanced, in the order of time, and from `2 * lane.first` to `2 * lane.last`.
        """
        count = len(self.order)
        opening = 2 * np.arange(count) - self.depth
        opens = np.zeros(2 * count, dtype=np.bool_)
        opens[opening] = True
        spans = np.empty(2 * count, dtype=np.int32)
        spans[opening] = self.order
        del opening
        # what closes at a depth is what opened there last
        closing = np.flatnonzero(~opens)
        level = np.cumsum(np.where(opens, np.int8(1), np.int8(-1)), dtype=np.int32)[closing]
        closing = closing[np.argsort(level, kind="stable")]
        del level
        spans[closing] = self.order[np.argsort(self.depth, kind="stable")]
        return spans, opens


def lay_out(spans: Spans) -> Layout:
    """Find the lane of every span.

    A track whose spans nest, each directly within its parent if that is there, has one lane. In others a span goes where
    its parent is, if that is the innermost span there and lasts as long, and otherwise on the first lane that is free. Of
    two spans with the same times the one with the lower id is the outer one.
    """
    if not len(spans):
        return Layout([], spans.track, spans.track, spans.start_ns)
    end_ns = spans.end_ns
    lane = np.broadcast_to(np.int32(0), len(spans))
    nest = _nest(spans.track, spans.start_ns, end_ns, spans.span_id)
    parents = parents_of(spans.span_id, spans.parent_id)
    grain = _grain(spans.start_ns)
    foreign = _foreign(spans, end_ns, parents, nest.around, grain)
    several = np.unique(spans.track[nest.crossing | foreign])
    if len(several):
        lane = lane.copy()
        apart = _between(np.flatnonzero(foreign), parents, nest.around, spans.start_ns, end_ns)
        for chosen in _by_track(spans.track[nest.order], nest.order, several):
            within = _within(chosen, parents)
            lane[chosen], end_ns[chosen] = _split(spans.start_ns[chosen], end_ns[chosen], within, apart[chosen], grain)
        del parents, foreign, apart
        group = spans.track * np.int64(lane.max() + 1) + lane
        nest = _nest(group, spans.start_ns, end_ns, spans.span_id)
        assert not nest.crossing.any()
    return Layout(_lanes(spans.track[nest.order], lane[nest.order]), nest.order, nest.depth, end_ns)


class _Nest(NamedTuple):
    """How the spans of each group are within each other, as long as none overlap."""

    order: Int32
    """The spans as they open, group by group."""
    depth: Int32
    """In how many spans of its group each of those is: right up to the group's first that overlaps one."""
    around: Int32
    """Of each span, the innermost that it is within; -1 for none."""
    crossing: NDArray[np.bool_]
    """Whether each span goes on after that one ends."""


def _nest(group: Int32 | Int64, start: Int64, end: Int64, span_id: Int64) -> _Nest:
    count = len(group)
    order = np.lexsort((span_id.view(np.uint64), ~end, start, group)).astype(np.int32)
    opens, closes = _one_timeline(group, start, end, order)
    # of what opened before, what has not closed is around. Spans without duration close when they open, but not before.
    depth = np.arange(count)
    depth -= np.searchsorted(np.sort(closes), opens, side="right")
    empty = np.cumsum(np.concatenate([[False], opens == closes]), dtype=np.int32)
    depth += empty[np.searchsorted(opens, opens, side="right")] - empty[:-1]
    del opens
    # the innermost of those is the last that opened one level up
    by_depth = np.argsort(depth, kind="stable")
    found = by_depth[np.searchsorted(depth[by_depth] * count + by_depth, (depth - 1) * count + np.arange(count)) - 1]
    around = np.empty(count, dtype=np.int32)
    around[order] = np.where(depth > 0, order[found], -1)
    crossing = np.empty(count, dtype=np.bool_)
    crossing[order] = (closes[found] < closes) & (depth > 0)
    return _Nest(order, depth.astype(np.int32), around, crossing)


def _foreign(spans: Spans, end_ns: Int64, parents: Int64, around: Int32, grain: int) -> NDArray[np.bool_]:
    """Which spans are within their parent, but first of all within another span of its track."""
    start = spans.start_ns
    found = np.flatnonzero((parents >= 0) & (parents != around))
    parent = parents[found]
    found = found[
        (spans.track[parent] == spans.track[found])
        & (start[parent] <= start[found])
        & (start[found] < end_ns[parent])
        & (end_ns[found] <= end_ns[parent])
        & (
            np.minimum(end_ns[found], end_ns[around[found]]) - start[found] >= grain
        )  # more than they may have been moved
    ]
    foreign = np.zeros(len(spans), dtype=np.bool_)
    foreign[found] = True
    return foreign


def _between(foreign: Int64, parents: Int64, around: Int32, start: Int64, end: Int64) -> NDArray[np.bool_]:
    """Which spans are between a foreign one and its parent: they waited while it ran, and are to be drawn elsewhere."""
    between = np.zeros(len(around), dtype=np.bool_)
    parent, within = parents[foreign], around[foreign]
    while len(within):
        # where spans overlap, what is around one may be beyond its parent
        inside = (within >= 0) & (within != parent) & (start[within] >= start[parent]) & (end[within] <= end[parent])
        parent, within = parent[inside], within[inside]
        between[within] = True
        within = around[within]
    return between


def _one_timeline(group: Int32 | Int64, start: Int64, end: Int64, order: Int32) -> tuple[Int64, Int64]:
    """The times of all groups in the order given, one group after another. What they mean is their order in a group."""
    first = int(start.min())
    length = int(end.max()) - first + 1
    if length * (int(group.max()) + 1) >= 1 << 63:  # long runs of many tracks: ranks instead of times
        times, ranks = np.unique(np.concatenate([start, end]), return_inverse=True)
        start, end, first, length = ranks[: len(start)], ranks[len(start) :], 0, len(times)
    offset = group[order] * np.int64(length) - first
    return start[order] + offset, end[order] + offset


def _grain(start_ns: Int64) -> int:
    """How far apart two times may have been moved that were equal.

    Not at all, as long as they are whole nanoseconds. But JSON lines hold floating-point seconds since the epoch, and
    those are 238 ns apart today: if all times lie on that grid, this is where they come from.
    """
    whole, rest = np.divmod(start_ns, 1_000_000_000)
    seconds = whole + rest / 1e9
    apart = float(np.spacing(seconds.max()) * 1e9)
    on_grid = (np.rint((seconds - whole) * 1e9).astype(np.int64) == rest).all()
    return int(2 * apart) + 4 if on_grid and apart > 2 else 0


def _by_track(track: Int32, order: Int32, chosen: Int32) -> Iterator[Int32]:
    """The spans of each chosen track, as they open."""
    first, last = np.searchsorted(track, chosen), np.searchsorted(track, chosen, side="right")
    for begin, end in zip(first.tolist(), last.tolist(), strict=True):
        yield order[begin:end]


def _within(chosen: Int32, parents: Int64) -> Int64:
    """Where each chosen span's parent is among those; -1 if it is not."""
    by_span = np.argsort(chosen)
    wanted = parents[chosen]
    found = by_span[np.minimum(np.searchsorted(chosen, wanted, sorter=by_span), len(chosen) - 1)]
    return np.where(chosen[found] == wanted, found, -1)


def _split(
    starts: Int64, ends: Int64, parents: Int64, apart: NDArray[np.bool_], grain: int
) -> tuple[list[int], list[int]]:
    """The lane of each span of a track, and its end, which is up to `grain` earlier where it would overlap otherwise."""
    end = ends.tolist()
    lane = [0] * len(end)
    stacks: list[list[int]] = []
    busy: list[tuple[int, int]] = []  # until when the outermost span of a lane goes, and the lane
    free: list[int] = []
    rows = zip(starts.tolist(), parents.tolist(), apart.tolist(), strict=True)
    for span, (begin, parent, alone) in enumerate(rows):
        while busy and busy[0][0] - grain <= begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        home = lane[parent] if 0 <= parent < span else 0
        around = parent if 0 <= parent < span and end[parent] > begin and not alone else -1
        # what is as short as the grain may have changed places with its neighbour, and is not worth a lane
        tiny = grain and stacks and end[span] - begin <= grain
        if (around >= 0 or tiny) and _fits(stacks[home], span, around, begin, end, grain, anywhere=bool(tiny)):
            lane[span] = home
            stacks[home].append(span)
            continue
        if not free:
            free.append(len(stacks))
            stacks.append([])
        lane[span] = heapq.heappop(free)
        for before in stacks[lane[span]]:
            end[before] = min(end[before], begin)
        stacks[lane[span]] = [span]
        heapq.heappush(busy, (end[span], lane[span]))
    return lane, end


def _fits(stack: list[int], span: int, parent: int, begin: int, end: list[int], grain: int, *, anywhere: bool) -> bool:
    """Whether the span can lie on a lane: within its parent, or anywhere."""
    slack = grain if parent >= 0 else 0
    while stack and stack[-1] != parent and end[stack[-1]] - slack <= begin and end[stack[-1]] < end[span]:
        before = stack.pop()
        end[before] = min(end[before], begin)
    while stack and stack[-1] != parent and end[stack[-1]] <= begin:
        stack.pop()
    if not stack or end[stack[-1]] < end[span] - grain or not (anywhere or stack[-1] == parent):
        return False
    end[span] = min(end[span], end[stack[-1]])
    return True


def _lanes(track: Int32, lane: Int32) -> list[Lane]:
    """Where in the order each lane is."""
    changes = np.flatnonzero((np.diff(track) != 0) | (np.diff(lane) != 0)) + 1
    first = [0, *changes.tolist()]
    last = [*changes.tolist(), len(track)]
    return list(map(Lane, track[first].tolist(), lane[first].tolist(), first, last))
