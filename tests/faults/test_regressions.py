"""What was once wrong, each shrunk to the smallest program that showed it."""

from __future__ import annotations

import gc
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from support import ORIGIN, WAIT_S, ScriptedSink, record, wait_until

import ferret
from ferret import LostSpansWarning, PluginError, Profiler, Report
from ferret.batch import Batch
from ferret.ledger.counts import CLAIMED, MOST_CLAIMED, Counts
from ferret.ledger.live import Life
from ferret.sinks.memory import MemorySink
from ferret.writers import quarantine
from ferret.writers.books import Books


def program(code: str, tmp_path: Path, *arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(code))
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *arguments],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


@pytest.fixture
def tiny_switches() -> Any:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# -- threads ----------------------------------------------------------------------------------------


def test_flushes_in_many_threads_invent_no_loss(tiny_switches: None) -> None:
    with Profiler(sink="null") as profiler:
        profiler.start("x").end()
        answers: list[bool] = []
        threads = [
            threading.Thread(target=lambda: answers.extend(profiler.flush() for _ in range(1500))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(answers)
        assert profiler.stats().lost == 0


def test_a_flush_that_meets_a_close_returns(tiny_switches: None) -> None:
    for _ in range(150):
        profiler = Profiler(sink="null", flush_interval=0.001)
        profiler.start("x").end()
        flusher = threading.Thread(target=profiler.flush, daemon=True)
        flusher.start()
        profiler.close()
        flusher.join(WAIT_S)
        assert not flusher.is_alive()


def test_a_close_that_meets_the_workers_start_stores_what_was_recorded_before_it(tiny_switches: None) -> None:
    for _ in range(200):
        sink = ScriptedSink()
        profiler = Profiler(sink=sink)
        first = threading.Thread(target=lambda profiler=profiler: profiler.start("first").end())
        first.start()
        while not len(profiler.queue) and first.is_alive():
            pass
        profiler.start("second").end()
        report = profiler.close()
        first.join()
        assert "second" in {span.name for span in sink.spans}, report
        assert sink.closed


def test_a_recursion_that_ran_too_deep_leaves_one_worker_that_works() -> None:
    sink = MemorySink()
    profiler = Profiler(sink=sink, flush_interval=0.01)

    @profiler.measure("deeper")
    def deeper() -> None:
        deeper()

    with pytest.raises(RecursionError):
        deeper()
    profiler.start("after").end()
    wait_until(lambda: any(span.name == "after" for span in sink.spans))
    assert [thread.name for thread in threading.enumerate()].count("ferret-writer") == 1
    assert profiler.close().lost == 0


def test_a_start_of_the_worker_that_is_interrupted_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class AlarmError(Exception):
        pass

    started = threading.Thread.start
    interruptions = iter([True])

    def start(thread: threading.Thread) -> None:
        if thread.name == "ferret-writer" and next(interruptions, False):
            raise AlarmError
        started(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    sink = MemorySink()
    profiler = Profiler(sink=sink, flush_interval=0.01)
    profiler.start("first").end()
    profiler.start("second").end()
    wait_until(lambda: len(sink.spans) == 2)
    profiler.close()


def test_a_worker_that_died_at_birth_is_replaced_when_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    from ferret.writers.threaded import ThreadedWriter

    work = ThreadedWriter._work
    deaths = iter([True])
    monkeypatch.setattr(ThreadedWriter, "_work", lambda *given: None if next(deaths, False) else work(*given))
    sink = MemorySink()
    profiler = Profiler(sink=sink)
    profiler.start("x").end()
    assert profiler.close().written == 1
    assert sink.closed


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
def test_wake_up_tokens_do_not_pile_up_while_the_sink_hangs() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    profiler = Profiler(sink=sink, writer="bounded", max_queue=20, batch_size=10)
    for _ in range(5000):
        profiler.start("x").end()
    assert profiler.writer._wake.qsize() < 20  # type: ignore[attr-defined]
    sink.gate.set()
    profiler.close()


# -- sync -------------------------------------------------------------------------------------------


def test_a_sync_span_that_makes_no_batch_due_does_not_wait_for_another_threads_write() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    profiler = Profiler(sink=sink, writer="sync", batch_size=2, flush_interval=3600)
    busy = threading.Thread(target=lambda: [profiler.start("x").end() for _ in range(2)])
    busy.start()
    assert sink.entered.acquire(timeout=WAIT_S)
    other = threading.Thread(target=lambda: profiler.start("not due").end())
    other.start()
    other.join(5)
    waited = other.is_alive()
    sink.gate.set()
    busy.join()
    other.join()
    assert not waited
    assert profiler.close().written == 3


def test_signal_handlers_that_record_while_their_thread_waits_for_another_do_not_wait_one_inside_the_other() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    profiler = Profiler(sink=sink, writer="sync", batch_size=1)
    busy = threading.Thread(target=lambda: profiler.start("busy").end())
    busy.start()
    assert sink.entered.acquire(timeout=WAIT_S)
    main, handled = threading.get_ident(), []

    def handle(*_: object) -> None:
        handled.append(None)
        profiler.start("handled").end()

    def interrupt() -> None:
        try:
            while (count := len(handled)) < 300:  # so many waits would be too much for Python's stack
                signal.pthread_kill(main, signal.SIGUSR1)
                again = time.monotonic() + 1  # Python leaves one in 10,000 that comes just before a wait until the next
                while len(handled) == count and time.monotonic() < again:
                    time.sleep(0.0005)
        finally:
            sink.gate.set()

    before = signal.signal(signal.SIGUSR1, handle)
    other = threading.Thread(target=interrupt)
    other.start()
    try:
        profiler.start("waits").end()
        other.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    busy.join()
    assert profiler.close().written == 2 + len(handled) >= 302


def test_a_sync_profiler_closed_by_a_signal_handler_inside_a_write_still_finishes() -> None:
    class Interrupted(MemorySink):
        def write(self, batch: Any) -> None:
            if not self.batches:
                os.kill(os.getpid(), signal.SIGALRM)
                time.sleep(0.01)
            super().write(batch)

    sink = Interrupted()
    profiler = Profiler(sink=sink, writer="sync", batch_size=3)
    before = signal.signal(signal.SIGALRM, lambda *_: profiler.close())
    try:
        for _ in range(5):
            profiler.start("x").end()
    finally:
        signal.signal(signal.SIGALRM, before)
    report = profiler.close()
    assert sink.closed
    assert (report.written, report.dropped_by, report.pending) == (3, {"closed": 2}, 0)


# -- SIGTERM ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["profiler.close()", "while True: profiler.stats()", "while True: profiler.flush()"])
def test_sigterm_while_the_main_thread_holds_ferrets_locks_ends_the_program(where: str, tmp_path: Path) -> None:
    done = program(
        f"""
        import os, signal, threading, time
        from ferret import Profiler
        class Slow:
            def write(self, batch): time.sleep(0.3)
            def flush(self): pass
            def close(self): pass
        profiler = Profiler(sink=Slow(), handle_sigterm=True, close_timeout=5)
        profiler.start("x").end()
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        {where}
        time.sleep(3600)
        """,
        tmp_path, timeout=15,
    )  # fmt: skip
    assert done.returncode == -signal.SIGTERM, done.stderr


def test_sigterm_inside_a_sync_write_waits_for_it_and_then_stores_the_rest(tmp_path: Path, db: str) -> None:
    done = program(
        f"""
        import os, signal, sys
        from ferret import Profiler
        from ferret.sinks.beaver import BeaverSink
        class Killed(BeaverSink):
            def write(self, batch):
                if not batch.sequence:
                    os.kill(os.getpid(), signal.SIGTERM)
                super().write(batch)
        profiler = Profiler(sink=Killed({db!r}), writer="sync", batch_size=10, handle_sigterm=True)
        for n in range(10):
            profiler.start("x").end()
        print("not reached")
        """,
        tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")
    assert sum(1 for _ in Report(db).spans()) == 10


# -- the process's own profiler -----------------------------------------------------------------------


def test_a_sink_that_is_measured_with_the_profiler_that_is_being_made_does_not_hang() -> None:
    class Measured(MemorySink):
        @ferret.measure("opening")
        def __init__(self, target: str | None = None) -> None:
            super().__init__(target)

    from ferret.hookspecs import hookimpl

    class Plugin:
        @hookimpl
        def ferret_sinks(self) -> dict[str, Any]:
            return {"measured": Measured}

    ferret.plugins.register(Plugin())
    os.environ["FERRET_SINK"] = "measured"
    try:
        with ferret.measure("x"):
            pass
        assert ferret.get_profiler().stats().recorded == 1
    finally:
        del os.environ["FERRET_SINK"]
        ferret.shared._nowhere().close()
        ferret.shared._nowhere.cache_clear()


def test_a_fork_while_another_thread_makes_the_profiler_does_not_hang_the_child(tmp_path: Path, db: str) -> None:
    done = program(
        f"""
        import os, threading, time
        os.environ["FERRET_DB_PATH"] = {db!r}
        import ferret
        from ferret import get_profiler, measure
        def work():
            with measure("x"): pass
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.05)
        pid = os.fork()
        if pid == 0:
            work()
            report = ferret.get_profiler().close()
            os.write(2, str(report).encode())
            os._exit(0 if report.written == 1 else 1)
        _, status = os.waitpid(pid, 0)
        thread.join()
        raise SystemExit(os.waitstatus_to_exitcode(status))
        """,
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("hook_s", [0, 0.1], ids=["at once", "a slow hook"])
def test_ctrl_c_while_a_fork_waits_for_a_sink_comes_after_the_fork_and_leaves_no_lock_behind(
    hook_s: float, tmp_path: Path
) -> None:
    done = program(
        f"""
        import os, time
        from ferret import Profiler, forkgate
        def hook():
            until = time.perf_counter() + {hook_s}
            while time.perf_counter() < until:
                pass
        os.register_at_fork(after_in_parent=hook)
        """
        """
        import linecache, signal, sys, threading
        def main_waits():
            frame = sys._current_frames()[threading.main_thread().ident]
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
            return frame.f_code is forkgate._hold.__code__ and "lock.acquire" in line
        signal.signal(signal.SIGINT, signal.default_int_handler)
        gate, at_work, finished = forkgate.ForkGate(), threading.Event(), threading.Event()
        def work():
            with gate:
                at_work.set()
                while not main_waits():
                    time.sleep(0.001)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.5)
                finished.set()
        def work_again():
            with gate:
                pass
        worker = threading.Thread(target=work)
        worker.start()
        parent = os.getpid()
        at_work.wait()
        try:
            if os.fork() == 0:
                os._exit(0 if finished.is_set() else 1)
            time.sleep(3600)
        except KeyboardInterrupt:
            assert os.getpid() == parent
            _, status = os.wait()
            worker.join()
            again = threading.Thread(target=work_again, daemon=True)
            again.start()
            again.join(30)
            raise SystemExit(os.waitstatus_to_exitcode(status) + 2 * again.is_alive())
        raise SystemExit(99)
        """,
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr


def test_threads_that_fork_at_the_same_time_do_not_release_each_others_locks(tmp_path: Path) -> None:
    done = program(
        """
        import os, sys, threading
        from ferret import forkgate
        sys.setswitchinterval(1e-6)
        gates = [forkgate.ForkGate() for _ in range(3)]
        def work():
            for _ in range(30):
                child = os.fork()
                if child == 0:
                    os._exit(0)
                os.waitpid(child, 0)
        threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        locks = [forkgate._forking, *(gate.lock for gate in gates)]
        os._exit(0 if all(lock.acquire(timeout=1) for lock in locks) else 1)
        """,
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


# -- values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", ["threaded", "process"])
def test_a_name_with_a_lone_surrogate_costs_no_other_span(db: str, writer: str) -> None:
    with Profiler(db, writer=writer) as profiler:
        profiler.start("fine").end()
        profiler.start("load " + os.fsdecode(b"caf\xe9.txt")).end()
    assert sorted(span.name for span in Report(db).spans()) == ["fine", "load caf?.txt"]


@pytest.mark.parametrize("parent", ["f067aa0ba902b7aa", "f" * 16, "8000000000000000"])
@pytest.mark.parametrize("suffix", ["db", "jsonl"])
def test_a_parent_id_may_use_all_its_64_bits(tmp_path: Path, parent: str, suffix: str) -> None:
    path = tmp_path / f"trace.{suffix}"
    with Profiler(sink=f"{'beaver' if suffix == 'db' else 'jsonl'}:{path}") as profiler:
        with profiler.attached(parent), profiler.measure("handler"):
            pass
    assert [span.parent_id for span in Report(path).spans()] == [parent]


@pytest.mark.parametrize("parent", ["-000000000000001", "               1", "0x00000000000001", "1_0000000000000f"])
def test_what_python_would_read_as_a_number_is_not_always_an_id(parent: str) -> None:
    with Profiler(sink="null") as profiler, pytest.raises(ValueError, match="16 hex digits"):
        profiler.start("x", parent=parent)


# -- files and processes --------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", ["threaded", "process"])
def test_a_relative_path_stays_where_it_was_when_the_program_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)
    with Profiler("trace.db", writer=writer) as profiler:
        profiler.start("parent").end()
        profiler.flush()
        monkeypatch.chdir(second)
        pid = os.fork()
        if pid == 0:
            profiler.start("child").end()
            os._exit(0 if profiler.close().written == 1 else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert {span.name for span in Report(profiler).spans()} == {"parent", "child"}
    assert list(second.iterdir()) == []


def test_a_forked_childs_own_database_in_memory_can_be_read_there() -> None:
    with Profiler() as profiler:
        profiler.start("parent").end()
        profiler.flush()
        pid = os.fork()
        if pid == 0:
            profiler.start("child").end()
            profiler.flush()
            names = [span.name for span in Report(profiler).spans()]
            os._exit(0 if names == ["child"] else 1)
        assert os.waitpid(pid, 0)[1] == 0


def test_a_profiler_in_a_cycle_is_collected_without_anybody_waiting(db: str) -> None:
    class App:
        def __init__(self) -> None:
            self.profiler = Profiler(db)
            self.me = self
            self.profiler.start("x").end()

    App()
    gc.collect()
    wait_until(lambda: Path(db).exists() and sum(1 for _ in Report(db).spans()) == 1)
    ferret.lifecycle.close_all()


def test_a_sink_that_hangs_when_it_closes_leaves_no_process_behind(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(
        textwrap.dedent("""
        import time, ferret
        class Hanging:
            def __init__(self, target=None): pass
            def write(self, batch): pass
            def flush(self): pass
            def close(self): time.sleep(3600)
        @ferret.hookimpl
        def ferret_sinks(): return {"hanging": Hanging}
        """)
    )
    done = program(
        """
        import hanging
        from ferret import Profiler, plugins
        plugins.register(hanging)
        profiler = Profiler(sink="hanging", writer="process", close_timeout=0.5)
        profiler.start("x").end()
        print(profiler.writer.child_pid)
        print(profiler.close().timed_out)
        """,
        tmp_path,
    )  # fmt: skip
    child, timed_out = done.stdout.split()
    assert timed_out == "True"
    wait_until(lambda: not Path(f"/proc/{child}").exists())


# -- options ------------------------------------------------------------------------------------------


def test_a_namespace_counts_for_a_beaver_sink_that_is_given_by_name(db: str) -> None:
    with Profiler(sink=f"beaver:{db}", namespace="mine") as profiler:
        profiler.start("x").end()
    assert [span.name for span in Report(db, namespace="mine").spans()] == ["x"]


def test_a_misspelt_fallback_sink_is_refused_when_the_profiler_is_made(db: str) -> None:
    with pytest.raises(PluginError, match="did you mean 'jsonl'"):
        Profiler(db, fallback_sink="jsnol:x")


def test_a_fallback_sink_gets_the_facts_of_the_run(tmp_path: Path) -> None:
    sink = ScriptedSink()
    sink.broken = True
    fallback = tmp_path / "fallback.db"
    profiler = Profiler(sink=sink, fallback_sink=f"beaver:{fallback}", close_timeout=3)
    profiler.start("rescued").end()
    with pytest.warns(ferret.LostSpansWarning):
        assert not profiler.flush()  # until it is given up
        assert not profiler.close(WAIT_S).timed_out
    (run,) = Report(fallback).runs()
    assert (run.spans, run.unclean, run.lost) == (1, False, 1)


def test_a_beaver_1_file_is_named_as_one_when_it_is_read(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE beaver_dicts (dict_name TEXT)")
    connection.close()
    with pytest.raises(ferret.StorageError, match=r"beaver 1\.x"):
        Report(path).runs()


# -- decorated generators, tags, endings ------------------------------------------------------------


def test_a_decorated_generator_answers_close_and_throw_as_it_would_undecorated() -> None:
    def patient() -> Any:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    def polite() -> Any:
        try:
            yield 1
        except GeneratorExit:
            return "bye"

    with Profiler(sink="null") as profiler:
        for wrap in (lambda function: function, profiler.measure("generator")):
            generator = wrap(patient)()
            next(generator)
            assert generator.throw(GeneratorExit) == 2
            stubborn = wrap(patient)()
            next(stubborn)
            with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
                stubborn.close()
            answer = wrap(polite)()
            next(answer)
            assert answer.close() == ("bye" if sys.version_info >= (3, 13) else None)


class Local:
    """Something that the caller of a generator has in a variable."""


def caller(generator: Any, error: type[BaseException] | None, locals_: list[weakref.ref[Local]]) -> None:
    local = Local()
    locals_.append(weakref.ref(local))
    next(generator)
    if error is not None:
        with suppress(error, StopIteration):
            generator.throw(error)


async def async_caller(generator: Any, error: type[BaseException], locals_: list[weakref.ref[Local]]) -> None:
    local = Local()
    locals_.append(weakref.ref(local))
    await anext(generator)
    with suppress(error, StopAsyncIteration):
        await generator.athrow(error)


@pytest.mark.parametrize("error", [None, GeneratorExit, ValueError, KeyError])
def test_what_goes_into_a_decorated_generator_is_let_go_of_as_it_would_be_undecorated(error: Any) -> None:
    """A cycle would keep the callers' variables; once, a cursor of SQLite's, and with it a connection and its locks."""
    import asyncio

    def numbers() -> Any:
        with suppress(ValueError):
            yield 1
        yield 2

    async def async_numbers() -> Any:
        with suppress(ValueError):
            yield 1
        yield 2

    locals_: list[weakref.ref[Local]] = []
    with Profiler(sink="null") as profiler:
        gc.disable()
        try:
            caller(profiler.measure("numbers")(numbers)(), error, locals_)
            if error is not None:
                asyncio.run(async_caller(profiler.measure("numbers")(async_numbers)(), error, locals_))
            assert [local() for local in locals_] == [None] * len(locals_)
        finally:
            gc.enable()


def test_an_event_loop_that_ends_closes_a_decorated_async_generator_once() -> None:
    import asyncio

    complaints: list[dict[str, Any]] = []

    async def main(profiler: Profiler) -> None:
        @profiler.measure("ticks")
        async def ticks() -> Any:
            try:
                while True:
                    yield 1
                    await asyncio.sleep(0)
            finally:
                await asyncio.sleep(0)

        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        kept.append(ticks())
        await anext(kept[0])

    kept: list[Any] = []
    with Profiler(sink="null") as profiler:
        asyncio.run(main(profiler))
        assert complaints == []
        assert profiler.stats().recorded == 1


def leave_to_the_collector(held: list[Any], *, body_first: bool) -> None:
    """Hold the generator in `held` by a cycle; a decorated one before or behind its body, in the collector's list."""
    held.append(held)
    if body_first:
        body = held[0].ag_frame.f_locals.get("generator")
        gc.collect()  # what is found by way of others, as the wrapper is by `held`, goes to the end of the list
        del body


@pytest.mark.parametrize("body_first", [False, True])
@pytest.mark.parametrize("decorated", [False, True])
def test_an_async_generator_that_the_collector_finds_is_closed_by_the_event_loop_as_it_would_be_undecorated(
    decorated: bool, body_first: bool
) -> None:
    """The body was closed before the wrapper, which then said that it ignored its end; and what it awaits there was not."""
    import asyncio

    complaints: list[Any] = []
    cleaned: list[bool] = []

    async def ticks() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    async def begin(make: Any) -> None:
        held = [make()]
        await anext(held[0])
        leave_to_the_collector(held, body_first=body_first)

    async def main(make: Any) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await begin(make)
        gc.collect()
        for _ in range(9):
            await asyncio.sleep(0)
        assert cleaned == [True]

    with Profiler(sink="memory") as profiler:
        asyncio.run(main(profiler.measure("ticks")(ticks) if decorated else ticks))
    assert complaints == []
    assert [span.status for span in profiler.sink.spans] == ["ok"] * decorated  # type: ignore[attr-defined]


@pytest.mark.parametrize("body_first", [False, True])
def test_an_async_generator_that_the_collector_finds_is_closed_where_no_event_loop_runs(
    monkeypatch: pytest.MonkeyPatch, body_first: bool
) -> None:
    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: complaints.append(told.exc_value))

    async def ticks() -> Any:
        yield 1

    def begin(make: Any) -> None:
        held = [make()]
        with suppress(StopIteration):
            held[0].__anext__().send(None)
        leave_to_the_collector(held, body_first=body_first)

    with Profiler(sink="memory") as profiler:
        begin(profiler.measure("ticks")(ticks))
        gc.collect()
    assert complaints == []
    assert [span.status for span in profiler.sink.spans] == ["ok"]  # type: ignore[attr-defined]


def test_a_body_that_its_wrapper_leaves_open_is_closed_by_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Ctrl-C arrives in the wrapper, between two steps of the body."""
    import asyncio

    from ferret import decorate

    class Interrupt(BaseException):
        pass

    def interrupted(_: object) -> None:
        raise Interrupt

    cleaned: list[bool] = []

    async def ticks() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    async def main(profiler: Profiler) -> None:
        generator = profiler.measure("ticks")(ticks)()
        await anext(generator)
        monkeypatch.setattr(decorate._Resumed, "__enter__", interrupted)
        with pytest.raises(Interrupt):
            await anext(generator)
        for _ in range(9):
            await asyncio.sleep(0)
        assert cleaned == [True]

    with Profiler(sink="null") as profiler:
        asyncio.run(main(profiler))


def test_objects_within_tags_become_text_without_the_encoder_running_their_code() -> None:
    """An encoder that calls str() while it walks a list lets other threads change the list under it."""
    from ferret import tags

    class Item:
        def __str__(self) -> str:
            return "an item"

    with pytest.raises(TypeError):
        tags._encode({"items": [Item()]})
    assert tags.encode_tags({"items": [Item(), 1]}) == b'{"items":["an item",1]}'


@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded"])
def test_a_sinks_error_that_cannot_say_what_it_is_is_one_like_any_other(writer: str) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    class Sink(MemorySink):
        def write(self, batch: Batch) -> None:
            raise MuteError

        def flush(self) -> None:
            raise MuteError

        def close(self) -> None:
            raise MuteError

    with pytest.warns(LostSpansWarning, match="MuteError: <MuteError without a str"):
        profiler = Profiler(sink=Sink(), writer=writer, close_timeout=0.1)
        profiler.start("x").end()
        assert not profiler.flush(WAIT_S)
        report = profiler.close(WAIT_S)
    assert (report.recorded, report.failed_by, report.timed_out) == (1, {"MuteError": 1}, False)


def test_a_profiler_that_cannot_close_does_not_keep_the_others_open(monkeypatch: pytest.MonkeyPatch) -> None:
    profilers = [Profiler(sink=MemorySink()) for _ in range(4)]
    for profiler in profilers:
        profiler.start("x").end()

    def interrupted(timeout: float | None = None) -> Any:
        raise KeyboardInterrupt

    first = next(iter(ferret.lifecycle._open))
    monkeypatch.setattr(first, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ferret.lifecycle.close_all()
    monkeypatch.undo()
    assert sum(profiler.stats().written for profiler in profilers if profiler is not first) == 3
    first.close()


@pytest.mark.parametrize("writer", ["threaded", "process"])
def test_a_fork_in_a_folder_that_was_removed_keeps_parent_and_child_apart(
    tmp_path: Path, db: str, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    with Profiler(db, writer=writer) as profiler:
        profiler.start("parent").end()
        profiler.flush()
        gone.rmdir()
        pid = os.fork()
        if pid == 0:
            profiler.start("child").end()
            os._exit(0 if profiler.close().written == 1 else 1)
        assert os.waitpid(pid, 0)[1] == 0
        profiler.start("parent again").end()
    assert sorted(span.name for span in Report(db).spans()) == ["child", "parent", "parent again"]


# -- what is said of loss ---------------------------------------------------------------------------


def test_numbers_of_batches_that_failed_are_not_taken_for_batches_that_are_missing(db: str, tmp_path: Path) -> None:
    """When a program is killed, only its counts survive: not which batches had failed since they were noted last."""
    killed = program(
        """
        import os, signal, sys
        from ferret import Profiler

        profiler = Profiler(sys.argv[1], writer="sync", batch_size=1, close_timeout=0.01)
        write = profiler.sink.write

        def fail(batch):
            raise OSError

        for number in range(6):
            profiler.sink.write = write if number % 2 else fail
            profiler.start("x").end()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path, db,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    def found() -> tuple[int, int, int]:
        run = Report(db).run()
        return run.spans, run.lost, run.missing_batches

    assert found() == (3, 3, 0)
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("DELETE FROM __beaver_blobs__ WHERE key LIKE '%/0000000003'")
    assert found()[2] == 1


class Watched(list[int]):
    """Cells that are looked at after each change, as if a kill came then; after one of them, another thread has its turn."""

    def __init__(self, counts: Counts, turn: int) -> None:
        super().__init__(counts.cells)
        self.counts, self.turn, self.changes = counts, turn, 0
        self.begun = self.counted = 0

    def __setitem__(self, cell: Any, value: Any) -> None:
        super().__setitem__(cell, value)
        self.changes += 1
        if self.changes == self.turn + 1:
            self.count()
        life = Life("t", False, tuple(self), b"{}", True, "")
        assert life.uncertain < MOST_CLAIMED
        assert life.recorded - life.uncertain <= self.begun
        assert self.counted <= life.recorded

    def count(self) -> None:
        self.begun += 1
        self.counts.count()
        self.counted += 1


@pytest.mark.parametrize("turn", range(4))
def test_a_kill_while_claims_are_given_back_leaves_the_count_as_certain_as_any(turn: int) -> None:
    """Another thread may claim spans while the writer gives back what was claimed: then no two blocks are uncertain."""
    counts = Counts()
    counts.cells = cells = Watched(counts, turn=-1)  # type: ignore[assignment]
    while counts._size < MOST_CLAIMED:
        cells.count()
    cells.turn, cells.changes = turn, 0
    counts.retire()
    assert cells.changes >= 4
    counts.retire()
    assert cells[CLAIMED] == cells.counted


def test_a_kill_in_the_middle_of_a_claim_leaves_a_count_that_holds() -> None:
    counts = Counts()
    counts.cells = cells = Watched(counts, turn=-1)  # type: ignore[assignment]
    for number in range(500):
        cells.count()
        if not number % 100:
            counts.retire()


def test_a_ticket_is_not_reached_before_the_parts_of_a_batch_that_others_overtook() -> None:
    """Under `process`, a batch that was taken apart comes again behind those that were sent meanwhile."""
    books = Books(ORIGIN)
    for number in range(4):
        books.put(record(number))
    ticket = books.ticket()
    apart = books.take(4)
    for number in range(4, 8):
        books.put(record(number))
    later = books.take(4)
    assert apart is not None
    assert later is not None
    first, second = books.split(apart.sequence, [], "ValueError")
    books.settle(later.sequence, None)
    assert not books.reached(ticket)
    books.settle(second.sequence, None)
    assert not books.reached(ticket)
    books.settle(first.sequence, None)
    assert books.reached(ticket)


def test_a_line_of_the_quarantine_that_was_cut_short_costs_no_other(tmp_path: Path) -> None:
    place = str(tmp_path / "spans")
    batch = Batch(ORIGIN, 0, [record(1)])
    assert quarantine.put(place, batch, "ValueError: no")
    path = Path(quarantine.path_of(place))
    path.write_bytes(path.read_bytes() * 2 + b'{"at":17')
    assert quarantine.put(place, batch, "ValueError: no")
    *_, cut, last = path.read_bytes().splitlines()
    assert (cut, json.loads(last)["error"]) == (b'{"at":17', "ValueError: no")
