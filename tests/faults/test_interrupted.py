"""Signal handlers, finalizers and forks that come at the worst moment: nobody waits for himself, and nothing is lost."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import ScriptedSink, is_gone

from ferret import Profiler, Report, lifecycle, sigterm
from ferret.ledger.gaps import Gaps
from ferret.sinks.memory import MemorySink
from ferret.testing.patience import in_child, in_time, wait_until
from ferret.writers import frames
from ferret.writers.books import Books

BEGIN = """
import multiprocessing, os, signal, sys, threading, time
from ferret import Profiler
"""


def ended(program: str, tmp_path: Path, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "program.py"
    script.write_text(BEGIN + textwrap.dedent(program))
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *arguments],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


# -- SIGTERM, with the handler asked for ------------------------------------------------------------


@pytest.mark.parametrize("writer", ["sync", "threaded"])
def test_sigterm_while_flush_is_in_the_sink_ends_the_program_and_loses_nothing(tmp_path: Path, writer: str) -> None:
    done = ended(
        """
        class Sink:
            stored = 0
            def write(self, batch):
                self.stored += len(batch)
            def flush(self):
                if not sent:
                    sent.append(os.kill(os.getpid(), signal.SIGTERM))
                    time.sleep(0.2)
            def close(self):
                print("closed with", self.stored, flush=True)
        sent = []
        profiler = Profiler(sink=Sink(), writer=sys.argv[1], handle_sigterm=True)
        profiler.start("x").end()
        profiler.flush()
        time.sleep(60)
        """,
        tmp_path, writer,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "closed with 1\n"), done.stderr


def test_sigterm_while_a_span_waits_for_room_ends_the_program(tmp_path: Path) -> None:
    done = ended(
        """
        from ferret.writers.books import Books
        wait_for = Books.wait_for
        def interrupted(self, what, timeout):
            if threading.current_thread() is threading.main_thread():
                with self.settled:  # as it is in the middle of waiting
                    signal.raise_signal(signal.SIGTERM)
                    time.sleep(0)
            return wait_for(self, what, timeout)
        Books.wait_for = interrupted
        profiler = Profiler(
            sink="memory", writer="bounded", handle_sigterm=True, max_queue=2, batch_size=2, overflow="block", block_timeout=0
        )
        while True:
            profiler.start("x").end()
        """,
        tmp_path,
    )
    assert done.returncode == -signal.SIGTERM, done.stderr


@pytest.mark.parametrize("before", ["signal.SIG_DFL", "lambda *_: sys.exit(7)"])
def test_sigterm_while_a_fork_waits_for_the_sink_is_answered_after_the_fork(tmp_path: Path, before: str) -> None:
    """The thread that forks lets no signal in, so the kernel gives it to another; but Python runs the handler here."""
    done = ended(
        f"""
        class Sink:
            stored = 0
            def write(self, batch):
                time.sleep(0.3)
                self.stored += len(batch)
            def flush(self): pass
            def close(self):
                print("closed with", self.stored, flush=True)
        signal.signal(signal.SIGTERM, {before})
        profiler = Profiler(sink=Sink(), handle_sigterm=True, close_timeout=20, batch_size=10, flush_interval=0.05)
        for _ in range(30):
            profiler.start("x").end()
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
        time.sleep(0.05)
        if not os.fork():
            os._exit(0)
        time.sleep(60)
        """,
        tmp_path,
    )
    assert done.returncode == (-signal.SIGTERM if "DFL" in before else 7), done.stderr
    assert done.stdout == "closed with 30\n"


def test_pools_that_have_nothing_to_do_end_as_ever(tmp_path: Path) -> None:
    """Their workers wait for a lock of C's, which a signal that is only noted by Python does not interrupt."""
    done = ended(
        """
        if __name__ == "__main__":
            profiler = Profiler(sys.argv[1], handle_sigterm=True)
            profiler.start("x").end()
            for _ in range(60):
                with multiprocessing.get_context("fork").Pool(4):
                    pass
            print("done")
        """,
        tmp_path, str(tmp_path / "trace.db"),
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr


def test_a_forked_child_handles_sigterm_once_it_has_something_to_store(db: str, tmp_path: Path) -> None:
    done = ended(
        """
        profiler = Profiler(sys.argv[1], handle_sigterm=True)
        ready, told = os.pipe()
        for records in False, True:
            child = os.fork()
            if not child:
                if records:
                    profiler.start("child").end()
                print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
                os.write(told, b"x")
                time.sleep(60)
            os.read(ready, 1)
            os.kill(child, signal.SIGTERM)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        """,
        tmp_path, db,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "-15", "False", "-15"], done.stderr
    assert [span.name for span in Report(db).spans()] == ["child"]


def test_a_block_that_an_exception_keeps_from_ending_is_none_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int] = []
    monkeypatch.setattr(sigterm, "_patience", 30.0)
    before = signal.signal(signal.SIGTERM, lambda *_: sigterm._then(lambda: answers.append(1)))
    try:
        block = sigterm.uninterrupted()
        block.__enter__()
        signal.raise_signal(signal.SIGTERM)
        assert not answers
        del block  # as a frame does that is left before `__exit__` has begun
        assert answers == [1]
        signal.raise_signal(signal.SIGTERM)
        assert answers == [1, 1]
    finally:
        signal.signal(signal.SIGTERM, before)


# -- signal handlers and finalizers that record, flush and close ------------------------------------


def test_a_span_of_a_handler_that_interrupts_a_look_into_the_books_does_not_wait_for_itself() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    profiler = Profiler(sink=sink, writer="sync", batch_size=1)
    other = threading.Thread(target=lambda: profiler.start("other's").end(), daemon=True)
    other.start()
    assert sink.entered.acquire(timeout=30)
    threading.Timer(0.05, sink.gate.set).start()

    def as_in_a_handler() -> None:
        with profiler.writer._books.settled:  # type: ignore[attr-defined]  # of the look that it interrupted
            profiler.start("the handler's").end()
            assert profiler.flush(30)

    in_time(as_in_a_handler, "a span that was recorded in a signal handler")
    other.join()
    assert profiler.close().written == 2


@pytest.mark.parametrize("writer", ["threaded", "bounded", "process"])
def test_close_in_a_handler_that_interrupts_a_look_into_the_books_loses_nothing(writer: str, tmp_path: Path) -> None:
    profiler = Profiler(sink=f"jsonl:{tmp_path / 'spans.jsonl'}", writer=writer, close_timeout=30)

    def as_in_a_handler() -> None:
        with profiler.writer._books.settled:  # type: ignore[attr-defined]
            for _ in range(100):
                profiler.start("x").end()
            report = profiler.close()
            assert (report.written, report.timed_out) == (100, False)

    in_time(as_in_a_handler, "close()", 60)


def test_a_look_that_was_interrupted_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    profiler = Profiler(sink=MemorySink(), writer="threaded", batch_size=1000, flush_interval=3600)
    profiler.start("x").end()
    pending, flushed = Books._pending, list[bool]()

    def and_then_a_handler_flushes(self: Books) -> int:
        seen = pending(self)
        if not flushed:
            flushed.append(True)
            assert profiler.flush(30)
        return seen

    monkeypatch.setattr(Books, "_pending", and_then_a_handler_flushes)
    ledger = profiler.stats()
    assert (ledger.recorded, ledger.written, ledger.pending) == (1, 1, 0)
    profiler.close()


def test_close_in_a_handler_that_interrupts_a_sync_delivery_leaves_the_sink_open_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink = MemorySink()
    profiler = Profiler(sink=sink, writer="sync", batch_size=3)
    take = Books.take

    def and_then_a_handler_closes(self: Books, *given: Any, **options: Any) -> Any:
        batch = take(self, *given, **options)
        if not sink.closed:
            profiler.close()
        return batch

    monkeypatch.setattr(Books, "take", and_then_a_handler_closes)
    for _ in range(3):
        profiler.start("x").end()
    assert (len(sink.spans), sink.closed) == (3, True)
    assert profiler.close().written == 3


def test_a_handler_that_starts_the_worker_while_it_is_started_leaves_one_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink = MemorySink()
    profiler = Profiler(sink=sink, batch_size=5, flush_interval=0.01)
    made: list[threading.Thread] = []

    class Thread(threading.Thread):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            made.append(self)
            if len(made) == 1:  # what a signal handler does in this very moment
                profiler.start("the handler's").end()
                assert profiler.flush(30)

    monkeypatch.setattr(threading, "Thread", Thread)
    for number in range(100):
        profiler.start("x", {"n": number}).end()
    assert profiler.flush(30)
    wait_until(lambda: sum(thread.is_alive() for thread in made) == 1, "only one thread was left at work")
    assert profiler.close().written == 101
    assert [span.tags["n"] for span in sink.spans if span.name == "x"] == list(range(100))


@pytest.mark.parametrize("what", ["flush", "close"])
@pytest.mark.parametrize("writer", ["threaded", "process"])
def test_a_finalizer_may_flush_and_close_in_the_writers_own_threads(writer: str, what: str, tmp_path: Path) -> None:
    profiler = Profiler(
        sink=f"jsonl:{tmp_path / 'spans.jsonl'}", writer=writer, batch_size=10, flush_interval=0.01, close_timeout=30
    )
    books, seen = profiler.writer._books, set[str]()  # type: ignore[attr-defined]
    settle: Callable[..., None] = books.settle

    def and_then_a_finalizer(*given: Any) -> None:
        settle(*given)
        name = threading.current_thread().name
        if name not in seen:
            seen.add(name)
            getattr(profiler, what)()

    books.settle = and_then_a_finalizer
    for _ in range(100):
        profiler.start("x").end()
    report = in_time(profiler.close, "close()", 60)
    assert (report.written, report.timed_out) == (100, False)
    assert seen == {"ferret-writer" if writer == "threaded" else "ferret-answers"}


def test_a_loss_that_a_handler_notices_while_it_is_noticed_is_one() -> None:
    class Interrupted(dict[str, int]):
        def items(self) -> Any:
            if not gaps.found():
                gaps.notice({"overflow": 5, "closed": 1})
            return super().items()

    gaps = Gaps(0)
    gaps.notice(Interrupted(overflow=3))
    gaps.notice({"overflow": 6, "closed": 1})
    assert {gap.reason: gap.count for gap in gaps.found()} == {"overflow": 6, "closed": 1}


# -- ends -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
@pytest.mark.parametrize("what", ["flush", "close", "write_run"])
def test_a_sink_whose_end_raises_what_is_no_exception_does_not_keep_the_writer_from_ending(what: str) -> None:
    class Sink(MemorySink):
        pass

    def cancelled(*_: object) -> None:
        raise asyncio.CancelledError

    setattr(Sink, what, cancelled)
    profiler = Profiler(sink=Sink(), close_timeout=20)
    profiler.start("x").end()
    assert in_time(profiler.flush, "flush()")
    report = in_time(profiler.close, "close()", 40)
    assert (report.written, report.timed_out) == (1, False)


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
def test_close_keeps_to_its_time_while_another_thread_takes_longer() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    profiler = Profiler(sink=sink, writer="threaded", batch_size=1)
    profiler.start("x").end()
    patient = threading.Thread(target=profiler.close, args=[60.0])
    patient.start()
    wait_until(lambda: profiler.writer._state.name == "CLOSING", "another thread closes")  # type: ignore[attr-defined]
    assert in_time(lambda: profiler.close(0.1), "close(0.1)", 30).timed_out
    sink.gate.set()
    patient.join()
    assert profiler.close().written == 1


@pytest.mark.parametrize("writer", ["sync", "threaded"])
@pytest.mark.parametrize("timeout", [math.inf, 1e10])
def test_one_may_wait_for_ever(writer: str, timeout: float) -> None:
    profiler = Profiler(sink="memory", writer=writer)
    profiler.start("x").end()
    assert profiler.flush(timeout)
    assert profiler.close(timeout).written == 1


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
def test_no_writing_process_is_started_for_a_program_that_gave_up(tmp_path: Path) -> None:
    profiler = Profiler(sink=f"jsonl:{tmp_path / 'spans.jsonl'}", writer="process", batch_size=1)
    writer: Any = profiler.writer
    begun, go, start, started = threading.Event(), threading.Event(), writer._link.start, list[psutil.Process]()

    def late(**options: Any) -> None:
        begun.set()
        assert go.wait(30)
        start(**options)
        started.append(psutil.Process(writer.child_pid))

    writer._link.start = late
    os.kill(writer.child_pid, signal.SIGKILL)
    profiler.start("x").end()
    assert begun.wait(30)
    assert profiler.close(0.1).timed_out
    go.set()
    wait_until(lambda: started, "the thread came to it")
    wait_until(lambda: is_gone(started[0]), "the writing process ended")


def test_a_batch_that_is_too_large_for_the_pipe_is_taken_apart(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 50_000)
    with Profiler(db, writer="process", batch_size=50) as profiler:
        for number in range(50):
            profiler.start("x", {"n": number, "text": "x" * 5_000}).end()
    assert profiler.stats().written == 50
    assert sorted(span.tags["n"] for span in Report(db).spans()) == list(range(50))


# -- forks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", ["sync", "threaded"])
@pytest.mark.parametrize("sink", ["beaver", "jsonl"])
def test_a_child_of_a_child_goes_on_when_both_before_it_have_closed(tmp_path: Path, sink: str, writer: str) -> None:
    """Its own parent's connection must be let go of, and not only the first one's."""
    file = tmp_path / "spans"
    done = ended(
        """
        sink, writer = sys.argv[1:]
        profiler = Profiler(sink=sink, writer=writer)
        profiler.start("first").end()
        assert profiler.flush()
        stored, told = os.pipe()
        gone, closed = os.pipe()
        child = os.fork()
        if not child:
            profiler.start("second").end()
            assert profiler.flush()
            if not os.fork():
                os.close(closed)
                profiler.start("third").end()
                assert profiler.flush()
                os.write(told, b"x")
                os.read(gone, 1)
                for _ in range(10):
                    profiler.start("third").end()
                    assert profiler.flush()
                assert profiler.close().written == 11
                os.write(told, b"y")
                os._exit(0)
            os.read(stored, 1)
            profiler.close()
            os._exit(0)
        os.close(told)
        os.waitpid(child, 0)
        profiler.close()
        os.close(closed)
        assert os.read(stored, 1) == b"y"
        """,
        tmp_path, f"{sink}:{file}", writer,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(span.name for span in Report(str(file)).spans()) == ["first", "second", *["third"] * 11]


def test_a_writer_that_cannot_begin_anew_in_a_child_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def _after_fork(self) -> None:
            raise RuntimeError("a plugin's fault")

        def close(self) -> None: ...

    profilers = [Profiler(sink="memory") for _ in range(5)]
    broken = [Broken() for _ in range(5)]
    for one in broken:
        lifecycle.watch(one)  # type: ignore[arg-type]
    for profiler in profilers:
        profiler.start("the parent's").end()

    def look() -> None:
        assert [profiler.stats().recorded for profiler in profilers] == [0] * 5

    try:
        in_child(look)
    finally:
        for one in broken:
            lifecycle.forget(one)  # type: ignore[arg-type]
        for profiler in profilers:
            profiler.close()
