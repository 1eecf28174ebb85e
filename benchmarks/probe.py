"""One measurement in a process of its own: `python benchmarks/probe.py KIND WRITER`, which prints a JSON object.

`analyze` takes millions of spans in place of a writer.

`benchmarks/run.py` starts these in turn and puts the figures side by side.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from itertools import islice
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any

from ferret import Profiler

if TYPE_CHECKING:
    from collections.abc import Callable

BURST = 1000
BURSTS = 60
DRAIN_SPANS = 200_000
LAG_SECONDS = 5.0


class Empty:
    """The floor: an empty context manager in plain Python, made anew each time."""

    def __enter__(self) -> Empty:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def open_profiler(writer: str, folder: str, **options: Any) -> Profiler:
    return Profiler(Path(folder) / "trace.db", writer=writer, **options)  # type: ignore[misc]


def per_call(burst: Callable[[int], None]) -> float:
    """Nanoseconds a call, the median of bursts; between them the writer gets time to deliver."""
    found = []
    for _ in range(BURSTS):
        started = perf_counter_ns()
        burst(BURST)
        found.append((perf_counter_ns() - started) / BURST)
        time.sleep(0.004)
    return statistics.median(found)


def cost(writer: str) -> dict[str, float]:
    """The caller's time for one span, in nanoseconds, as multiples of an empty `with` of the same process."""
    with tempfile.TemporaryDirectory() as folder, open_profiler(writer, folder, flush_interval=0.05) as profiler:
        measure = profiler.measure

        @measure("decorated")
        def decorated() -> None: ...

        def empty(count: int) -> None:
            for _ in range(count):
                with Empty():
                    pass

        def block(count: int) -> None:
            for _ in range(count):
                with measure("x"):
                    pass

        def tagged(count: int) -> None:
            for number in range(count):
                with measure("x", {"user": number, "items": 3}):
                    pass

        def call(count: int) -> None:
            for _ in range(count):
                decorated()

        floor = per_call(empty)
        return {
            "empty with, ns": floor,
            "with": per_call(block) / floor,
            "with, two tags": per_call(tagged) / floor,
            "decorated call": per_call(call) / floor,
        }


def drain(writer: str) -> dict[str, float]:
    """Spans a second from recording to disk, against raw SQLite; CPU and disk for each span."""
    raw = raw_sqlite()
    with tempfile.TemporaryDirectory() as folder:
        profiler = open_profiler(writer, folder, max_queue=DRAIN_SPANS)
        started, cpu = perf_counter(), time.process_time()
        for number in range(DRAIN_SPANS):
            with profiler.measure("load", {"user": number % 1000, "items": 3}):
                pass
        report = profiler.close()
        seconds, own_cpu = perf_counter() - started, time.process_time() - cpu
        assert report.written == DRAIN_SPANS, report
        tagged = Path(folder, "trace.db").stat().st_size / DRAIN_SPANS
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "spans/s": DRAIN_SPANS / seconds,
        "of raw executemany": DRAIN_SPANS / seconds / raw,
        "own CPU, µs/span": own_cpu / DRAIN_SPANS * 1e6,
        "child's CPU, µs/span": (child.ru_utime + child.ru_stime) / DRAIN_SPANS * 1e6,
        "disk with two tags, bytes/span": tagged,
    }


def raw_sqlite() -> float:
    """Rows a second that `sqlite3` itself inserts: tiny rows, batches as ours, the same PRAGMAs as BeaverDB's."""
    with tempfile.TemporaryDirectory() as folder:
        database = sqlite3.connect(Path(folder) / "raw.db", isolation_level=None)
        database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t (a, b, c, d)")
        started = perf_counter()
        for first in range(0, DRAIN_SPANS, 4096):
            database.execute("BEGIN")
            rows = [(number, number, "load", 3) for number in range(first, min(first + 4096, DRAIN_SPANS))]
            database.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
            database.execute("COMMIT")
        seconds = perf_counter() - started
        database.close()
    return DRAIN_SPANS / seconds


def size(writer: str) -> dict[str, float]:
    """Bytes a span: on disk without tags, in a real program's shape, and in the queue."""
    count = 50_000
    with tempfile.TemporaryDirectory() as folder:
        with open_profiler(writer, folder) as profiler:
            for number in range(count // 5):
                with profiler.measure(f"request {number % 20}"):
                    for step in range(4):
                        with profiler.measure(f"step {step}"):
                            pass
        plain = Path(folder, "trace.db").stat().st_size / count
    profiler = Profiler(sink="null", flush_interval=3600, batch_size=1_000_000)
    profiler.start("first").end()
    tracemalloc.start()
    for _ in range(count):
        with profiler.measure("x"):
            pass
    queued = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    profiler.close()
    return {"disk without tags, bytes/span": plain, "queued, bytes/span": queued}


def lag(writer: str, rate: int = 10_000) -> dict[str, float]:
    """How late a coroutine wakes that asks for 1 ms, while an asyncio app records `rate` spans a second."""
    with tempfile.TemporaryDirectory() as folder:
        profiler = None if writer == "untraced" else open_profiler(writer, folder)
        late, done, seconds = asyncio.run(app(profiler, rate))
        if profiler is not None:
            report = profiler.close()
            assert report.written == report.recorded, report
    late.sort()
    return {
        "spans/s reached": done / seconds,
        "lag p50, ms": late[len(late) // 2] * 1e3,
        "lag p99, ms": late[int(len(late) * 0.99)] * 1e3,
        "lag p99.9, ms": late[int(len(late) * 0.999)] * 1e3,
    }


async def app(profiler: Profiler | None, rate: int) -> tuple[list[float], int, float]:
    """Batches of spans every 2 ms, and a prober beside them."""
    late: list[float] = []
    stop = asyncio.Event()

    async def prober() -> None:
        while not stop.is_set():
            wanted = perf_counter() + 0.001
            await asyncio.sleep(0.001)
            late.append(perf_counter() - wanted)

    async def unit() -> None:
        if profiler is None:
            with Empty():
                pass
        else:
            with profiler.measure("unit", {"user": 7, "items": 3}):
                pass

    probing = asyncio.create_task(prober())
    started, done = perf_counter(), 0
    while (elapsed := perf_counter() - started) < LAG_SECONDS:
        while done < elapsed * rate:
            await unit()
            done += 1
        await asyncio.sleep(0.002)
    seconds = perf_counter() - started
    stop.set()
    await probing
    return late, done, seconds


def ending(_: str) -> dict[str, float]:
    """The worst caller of 1,000 tasks that end at the same moment, in milliseconds."""

    async def main(profiler: Profiler | None) -> float:
        gate = asyncio.Event()
        worst = 0.0

        async def task() -> None:
            nonlocal worst
            await gate.wait()
            started = perf_counter()
            if profiler is None:
                with Empty():
                    pass
            else:
                with profiler.measure("task"):
                    pass
            worst = max(worst, perf_counter() - started)

        tasks = [asyncio.create_task(task()) for _ in range(1000)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)
        return worst * 1e3

    found = {"untraced, ms": statistics.median(asyncio.run(main(None)) for _ in range(9))}
    for writer in ("sync", "threaded", "bounded", "process"):
        with tempfile.TemporaryDirectory() as folder, open_profiler(writer, folder, batch_size=100) as profiler:
            found[f"{writer}, ms"] = statistics.median(asyncio.run(main(profiler)) for _ in range(9))
    return found


def analyze(size: str) -> dict[str, float]:
    """Spans a second that are read and added up, and the most memory that it took; the floor is NumPy alone."""
    import numpy as np  # noqa: PLC0415 - the other measurements do without

    from ferret.report import Report  # noqa: PLC0415

    spans = int(size) * 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "trace.db")
        # in a process of its own: its memory is not that of the analysis
        subprocess.run([sys.executable, str(Path(__file__).with_name("synthetic.py")), path, str(spans)], check=True)
        found = {}
        for what, read in (
            ("names", Report(path).analyze_run), ("tree", Report(path).merged_tree), ("slowest", Report(path).slowest),
        ):  # fmt: skip
            before = resource.getrusage(resource.RUSAGE_SELF)
            started = perf_counter()
            read()
            seconds = perf_counter() - started
            after = resource.getrusage(resource.RUSAGE_SELF)
            found[f"{what}, spans/s"] = spans / seconds
            found[f"{what}, spans/CPU s"] = spans / (
                after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            )
        found["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        columns = [(one.name, one.duration_ns) for one in islice(Report(path).segments("synthetic"), 250)]
    name, duration = (np.concatenate(column) for column in zip(*columns, strict=True))
    started = perf_counter()
    order = np.argsort(name, kind="stable")
    starts = np.flatnonzero(np.diff(name[order], prepend=-1))
    np.add.reduceat(duration[order], starts)
    np.maximum.reduceat(duration[order], starts)
    found["floor: NumPy grouping what is in memory, spans/s"] = len(name) / (perf_counter() - started)
    return found


KINDS: dict[str, Callable[[str], dict[str, float]]] = {
    "analyze": analyze,
    "cost": cost,
    "drain": drain,
    "ending": ending,
    "lag": lag,
    "lag50k": lambda writer: lag(writer, 50_000),
    "size": size,
}

if __name__ == "__main__":
    kind, writer = sys.argv[1:3]
    threading.current_thread().name = "bench"
    print(json.dumps(KINDS[kind](writer)))
    sys.stdout.flush()
    os._exit(0)
