"""What happens to the worst caller when everybody ends a span at the same moment."""

from __future__ import annotations

import asyncio
import statistics
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.kinds import Case, Chart, Column, Figures, Scale, no_more
from benchmarks.loops import block, function
from benchmarks.peers import ALL, peer
from benchmarks.peers.ferret import WRITERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.peers.base import Peer

TITLE = "When everybody ends at once"
ABOUT = """\
1,000 asyncio tasks that wait for one event, and 64 threads that wait at one barrier; then each records one span.
*Worst* is the longest time that one of them spent on its span, *all done* the time from the signal until the last
had ended. Each is the median of nine tries, beside nine untraced ones of the same process, in turns. Ferret's
batches are of 100 spans here, so that several are due while the tasks end. Threads wait for the GIL, with and
without tracing: that is their floor.
"""
TASKS, THREADS = "1,000 tasks", "64 threads"
COLUMNS = (
    Column("worst", "worst, ms"),
    Column("worst, × untraced", "× untraced", ratio=True),
    Column("all done", "all done, ms"),
    Column("all done, × untraced", "× untraced", ratio=True),
)
CHARTS = (Chart(TASKS, "worst", "1,000 tasks that end at once: the worst caller", "ms"),)
derive = no_more


def cases(scale: Scale) -> list[Case]:
    tries = 1 if scale.quick else 9
    return [
        Case(table, subject, 1.5, {"tries": tries, "threads": table == THREADS, **_small_batches(subject)})
        for table in (TASKS, THREADS)
        for subject in ALL
    ]


def _small_batches(subject: str) -> dict[str, Any]:
    return {"writer_options": {"batch_size": 100}} if subject in WRITERS else {}


def probe(
    subject: Peer, folder: Path, tries: int, threads: bool, writer_options: dict[str, Any] | None = None
) -> Figures:
    names = subject.start(folder, **writer_options or {})
    untraced = peer("untraced")
    pair = [_unit(subject, names), _unit(untraced, untraced.start(folder))]
    found: list[list[tuple[float, float]]] = [[], []]
    once = _threads if threads else _tasks
    for _ in range(tries + 1):
        for unit, times in zip(pair, found, strict=True):
            times.append(once(unit))
    subject.stop()
    (worst, done), (floor, floor_done) = (
        [statistics.median(one) * 1e3 for one in zip(*times[1:], strict=True)] for times in found
    )
    return {
        "worst": worst, "all done": done,
        "worst, × untraced": worst / floor, "all done, × untraced": done / floor_done,
    }  # fmt: skip


def _unit(peer: Peer, names: dict[str, Any]) -> Callable[[], float]:
    """A function that records one span and tells how long that took, in seconds."""
    source = f"""\
def unit(n=7):
    started = perf_counter()
    {block(peer.outer, "task").replace("\n", "\n    ")}
    return perf_counter() - started
"""
    return function(source, names | {"perf_counter": perf_counter}, "unit")


def _tasks(unit: Callable[[], float]) -> tuple[float, float]:
    """The worst of 1,000 tasks, and the time until all were done."""

    async def main() -> tuple[float, float]:
        gate = asyncio.Event()
        worst = 0.0

        async def task() -> None:
            nonlocal worst
            await gate.wait()
            worst = max(worst, unit())

        tasks = [asyncio.create_task(task()) for _ in range(1000)]
        await asyncio.sleep(0)
        started = perf_counter()
        gate.set()
        await asyncio.gather(*tasks)
        return worst, perf_counter() - started

    return asyncio.run(main())


def _threads(unit: Callable[[], float]) -> tuple[float, float]:
    """The same of 64 threads."""
    times: list[float] = []
    started = 0.0

    def begin() -> None:
        nonlocal started
        started = perf_counter()

    barrier = threading.Barrier(64, action=begin)

    def run() -> None:
        barrier.wait()
        times.append(unit())

    threads = [threading.Thread(target=run) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(times), perf_counter() - started
