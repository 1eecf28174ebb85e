"""Programs that are killed at random moments, one after another, over one file: it stays sound, and the count is right."""

from __future__ import annotations

import itertools
import mmap
import os
import random
import sqlite3
import struct
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from support import WAIT_S

from ferret import Report
from ferret.sinks.reading import open_readable
from ferret.testing.patience import wait_until

WRITERS = ["sync", "threaded", "bounded", "process"]
BATCH = 50

PROGRAM = """
import mmap, struct, sys, time
writer, sink, run, counter, pause = sys.argv[1:]
file = open(counter, "r+b")
counter = mmap.mmap(file.fileno(), 8)
from ferret import Profiler
# nothing is dropped for want of room, however far a busy machine lets the writer fall behind
profiler = Profiler(sink=sink, writer=writer, batch_size=50, flush_interval=0.05, run_id=run, max_queue=10**7)
print("begun", flush=True)
number = 0
while True:
    profiler.start("x", {"n": number}).end()
    number += 1
    counter[:] = struct.pack("Q", number)  # the kernel keeps it, as it keeps ferret's own
    if pause != "0":
        time.sleep(float(pause))
"""


def kill_one(writer: str, sink: str, run: str, folder: Path, dice: random.Random) -> int:
    """Run a program until a random moment, and wait until nothing of it runs any more; how many spans it had recorded."""
    counter = folder / "counter"
    counter.write_bytes(bytes(8))
    pause = dice.choice(["0", "0", "0.00005", "0.002"])
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, writer, sink, run, str(counter), pause],
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert program.stdout is not None
    assert program.stdout.readline() == b"begun\n"
    time.sleep(dice.random() * 0.3)
    program.kill()
    program.wait()
    program.stdout.close()
    wait_until(lambda: not _session(program.pid), "what it began outlives it", WAIT_S)
    with counter.open("rb") as file, mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ) as mapped:
        recorded: int = struct.unpack("Q", mapped)[0]
    return recorded


def _session(number: int) -> list[int]:
    found = []
    for process in psutil.pids():
        try:
            if os.getsid(process) == number:
                found.append(process)
        except (ProcessLookupError, PermissionError):
            continue
    return found


def judge(path: Path, writer: str, run: str, recorded: int) -> int:
    """Whether what is stored of a run, and what is said of it, agrees with what was recorded; how many were lost."""
    found = next((one for one in Report(path).runs() if one.run_id == run), None)
    if found is None:
        assert recorded == 0, f"{run}: {recorded} spans left no trace"
        return 0
    segments = list(open_readable(path, "_ferret_trace").segments(run))
    numbers = [span.tags["n"] for segment in segments for span in segment]
    assert numbers == list(range(len(numbers))), f"{run}: batches are torn, twice, or out of order"
    assert [segment.sequence for segment in segments] == list(range(len(segments)))
    assert found.unclean
    assert found.lost_by_kill is not None
    most = found.spans + found.lost_by_kill
    assert recorded <= most, f"{run}: {recorded} were recorded, and only {most} are accounted for"
    assert most - found.uncertain <= recorded + 1, f"{run}: {most} are accounted for, and {recorded} were recorded"
    if writer == "sync":
        assert found.lost_by_kill - found.uncertain <= BATCH, f"{run}: more than the open batch is lost"
    return found.lost_by_kill


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("kind", "kills"),
    [
        ("beaver", 3),
        pytest.param("beaver", 200, marks=pytest.mark.soak),
        pytest.param("jsonl", 50, marks=pytest.mark.soak),
    ],
)
def test_killed_at_any_moment_batches_are_whole_and_the_count_is_right(
    tmp_path: Path, writer: str, kind: str, kills: int
) -> None:
    path = tmp_path / "trace"
    dice = random.Random(f"{writer}/{kind}/{kills}")
    killed_at_work = 0
    for number in itertools.count():
        if killed_at_work == kills:
            break
        run = f"{number:03d}"
        recorded = kill_one(writer, f"{kind}:{path}", run, tmp_path, dice)
        killed_at_work += recorded > 0  # on a busy machine it may not get that far
        judge(path, writer, run, recorded)
        if kind == "beaver":
            with closing(sqlite3.connect(path)) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert len(Report(path).runs()) >= kills
