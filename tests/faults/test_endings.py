"""However a process ends, what the promise table says is stored is stored."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ferret import Report
from ferret.models import RunInfo

WRITERS = ["sync", "threaded", "bounded", "process"]

PRELUDE = """
import atexit, multiprocessing, os, signal, sys, threading, time, weakref
from ferret import Profiler
writer, db = sys.argv[1:3]
signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background, it is ignored

def record(profiler, count, first=0, name="x"):
    for n in range(first, first + count):
        profiler.start(name, {"n": n}).end()
"""


def run(
    db: str, writer: str, body: str, tmp_path: Path, *, guard: bool = True
) -> tuple[subprocess.CompletedProcess[str], list[int]]:
    """Run a program under a writer; what it said, and the numbers that it stored."""
    script = tmp_path / "program.py"
    body = textwrap.dedent(body)
    main = "\nif __name__ == '__main__':\n" + textwrap.indent(body, "    ") if guard else body
    script.write_text(PRELUDE + main)
    done = subprocess.run(
        [sys.executable, str(script), writer, db], capture_output=True, text=True, timeout=60, check=False
    )
    return done, sorted(span.tags["n"] for span in Report(db).spans())


def only_run(db: str) -> RunInfo:
    (found,) = Report(db).runs()
    return found


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("ending", "code"),
    [("pass", 0), ("sys.exit(3)", 3), ("raise ValueError('the end')", 1), ("1 / 0", 1), ("raise SystemExit", 0)],
)
def test_nothing_is_lost_when_a_program_ends_by_itself(
    db: str, tmp_path: Path, writer: str, ending: str, code: int
) -> None:
    done, numbers = run(
        db, writer, f"profiler = Profiler(db, writer=writer)\nrecord(profiler, 500)\n{ending}", tmp_path
    )
    assert done.returncode == code
    assert numbers == list(range(500))
    assert not only_run(db).unclean
    assert "ferret" not in done.stderr


@pytest.mark.parametrize("writer", WRITERS)
def test_ctrl_c_loses_nothing(db: str, tmp_path: Path, writer: str) -> None:
    done, numbers = run(
        db, writer, "p = Profiler(db, writer=writer)\nrecord(p, 500)\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)",
        tmp_path,
    )  # fmt: skip
    assert done.returncode == -signal.SIGINT
    assert numbers == list(range(500))


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("own", ["default", "handler", "ignored"])
def test_sigterm_with_the_handler_asked_for_loses_nothing_and_then_does_what_it_would_have(
    db: str, tmp_path: Path, writer: str, own: str
) -> None:
    before = {
        "default": "",
        "handler": "signal.signal(signal.SIGTERM, lambda *_: (print('mine'), sys.exit(7)))",
        "ignored": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    }[own]
    body = f"{before}\np = Profiler(db, writer=writer, handle_sigterm=True)\nrecord(p, 500)\n"
    body += "os.kill(os.getpid(), signal.SIGTERM)\nrecord(p, 100, 500)\nprint('went on')"
    done, numbers = run(db, writer, body, tmp_path)
    assert numbers == list(range(500))
    assert (done.returncode, done.stdout) == {
        "default": (-signal.SIGTERM, ""), "handler": (7, "mine\n"), "ignored": (0, "went on\n"),
    }[own]  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
def test_recording_goes_on_until_the_very_end(db: str, tmp_path: Path, writer: str) -> None:
    done, numbers = run(
        db, writer,
        """
        atexit.register(lambda: record(p, 10, 3000))
        p = Profiler(db, writer=writer)
        atexit.register(lambda: record(p, 10, 1000))
        threading.Thread(target=lambda: (time.sleep(0.05), record(p, 10, 2000))).start()
        record(p, 10)
        """,
        tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert numbers == [*range(10), *range(1000, 1010), *range(2000, 2010), *range(3000, 3010)]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_first_span_in_an_exit_handler_is_stored(db: str, tmp_path: Path, writer: str) -> None:
    done, numbers = run(db, writer, "p = Profiler(db, writer=writer)\natexit.register(lambda: record(p, 3))", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert numbers == [0, 1, 2]


@pytest.mark.parametrize("writer", WRITERS)
def test_daemon_threads_that_record_while_the_interpreter_shuts_down_do_no_harm(
    db: str, tmp_path: Path, writer: str
) -> None:
    done, numbers = run(
        db, writer,
        """
        p = Profiler(db, writer=writer, batch_size=50)
        def forever():
            n = 0
            while True:
                p.start("x", {"n": n}).end()
                n += 1
        threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.05)
        """,
        tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) in {(0, ""), (0, "")} or "LostSpansWarning" in done.stderr
    assert numbers == list(range(len(numbers)))
    run_info = only_run(db)
    assert not run_info.unclean


@pytest.mark.parametrize("writer", WRITERS)
def test_a_killed_program_leaves_whole_batches_and_reads_as_unclean(db: str, tmp_path: Path, writer: str) -> None:
    body = "p = Profiler(db, writer=writer, batch_size=10)\nrecord(p, 100)\np.flush()\nrecord(p, 5, 100)\n"
    done, numbers = run(db, writer, body + "os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    assert done.returncode == -signal.SIGKILL
    assert numbers[:100] == list(range(100))
    assert set(numbers[100:]) <= set(range(100, 105))
    assert only_run(db).unclean


# -- fork -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", WRITERS)
def test_after_a_fork_parent_and_child_each_keep_their_own(db: str, tmp_path: Path, writer: str) -> None:
    done, numbers = run(
        db, writer,
        """
        p = Profiler(db, writer=writer, batch_size=7, flush_interval=60)
        record(p, 40)                      # some of it is queued when the process forks
        pid = os.fork()
        if pid == 0:
            record(p, 40, 1000)
            grandchild = os.fork()         # and again, in the child
            if grandchild == 0:
                record(p, 40, 2000)
                if sys.version_info < (3, 13):
                    p.close()              # docs/limitations.md: it opens its sink too late for 3.12's exit
                sys.exit(0)
            os.waitpid(grandchild, 0)
            sys.exit(0)
        record(p, 40, 40)
        _, status = os.waitpid(pid, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
        """,
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert numbers == [*range(80), *range(1000, 1040), *range(2000, 2040)]
    assert len({span.span_id for span in Report(db).spans()}) == len(numbers)
    found = only_run(db)
    assert len(found.processes) == 3
    assert not found.unclean
    assert len({process.process_id for process in found.processes}) == 3


@pytest.mark.parametrize("writer", WRITERS)
def test_forking_under_load_never_hangs_and_loses_nothing(db: str, tmp_path: Path, writer: str) -> None:
    done, numbers = run(
        db, writer,
        """
        p = Profiler(db, writer=writer, batch_size=7, close_timeout=50)
        stop = threading.Event()
        counts = [0, 0]
        def load(index):
            while not stop.is_set():
                p.start("x", {"n": -1}).end()
                counts[index] += 1
                time.sleep(0)
        threads = [threading.Thread(target=load, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        children = []
        for round in range(12):
            time.sleep(0.002)
            pid = os.fork()
            if pid == 0:
                record(p, 20, round * 100)
                p.close()
                os._exit(0)
            children.append(pid)
        stop.set()
        for thread in threads:
            thread.join()
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        report = p.close()
        print(sum(counts), report.written, codes == [0] * 12)
        """,
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    recorded, written, codes = done.stdout.split()
    assert recorded == written
    assert codes == "True"
    assert numbers.count(-1) == int(recorded)
    assert [number for number in numbers if number >= 0] == [
        number for start in range(12) for number in range(start * 100, start * 100 + 20)
    ]


@pytest.mark.parametrize("writer", ["sync", "threaded"])
def test_sigterm_reaches_a_child_that_has_only_just_been_forked(db: str, tmp_path: Path, writer: str) -> None:
    # a Python signal handler that is there at the fork is enough for CPython to forget it: `Pool.terminate()` then hangs
    done, numbers = run(
        db, writer,
        """
        p = Profiler(db, writer=writer, handle_sigterm=True)
        record(p, 10)
        endings = set()
        for round in range(60):
            pid = os.fork()
            if pid == 0:
                for _ in range(200):
                    time.sleep(0.05)
                os._exit(99)
            os.kill(pid, signal.SIGTERM)
            endings.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        print(endings, signal.pthread_sigmask(signal.SIG_BLOCK, []))
        """,
        tmp_path,
    )  # fmt: skip
    assert done.stdout == f"{{{-signal.SIGTERM}}} set()\n", done.stderr
    assert numbers == list(range(10))


@pytest.mark.parametrize("writer", ["sync", "threaded", "process"])
def test_sigterm_ends_a_child_of_multiprocessing_also_where_python_would_not_notice(
    db: str, tmp_path: Path, writer: str
) -> None:
    # A signal that another thread gets is only noted, as is one that comes while the main thread hands over the GIL:
    # no call of the main thread is interrupted, and a Pool that is terminated waits for a worker that waits for work.
    done, numbers = run(
        db, writer,
        """
        def note():
            time.sleep(0.2)  # the main thread waits by then; if it does not yet, the test has nothing to do
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

        def work(lock):
            p = Profiler(db, writer=writer, handle_sigterm=True)
            record(p, 10)
            threading.Thread(target=note).start()
            lock.acquire()

        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            lock = context.Lock()
            lock.acquire()
            child = context.Process(target=work, args=[lock])
            child.start()
            child.join(20)
            print(child.exitcode)
            child.kill()
        """,
        tmp_path,
        guard=False,
    )  # fmt: skip
    assert done.stdout == f"{-signal.SIGTERM}\n", done.stderr
    assert numbers == list(range(10))


@pytest.mark.parametrize("writer", WRITERS)
def test_a_span_that_is_open_across_a_fork_belongs_to_the_parent(db: str, tmp_path: Path, writer: str) -> None:
    done, numbers = run(
        db, writer,
        """
        p = Profiler(db, writer=writer)
        with p.measure("across", {"n": 0}):
            pid = os.fork()
            if pid == 0:
                record(p, 1, 1)
        if pid == 0:
            print(p.close().dropped_by, flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        """,
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert numbers == [0, 1]
    assert "'not_owner': 1" in done.stdout
    (root,) = Report(db).build_trees()
    assert [child.span.tags["n"] for child in root.children] == [1]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_forked_child_that_records_nothing_leaves_no_trace(db: str, tmp_path: Path, writer: str) -> None:
    run(
        db, writer,
        """
        p = Profiler(db, writer=writer)
        record(p, 3)
        if os.fork() == 0:
            p.close()
            sys.exit(0)
        os.wait()
        """,
        tmp_path,
    )  # fmt: skip
    assert len(only_run(db).processes) == 1


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_store_everything(db: str, tmp_path: Path, writer: str, method: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        PRELUDE
        + textwrap.dedent(
            """
            import functools
            @functools.cache
            def profiler():
                return Profiler(db, writer=writer, run_id="shared")

            def work(number):
                record(profiler(), 30, number * 100)
                return os.getpid()

            if __name__ == "__main__":
                method = sys.argv[3]
                context = multiprocessing.get_context(method)
                work(0)
                process = context.Process(target=work, args=(1,))
                process.start()
                process.join()
                assert process.exitcode == 0, process.exitcode
                with context.Pool(2) as pool:
                    pool.map(work, [2, 3, 4])
                    pool.close()
                    pool.join()
                from concurrent.futures import ProcessPoolExecutor
                with ProcessPoolExecutor(1, mp_context=context) as executor:
                    list(executor.map(work, [5]))
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script), writer, db, method], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    numbers = sorted(span.tags["n"] for span in Report(db).spans())
    assert numbers == [number * 100 + offset for number in range(6) for offset in range(30)]
    assert not only_run(db).unclean


def test_several_processes_and_profilers_write_one_file_at_once(db: str, tmp_path: Path) -> None:
    done, numbers = run(
        db, "threaded",
        """
        start = time.time() + 0.5
        children = []
        for child in range(4):
            pid = os.fork()
            if pid == 0:
                profilers = [Profiler(db, writer=kind, run_id="many", batch_size=20, close_timeout=60)
                             for kind in ("sync", "threaded", "bounded", "process")]
                threads = [threading.Thread(target=record, args=(p, 200, (child * 4 + index) * 1000))
                           for index, p in enumerate(profilers)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                lost = sum(p.close().lost for p in profilers)
                os._exit(1 if lost else 0)
            children.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        sys.exit(any(codes))
        """,
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert numbers == [base * 1000 + offset for base in range(16) for offset in range(200)]
    assert len(only_run(db).processes) == 16


def test_sigterm_waits_no_longer_than_close_timeout_for_a_sink_that_hangs_in_the_main_thread(
    db: str, tmp_path: Path
) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        PRELUDE
        + textwrap.dedent(
            """
            class Stuck:
                def write(self, batch):
                    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
                    print("hangs", flush=True)
                    time.sleep(60)
                def flush(self): ...
                def close(self): ...
            p = Profiler(sink=Stuck(), writer="sync", batch_size=1, handle_sigterm=True, close_timeout=0.5)
            record(p, 1)
            """
        )
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script), "sync", db], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "hangs\n")
    assert time.monotonic() - started < 20
