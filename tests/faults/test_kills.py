"""A SIGKILL takes spans with it: how many is known afterwards, from a number that the kernel kept."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support import WAIT_S

from ferret import Profiler, Report
from ferret.ledger import counts, live
from ferret.models import ProcessFate, RunInfo
from ferret.testing.patience import wait_until

WRITERS = ["sync", "threaded", "bounded", "process"]

PROGRAM = """
import os, signal, sys, threading, time
from ferret import Profiler
from ferret.ledger import live
from ferret.writers.frames import Kind
writer, db, *rest = sys.argv[1:]

def record(profiler, count):
    for n in range(count):
        profiler.start("x", {"n": n}).end()

def record_and_hand_over(profiler, count, sent):
    link, handed_over = profiler.writer._link, []
    send = link.send
    def counted(kind, payload):
        done = send(kind, payload)
        if kind is Kind.BATCH and done:
            handed_over.append(len(payload[3]))
        return done
    link.send = counted
    record(profiler, count)
    while sum(handed_over) < sent:
        time.sleep(0.001)

def kill():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(db: str, writer: str, body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program that kills itself, and wait until nobody works for it any more."""
    command = [sys.executable, "-c", PROGRAM + textwrap.dedent(body), writer, db, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_for_the_child(db)
    return done


def wait_for_the_child(db: str) -> None:
    """The process writer's child stores what it was given before it ends."""
    wait_until(
        lambda: not any(life.alive for life in live.look(os.path.realpath(db)).values()),
        "somebody still works for a program that is gone",
        WAIT_S,
    )


def fates(db: str) -> list[ProcessFate]:
    (run,) = Report(db).runs()
    assert all(isinstance(one, ProcessFate) for one in run.processes)
    return run.processes  # type: ignore[return-value]


def only_run(db: str) -> RunInfo:
    (run,) = Report(db).runs()
    return run


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("count", [1, 7, 150, 5000])
def test_the_reader_knows_how_many_spans_a_kill_took(db: str, writer: str, count: int) -> None:
    killed(db, writer, f"p = Profiler(db, writer=writer, batch_size=100)\nrecord(p, {count})\nkill()")
    (fate,) = fates(db)
    run = only_run(db)
    assert fate.state == "killed"
    assert run.unclean
    assert run.lost_by_kill is not None
    most = run.spans + run.lost_by_kill
    assert most - run.uncertain <= count <= most
    assert run.uncertain < counts.MOST_CLAIMED
    assert run.lost == run.lost_by_kill
    ledger = fate.ledger
    assert ledger is not None
    assert ledger.recorded == ledger.written + ledger.dropped + ledger.failed + ledger.pending
    assert ledger.written == run.spans


@pytest.mark.parametrize("writer", WRITERS)
def test_the_count_is_exact_in_a_program_that_records_at_leisure(db: str, writer: str) -> None:
    """Under a thousand spans a second, each span is claimed by itself."""
    killed(
        db, writer,
        """
        p = Profiler(db, writer=writer, batch_size=10_000, flush_interval=60)
        for _ in range(25):
            record(p, 1)
            time.sleep(0.003)
        kill()
        """,
    )  # fmt: skip
    run = only_run(db)
    assert run.lost_by_kill is not None
    assert (run.spans + run.lost_by_kill, run.uncertain) == (25, 0)


@pytest.mark.parametrize("writer", ["threaded", "bounded", "process"])
def test_the_count_is_exact_once_the_writer_has_looked(db: str, writer: str) -> None:
    killed(
        db, writer,
        """
        p = Profiler(db, writer=writer, batch_size=100, flush_interval=60)
        record(p, 5432)
        p.flush()
        record(p, 50)
        p.writer._wake.put(None)
        deadline = time.monotonic() + 10
        while p.writer.counts.cells[1] and time.monotonic() < deadline:  # until nothing is claimed any more
            time.sleep(0.002)
        kill()
        """,
    )  # fmt: skip
    run = only_run(db)
    assert run.lost_by_kill is not None
    assert (run.spans + run.lost_by_kill, run.uncertain) == (5482, 0)
    assert run.spans >= 5432


@pytest.mark.parametrize("writer", WRITERS)
def test_what_was_dropped_and_what_failed_before_a_kill_is_not_counted_as_taken_by_it(db: str, writer: str) -> None:
    killed(
        db, writer,
        """
        p = Profiler(db, writer=writer, batch_size=10, flush_interval=60)
        record(p, 40)
        p.flush()
        for _ in range(3):
            p.writer._books.queue.append(None)      # as if three spans had been handed over …
            p.writer.counts.count()
            p.writer._books.drop_newest("overflow")  # … and had found no room
        p.writer.suppress()
        p.writer.counts.retire()
        kill()
        """,
    )  # fmt: skip
    (fate,) = fates(db)
    assert fate.ledger is not None
    assert (fate.ledger.dropped_by, fate.lost_by_kill, fate.spans) == ({"overflow": 3, "suppressed": 1}, 0, 40)
    assert fate.ledger.recorded == 44
    assert only_run(db).lost == 4


@pytest.mark.parametrize("writer", WRITERS)
def test_threads_and_profilers_are_all_counted(db: str, writer: str) -> None:
    killed(
        db, writer,
        """
        profilers = [Profiler(db, writer=writer, batch_size=64, run_id="one") for _ in range(2)]
        threads = [threading.Thread(target=record, args=(p, 3000)) for p in profilers for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kill()
        """,
    )  # fmt: skip
    found = fates(db)
    assert len(found) == 2
    for fate in found:
        assert fate.ledger is not None
        assert fate.lost_by_kill is not None
        most = fate.spans + fate.lost_by_kill
        assert most - fate.ledger.uncertain <= 9000 <= most


@pytest.mark.parametrize("writer", WRITERS)
def test_a_killed_child_of_a_fork_is_counted_by_itself(db: str, writer: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + textwrap.dedent("""
        p = Profiler(db, writer=writer, batch_size=10, flush_interval=0.05, run_id="one")
        record(p, 30)
        if os.fork() == 0:
            record(p, 500)
            while len(live.look(os.path.realpath(db))) < 2:  # the child counts where it survives only once it has begun to
                time.sleep(0.002)
            record(p, 5)
            kill()
        os.wait()
        record(p, 30)
        assert p.close().written == 60
        """), writer, db],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wait_for_the_child(db)
    by_state = {fate.state: fate for fate in fates(db)}
    assert set(by_state) == {"ended", "killed"}
    child = by_state["killed"]
    assert child.ledger is not None
    assert child.lost_by_kill is not None
    most = child.spans + child.lost_by_kill
    assert most - child.ledger.uncertain <= 505 <= most
    assert (by_state["ended"].spans, by_state["ended"].lost_by_kill) == (60, 0)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_program_that_still_runs_is_told_from_one_that_was_killed(db: str, writer: str) -> None:
    body = """
    p = Profiler(db, writer=writer, batch_size=10)
    record(p, 100)
    p.flush()
    if writer != "process":
        pid = os.fork()  # a child that never records does not keep the program alive
        if pid == 0:
            time.sleep(60)
            os._exit(0)
    print("recorded", flush=True)
    time.sleep(60)
    """
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(body), writer, db], stdout=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == b"recorded\n"
        (fate,) = fates(db)
        assert (fate.state, fate.spans, fate.lost_by_kill) == ("running", 100, 0)
        program.kill()
        program.wait()
        wait_for_the_child(db)
        (fate,) = fates(db)
        assert (fate.state, fate.spans, fate.lost_by_kill) == ("killed", 100, 0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
        program.stdout.close()


@pytest.mark.parametrize("sink", ["jsonl:", "tee:jsonl:"])
def test_a_program_counts_as_running_while_its_writing_process_still_stores(tmp_path: Path, sink: str) -> None:
    path = tmp_path / "spans.jsonl"
    lines = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lines, fcntl.LOCK_EX)  # every write waits for this
    body = """
    p = Profiler(sink=sys.argv[3] + db, writer="process", batch_size=10)
    record_and_hand_over(p, 100, 100)
    print(p.writer.child_pid)
    kill()
    """
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(body), "process", str(path), sink], stdout=subprocess.DEVNULL
    )
    program.wait()
    (life,) = live.look(str(path)).values()
    assert life.alive, "its child has yet to store 100 spans"
    os.close(lines)
    wait_for_the_child(str(path))
    run = only_run(str(path))
    assert (run.spans, run.lost_by_kill, run.uncertain) == (100, 0, 0)


@pytest.mark.parametrize("sink", ["", "jsonl:"])
def test_a_program_that_was_killed_before_its_writing_process_was_ready_loses_only_what_was_not_handed_over(
    tmp_path: Path, sink: str
) -> None:
    path = str(tmp_path / "trace")
    body = """
    p = Profiler(sink=(sys.argv[3] or "beaver:") + db, writer="process", batch_size=10, check_sink=False)
    record_and_hand_over(p, 105, 100)
    kill()
    """
    killed(path, "process", body, sink)
    run = only_run(path)
    assert run.spans >= 100
    assert run.lost_by_kill is not None
    assert run.spans + run.lost_by_kill - run.uncertain <= 105 <= run.spans + run.lost_by_kill


# -- the live file ----------------------------------------------------------------------------------


def live_files() -> set[str]:
    folder = Path(f"{live.MEMORY}/ferret-{os.getuid()}")
    return {one.name for one in folder.glob("*")} if folder.exists() else set()


@pytest.mark.parametrize("writer", WRITERS)
def test_the_live_file_is_private_and_gone_after_a_clean_end(db: str, writer: str) -> None:
    with Profiler(db, writer=writer) as profiler:
        profiler.start("x").end()
        (life,) = live.look(os.path.realpath(db)).values()
        found = os.stat(life.path)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(life.path)).st_mode) == 0o700
        assert life.alive
    assert live.look(os.path.realpath(db)) == {}
    assert not os.path.exists(life.path)


def test_the_next_profiler_puts_the_count_into_the_facts_and_removes_the_file(db: str) -> None:
    killed(
        db, "threaded", "p = Profiler(db, flush_interval=60)\nrecord(p, 300)\ntime.sleep(0.01)\nrecord(p, 1)\nkill()"
    )
    before = only_run(db)
    with Profiler(db) as profiler:
        profiler.start("x").end()
    assert live.look(os.path.realpath(db)) == {}
    after = Report(db).run(before.run_id)
    assert after.processes[0].killed
    assert (after.lost_by_kill, after.uncertain, after.spans) == (before.lost_by_kill, before.uncertain, 0)
    assert (after.lost_by_kill or 0) >= 301


def test_counts_of_a_file_that_was_removed_do_not_turn_up_in_a_new_one_of_its_name(db: str, tmp_path: Path) -> None:
    killed(db, "threaded", "p = Profiler(db, flush_interval=60)\nrecord(p, 300)\nkill()")
    for one in tmp_path.glob("trace.db*"):
        one.rename(one.with_name(f"old-{one.name}"))  # kept, so that the new file cannot get its number
    with Profiler(db) as profiler:
        profiler.start("x").end()
    assert len(Report(db).runs()) == 1
    assert live.look(os.path.realpath(db)) == {}


@pytest.fixture
def thorough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep looks at all there is, however much other tests have left."""
    monkeypatch.setattr(live, "SWEPT_AT_ONCE", sys.maxsize)


@pytest.mark.usefixtures("thorough")
def test_what_a_removed_database_left_is_swept_up_by_the_next_profiler_of_any_other(db: str, tmp_path: Path) -> None:
    killed(db, "threaded", "p = Profiler(db, flush_interval=60)\nrecord(p, 300)\nkill()")
    ((name, _),) = live.look(os.path.realpath(db)).items()
    for one in tmp_path.glob("trace.db*"):
        one.unlink()
    with Profiler(tmp_path / "other.db") as profiler:
        profiler.start("x").end()
    assert not [one for one in live_files() if one.startswith(name)]


@pytest.mark.usefixtures("thorough")
def test_what_a_removed_folder_left_is_swept_up_once_it_cannot_have_been_unmounted(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    db = str(folder / "trace.db")
    killed(db, "threaded", "p = Profiler(db, flush_interval=60)\nrecord(p, 300)\nkill()")
    ((_, life),) = live.look(os.path.realpath(db)).items()
    shutil.rmtree(folder)
    live.sweep()
    assert os.path.exists(life.path)
    long_ago = time.time() - 2 * 86_400
    os.utime(life.path, (long_ago, long_ago))
    live.sweep()
    assert not os.path.exists(life.path)


def test_what_many_kills_left_holds_up_no_profiler_and_goes_a_little_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MEMORY", str(tmp_path))
    left = 3 * live.SWEPT_AT_ONCE
    for number in range(left):
        counted = counts.Counts()
        assert live.begin(counted, f"{number:016x}", str(tmp_path / f"removed-{number}.db"), b"{}")
        counted.clear()  # the mapping goes, and with it the lock
    (folder,) = tmp_path.glob("ferret-*")
    before = random.getstate()
    with Profiler(tmp_path / "other.jsonl") as profiler:
        profiler.start("x").end()
    still_there = len(list(folder.iterdir()))
    assert still_there - (left - live.SWEPT_AT_ONCE) in {0, 1}, "one of those it looked at may have been its own"
    assert random.getstate() == before, "a program that seeds it would get other numbers"
    for _ in range(100):
        live.sweep()
    assert not list(folder.iterdir())


def test_a_file_that_is_still_empty_tells_what_a_kill_took_before_the_first_batch(tmp_path: Path) -> None:
    file = str(tmp_path / "spans.jsonl")
    body = "p = Profiler(sink='jsonl:' + db, writer='sync', batch_size=1000)\nrecord(p, 180)\n"
    killed(file, "sync", body + "kill()")
    assert Path(file).stat().st_size == 0
    (run,) = Report(file).runs()
    assert (run.spans, run.processes[0].state) == (0, "killed")
    assert run.lost_by_kill is not None
    assert run.lost_by_kill - 64 < 180 <= run.lost_by_kill


def test_a_program_that_was_killed_before_it_recorded_leaves_no_trace(db: str) -> None:
    killed(db, "threaded", "p = Profiler(db)\nkill()")
    assert Report(db).runs() == []


@pytest.mark.parametrize("place", ["memory", "null"])
def test_what_is_in_no_file_has_no_live_file(
    place: str, db: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(live, "MEMORY", str(tmp_path))  # others make and remove theirs in the common one
    before = live_files()
    with Profiler(sink=place) as profiler:
        profiler.start("x").end()
        assert profiler.flush()
        assert live_files() <= before
    with Profiler(db) as profiler:
        profiler.start("x").end()
        assert profiler.flush()
        assert live_files() - before


def test_without_a_file_system_in_memory_it_all_works_but_the_number(
    db: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(live, "MEMORY", str(tmp_path / "there is none"))
    with Profiler(db) as profiler:
        profiler.start("x").end()
        assert profiler.flush()
        run = only_run(db)
        assert (run.unclean, run.lost_by_kill, run.processes[0].state) == (True, None, "unknown")  # type: ignore[attr-defined]
    assert profiler.stats().written == 1


def test_a_folder_that_somebody_else_could_write_to_is_not_used(
    db: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(live, "MEMORY", str(tmp_path))
    (tmp_path / f"ferret-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"ferret-{os.getuid()}").chmod(0o777)
    with Profiler(db) as profiler:
        profiler.start("x").end()
        assert list((tmp_path / f"ferret-{os.getuid()}").iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"FRTLIVE\x01", b"\0" * 600, b"FRTLIVE\x01\xff\xff\xff\xff" + b"\0" * 600])
def test_a_damaged_live_file_says_nothing_and_does_no_harm(
    db: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: bytes
) -> None:
    monkeypatch.setattr(live, "MEMORY", str(tmp_path))
    with Profiler(db) as profiler:
        profiler.start("x").end()
        (folder,) = tmp_path.glob("ferret-*")
        (folder / f"0123456789abcdef.{live.mark_of(os.path.realpath(db))}.live").write_bytes(damage)
        assert len(live.look(os.path.realpath(db))) == 1
        assert profiler.flush()
        assert only_run(db).spans == 1


def test_json_lines_are_counted_too(tmp_path: Path) -> None:
    path = str(tmp_path / "spans.jsonl")
    killed(
        path,
        "threaded",
        "p = Profiler(sink='jsonl:' + db, batch_size=10)\nrecord(p, 25)\np.flush()\nrecord(p, 3)\nkill()",
    )
    run = only_run(path)
    assert run.lost_by_kill is not None
    assert run.spans + run.lost_by_kill - run.uncertain <= 28 <= run.spans + run.lost_by_kill
