"""Disks that are full for a while, and files that others hold."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from support import record

from ferret import Profiler, Report
from ferret.sinks.beaver import BeaverSink
from ferret.sinks.reading import open_readable

WRITERS = ["sync", "threaded", "bounded", "process"]


def sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as db:
        return bool(db.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB, where that may be made."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"a small disk needs root, and the right to mount: {made.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kind", ["beaver", "jsonl"])
def test_a_disk_that_was_full_costs_nothing_once_there_is_room_again(small_disk: Path, writer: str, kind: str) -> None:
    path = small_disk / f"trace.{kind}"
    profiler = Profiler(sink=f"{kind}:{path}", writer=writer, batch_size=50, close_timeout=60)
    for number in range(100):
        profiler.start("before", {"n": number}).end()
    assert profiler.flush()
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)

    def make_room() -> None:
        time.sleep(0.3)  # the sink fails meanwhile, and is tried again
        ballast.unlink()

    room = threading.Thread(target=make_room)
    room.start()
    for number in range(100, 1500):
        profiler.start("while full", {"n": number, "text": f"{number}" * 40}).end()
    room.join()
    report = profiler.close()
    assert (report.recorded, report.written, report.lost) == (1500, 1500, 0)
    assert sorted(span.tags["n"] for span in Report(path).spans()) == list(range(1500))
    assert kind == "jsonl" or sound(path)


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
def test_a_database_that_may_not_grow_takes_what_failed_once_it_may(db: str) -> None:
    class Limited(BeaverSink):
        """SQLite's own way to be full: `PRAGMA max_page_count`."""

        refused = 0

        def limit(self, pages: int) -> None:
            assert self._connection is not None
            self._connection.execute(f"PRAGMA max_page_count = {pages}")

        def write(self, one: Any) -> None:
            try:
                super().write(one)
            except sqlite3.OperationalError:
                Limited.refused += 1
                if Limited.refused == 3:
                    self.limit(1 << 30)
                raise

    sink = Limited(db)
    profiler = Profiler(sink=sink, batch_size=50, close_timeout=60)
    profiler.start("before", {"n": 0}).end()
    assert profiler.flush()
    sink.limit(1)  # as many as there are
    for number in range(1, 2000):
        profiler.start("x", {"n": number, "text": os.urandom(40).hex()}).end()
    report = profiler.close()
    assert Limited.refused >= 3
    assert (report.recorded, report.written) == (2000, 2000)
    assert sorted(span.tags["n"] for span in Report(db).spans()) == list(range(2000))
    assert sound(Path(db))


LOCKER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("seconds", [1.0, pytest.param(10.0, marks=pytest.mark.soak)])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_database_that_another_process_holds_locked_loses_nothing(db: str, writer: str, seconds: float) -> None:
    profiler = Profiler(db, writer=writer, batch_size=100, close_timeout=60)
    profiler.start("x", {"n": 0}).end()
    assert profiler.flush()
    locker = subprocess.Popen([sys.executable, "-c", LOCKER, db], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert locker.stdout is not None
    assert locker.stdout.readline() == b"locked\n"
    release = threading.Timer(seconds, locker.communicate)
    release.start()
    for number in range(1, 1000):
        profiler.start("x", {"n": number}).end()
    report = profiler.close()
    release.join()
    locker.wait()
    assert (report.recorded, report.written, report.lost) == (1000, 1000, 0)
    assert sorted(span.tags["n"] for span in Report(db).spans()) == list(range(1000))


@pytest.mark.parametrize("kind", ["beaver", "jsonl"])
def test_spans_that_all_have_one_time_are_all_kept(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "trace"
    profilers = [Profiler(sink=f"{kind}:{path}", writer="sync", batch_size=10, run_id="run") for _ in range(2)]
    now = 123_456_789
    for number in range(500):
        for index, profiler in enumerate(profilers):
            profiler.writer.record(record(2 * number + index, start_ns=now, end_ns=now))
    assert [profiler.close().written for profiler in profilers] == [500, 500]
    spans = [span for segment in open_readable(path, "_ferret_trace").segments() for span in segment]
    assert sorted(span.tags["n"] for span in spans) == list(range(1000))
    assert len({span.span_id for span in spans}) == 1000


MANY = """
import sys, threading
from ferret import Profiler
writer, sink, base, each = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
profiler = Profiler(sink=sink, writer=writer, run_id="many", batch_size=100, close_timeout=100, max_queue=10**6)
def work(first):
    for number in range(first, first + each):
        profiler.start("x", {"n": number}).end()
threads = [threading.Thread(target=work, args=(base + one * each,)) for one in range(4)]
for one in threads: one.start()
for one in threads: one.join()
report = profiler.close()
sys.exit(0 if (report.written, report.lost) == (4 * each, 0) else str(report))
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("writer", "kind", "each"),
    [
        ("threaded", "beaver", 250),
        *(pytest.param(one, kind, 25_000, marks=pytest.mark.soak) for one in WRITERS for kind in ["beaver", "jsonl"]),
    ],
)
def test_four_processes_of_four_threads_write_one_file(tmp_path: Path, writer: str, kind: str, each: int) -> None:
    path = tmp_path / "trace"
    processes = [
        subprocess.Popen([sys.executable, "-c", MANY, writer, f"{kind}:{path}", str(4 * each * one), str(each)])
        for one in range(4)
    ]
    assert [process.wait() for process in processes] == [0] * 4
    numbers = [span.tags["n"] for span in Report(path).spans()]
    assert sorted(numbers) == list(range(16 * each))
    (run,) = Report(path).runs()
    assert (len(run.processes), run.unclean, run.lost) == (4, False, 0)
    assert kind == "jsonl" or sound(path)
