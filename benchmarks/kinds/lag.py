"""How late an event loop wakes that records spans, and what CPU they take."""

from __future__ import annotations

import asyncio
import time
from textwrap import indent
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.kinds import Case, Chart, Column, Figures, Scale, quantile
from benchmarks.loops import block, function
from benchmarks.peers import ALL, UNTRACED, peer

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.base import Peer

TITLE = "How late the event loop wakes"
ABOUT = """\
An asyncio application ends units of work at a steady rate: every 2 ms it catches up with what is due, in a span
with a child for each unit, with two tags where the peer has tags. Beside it a prober asks to be woken after 1 ms,
and notes how much later it was. *Reached* says whether the rate was kept: who does not reach it is late all the
time. *CPU* is what the process took more than the untraced one, delivering and closing included, for each span;
what `process` does in its other process is not in it (see *Drain*). *Lost* is what never came to the exporter or
the file, where the peer lets us know.
"""
RATES = (1_000, 10_000, 50_000)
COLUMNS = (
    Column("reached", "spans/s reached", better="more"),
    Column("p50", "lag p50, ms"),
    Column("p99", "p99, ms"),
    Column("p99.9", "p99.9, ms"),
    Column("worst", "worst, ms"),
    Column("p99, × untraced", "p99, × untraced", ratio=True),
    Column("CPU, µs/span", "CPU, µs/span"),
    Column("lost, %", "lost, %"),
)
CHARTS = tuple(
    Chart(f"{rate:,} spans/s", "p99", f"Event loop's lag at {rate:,} spans/s, p99", "ms") for rate in RATES[1:]
)


def cases(scale: Scale) -> list[Case]:
    found = []
    for rate in RATES:
        seconds = 0.3 if scale.quick else 1.5 if rate == RATES[0] else 3.5
        options = {"rate": rate, "seconds": seconds}
        found += [Case(f"{rate:,} spans/s", subject, seconds + 0.9, options) for subject in ALL]
    return found


def derive(rows: dict[str, Figures]) -> None:
    floor = rows.get(peer(UNTRACED).title)
    for found in rows.values():
        if floor is not None:
            found["p99, × untraced"] = found["p99"] / floor["p99"]
            found["p99.9, × untraced"] = found["p99.9"] / floor["p99.9"]
            if found is not floor:
                more = found["CPU, s"] - floor["CPU, s"] * found["spans"] / floor["spans"]
                found["CPU, µs/span"] = more / found["spans"] * 1e6


def probe(peer: Peer, folder: Path, rate: int, seconds: float) -> Figures:
    batch = _batch(peer, peer.start(folder))
    asyncio.run(_app(batch, rate, min(0.2, seconds)))  # what is imported or compiled at the first span
    cpu = time.process_time()
    late, done, lasted = asyncio.run(_app(batch, rate, seconds))
    recorded = batch.spans  # type: ignore[attr-defined]
    books = peer.stop()
    cpu = time.process_time() - cpu
    late.sort()
    figures = {
        "spans": float(done),
        "reached": done / lasted,
        **{f"p{share * 100:g}": quantile(late, share) * 1e3 for share in (0.5, 0.99, 0.999)},
        "worst": late[-1] * 1e3,
        "CPU, s": cpu,
    }
    if books.delivered >= 0:
        figures["lost, %"] = max(0.0, 100 * (1 - books.delivered / recorded))
    return figures


def _batch(peer: Peer, names: dict[str, Any]) -> Any:
    """A coroutine function that does so many units of work within a span, and counts all spans."""
    source = (
        "async def batch(count):\n"
        "    n = 0\n"
        "    batch.spans += count + 1\n"
        + indent(block(peer.outer, "batch", "for n in range(count):\n    await unit(n)"), "    ")
        + "\nasync def unit(n):\n"
        + indent(block(peer.richest, "unit"), "    ")
    )
    made: Any = function(source, names, "batch")
    made.spans = 0
    return made


async def _app(batch: Any, rate: int, seconds: float) -> tuple[list[float], int, float]:
    """Batches of spans every 2 ms, and a prober beside them: how late it was, how many spans, how long it took."""
    late: list[float] = []
    stop = asyncio.Event()

    async def probe_loop() -> None:
        while not stop.is_set():
            wanted = perf_counter() + 0.001
            await asyncio.sleep(0.001)
            late.append(max(0.0, perf_counter() - wanted))

    probing = asyncio.create_task(probe_loop())
    started, done = perf_counter(), 0
    while (elapsed := perf_counter() - started) < seconds:
        if (due := min(int(elapsed * rate) - done, 900)) > 1:  # Sentry keeps 1,000 spans of a transaction
            await batch(due - 1)
            done += due
        await asyncio.sleep(0.002)
    lasted = perf_counter() - started
    stop.set()
    await probing
    return late, done, lasted
