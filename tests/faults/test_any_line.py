"""A writer that dies at its k-th line, k = 1, 2, 3 …: it goes on, or is replaced, and no span is lost or twice."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lines import Death, Lines, dying_at, each_line

from ferret import Profiler, Report
from ferret.models import DeliveryReport
from ferret.sinks.jsonl import JsonlReader
from ferret.sinks.memory import MemorySink
from ferret.writers import delivery, process, threaded

SPANS = 11
PATIENCE_S = 60.0

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),  # it is what is tried
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threaded, "RESTART_DELAY_S", 0.0)
    monkeypatch.setattr(threaded, "IDLE_WAIT_S", 0.05)  # how soon it is noticed that nobody works
    monkeypatch.setattr(process, "IDLE_WAIT_S", 0.05)
    monkeypatch.setattr(process, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(delivery, "FIRST_DELAY_S", 0.0001)


def live(profiler: Profiler, lines: Lines, thread: str) -> DeliveryReport:
    """Record, flush and close, while what delivers dies at a line: a thread of that name, or the caller itself."""
    if thread == "MainThread":
        _only_where_it_delivers(profiler.writer, lines)
    else:
        lines.thread = thread
    for number in range(SPANS):
        with suppress(Death):  # as a Ctrl-C would, where the caller delivers
            profiler.start("x", {"n": number}).end()
    lines.thread = thread
    with suppress(Death):
        began = time.monotonic()
        profiler.flush(PATIENCE_S)
        assert time.monotonic() - began < PATIENCE_S, "flush() waits for somebody who is dead"
    with suppress(Death):
        profiler.close()
    lines.thread = "nobody"
    return profiler.close()


def _only_where_it_delivers(writer: Any, lines: Lines) -> None:
    """A span that is interrupted before it is handed over is lost, says docs/limitations.md."""
    rouse = writer.rouse

    def watched() -> None:
        lines.thread = "MainThread"
        try:
            rouse()
        finally:
            lines.thread = "nobody"

    writer.rouse = watched


def check(profiler: Profiler, report: DeliveryReport, numbers: list[int], batches: int, where: str) -> None:
    ledger = profiler.stats()
    assert sorted(numbers) == list(range(SPANS)), where
    assert (ledger.recorded, ledger.written, ledger.lost, ledger.pending) == (SPANS, SPANS, 0, 0), where
    assert not report.timed_out, where
    assert ledger.batches - ledger.void_batches == batches, f"{where}: a reader would miss a batch"


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded"])
def test_a_writer_that_dies_at_any_line_loses_nothing(writer: str, step: int) -> None:
    thread = "MainThread" if writer == "sync" else "ferret-writer"
    kept: list[Profiler] = []  # so that none is collected in the middle of another's life

    def run(at: int) -> Lines:
        sink = MemorySink()
        profiler = Profiler(sink=sink, writer=writer, batch_size=4, flush_interval=0.01, close_timeout=PATIENCE_S)
        kept.append(profiler)
        with dying_at(at, "nobody") as lines:
            report = live(profiler, lines, thread)
        check(profiler, report, [span.tags["n"] for span in sink.spans], len(sink.batches), lines.where)
        assert sink.closed, lines.where
        with Profiler(sink=(again := MemorySink()), writer="sync") as fresh:
            fresh.start("x").end()
        assert len(again.spans) == 1, f"{lines.where}: this thread cannot record any more"
        return lines

    assert len({lines.where for lines in each_line(run, step)}) > 100 // step


def _process_runs(folder: Path, thread: str) -> Callable[[int], Lines]:
    def run(at: int) -> Lines:
        path = folder / f"{at}.jsonl"
        profiler = Profiler(
            sink=f"jsonl:{path}", writer="process", batch_size=4, flush_interval=0.01, close_timeout=PATIENCE_S,
            check_sink=False,
        )  # fmt: skip
        with dying_at(at, "nobody") as lines:
            report = live(profiler, lines, thread)
        (found,) = Report(path).runs()
        check(
            profiler,
            report,
            [span.tags["n"] for span in Report(path).spans()],
            len(list(JsonlReader(path).summaries())),
            lines.where,
        )
        assert not found.unclean, lines.where
        assert not [one for one in threading.enumerate() if one.name == thread], lines.where
        del profiler
        gc.collect()  # a child whose starter died over it ends now
        return lines

    return run


@pytest.mark.parametrize("step", [79, pytest.param(1, marks=pytest.mark.soak)])
def test_a_thread_that_hands_over_and_dies_at_any_line_loses_nothing(tmp_path: Path, step: int) -> None:
    assert len(list(each_line(_process_runs(tmp_path, "ferret-writer"), step))) > 5


@pytest.mark.parametrize("step", [47, pytest.param(1, marks=pytest.mark.soak)])
def test_a_thread_that_hears_what_was_stored_and_dies_at_any_line_loses_nothing(tmp_path: Path, step: int) -> None:
    assert len(list(each_line(_process_runs(tmp_path, "ferret-answers"), step))) > 2
