"""Smaller promises of the writers: batches that come again, closing under load, and what is left behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import WAIT_S, ScriptedSink, wait_until

import ferret
from ferret import Profiler, forkgate, plugins
from ferret.batch import Batch
from ferret.hookspecs import hookimpl
from ferret.models import DeliveryReport
from ferret.sinks.memory import MemorySink
from ferret.testing.patience import in_child
from ferret.writers import delivery

QUEUED = ["threaded", "bounded"]
WRITERS = ["sync", *QUEUED]


def start(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


class Attempts(MemorySink):
    """Notes which batch came how often, and raises what it is told to, once each."""

    def __init__(self, *errors: type[BaseException]) -> None:
        super().__init__()
        self.errors = list(errors)
        self.seen: list[tuple[int, int]] = []

    def write(self, batch: Batch) -> None:
        self.seen.append((batch.sequence, batch.attempt))
        if self.errors:
            raise self.errors.pop(0)
        super().write(batch)


# -- batches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_batch_of_the_default_size_is_stored_whole_and_in_order(writer: str) -> None:
    sink = MemorySink()
    with Profiler(sink=sink, writer=writer) as profiler:
        size = profiler.settings.batch_size
        for number in range(2 * size + 10):
            profiler.start("x", {"n": number}).end()
    assert [span.tags["n"] for span in sink.spans] == list(range(2 * size + 10))
    assert max(len(batch) for batch in sink.batches.values()) <= size
    assert profiler.stats().written == 2 * size + 10


@pytest.mark.parametrize("writer", WRITERS)
def test_a_batch_that_is_tried_again_says_which_attempt_it_is(writer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY_S", 0.001)
    sink = Attempts(OSError, OSError)
    with Profiler(sink=sink, writer=writer, batch_size=1) as profiler:
        profiler.start("x").end()
        assert profiler.flush(WAIT_S)
        profiler.start("y").end()
    assert sink.seen == [(0, 1), (0, 2), (0, 3), (1, 1)]


def test_a_batch_that_ctrl_c_left_behind_comes_again_as_another_attempt() -> None:
    sink = Attempts(KeyboardInterrupt)
    with Profiler(sink=sink, writer="sync", batch_size=1) as profiler:
        with pytest.raises(KeyboardInterrupt):
            profiler.start("x").end()
        profiler.start("y").end()
    assert sink.seen == [(0, 1), (0, 2), (1, 1)]


# -- closing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", WRITERS)
def test_close_ends_though_more_is_recorded_during_every_write(writer: str) -> None:
    class Chased(MemorySink):
        def write(self, batch: Batch) -> None:
            super().write(batch)
            if not producer.is_alive():
                producer.start()
            before, deadline = ended, time.monotonic() + WAIT_S
            while ended < before + 20 and not stop.is_set() and time.monotonic() < deadline:
                time.sleep(0.0002)

    def produce() -> None:
        nonlocal ended
        while not stop.is_set():
            profiler.start("during").end()
            ended += 1
            time.sleep(0)

    sink, stop, ended = Chased(), threading.Event(), 0
    producer = threading.Thread(target=produce, daemon=True)
    profiler = Profiler(sink=sink, writer=writer, batch_size=10, max_queue=10**6, flush_interval=3600)
    for _ in range(5):
        profiler.start("before").end()
    reports: list[DeliveryReport] = []
    closer = start(lambda: reports.append(profiler.close(timeout=3600)))
    closer.join(WAIT_S)
    hung = closer.is_alive()
    stop.set()
    producer.join()
    closer.join()
    assert not hung, "close went on for as long as somebody recorded"
    assert (reports[0].written, reports[0].failed, reports[0].timed_out) == (5, 0, False)
    ledger = profiler.stats()
    assert (ledger.written, ledger.dropped_by, ledger.pending) == (5, {"closed": ended}, 0)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_closed_writer_keeps_nothing_of_what_comes_too_late(writer: str) -> None:
    profiler = Profiler(sink=MemorySink(), writer=writer)
    profiler.start("x").end()
    profiler.close()
    for _ in range(5):
        profiler.start("too late").end()
        assert len(profiler.queue) == 0
    assert profiler.stats().dropped_by == {"closed": 5}


# -- a full queue -----------------------------------------------------------------------------------


def test_a_blocked_producer_goes_on_as_soon_as_a_batch_is_taken_and_not_only_when_it_is_written() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    profiler = Profiler(sink=sink, writer="bounded", overflow="block", block_timeout=3600, max_queue=2, batch_size=2)
    books = profiler.writer._books  # type: ignore[attr-defined]
    settle = books.settle

    def settle_and_let_the_producer_look(sequence: int, failure: str | None) -> None:
        settle(sequence, failure)
        if sequence == 0:
            sink.gate.clear()
            wait_until(lambda: books.settled._waiters)  # it was told, found no room, and waits again

    books.settle = settle_and_let_the_producer_look
    for _ in range(2):
        profiler.start("first batch").end()
    assert sink.entered.acquire(timeout=WAIT_S)
    for _ in range(2):
        profiler.start("second batch").end()
    producer = start(lambda: profiler.start("blocked").end())
    wait_until(lambda: books.settled._waiters)
    sink.gate.set()
    assert sink.entered.acquire(timeout=WAIT_S)  # the second batch is taken, and not written
    producer.join(WAIT_S)
    stuck = producer.is_alive()
    sink.gate.set()
    producer.join()
    assert profiler.close().written == 5
    assert not stuck


# -- fork -------------------------------------------------------------------------------------------


@pytest.fixture
def impatient_forks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(forkgate, "PATIENCE_S", 0.02)
    return


def test_a_fork_does_not_wait_for_a_profiler_that_is_slow_to_make_and_the_child_makes_its_own(
    impatient_forks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, opening, opened = os.getpid(), threading.Event(), threading.Event()

    def open_slowly(target: str | None = None) -> MemorySink:
        if os.getpid() == parent:
            opening.set()
            assert opened.wait(WAIT_S)
        return MemorySink(target)

    class Plugin:
        @hookimpl
        def ferret_sinks(self) -> dict[str, Any]:
            return {"slow": open_slowly}

    def live() -> None:
        with ferret.measure("in the child"):
            pass
        assert ferret.get_profiler().close().written == 1

    plugins.register(Plugin())
    monkeypatch.setenv("FERRET_SINK", "slow")
    maker = start(ferret.get_profiler)
    assert opening.wait(WAIT_S)
    try:
        in_child(live)
    finally:
        opened.set()
        maker.join()
    assert ferret.get_profiler().close().written == 0
