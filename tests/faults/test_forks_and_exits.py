"""Forks from anywhere, again and again, and the ways to end a process that Python does not hear of."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ferret import Report
from ferret.models import ProcessFate

WRITERS = ["sync", "threaded", "bounded", "process"]

PRELUDE = """
import functools, multiprocessing, os, signal, sys, threading, time
from ferret import Profiler
writer, db, *rest = sys.argv[1:]

def record(profiler, count, first=0):
    for n in range(first, first + count):
        profiler.start("x", {"n": n}).end()

def ended_well(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def run(
    db: str, writer: str, body: str, tmp_path: Path, *arguments: str, timeout: float = 90
) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "program.py"
    script.write_text(PRELUDE + textwrap.dedent(body))
    return subprocess.run(
        [sys.executable, str(script), writer, db, *arguments],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def numbers(db: str) -> list[int]:
    return sorted(span.tags["n"] for span in Report(db).spans())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("forks", [3, pytest.param(200, marks=pytest.mark.soak)])
@pytest.mark.parametrize("writer", WRITERS)
def test_forks_from_a_thread_under_load_and_forks_of_forks_keep_everything_once(
    db: str, tmp_path: Path, writer: str, forks: int
) -> None:
    done = run(
        db, writer,
        """
        forks = int(rest[0])
        p = Profiler(db, writer=writer, batch_size=7, max_queue=10**6, close_timeout=60)
        stop, counts = threading.Event(), [0, 0]
        def load(index):
            while not stop.is_set():
                record(p, 1, -1)
                counts[index] += 1
                time.sleep(0.0002)
        loads = [threading.Thread(target=load, args=(index,)) for index in range(2)]
        good = []
        def fork_on():
            for round in range(forks):
                pid = os.fork()
                if pid == 0:
                    record(p, 10, round * 100)
                    grandchild = os.fork()
                    if grandchild == 0:
                        record(p, 10, round * 100 + 50)
                        os._exit(0 if p.close().written == 10 else 2)
                    record(p, 10, round * 100 + 10)
                    well = ended_well(grandchild)
                    os._exit(0 if p.close().written == 20 and well else 1)
                good.append(ended_well(pid))
        worker = threading.Thread(target=fork_on)
        for one in (*loads, worker):
            one.start()
        worker.join()
        stop.set()
        for one in loads:
            one.join()
        report = p.close()
        print(sum(counts), report.written, report.lost, all(good))
        """,
        tmp_path, str(forks), timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    recorded, written, lost, good = done.stdout.split()
    assert (written, lost, good) == (recorded, "0", "True"), done.stderr
    found = numbers(db)
    assert found[: int(recorded)] == [-1] * int(recorded)
    assert found[int(recorded) :] == [
        turn * 100 + offset for turn in range(forks) for offset in (*range(20), *range(50, 60))
    ]
    assert len(Report(db).runs()[0].processes) == 1 + 2 * forks  # type: ignore[attr-defined]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("way", ["os.execv(sys.executable, [sys.executable, '-c', 'pass'])", "os._exit(0)"])
def test_a_program_that_leaves_without_a_word_keeps_what_was_flushed_and_says_how_many_are_missing(
    db: str, tmp_path: Path, writer: str, way: str
) -> None:
    done = run(
        db, writer,
        f"""
        p = Profiler(db, writer=writer, batch_size=100, flush_interval=60)
        record(p, 250)
        assert p.flush()
        for n in range(5):
            record(p, 1, 250 + n)
            time.sleep(0.002)
        {way}
        """,
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert numbers(db)[:250] == list(range(250))
    (found,) = Report(db).runs()
    assert found.unclean
    assert found.lost_by_kill is not None
    assert found.spans + found.lost_by_kill - found.uncertain <= 255 <= found.spans + found.lost_by_kill


@pytest.mark.parametrize("writer", WRITERS)
def test_a_program_that_flushes_before_it_becomes_another_loses_nothing(db: str, tmp_path: Path, writer: str) -> None:
    done = run(
        db, writer,
        """
        p = Profiler(db, writer=writer, run_id="one")
        record(p, 50, 100 * len(rest))
        if len(rest) < 2:
            p.close()
            os.execv(sys.executable, [sys.executable, *sys.argv, "again"])
        """,
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert numbers(db) == [100 * again + offset for again in range(3) for offset in range(50)]
    assert not any(one.unclean for one in Report(db).runs())


@pytest.mark.parametrize("writer", WRITERS)
def test_a_child_of_multiprocessing_that_leaves_by_exit_reads_as_unclean_and_is_counted(
    db: str, tmp_path: Path, writer: str
) -> None:
    done = run(
        db, writer,
        """
        def work():
            record(p, 100, 1000)
            p.flush()
            record(p, 5, 2000)
            os._exit(3)
        p = Profiler(db, writer=writer, batch_size=50, flush_interval=60)
        record(p, 100)
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join()
        assert child.exitcode == 3
        """,
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [number for number in numbers(db) if number < 2000] == [*range(100), *range(1000, 1100)]
    (found,) = Report(db).runs()
    states: dict[str, ProcessFate] = {fate.state: fate for fate in found.processes}  # type: ignore[attr-defined]
    assert set(states) == {"ended", "killed"}
    gone = states["killed"]
    assert gone.ledger is not None
    assert gone.lost_by_kill is not None
    assert gone.spans + gone.lost_by_kill - gone.ledger.uncertain <= 105 <= gone.spans + gone.lost_by_kill


POOL = """
        @functools.cache
        def own():
            return Profiler(db, writer=writer, run_id="shared", batch_size=5, handle_sigterm=True)

        def work(number):
            record(own(), 20, number * 100)
            {flush}
            return os.getpid()

        if __name__ == "__main__":
            with multiprocessing.get_context(rest[0]).Pool(2) as pool:  # its children are terminated at the end
                pool.map(work, range(4), chunksize=1)
        """


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("method", ["fork", pytest.param("forkserver", marks=pytest.mark.soak), "spawn"])
def test_the_children_of_a_pool_that_is_terminated_keep_what_they_recorded_with_the_handler_asked_for(
    db: str, tmp_path: Path, writer: str, method: str
) -> None:
    if method == "spawn" and writer in {"sync", "bounded"}:
        pytest.skip("slow to start, and no other code than the threaded writer's")
    done = run(db, writer, POOL.replace("{flush}", "pass"), tmp_path, method)
    assert done.returncode == 0, done.stderr
    assert numbers(db) == [number * 100 + offset for number in range(4) for offset in range(20)]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_signal_handler_on_a_timer_of_a_millisecond_records_beside_real_work(
    db: str, tmp_path: Path, writer: str
) -> None:
    done = run(
        db, writer,
        """
        import json, random
        p = Profiler(db, writer=writer, batch_size=20, max_queue=10**6)
        handled = 0
        def handler(*_):
            global handled
            record(p, 1, -1)
            handled += 1
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        others = [threading.Thread(target=record, args=(p, 2000, 10_000 * (1 + one))) for one in range(2)]
        for one in others:
            one.start()
        for n in range(2000):
            with p.measure("work", {"n": n}):
                json.loads(json.dumps([random.random() for _ in range(20)]))
        p.flush()
        while handled < 50:
            record(p, 1, -2)
            time.sleep(0.0001)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for one in others:
            one.join()
        report = p.close()
        print(report.recorded, report.written, report.dropped_by.get("suppressed", 0), handled)
        """,
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    recorded, written, suppressed, handled = map(int, done.stdout.split())
    assert recorded == written + suppressed
    assert suppressed == 0 or writer == "sync"  # there, a handler may come while the sink writes
    found = numbers(db)
    assert len(found) == written
    assert [number for number in found if number >= 0] == [*range(2000), *range(10_000, 12_000), *range(20_000, 22_000)]
    assert found.count(-1) == handled - suppressed
