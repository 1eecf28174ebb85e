"""Lanes: every span on one, and nothing on a lane overlaps."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from recorded import EPOCH_NS, One, runs, segments

from ferret.export.columns import Spans, collect
from ferret.export.tracks import Layout, lay_out
from ferret.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterator


def laid_out(spans: list[One]) -> tuple[Spans, Layout]:
    columns = collect(segments(spans))
    return columns, lay_out(columns)


def on_lanes(spans: list[One]) -> dict[tuple[tuple[str, str, str], int], list[str]]:
    """The names on each lane of each track, as they open."""
    columns, layout = laid_out(spans)
    return {
        ((track.token, track.thread_name, track.task), lane.number): [
            columns.names[columns.name[span]] for span in layout.order[lane.first : lane.last]
        ]
        for lane in layout.lanes
        for track in [columns.tracks[lane.track]]
    }


def lanes_of(spans: list[One]) -> list[list[str]]:
    return list(on_lanes(spans).values())


def crossing(times: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for index, (start, end) in enumerate(times):
        for begin, finish in times[:index]:
            if max(start, begin) < min(end, finish) and not (
                (start <= begin and finish <= end) or (begin <= start and end <= finish)
            ):
                yield (start, end), (begin, finish)


@given(runs())
def test_each_span_is_once_on_a_lane_of_its_track_where_nothing_overlaps(spans: list[One]) -> None:
    columns, layout = laid_out(spans)
    assert sorted(layout.order.tolist()) == list(range(len(spans)))
    assert [lane.first for lane in layout.lanes] + [len(spans)] == [0] + [lane.last for lane in layout.lanes]
    assert len({(lane.track, lane.number) for lane in layout.lanes}) == len(layout.lanes)
    for lane in layout.lanes:
        own = layout.order[lane.first : lane.last]
        assert set(columns.track[own].tolist()) == {lane.track}
        times = list(zip(columns.start_ns[own].tolist(), columns.end_ns[own].tolist(), strict=True))
        assert not list(crossing(times))


@given(runs())
def test_a_lane_s_events_are_balanced_and_in_the_order_of_time(spans: list[One]) -> None:
    columns, layout = laid_out(spans)
    order, opens = layout.events()
    assert len(order) == 2 * len(spans)
    for lane in layout.lanes:
        stack: list[int] = []
        now = -1
        here = slice(2 * lane.first, 2 * lane.last)
        for span, opening in zip(order[here].tolist(), opens[here].tolist(), strict=True):
            at = int(columns.start_ns[span] if opening else columns.end_ns[span])
            assert at >= now
            now = at
            if opening:
                assert layout.depth[layout.order.tolist().index(span)] == len(stack)
                stack.append(span)
            else:
                assert stack.pop() == span
        assert not stack


def test_spans_that_nest_need_one_lane_however_they_are_stored() -> None:
    spans = [One(3, 2, "c", 20, 5), One(2, 1, "b", 10, 50), One(4, 1, "d", 60, 40), One(1, 0, "a", 0, 100)]
    assert lanes_of(spans) == [["a", "b", "c", "d"]]


def test_spans_that_take_turns_go_on_two_lanes_each_with_what_it_called() -> None:
    spans = [
        One(1, 0, "one", 0, 100), One(2, 0, "two", 50, 100), One(3, 1, "in one", 60, 5), One(4, 2, "in two", 70, 5),
        One(5, 1, "in one again", 80, 5), One(6, 0, "after", 150, 5),
    ]  # fmt: skip
    assert lanes_of(spans) == [["one", "in one", "in one again", "after"], ["two", "in two"]]


def test_no_more_lanes_than_are_busy_at_a_time() -> None:
    spans = [One(n, 0, "x", 10 * n, 35) for n in range(1, 200)]
    assert [len(names) for names in lanes_of(spans)] == [50, 50, 50, 49]


def test_threads_tasks_and_processes_do_not_mix() -> None:
    spans = [One(n, 0, "x", n, 100, process=n % 2, thread=n // 2 % 2, task=n // 4 % 2) for n in range(8)]
    spans = [One(**{**vars(one), "span_id": one.start_ns + 1}) for one in spans]
    assert sorted(on_lanes(spans).values()) == [["x"]] * 8


def test_children_beside_each_other_in_a_task_do_not_hide_each_other() -> None:
    spans = [One(1, 0, "p", 0, 100), One(2, 1, "q", 10, 50), One(3, 1, "r", 20, 60), One(4, 3, "s", 30, 10)]
    assert lanes_of(spans) == [["p", "r", "s"], ["q"]]


def test_what_a_caller_does_while_its_generators_wait_is_not_drawn_within_those() -> None:
    spans = [
        One(1, 0, "caller", 0, 100), One(2, 1, "outer", 10, 80), One(3, 2, "inner", 12, 70), One(4, 3, "in inner", 13, 2),
        One(5, 1, "work", 20, 10), One(6, 5, "in work", 22, 2), One(7, 2, "in outer", 40, 5), One(8, 1, "more", 95, 2),
    ]  # fmt: skip
    assert lanes_of(spans) == [["caller", "work", "in work", "more"], ["outer", "in outer"], ["inner", "in inner"]]


def test_coroutines_that_wait_for_each_other_stay_within_each_other() -> None:
    spans = [One(n, n - 1, f"{n}", n, 100 - 2 * n, task=1, suspended_ns=100 - 2 * n - 1) for n in range(1, 9)]
    assert lanes_of(spans) == [[f"{n}" for n in range(1, 9)]]


@pytest.mark.parametrize("many", [False, True])
def test_times_that_came_through_json_lines_nest_as_they_did(many: bool) -> None:
    """Seconds since the epoch as floating point are 238 ns apart: what touched may overlap, and ends before what is in it."""
    rng = np.random.default_rng(3)
    spans, at, ids = [], EPOCH_NS, iter(range(1, 100_000))
    for _ in range(200 if many else 3):
        root = One(next(ids), 0, "root", at)
        spans.append(root)
        for _ in range(5):
            child = One(next(ids), root.span_id, "child", at)
            for _ in range(4):
                took = int(rng.integers(1, 900))
                spans.append(One(next(ids), child.span_id, "leaf", at, took))
                at += took
            child.duration_ns = at - child.start_ns
            spans.append(child)
        root.duration_ns = at - root.start_ns
        at += int(rng.integers(0, 3))
    exact = segments(spans, size=100_000)[0]
    assert len(lay_out(collect([exact])).lanes) == 1
    read_back = Segment.from_spans(list(exact), token="t")
    columns = collect([read_back])
    layout = lay_out(columns)
    assert len(layout.lanes) == 1
    assert (columns.end_ns - layout.end_ns).min() >= 0
    assert (columns.end_ns - layout.end_ns).max() <= 480
    order, opens = layout.events()
    assert (np.diff(np.where(opens, columns.start_ns[order], layout.end_ns[order])) >= 0).all()


def test_exact_times_are_never_moved() -> None:
    spans = [One(1, 0, "a", EPOCH_NS, 1000), One(2, 0, "b", EPOCH_NS + 901, 1000)]
    columns, layout = laid_out(spans)
    assert len(layout.lanes) == 2
    assert (layout.end_ns == columns.end_ns).all()


def test_a_negative_duration_and_an_end_beyond_all_numbers_are_cut() -> None:
    spans = [One(1, 0, "a", 5, -7), One(2, 0, "b", 2**63 - 10, 2**62), One(3, 0, "c", -5, 2)]
    columns, layout = laid_out(spans)
    assert columns.duration_ns.tolist() == [0, 9, 2]
    assert len(layout.order) == 3


@given(runs())
def test_whatever_came_through_json_lines_is_laid_out_without_overlaps(spans: list[One]) -> None:
    rounded = [Segment.from_spans(list(one), token=one.token) for one in segments(spans)]
    columns = collect(rounded)
    layout = lay_out(columns)
    assert sorted(layout.order.tolist()) == list(range(len(spans)))
    if len(spans):
        assert (layout.end_ns >= columns.start_ns).all()
        assert (layout.end_ns <= columns.end_ns).all()
        apart = np.spacing(float(columns.start_ns.max()) / 1e9) * 1e9
        assert (columns.end_ns - layout.end_ns).max() <= 2 * apart + 4
    for lane in layout.lanes:
        own = layout.order[lane.first : lane.last]
        times = list(zip(columns.start_ns[own].tolist(), layout.end_ns[own].tolist(), strict=True))
        assert not list(crossing(times))


def in_a_circle(span: One, by_id: dict[int, One]) -> bool:
    """Whether it is its own ancestor: of each circle of parents, the reader lets one go."""
    seen: set[int] = set()
    above = by_id.get(span.parent_id)
    while above is not None and above is not span and above.span_id not in seen:
        seen.add(above.span_id)
        above = by_id.get(above.parent_id)
    return above is span


@given(runs())
def test_a_span_is_drawn_directly_within_its_parent_or_within_nothing(spans: list[One]) -> None:
    """Where the parent is on its track and lasts as long. Spans of the same times, or of no duration, may change places."""
    columns, layout = laid_out(spans)
    around: dict[int, int | None] = {}
    for lane in layout.lanes:
        stack: list[int] = []
        for span, depth in zip(
            *(part[lane.first : lane.last].tolist() for part in (layout.order, layout.depth)), strict=True
        ):
            del stack[depth:]
            around[int(columns.span_id[span]) % 2**64] = int(columns.span_id[stack[-1]]) % 2**64 if stack else None
            stack.append(span)
    by_id = {one.span_id: one for one in spans}
    times = Counter((one.track, one.start_ns, one.duration_ns) for one in spans)
    for one in spans:
        parent = by_id.get(one.parent_id)
        if parent is None or parent.track != one.track or not one.duration_ns or in_a_circle(one, by_id):
            continue
        alike = (
            times[one.track, one.start_ns, one.duration_ns] + times[parent.track, parent.start_ns, parent.duration_ns]
        )
        if alike == 2 and parent.start_ns <= one.start_ns < parent.end_ns and one.end_ns <= parent.end_ns:
            assert around[one.span_id] in (parent.span_id, None)
