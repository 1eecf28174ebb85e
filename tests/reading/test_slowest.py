"""The slowest single traces: those that the whole run, held in memory, shows too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import THREADS, Held, Spans, programs, stored
from support import record

from ferret.analysis import chunks as chunking
from ferret.batch import Batch, Origin
from ferret.report import Report
from ferret.sinks.memory import MemorySink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferret.models import TraceNode
    from ferret.span import Record


@pytest.fixture(params=[1, 3, 1 << 16], ids=["parts of a segment", "parts of 3 spans", "one part"])
def part_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    size: int = request.param
    monkeypatch.setattr(chunking, "CHUNK", size)
    return size


def nested(node: TraceNode) -> Any:
    return node.span.model_dump(), [nested(child) for child in node.children]


def walk(node: TraceNode) -> Iterator[TraceNode]:
    yield node
    for child in node.children:
        yield from walk(child)


def duration(node: TraceNode) -> float:
    return node.span.duration or 0.0


def report_on(*records: Record) -> Report:
    sink = MemorySink()
    sink.write(Batch(Origin("run", "a" * 16, 1, 0), 0, list(records), THREADS))
    return Report(sink)


cuts = st.lists(st.integers(0, 40), max_size=6)


class TestSlowest:
    @given(programs(), cuts, st.integers(1, 4))
    def test_they_are_the_longest_roots_with_all_that_is_below_them(
        self, part_size: int, spans: Spans, cuts: list[int], count: int
    ) -> None:
        report = Report(Held(list(stored(spans, cuts))))
        roots = {node.span.span_id: node for node in report.build_trees("run")}
        found = report.slowest(count, "run")
        assert [duration(node) for node in found] == sorted(map(duration, roots.values()), reverse=True)[:count]
        for node in found:
            assert nested(node) == nested(roots[node.span.span_id])
            assert node.hidden == 0

    @given(programs(), cuts, st.integers(1, 6))
    def test_of_a_large_trace_the_longest_spans_are_kept_and_the_others_counted(
        self, part_size: int, spans: Spans, cuts: list[int], most: int
    ) -> None:
        report = Report(Held(list(stored(spans, cuts))))
        whole = {node.span.span_id: node for node in report.build_trees("run")}
        for node in report.slowest(3, "run", spans=most):
            kept = list(walk(node))
            everything = list(walk(whole[node.span.span_id]))
            assert 1 <= len(kept) <= most
            assert len(kept) + node.hidden == len(everything)
            if len(everything) <= most:
                assert node.hidden == 0

    def test_a_short_child_is_left_out_before_a_long_one(self) -> None:
        children = [record(n, span_id=n, parent_id=99, name=f"{n}", start_ns=0, end_ns=n) for n in range(1, 9)]
        (trace,) = report_on(*children, record(99, span_id=99, start_ns=0, end_ns=100)).slowest(spans=4)
        assert [child.span.name for child in trace.children] == ["6", "7", "8"]
        assert trace.hidden == 5

    def test_a_root_stays_although_its_children_took_longer(self) -> None:
        children = [record(n, span_id=n, parent_id=99, start_ns=0, end_ns=500) for n in range(1, 9)]
        (trace,) = report_on(*children, record(99, span_id=99, name="root", start_ns=0, end_ns=10)).slowest(spans=2)
        assert (trace.span.name, len(trace.children), trace.hidden) == ("root", 1, 7)

    def test_a_span_whose_parent_was_lost_is_a_root(self) -> None:
        (trace,) = report_on(record(1, span_id=5, parent_id=4), record(2, span_id=6, parent_id=5)).slowest()
        assert (trace.span.span_id, len(trace.children)) == ("0000000000000005", 1)

    def test_a_run_without_spans_has_none(self) -> None:
        assert Report(MemorySink()).slowest() == []
        assert report_on(record(1)).slowest(0) == []
        assert report_on(record(1)).slowest(5, "nobody") == []

    def test_a_span_that_comes_twice_is_no_problem(self) -> None:
        twice = [record(n, span_id=7, name="twice", start_ns=0, end_ns=9) for n in range(2)]
        assert len(report_on(*twice).slowest()) == 1


class TestSelfTimeOfANode:
    def node(self, *records: Record) -> TraceNode:
        (root,) = report_on(*records).build_trees()
        return root

    def test_children_elsewhere_take_nothing_from_it(self) -> None:
        root = self.node(
            record(1, span_id=2, parent_id=1, start_ns=0, end_ns=30),
            record(2, span_id=3, parent_id=1, start_ns=0, end_ns=90, thread=1),
            record(3, span_id=4, parent_id=1, start_ns=0, end_ns=90, task="Task-1"),
            record(4, span_id=1, start_ns=0, end_ns=100, suspended_ns=10),
        )
        assert round(root.self_time * 1e9) == 60

    def test_what_was_measured_counts(self) -> None:
        assert round(self.node(record(1, start_ns=0, end_ns=100, self_ns=7)).self_time * 1e9) == 7

    def test_it_is_never_negative(self) -> None:
        root = self.node(
            record(1, span_id=2, parent_id=1, start_ns=0, end_ns=90), record(2, span_id=1, start_ns=0, end_ns=50)
        )
        assert root.self_time == 0.0
