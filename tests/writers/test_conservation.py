"""No span is lost on close: random programs, for every writer and overflow policy, against a model.

The law: `recorded == written + dropped + failed`, and what is stored is exactly what was recorded, less what the ledger
says: each once, unchanged, in the order of its thread.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import scripted_sink
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import WAIT_S, ScriptedSink, in_proportion, numbers_by_thread, tags_strategy

from ferret import LostSpansWarning, Profiler, plugins
from ferret.tags import plain_text
from ferret.writers import delivery

if TYPE_CHECKING:
    from ferret.batch import SpanData
    from ferret.models import DeliveryReport
    from ferret.span import Span

FIRST_TAG = "n"
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "sync": {"writer": "sync"},
    "threaded": {"writer": "threaded"},
    "bounded-drop_newest": {"writer": "bounded", "overflow": "drop_newest"},
    "bounded-drop_oldest": {"writer": "bounded", "overflow": "drop_oldest"},
    "bounded-block": {"writer": "bounded", "overflow": "block", "block_timeout": 0.01},
    "process": {"writer": "process"},
}


class Program(RuleBasedStateMachine):
    """A program that records, and what must be true of it."""

    options: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.recorded: dict[int, tuple[str, dict[str, Any], int]] = {}  # number: name, tags, parent's number
        self.open: list[tuple[Span, int]] = []
        self.number = 0
        self.report: DeliveryReport | None = None
        self.counted_after_close = 0

    @initialize(size=st.integers(1, 8), queue=st.integers(1, 12))
    def start(self, size: int, queue: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.control = scripted_sink.Control(self.folder)
        options = {"batch_size": size, "max_queue": queue, "flush_interval": 60.0, "close_timeout": 5.0, **self.options}
        if options["writer"] == "process":
            self.profiler = Profiler(sink=f"scripted:{self.folder}", **options)
        else:
            self.profiler = Profiler(sink=scripted_sink.FileScriptedSink(str(self.folder)), **options)

    # -- what programs do -------------------------------------------------------------------------

    def tags(self, more: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.number += 1
        return self.number, {**more, FIRST_TAG: self.number}

    @rule(name=st.text(max_size=6), more=tags_strategy)
    def record(self, name: str, more: dict[str, Any]) -> None:
        number, tags = self.tags(more)
        self.recorded[number] = (name, tags, self.open[-1][1] if self.open else 0)
        with self.profiler.measure(name, tags):
            pass

    @precondition(lambda self: len(self.open) < 4)
    @rule(name=st.text(max_size=6))
    def enter(self, name: str) -> None:
        number, tags = self.tags({})
        self.recorded[number] = (name, tags, self.open[-1][1] if self.open else 0)
        span = self.profiler.measure(name, tags)
        span.__enter__()
        self.open.append((span, number))

    @precondition(lambda self: self.open)
    @rule(fails=st.booleans())
    def leave(self, fails: bool) -> None:
        span, _ = self.open.pop()
        span.__exit__(ValueError if fails else None, ValueError("x") if fails else None, None)

    @rule(threads=st.integers(2, 4), each=st.integers(1, 10))
    def many_at_once(self, threads: int, each: int) -> None:
        start = threading.Barrier(threads)
        numbers = [[self.tags({})[0] for _ in range(each)] for _ in range(threads)]

        def work(mine: list[int]) -> None:
            start.wait()
            for number in mine:
                self.profiler.start("burst", {FIRST_TAG: number}).end()

        for mine in numbers:
            self.recorded.update({number: ("burst", {FIRST_TAG: number}, 0) for number in mine})
        workers = [threading.Thread(target=work, args=(mine,)) for mine in numbers]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    @rule(faults=st.lists(st.sampled_from(["fail", "doubt"]), min_size=1, max_size=3))
    def the_sink_fails_for_a_while(self, faults: list[str]) -> None:
        self.control.misbehave(faults)

    @rule()
    def flush(self) -> None:
        complete = self.profiler.flush(timeout=WAIT_S)
        if self.report is None:
            ledger = self.profiler.stats()
            assert ledger.pending == 0, "flush() returned, and spans are still on their way"
            assert complete == (ledger.lost == 0)

    @rule()
    def close(self) -> None:
        report = self.profiler.close()
        assert report == (self.report or report), "closing again must tell the same"
        self.report = report

    @invariant()
    def every_span_is_somewhere(self) -> None:
        if not hasattr(self, "profiler"):
            return
        ledger = self.profiler.stats()
        assert ledger.recorded == ledger.written + ledger.dropped + ledger.failed + ledger.pending
        assert ledger.recorded == len(self.recorded) - len(self.open)
        assert ledger.dropped == sum(ledger.dropped_by.values())
        assert ledger.failed == sum(ledger.failed_by.values())

    # -- the judgement ----------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "profiler"):
            return
        while self.open:
            self.leave(False)
        self.close()
        ledger = self.profiler.stats()
        stored = self.control.stored()
        self.judge(stored, ledger.written, ledger.dropped, ledger.failed)
        shutil.rmtree(self.folder)

    def judge(self, stored: list[SpanData], written: int, dropped: int, failed: int) -> None:
        numbers = Counter(span.tags[FIRST_TAG] for span in stored)
        assert not [number for number, times in numbers.items() if times > 1], "stored more than once"
        assert set(numbers) <= set(self.recorded), "stored, but never recorded"
        assert len(numbers) >= written, "written, says the ledger, but not stored"
        assert len(numbers) - written <= failed, "stored, and not in the ledger"
        assert len(self.recorded) == written + dropped + failed
        ids = {span.span_id: span.tags[FIRST_TAG] for span in stored}
        for span in stored:
            name, tags, parent = self.recorded[span.tags[FIRST_TAG]]
            assert (span.name, span.tags) == (plain_text(name), tags)
            if span.parent_id in ids:
                assert ids[span.parent_id] == parent
            assert 0 <= span.duration == pytest.approx(span.end_time - span.start_time, abs=1e-6)
        for thread, found in numbers_by_thread(span for span in stored if span.name == "burst").items():
            assert found == sorted(found), f"thread {thread} out of order"


@pytest.mark.hypothesis  # which sees itself only in what it decorates
@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_nothing_is_lost_on_close(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY_S", 0.0005)
    monkeypatch.setattr(delivery, "LONGEST_DELAY_S", 0.005)
    plugins.register(scripted_sink, "scripted_sink")

    class ThisProgram(Program):
        options = CONFIGURATIONS[name]

    slow = name == "process"  # each example starts another interpreter
    run_state_machine_as_test(
        ThisProgram,
        settings=hypothesis.settings(
            max_examples=in_proportion(8 if slow else 40),
            stateful_step_count=25 if slow else 30,
            parent=hypothesis.settings.default,
        ),
    )


def test_a_sink_that_is_broken_for_good_costs_what_the_ledger_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY_S", 0.0005)
    monkeypatch.setattr(delivery, "LONGEST_DELAY_S", 0.005)
    sink = ScriptedSink()
    profiler = Profiler(sink=sink, batch_size=2, close_timeout=0.2)
    profiler.start("kept").end()
    assert profiler.flush(), profiler.stats()
    sink.broken = True
    for _ in range(3):
        profiler.start("lost").end()
    with pytest.warns(LostSpansWarning, match="the sink fails"):
        assert not profiler.flush()  # until they are given up
        report = profiler.close()
    assert (report.recorded, report.written, report.failed) == (4, 1, 3)
    assert report.failed_by == {"OSError": 3}
    assert not profiler.flush()
