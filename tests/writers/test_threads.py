"""The writers that have a queue and a thread: what callers see while the sink is slow, stuck or broken."""

from __future__ import annotations

import signal
import threading
import time
from queue import SimpleQueue
from typing import Any

import pytest
from support import WAIT_S, ScriptedSink, numbers_by_thread, record, wait_until

from ferret import LostSpansWarning, Profiler
from ferret.config import load_settings
from ferret.sinks.memory import MemorySink
from ferret.writers.batching import BEHIND, LEND_EVERY
from ferret.writers.bounded import BoundedWriter
from ferret.writers.threaded import FAR, ThreadedWriter

QUEUED = ["threaded", "bounded"]


@pytest.mark.parametrize("writer", ["sync", *QUEUED])
def test_eight_threads_then_close_stores_every_span_once_and_in_order(writer: str) -> None:
    sink = MemorySink()
    profiler = Profiler(sink=sink, writer=writer, batch_size=64)

    def work(base: int) -> None:
        for number in range(base, base + 500):
            profiler.start("x", {"n": number}).end()

    threads = [threading.Thread(target=work, args=(index * 1000,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = profiler.close()
    assert (report.recorded, report.written, report.lost) == (4000, 4000, 0)
    found = [span.tags["n"] for span in sink.spans]
    assert sorted(found) == sorted(base * 1000 + offset for base in range(8) for offset in range(500))
    for numbers in numbers_by_thread(sink.spans).values():
        for base in range(8):
            mine = [number for number in numbers if number // 1000 == base]
            assert mine == sorted(mine)


@pytest.mark.parametrize("repetition", range(5))
@pytest.mark.parametrize("writer", ["sync", *QUEUED])
def test_producers_that_record_while_it_closes_lose_nothing_uncounted(writer: str, repetition: int) -> None:
    sink = MemorySink()
    profiler = Profiler(sink=sink, writer=writer, batch_size=50, max_queue=10**7)
    stop = threading.Event()
    ended = [0] * 4

    def work(index: int) -> None:
        while not stop.is_set():
            profiler.start("x", {"n": ended[index], "by": index}).end()
            ended[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: min(ended) > 20 * repetition)
    report = profiler.close()
    wait_until(lambda: profiler.stats().dropped > 20)
    stop.set()
    for thread in threads:
        thread.join()
    ledger = profiler.stats()
    assert ledger.pending == report.pending == 0
    assert ledger.recorded == sum(ended) == ledger.written + ledger.dropped
    assert ledger.written == report.written == len(sink.spans)
    assert ledger.dropped_by == {"closed": ledger.dropped}
    for index in range(4):
        kept = [span.tags["n"] for span in sink.spans if span.tags["by"] == index]
        assert kept == list(range(len(kept))), "what was stored is not what came first"


@pytest.mark.parametrize("writer", QUEUED)
def test_recording_does_not_wait_for_a_stuck_sink(writer: str) -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    profiler = Profiler(sink=sink, writer=writer, batch_size=2, close_timeout=0.2)
    started = time.monotonic()
    for number in range(2):
        profiler.start("stuck", {"n": number}).end()
    assert sink.entered.acquire(timeout=WAIT_S)
    for number in range(500):
        if number % 100 == 0:
            profiler.writer.alarm = 1  # type: ignore[attr-defined]  # the slow path, too
        profiler.start("behind", {"n": number}).end()
    assert time.monotonic() - started < 10
    assert profiler.stats().pending == 502
    assert not profiler.flush(timeout=0.01)
    with pytest.warns(LostSpansWarning, match="502 of 502 spans were not stored"):
        report = profiler.close()
    assert report.timed_out
    assert (report.pending, report.failed_by) == (0, {"close_timeout": 502})
    sink.gate.set()


@pytest.mark.parametrize("writer", QUEUED)
def test_a_part_of_a_batch_is_written_when_its_time_is_over(writer: str) -> None:
    sink = MemorySink()
    with Profiler(sink=sink, writer=writer, flush_interval=0.02) as profiler:
        profiler.start("alone").end()
        wait_until(lambda: sink.spans)
        profiler.start("again").end()
        wait_until(lambda: len(sink.spans) == 2)


@pytest.mark.parametrize("writer", QUEUED)
def test_a_full_batch_is_written_at_once(writer: str) -> None:
    sink = MemorySink()
    with Profiler(sink=sink, writer=writer, batch_size=3, flush_interval=3600) as profiler:
        for _ in range(7):
            profiler.start("x").end()
        wait_until(lambda: len(sink.spans) >= 6)
        assert len(sink.spans) == 6, "the seventh should wait for its batch to fill"


def test_flush_does_not_wait_for_what_comes_after_it() -> None:
    class OneAtATime(MemorySink):
        permits = threading.Semaphore(0)

        def write(self, batch: Any) -> None:
            assert self.permits.acquire(timeout=WAIT_S)
            super().write(batch)

    sink = OneAtATime()
    profiler = Profiler(sink=sink, batch_size=2)
    answers: list[bool] = []
    for _ in range(2):
        profiler.start("before").end()
    flusher = threading.Thread(target=lambda: answers.append(profiler.flush(timeout=WAIT_S)))
    flusher.start()
    wait_until(lambda: profiler.writer._flush_ticket == 2)  # type: ignore[attr-defined]
    for _ in range(100):
        profiler.start("after").end()
    sink.permits.release()
    flusher.join()
    assert answers == [True]
    assert profiler.stats().written <= 4
    sink.permits.release(200)
    profiler.close()


@pytest.mark.parametrize("writer", ["sync", *QUEUED])
def test_flush_flushes_the_sink(writer: str) -> None:
    sink = ScriptedSink()
    with Profiler(sink=sink, writer=writer) as profiler:
        profiler.start("x").end()
        assert profiler.flush()
        assert sink.flushes == 1
    assert sink.closed == 1


@pytest.mark.parametrize("writer", QUEUED)
def test_an_idle_writer_wakes_at_most_twice_a_second(writer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(ThreadedWriter):
        looks = 0

        def _sleep(self) -> None:
            Counted.looks += 1
            super()._sleep()

    bases: tuple[type, ...] = (Counted,) if writer == "threaded" else (Counted, BoundedWriter)
    one = type("One", bases, {})(MemorySink(), load_settings({"flush_interval": 0.01}))
    one.record(record(1))
    assert one.flush()
    time.sleep(0.5)
    before, since = Counted.looks, time.monotonic()
    time.sleep(2.0)
    assert Counted.looks - before <= 2 * (time.monotonic() - since)
    one.close()


@pytest.mark.parametrize("writer", QUEUED)
def test_while_spans_come_nobody_has_to_wake_the_worker_and_each_batch_is_stored_all_the_same(writer: str) -> None:
    sink = MemorySink()
    with Profiler(sink=sink, writer=writer, batch_size=100, flush_interval=3600) as profiler:
        rouse, roused = profiler.writer.rouse, list[int]()  # type: ignore[attr-defined]
        profiler.writer.rouse = lambda: (roused.append(1), rouse())  # type: ignore[attr-defined]
        profiler.start("first").end()
        wait_until(lambda: profiler.writer.alarm == FAR)  # type: ignore[attr-defined]
        for _ in range(1000):
            profiler.start("x").end()
        wait_until(lambda: len(sink.spans) == 1000)
        assert len(roused) == 1


def test_a_busy_worker_is_woken_before_too_many_spans_wait_for_its_next_beat() -> None:
    sink = MemorySink()
    with Profiler(sink=sink, batch_size=100, flush_interval=3600) as profiler:
        profiler.start("first").end()
        writer: Any = profiler.writer
        wait_until(lambda: writer.alarm == FAR)
        writer._wake = woken = SimpleQueue[None]()
        for _ in range(FAR):
            profiler.start("x").end()
        assert not woken.empty() or sink.spans


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_a_full_queue_drops_exactly_what_is_too_many(overflow: Any) -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    profiler = Profiler(sink=sink, writer="bounded", overflow=overflow, max_queue=10, batch_size=2)
    for number in range(2):
        profiler.start("first", {"n": number}).end()
    assert sink.entered.acquire(timeout=WAIT_S)
    for number in range(2, 50):
        profiler.start("x", {"n": number}).end()
    ledger = profiler.stats()
    assert (ledger.recorded, ledger.pending, ledger.dropped_by) == (50, 12, {"overflow": 38})
    sink.gate.set()
    with pytest.warns(LostSpansWarning, match="queue of 10 spans was full"):
        profiler.close()
    kept = [span.tags["n"] for span in sink.spans]
    assert kept == [0, 1, *(range(2, 12) if overflow == "drop_newest" else range(40, 50))]


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_drops_are_counted_exactly_however_many_threads_come_at_once(overflow: Any) -> None:
    sink = MemorySink()
    profiler = Profiler(sink=sink, writer="bounded", overflow=overflow, max_queue=16, batch_size=4)

    def work() -> None:
        for _ in range(3000):
            profiler.start("x").end()

    threads = [threading.Thread(target=work) for _ in range(8)]
    with pytest.warns(LostSpansWarning):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report = profiler.close()
    assert report.recorded == 24_000 == report.written + report.dropped
    assert report.written == len(sink.spans) == len({span.span_id for span in sink.spans})


def test_block_waits_for_room_and_then_loses_nothing() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    profiler = Profiler(sink=sink, writer="bounded", overflow="block", block_timeout=WAIT_S, max_queue=4, batch_size=2)
    done = threading.Event()

    def work() -> None:
        for number in range(40):
            profiler.start("x", {"n": number}).end()
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    assert sink.entered.acquire(timeout=WAIT_S)
    assert not done.wait(0.05), "nothing held the producer up"
    assert profiler.stats().pending <= 4 + 2 + 1
    sink.gate.set()
    assert done.wait(WAIT_S)
    worker.join()
    assert profiler.close().written == 40


def test_block_gives_up_after_its_timeout_and_counts() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    profiler = Profiler(sink=sink, writer="bounded", overflow="block", block_timeout=0.01, max_queue=2, batch_size=1)
    profiler.start("first").end()
    assert sink.entered.acquire(timeout=WAIT_S)
    for _ in range(5):
        profiler.start("x").end()
    assert profiler.stats().dropped_by == {"overflow": 3}
    sink.gate.set()
    with pytest.warns(LostSpansWarning):
        assert profiler.close().written == 3


# -- the sink's own spans, and other re-entrances ---------------------------------------------------


@pytest.mark.parametrize("writer", ["sync", *QUEUED])
def test_a_sink_that_is_measured_does_not_feed_itself(writer: str) -> None:
    class Measured(MemorySink):
        def write(self, batch: Any) -> None:
            with profiler.measure("my own"), other.measure("somebody else's"):
                super().write(batch)

    sink, kept = Measured(), MemorySink()
    other = Profiler(sink=kept, writer="sync", batch_size=1)
    profiler = Profiler(sink=sink, writer=writer, batch_size=1)
    for _ in range(5):
        profiler.start("x").end()
    with pytest.warns(LostSpansWarning, match="suppressed"):
        report = profiler.close()
    assert report.written == 5
    assert report.dropped_by == {"suppressed": len(sink.batches)}
    assert len(kept.spans) == len(sink.batches), "another profiler may measure the sink"
    other.close()
    with Profiler(sink=MemorySink(), writer="sync") as fresh:
        fresh.start("this thread records again").end()
        assert fresh.stats().dropped == 0


@pytest.mark.parametrize("writer", ["sync", *QUEUED])
def test_a_sink_may_close_and_flush_its_own_profiler_without_a_hang(writer: str) -> None:
    class Closing(MemorySink):
        def write(self, batch: Any) -> None:
            super().write(batch)
            assert not profiler.flush(timeout=1)
            profiler.close()

    sink = Closing()
    profiler = Profiler(sink=sink, writer=writer, batch_size=1)
    profiler.start("x").end()
    wait_until(lambda: sink.spans)
    report = profiler.close()
    assert (report.written, report.pending) == (1, 0)


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
@pytest.mark.parametrize("writer", ["sync", *QUEUED])
def test_a_signal_handler_may_record_at_any_moment(writer: str) -> None:
    sink = MemorySink()
    profiler = Profiler(sink=sink, writer=writer, batch_size=7)
    handled = 0

    def handler(*_: object) -> None:
        nonlocal handled
        profiler.start("from the handler").end()
        handled += 1

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for _ in range(20_000):
            with profiler.measure("x"):
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    report = profiler.close()
    assert handled > 0
    # where the caller delivers, a handler may come while the sink writes, and cannot be told from the sink's own code
    in_the_sink = report.dropped_by.get("suppressed", 0) if writer == "sync" else 0
    assert report.recorded == 20_000 + handled == report.written + in_the_sink
    assert report.written == len(sink.spans)


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
@pytest.mark.parametrize("writer", ["sync", *QUEUED])
def test_a_finalizer_may_record_while_the_garbage_collector_runs(writer: str) -> None:
    import gc

    sink = MemorySink()
    profiler = Profiler(sink=sink, writer=writer, batch_size=7)
    finalized = 0

    class Node:
        def __init__(self) -> None:
            self.loop = self

        def __del__(self) -> None:
            nonlocal finalized
            profiler.start("finalizer").end()
            finalized += 1

    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(3000):
            Node()
            with profiler.measure("x"):
                pass
    finally:
        gc.set_threshold(*thresholds)
    wait_until(lambda: gc.collect() + finalized >= 3000)  # it does nothing while another thread collects
    report = profiler.close()
    # a collection may run in the thread that delivers, while the sink writes: see above
    assert report.recorded == 3000 + finalized == report.written + report.dropped_by.get("suppressed", 0)
    assert report.written == len(sink.spans)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, GeneratorExit])
def test_a_sink_that_raises_even_what_is_no_exception_keeps_its_batch(error: type[BaseException]) -> None:
    class Raising(MemorySink):
        times = 0

        def write(self, batch: Any) -> None:
            Raising.times += 1
            if Raising.times == 1:
                raise error
            super().write(batch)

    with Profiler(sink=(sink := Raising())) as profiler:
        profiler.start("x").end()
    assert len(sink.spans) == 1
    assert profiler.stats().written == 1


def test_ctrl_c_in_a_sync_write_reaches_the_program_and_loses_nothing() -> None:
    class Interrupted(MemorySink):
        times = 0

        def write(self, batch: Any) -> None:
            Interrupted.times += 1
            if Interrupted.times == 1:
                raise KeyboardInterrupt
            super().write(batch)

    sink = Interrupted()
    profiler = Profiler(sink=sink, writer="sync", batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        profiler.start("x").end()
    assert profiler.stats().pending == 1
    profiler.start("y").end()
    assert [span.name for span in sink.spans] == ["x", "y"]
    profiler.close()


def test_a_worker_that_fails_anywhere_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = MemorySink()
    profiler = Profiler(sink=sink, batch_size=2)
    writer: Any = profiler.writer
    faults = iter([True, True])

    for name in ("_handle", "_sleep"):
        original = getattr(writer, name)

        def faulty(*args: Any, original: Any = original) -> None:
            if next(faults, False):
                raise RuntimeError("a bug")
            original(*args)

        monkeypatch.setattr(writer, name, faulty)
    with pytest.warns(LostSpansWarning, match="a bug"):
        for _ in range(10):
            profiler.start("x").end()
        report = profiler.close()
    assert (report.written, report.lost, len(sink.spans)) == (10, 0, 10)


# -- the end ----------------------------------------------------------------------------------------


def test_closing_in_many_threads_gives_one_report() -> None:
    sink = ScriptedSink()
    profiler = Profiler(sink=sink)
    for _ in range(100):
        profiler.start("x").end()
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(profiler.close())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reports == [reports[0]] * 6
    assert (reports[0].written, sink.closed) == (100, 1)


def test_what_failed_goes_to_the_fallback_sink(tmp_path: Any) -> None:
    path = tmp_path / "fallback.jsonl"
    sink = ScriptedSink()
    sink.broken = True
    profiler = Profiler(sink=sink, fallback_sink=f"jsonl:{path}", close_timeout=1.0)
    profiler.start("rescued").end()
    with pytest.warns(LostSpansWarning):
        assert not profiler.flush()  # until it is given up
        assert profiler.close().failed_by == {"OSError": 1}
    assert "rescued" in path.read_text()


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
def test_a_broken_sink_holds_a_sync_program_up_only_once() -> None:
    sink = ScriptedSink()
    sink.broken = True
    profiler = Profiler(sink=sink, writer="sync", batch_size=1, close_timeout=0.5)
    profiler.start("tried again and again").end()
    tried = sink.writes
    assert tried > 1
    for _ in range(5):
        profiler.start("tried once").end()
    assert sink.writes == tried + 5
    sink.broken = False
    profiler.start("works again").end()
    assert profiler.close().written == 1


@pytest.mark.parametrize("writer", QUEUED)
def test_a_program_lends_a_worker_that_does_not_keep_up_the_gil_and_at_no_other_time(
    writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    profiler = Profiler(sink=sink, writer=writer, batch_size=10)
    for _ in range(10):
        profiler.start("stuck").end()
    assert sink.entered.acquire(timeout=WAIT_S)
    lent: list[float] = []
    monkeypatch.setattr(time, "sleep", lent.append)
    for _ in range(BEHIND - 1):
        profiler.start("behind").end()
    assert lent == []
    for _ in range(2 * LEND_EVERY + 1):
        profiler.start("far behind").end()
    assert lent == [0, 0, 0]
    monkeypatch.undo()
    sink.gate.set()
    assert profiler.close().written == 10 + BEHIND + 2 * LEND_EVERY
