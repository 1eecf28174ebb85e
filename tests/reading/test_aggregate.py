"""Numbers per name, taken over columns: they equal what adding up span by span gives, wherever segments end."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import THREADS, Held, Spans, Track, programs, stored
from support import record

from ferret.analysis import calltree
from ferret.analysis import chunks as chunking
from ferret.analysis.chunks import NameIndex, chunk_of, chunks
from ferret.analysis.percentiles import EXACT, PERCENTS, Percentiles
from ferret.analysis.selftime import SelfTimes
from ferret.batch import Batch, Origin
from ferret.report import Report
from ferret.segment import Segment
from ferret.sinks.backwards import with_horizon
from ferret.sinks.memory import MemorySink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferret.analysis.tree import PathNode
    from ferret.models import TraceNode
    from ferret.span import Record


@pytest.fixture(params=[1, 3, 1 << 16], ids=["chunks of a segment", "chunks of 3 spans", "one chunk"])
def chunk_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    size: int = request.param
    monkeypatch.setattr(chunking, "CHUNK", size)
    return size


def self_times(spans: Spans) -> dict[str, int]:
    """By name, span by span: the running time without that of the children on the same track."""
    taken: dict[tuple[int, Track], int] = defaultdict(int)
    for token, (_, parent_id, _, start, end, thread, task, _, _, suspended, _) in spans:
        taken[parent_id, (token, thread, task)] += end - start - suspended
    found: dict[str, int] = defaultdict(int)
    for token, (span_id, _, name, start, end, thread, task, _, _, suspended, measured) in spans:
        computed = max(0, end - start - suspended - taken[span_id, (token, thread, task)])
        found[str(name)] += measured if measured >= 0 else computed
    return dict(found)


class TestSelfTime:
    @given(programs(), st.lists(st.integers(0, 40), max_size=6))
    def test_it_equals_looking_at_the_whole_run_span_by_span(
        self, chunk_size: int, spans: Spans, cuts: list[int]
    ) -> None:
        stats = Report(Held(list(stored(spans, cuts)))).analyze_run("run")
        found = {name: round(one.self_duration * 1e9) for name, one in stats.items()}
        assert found == self_times(spans)

    @given(programs(), st.lists(st.integers(0, 40), max_size=6))
    def test_suspended_time_is_added_up(self, spans: Spans, cuts: list[int]) -> None:
        stats = Report(Held(list(stored(spans, cuts)))).analyze_run("run")
        suspended: dict[str, int] = defaultdict(int)
        for _, one in spans:
            suspended[str(one[2])] += one[9]
        assert {name: round(one.suspended_duration * 1e9) for name, one in stats.items()} == suspended

    def of(self, *records: Record) -> dict[str, int]:
        sink = MemorySink()
        sink.write(Batch(Origin("run", "a" * 16, 1, 0), 0, list(records), THREADS))
        return {name: round(one.self_duration * 1e9) for name, one in Report(sink).analyze_run().items()}

    def test_children_that_ran_longer_than_their_parent_leave_it_nothing(self) -> None:
        found = self.of(
            record(1, span_id=2, parent_id=1, name="child", start_ns=0, end_ns=90),
            record(2, span_id=1, name="parent", start_ns=0, end_ns=50),
        )
        assert found == {"child": 90, "parent": 0}

    def test_a_generators_children_are_not_taken_from_whoever_asked_it(self) -> None:
        """`caller` runs 100, of which it waits 40 in `generator`, which is suspended the rest of its 80."""
        found = self.of(
            record(1, span_id=3, parent_id=2, name="helper", start_ns=20, end_ns=35),
            record(2, span_id=2, parent_id=1, name="generator", start_ns=10, end_ns=90, suspended_ns=40),
            record(3, span_id=1, name="caller", start_ns=0, end_ns=100),
        )
        assert found == {"helper": 15, "generator": 25, "caller": 60}

    def test_a_task_or_thread_that_a_span_waits_for_is_not_its_own_work(self) -> None:
        found = self.of(
            record(1, span_id=2, parent_id=1, name="elsewhere", start_ns=0, end_ns=90, thread=1),
            record(2, span_id=3, parent_id=1, name="task", start_ns=0, end_ns=80, task="Task-9"),
            record(3, span_id=1, name="parent", start_ns=0, end_ns=100),
        )
        assert found == {"elsewhere": 90, "task": 80, "parent": 100}

    def test_a_span_that_is_its_own_parent_keeps_its_time(self) -> None:
        assert self.of(record(1, span_id=1, parent_id=1, name="ring", start_ns=0, end_ns=9)) == {"ring": 9}

    def test_parents_that_never_come_are_given_up_the_longest_awaited_first(self) -> None:
        times, names = SelfTimes(most=3), NameIndex()

        def feed(*records: Record) -> list[int]:
            segment = Segment.from_batch(Batch(Origin("run", "a" * 16, 1, 0), 0, list(records), THREADS))
            (chunk,) = chunks([segment], names)
            found: list[int] = times.of(chunk).tolist()
            return found

        for parent in range(1, 7):
            feed(record(1, span_id=100 + parent, parent_id=parent, start_ns=0, end_ns=10))
            assert len(times) <= 3
        came = feed(*(record(1, span_id=parent, start_ns=0, end_ns=50) for parent in range(1, 7)))
        assert came == [50, 50, 50, 40, 40, 40]
        assert len(times) == 0


class TestMergedTree:
    @given(programs(), st.lists(st.integers(0, 40), max_size=6))
    def test_it_equals_merging_the_spans_node_by_node(self, chunk_size: int, spans: Spans, cuts: list[int]) -> None:
        report = Report(Held(list(stored(spans, cuts))))
        assert as_paths(report.merged_tree("run")) == merged(report.build_trees("run"))

    @given(programs(), st.lists(st.integers(0, 40), max_size=6), st.integers(0, 3))
    def test_a_depth_leaves_out_what_is_below(self, chunk_size: int, spans: Spans, cuts: list[int], depth: int) -> None:
        report = Report(Held(list(stored(spans, cuts))))
        whole = merged(report.build_trees("run"))
        assert as_paths(report.merged_tree("run", depth)) == {
            path: numbers for path, numbers in whole.items() if len(path) <= depth
        }

    @given(programs(), st.lists(st.integers(0, 40), max_size=6))
    def test_self_times_add_up_to_those_by_name(self, chunk_size: int, spans: Spans, cuts: list[int]) -> None:
        found: dict[str, float] = defaultdict(float)
        todo = Report(Held(list(stored(spans, cuts)))).merged_tree("run")
        while todo:
            node = todo.pop()
            found[node.name] += node.self_duration
            todo += node.children
        assert {name: round(seconds * 1e9) for name, seconds in found.items()} == self_times(spans)

    @pytest.mark.parametrize("chunk", [1, 1 << 16])
    def test_spans_that_are_each_others_parents_in_two_segments_are_kept(
        self, monkeypatch: pytest.MonkeyPatch, chunk: int
    ) -> None:
        monkeypatch.setattr(chunking, "CHUNK", chunk)
        ring = [("a" * 16, record(n, span_id=n + 1, parent_id=(n + 1) % 3 + 1, name=f"{n}")) for n in range(3)]
        roots = Report(Held(list(stored(ring, [1, 2])))).merged_tree("run")
        assert sum(numbers[0] for numbers in as_paths(roots).values()) == 3

    def test_parents_that_never_come_are_given_up_and_what_is_below_becomes_roots(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chunking, "CHUNK", 1)
        monkeypatch.setattr(calltree, "MISSING", 2)
        orphans = [("a" * 16, record(n, span_id=100 + n, parent_id=n + 1, name="orphan")) for n in range(9)]
        totals = calltree.PathTotals()
        for segment in reversed(list(stored(orphans, list(range(9))))):
            totals.add(chunk_of(segment, totals.names), 1 << 62)
            assert len(totals._missing) <= 2 + 1
        assert [(node.name, node.count) for node in totals.roots()] == [("orphan", 9)]

    @given(programs())
    def test_what_cannot_have_children_any_more_is_forgotten(self, spans: Spans) -> None:
        """Of a run that was read to its end, nothing is open but what began with the first span, or later ones forget."""
        totals = calltree.PathTotals()
        held = list(stored(spans, list(range(40))))
        for segment, horizon in with_horizon(Held(held), "run"):
            totals.add(chunk_of(segment, totals.names), horizon)
            assert (totals._open.start_ns <= horizon).all()
        assert len(totals._open.span_id) == 0


def as_paths(nodes: Sequence[PathNode], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], tuple[int, int, int]]:
    found = {}
    for node in nodes:
        path = (*above, node.name)
        assert path not in found
        found[path] = (node.count, round(node.total_duration * 1e9), node.error_count)
        found |= as_paths(node.children, path)
    return found


def merged(nodes: Sequence[TraceNode], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], tuple[int, int, int]]:
    groups: dict[str, list[TraceNode]] = defaultdict(list)
    for node in nodes:
        groups[node.span.name].append(node)
    found = {}
    for name, group in groups.items():
        path = (*above, name)
        durations = [round((node.span.duration or 0) * 1e9) for node in group]
        found[path] = (len(group), sum(durations), sum(node.span.status != "ok" for node in group))
        found |= merged([child for node in group for child in node.children], path)
    return found


def nearest_rank(values: Sequence[int], percent: int) -> int:
    """The least value that at least so many percent of the values do not exceed."""
    return min(one for one in values if sum(other <= one for other in values) * 100 >= percent * len(values))


class TestPercentiles:
    @given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 10**12)), max_size=60))
    def test_of_few_spans_they_are_durations_of_the_nearest_rank(self, given_: list[tuple[str, int]]) -> None:
        sink = MemorySink()
        records = [record(n, name=name, start_ns=0, end_ns=ns) for n, (name, ns) in enumerate(given_)]
        if records:
            sink.write(Batch(Origin("run", "a" * 16, 1, 0), 0, records, THREADS))
        stats = Report(sink).analyze_run("run")
        durations: dict[str, list[int]] = defaultdict(list)
        for name, ns in given_:
            durations[name].append(ns)
        assert set(stats) == set(durations)
        for name, one in stats.items():
            expected = [nearest_rank(durations[name], percent) / 1e9 for percent in PERCENTS]
            assert [one.p50, one.p95, one.p99] == pytest.approx(expected, rel=1e-7)
            assert one.min_duration <= one.p50 <= one.p95 <= one.p99 <= one.max_duration

    @pytest.mark.parametrize("piece", [7, 300, 65_536])
    def test_of_many_spans_they_are_as_near_as_is_said(self, piece: int) -> None:
        """Four times the error that 95 % keep to: chance alone does not fail it."""
        random = np.random.default_rng(5)
        values = np.sort(random.lognormal(12, 3, 200_000).astype(np.int64))
        shuffled = random.permutation(values)
        percentiles = Percentiles()
        for start in range(0, len(values), piece):
            part = shuffled[start : start + piece]
            percentiles.add(np.array([3]), np.array([0]), part)
        percentiles.settle()
        for value, percent, error in zip(percentiles.of(3), PERCENTS, (0.006, 0.0006, 0.0002), strict=True):
            assert abs(np.searchsorted(values, value, "right") / len(values) - percent / 100) < 4 * error

    def test_names_share_the_pool_and_do_not_mix(self) -> None:
        percentiles = Percentiles()
        for one in range(2 * EXACT):  # each name gets one value at a time, a thousand times its number
            names = np.arange(1, 400)
            percentiles.add(names, np.arange(len(names)), names * 1000 + one % 7)
        percentiles.settle()
        for name in (1, 200, 399):
            assert all(name * 1000 <= value <= name * 1000 + 7 for value in percentiles.of(name))
        assert percentiles._sketches, "the pool never filled: nothing was tested"

    def test_a_name_that_comes_up_to_the_limit_stays_exact(self) -> None:
        percentiles = Percentiles()
        values = np.random.default_rng(1).permutation(EXACT) + 1
        percentiles.add(np.array([0]), np.array([0]), values)
        percentiles.settle()
        assert percentiles.of(0) == [
            EXACT // 2,
            nearest_rank(values.tolist(), 95),
            nearest_rank(values.tolist(), 99),
        ]


def test_where_a_name_is_from_comes_with_its_numbers() -> None:
    sink = MemorySink()
    sources = {"shop.pay": ("shop.py", 12)}
    records = [record(1, name="shop.pay"), record(2, name="by hand")]
    sink.write(Batch(Origin("run", "a" * 16, 1, 0), 0, records, THREADS, sources=sources))
    stats = Report(sink).analyze_run()
    assert (stats["shop.pay"].file, stats["shop.pay"].line) == ("shop.py", 12)
    assert (stats["by hand"].file, stats["by hand"].line) == (None, None)
