"""The process writer under fire: children and parents that die, at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import scripted_sink
from support import WAIT_S, is_gone, wait_until

from ferret import ConfigError, LostSpansWarning, Profiler, Report, StorageError, plugins
from ferret.sinks.memory import MemorySink
from ferret.writers.frames import Kind

TESTS = Path(__file__).parent.parent


@pytest.fixture
def control(tmp_path: Path) -> scripted_sink.Control:
    plugins.register(scripted_sink, "scripted_sink")
    return scripted_sink.Control(tmp_path)


def scripted(control: scripted_sink.Control, **options: Any) -> Profiler:
    return Profiler(sink=f"scripted:{control.folder}", writer="process", **options)


def test_what_the_child_stores_is_what_was_recorded(db: str) -> None:
    with Profiler(db, writer="process") as profiler:
        with profiler.measure("outer", {"n": 1}):
            with profiler.measure("inner"):
                pass
        assert profiler.flush()
        assert {span.name for span in Report(db).spans()} == {"outer", "inner"}
        (root,) = Report(profiler).build_trees()
        assert [child.span.name for child in root.children] == ["inner"]
        assert profiler.writer.child_pid not in {None, os.getpid()}  # type: ignore[attr-defined]
    (run,) = Report(db).runs()
    assert (run.spans, run.unclean, run.lost) == (2, False, 0)
    assert run.processes[0].process_id == os.getpid()


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
@pytest.mark.parametrize("fault", ["die", "die-after"])
def test_a_child_that_dies_is_replaced_and_every_batch_is_stored_once(
    control: scripted_sink.Control, fault: str
) -> None:
    control.misbehave([fault, fault])
    with scripted(control, batch_size=5) as profiler:
        for number in range(40):
            profiler.start("x", {"n": number}).end()
        assert profiler.flush(timeout=WAIT_S)
        assert profiler.stats().written == 40
    assert sorted(span.tags["n"] for span in control.stored()) == list(range(40))


def test_a_child_killed_under_load_at_many_moments_loses_nothing(db: str) -> None:
    profiler = Profiler(db, writer="process", batch_size=50)
    writer: Any = profiler.writer
    recorded = 0
    for kill in range(6):
        child = writer.child_pid
        for _ in range(200 + 37 * kill):
            profiler.start("x", {"n": recorded}).end()
            recorded += 1
        if child is not None:
            with suppress(ProcessLookupError):  # the one before was still being replaced
                os.kill(child, signal.SIGKILL)
        for _ in range(150):
            profiler.start("x", {"n": recorded}).end()
            recorded += 1
    report = profiler.close()
    assert (report.recorded, report.written, report.lost) == (recorded, recorded, 0)
    assert sorted(span.tags["n"] for span in Report(db).spans()) == list(range(recorded))


def test_a_child_that_always_dies_costs_what_the_ledger_says(control: scripted_sink.Control) -> None:
    control.misbehave(["die"] * 100)
    profiler = scripted(control, batch_size=5, close_timeout=30)
    with pytest.warns(LostSpansWarning, match="writing processes in a row died"):
        for number in range(3):
            profiler.start("x", {"n": number}).end()
        assert not profiler.flush(timeout=WAIT_S)
        assert profiler.stats().failed_by == {"child_died": 3}
        control.faults.write_text("")
        profiler.start("works again", {"n": 3}).end()
        report = profiler.close()
    assert (report.written, report.failed) == (1, 3)


def test_a_sink_that_no_child_can_open_is_named_in_the_warning(tmp_path: Path) -> None:
    profiler = Profiler(sink=f"jsonl:{tmp_path}", writer="process", check_sink=False)
    with pytest.warns(LostSpansWarning, match=r"stored anything: StorageError: .* is a directory: name a file"):
        profiler.start("x").end()
        assert profiler.close().failed_by == {"child_died": 1}


def test_a_sink_that_hangs_in_the_child_does_not_hold_up_the_program(tmp_path: Path) -> None:
    (tmp_path / "stuck_sink.py").write_text(
        textwrap.dedent("""
        import time
        from ferret import hookimpl

        class Stuck:
            def __init__(self, target=None): pass
            def write(self, batch): time.sleep(3600)
            def flush(self): pass
            def close(self): pass

        @hookimpl
        def ferret_sinks(): return {"stuck": Stuck}
        """)
    )
    sys.path.insert(0, str(tmp_path))
    try:
        import stuck_sink  # type: ignore[import-not-found]

        plugins.register(stuck_sink)
        profiler = Profiler(sink="stuck", writer="process", batch_size=10, max_queue=1000)
    finally:
        sys.path.remove(str(tmp_path))
    child = psutil.Process(profiler.writer.child_pid)  # type: ignore[attr-defined]
    with pytest.warns(LostSpansWarning):
        for _ in range(200_000):
            profiler.start("x", {"text": "x" * 50}).end()
        started = time.monotonic()
        report = profiler.close(timeout=0.5)
    assert time.monotonic() - started < 5
    assert report.timed_out
    assert report.recorded == 200_000 == report.dropped + report.failed
    wait_until(lambda: is_gone(child))


PROGRAM = """
import os, sys, time
sys.path.insert(0, {tests!r})
from ferret import Profiler
print("main runs as", __name__, flush=True)
profiler = Profiler({db!r}, writer="process", batch_size=100)
n = 0
while True:
    profiler.start("x", {{"n": n}}).end()
    n += 1
    if n % 100 == 0:
        written = profiler.stats().written
        print(n, written, profiler.writer.child_pid, flush=True)
        time.sleep(0.005)
"""


def start_program(db: str) -> subprocess.Popen[str]:
    # no `if __name__ == "__main__"`: a child that imported the program would start it again
    code = PROGRAM.format(tests=str(TESTS), db=db)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("lines", [1, 4, 30])
def test_a_killed_program_loses_at_most_what_it_had_not_handed_over(db: str, lines: int) -> None:
    program = start_program(db)
    assert program.stdout is not None
    assert program.stdout.readline().split() == ["main", "runs", "as", "__main__"]
    for _ in range(lines):
        recorded, _, child_pid = map(int, program.stdout.readline().split())
    child = psutil.Process(child_pid)
    program.kill()
    program.wait()
    rest = program.stdout.read()
    program.stdout.close()
    assert "main runs" not in rest, "the child imported the program"
    wait_until(lambda: not child.is_running())
    numbers = sorted(span.tags["n"] for span in Report(db).spans())
    assert numbers == list(range(len(numbers))), "a gap: something in the middle was lost"
    assert len(numbers) >= recorded - 100 * 30, "more than 0.1 s of spans was lost"
    runs = Report(db).runs()
    assert len(runs) == 1 or not recorded, "killed before it had handed anything over, it is known by its counts"
    assert all(run.unclean for run in runs)


def test_ctrl_c_reaches_the_program_and_not_its_child(db: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent(f"""
        import signal, time
        from ferret import Profiler
        signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background, it is ignored
        profiler = Profiler({db!r}, writer="process")
        for n in range(500):
            profiler.start("x", {{"n": n}}).end()
        print("ready", flush=True)
        time.sleep(60)
        """)
    )
    program = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=WAIT_S)
    assert program.returncode == -signal.SIGINT
    assert errors.count("KeyboardInterrupt") == 1
    assert sum(1 for _ in Report(db).spans()) == 500
    assert not Report(db).runs()[0].unclean


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_child_outlives_polite_signals(db: str, name: str) -> None:
    with Profiler(db, writer="process") as profiler:
        child = profiler.writer.child_pid  # type: ignore[attr-defined]
        os.kill(child, getattr(signal, name))
        profiler.start("x").end()
        assert profiler.flush(timeout=WAIT_S)
        assert profiler.writer.child_pid == child  # type: ignore[attr-defined]


def test_no_process_is_left_after_close(db: str) -> None:
    profiler = Profiler(db, writer="process")
    child = profiler.writer.child_pid  # type: ignore[attr-defined]
    profiler.start("x").end()
    profiler.close()
    assert not psutil.pid_exists(child)
    assert profiler.writer.child_pid is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({}, "':memory:'|memory could never be read"),
        ({"db_path": ":memory:"}, "memory could never be read"),
        ({"sink": "memory"}, "memory could never be read"),
        ({"sink": MemorySink()}, "give the sink by name"),
        ({"sink": "jsonl:x.jsonl", "sink_options": {"object": object()}}, "plain values"),
    ],
    ids=["default", "memory-db", "memory-sink", "object", "options"],
)
def test_a_sink_that_another_process_cannot_open_is_refused(keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Profiler(writer="process", **keywords)


def test_what_the_child_cannot_open_is_raised_where_the_profiler_is_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no directory"):
        Profiler(tmp_path / "missing" / "x.db", writer="process")
    foreign = tmp_path / "notes.txt"
    foreign.write_text("hello")
    with pytest.raises(StorageError, match=r"notes\.txt.*is not a database"):
        Profiler(foreign, writer="process")
    assert foreign.read_text() == "hello"


def test_what_a_sink_prints_does_not_disturb_the_pipe(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loud_sink.py").write_text(
        textwrap.dedent(f"""
        import os
        from ferret import hookimpl

        class Loud:
            def __init__(self, target=None): print("opened")
            def write(self, batch):
                print("writing", len(batch)); os.write(1, b"raw")
                open({str(tmp_path / "out")!r}, "a").write("x" * len(batch))
            def flush(self): pass
            def close(self): pass

        @hookimpl
        def ferret_sinks(): return {{"loud": Loud}}
        """)
    )
    sys.path.insert(0, str(tmp_path))
    try:
        import loud_sink  # type: ignore[import-not-found]

        plugins.register(loud_sink)
        with Profiler(sink="loud", writer="process") as profiler:
            profiler.start("x").end()
            assert profiler.flush(timeout=WAIT_S)
    finally:
        sys.path.remove(str(tmp_path))
    assert (tmp_path / "out").read_text() == "x"
    assert "writing 1" not in capfd.readouterr().out


def test_a_flush_that_is_asked_for_while_another_is_being_answered_is_answered_too(db: str) -> None:
    profiler = Profiler(db, writer="process")
    writer: Any = profiler.writer
    send, answers = writer._link.send, []

    def slow_send(kind: Kind, payload: Any) -> bool:
        sent: bool = send(kind, payload)
        if kind is Kind.FLUSH and not answers:
            answers.append(None)
            profiler.start("second").end()
            threading.Thread(target=lambda: answers.append(profiler.flush(timeout=3 * WAIT_S)), daemon=True).start()
            wait_until(lambda: writer._flush_ticket > payload)
        return sent

    writer._link.send = slow_send
    profiler.start("first").end()
    assert profiler.flush(timeout=WAIT_S)
    try:
        wait_until(lambda: len(answers) > 1)
    finally:
        profiler.close()
