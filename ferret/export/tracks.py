"""Laying spans out on lanes, such that on each lane any two spans are apart, or one is within the other.

A track is what ran in one thread and task of one process, and most often its spans nest by themselves. Spans that are
ended by hand, or generators that take turns, do not: those that overlap go on further lanes of their track. All of it is
sorting, apart from the tracks that do not nest.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ferret.tree import parents_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ferret.export.columns import Spans
    from ferret.segment import Int64

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
    order: Int64
    """The spans, lane by lane, as they open: a span comes after those that it is within."""
    depth: Int64
    """In how many spans of its lane each of them is."""
    end_ns: Int64
    """When each span ends as it is drawn (not in that order). It is when it ended, but where the file keeps times as
    floating-point seconds: there it may be up to 480 ns earlier, so that what touched does not overlap."""

    def events(self) -> tuple[Int64, NDArray[np.bool_]]:
        """Each span twice, as it opens and as it closes: which it is, and whether it opens.

        A lane's events are balanced, in the order of time, and from `2 * lane.first` to `2 * lane.last`.
        """
        count = len(self.order)
        opening = 2 * np.arange(count) - self.depth
        opens = np.zeros(2 * count, dtype=np.bool_)
        opens[opening] = True
        # what closes at a depth is what opened there last
        closing = np.flatnonzero(~opens)
        level = np.cumsum(np.where(opens, 1, -1))[closing]
        spans = np.empty(2 * count, dtype=np.int64)
        spans[opening] = self.order
        spans[closing[np.argsort(level, kind="stable")]] = self.order[np.argsort(self.depth, kind="stable")]
        return spans, opens


def lay_out(spans: Spans) -> Layout:
    """Find the lane of every span.

    A span goes where its parent is, if it fits there, and otherwise on the first lane of its track that is free. Of two
    spans with the same times the one with the lower id is the outer one.
    """
    track = spans.track.astype(np.int64)
    end_ns = spans.end_ns
    lane = np.zeros(len(spans), dtype=np.int64)
    order, depth, crossing = _nest(track, spans.start_ns, end_ns, spans.span_id)
    crossed = np.unique(track[crossing])
    if len(crossed):
        parents = parents_of(spans.span_id, spans.parent_id)
        grain = _grain(spans.start_ns)
        for chosen in _by_track(track[order], order, crossed):
            lane[chosen], end_ns[chosen] = _split(spans.start_ns[chosen], end_ns[chosen], _within(chosen, parents), grain)
        lanes = int(lane.max()) + 1
        order, depth, crossing = _nest(track * lanes + lane, spans.start_ns, end_ns, spans.span_id)
        assert not len(crossing)
    return Layout(_lanes(track[order], lane[order]), order, depth, end_ns)


def _nest(group: Int64, start: Int64, end: Int64, span_id: Int64) -> tuple[Int64, Int64, Int64]:
    """The spans as they open, group by group, each one's depth, and those spans that overlap one before them.

    Depths are right up to a group's first such span.
    """
    count = len(group)
    order = np.lexsort((span_id.view(np.uint64), ~end, start, group))
    opens, closes = _one_timeline(group[order], start[order], end[order])
    # of what opened before, what has not closed is around. Spans without duration close when they open, but not before.
    closed = np.searchsorted(np.sort(closes), opens, side="right")
    empty = np.concatenate([[0], np.cumsum(opens == closes)])
    index = np.arange(count)
    closed -= empty[np.searchsorted(opens, opens, side="right")] - empty[index]
    depth: Int64 = index - closed
    # the innermost of those is the last that opened one level up
    by_depth = np.argsort(depth, kind="stable")
    levels = depth[by_depth] * count + by_depth
    around = np.searchsorted(levels, (depth - 1) * count + index) - 1
    inner = np.flatnonzero(depth > 0)
    crossing = inner[closes[by_depth[around[inner]]] < closes[inner]]
    return order, depth, order[crossing]


def _one_timeline(group: Int64, start: Int64, end: Int64) -> tuple[Int64, Int64]:
    """The times of all groups, one group after another. Only their order within a group is kept."""
    if not len(group):
        return start, end
    length = int(end.max()) - int(start.min()) + 1
    if length * (int(group.max()) + 1) >= 1 << 63:  # long runs of many tracks: ranks instead of times
        times, ranks = np.unique(np.concatenate([start, end]), return_inverse=True)
        start, end, length = ranks[: len(start)], ranks[len(start) :], len(times)
    offset = group * length - start.min()
    return start + offset, end + offset


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


def _by_track(track: Int64, order: Int64, chosen: Int64) -> Iterator[Int64]:
    """The spans of each chosen track, as they open."""
    first, last = np.searchsorted(track, chosen), np.searchsorted(track, chosen, side="right")
    for begin, end in zip(first.tolist(), last.tolist(), strict=True):
        yield order[begin:end]


def _within(chosen: Int64, parents: Int64) -> Int64:
    """Where each chosen span's parent is among those; -1 if it is not."""
    by_span = np.argsort(chosen)
    wanted = parents[chosen]
    found = by_span[np.minimum(np.searchsorted(chosen, wanted, sorter=by_span), len(chosen) - 1)]
    return np.where(chosen[found] == wanted, found, -1)


def _split(starts: Int64, ends: Int64, parents: Int64, grain: int) -> tuple[list[int], list[int]]:
    """The lane of each span of a track, and its end, which is up to `grain` earlier where it would overlap otherwise."""
    end = ends.tolist()
    lane = [0] * len(end)
    stacks: list[list[int]] = []
    busy: list[tuple[int, int]] = []  # until when the outermost span of a lane goes, and the lane
    free: list[int] = []
    for span, (begin, parent) in enumerate(zip(starts.tolist(), parents.tolist(), strict=True)):
        while busy and busy[0][0] - grain <= begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        home = lane[parent] if 0 <= parent < span else 0
        around = parent if 0 <= parent < span and end[parent] > begin else -1
        # what is as short as the grain may have changed places with its neighbour, and is not worth a lane
        tiny = grain and stacks and end[span] - begin <= grain
        if (around >= 0 or tiny) and _fits(stacks[home], span, around, begin, end, grain):
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


def _fits(stack: list[int], span: int, parent: int, begin: int, end: list[int], grain: int) -> bool:
    """Whether the span can lie on its parent's lane, where nothing else is open that ends earlier."""
    while stack and stack[-1] != parent and end[stack[-1]] - grain <= begin and end[stack[-1]] < end[span]:
        before = stack.pop()
        end[before] = min(end[before], begin)
    while stack and stack[-1] != parent and end[stack[-1]] <= begin:
        stack.pop()
    if not stack or end[stack[-1]] < end[span] - grain:
        return False
    end[span] = min(end[span], end[stack[-1]])
    return True


def _lanes(track: Int64, lane: Int64) -> list[Lane]:
    """Where in the order each lane is."""
    if not len(track):
        return []
    changes = np.flatnonzero((np.diff(track) != 0) | (np.diff(lane) != 0)) + 1
    first = [0, *changes.tolist()]
    last = [*changes.tolist(), len(track)]
    return list(map(Lane, track[first].tolist(), lane[first].tolist(), first, last))
