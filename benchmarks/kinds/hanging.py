"""What the caller notices of a sink that hangs, and how long closing takes then."""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

from benchmarks.kinds import Case, Chart, Column, Figures, Scale, quantile
from benchmarks.loops import block, function
from benchmarks.peers import UNTRACED, peer
from benchmarks.peers.ferret import WRITERS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.base import Peer

TITLE = "When the sink hangs"
ABOUT = """\
A program records 2,000 spans a second, each with two tags. From the first batch on, its sink does not come back, or the
peer's exporter. *Worst* and *p99.9* are the longest times that the program spent on one span, and *spans over 1 ms* is
how many took longer than a millisecond, beside the same loop of empty blocks in a process of its own: whatever else
the machine does is in both. *Closing* is how long the end took when it was given one second: `close(1.0)`, and for
OpenTelemetry `force_flush` of a second and `shutdown`; after 30 s nobody waits any more. *Accounted for* is 100 if
ferret's report names every span, as written, dropped or failed. `sync` is not here: it waits for its sink, as it says.
"""
TABLE = "a sink that does not come back"
SUBJECTS = (UNTRACED, *(one for one in WRITERS if one != "sync"), "opentelemetry")
COLUMNS = (
    Column("worst", "worst, ms"),
    Column("p99.9", "p99.9, ms"),
    Column("over 1 ms", "spans over 1 ms"),
    Column("over 1 ms, more than untraced", "more than untraced"),
    Column("closing", "closing, s", ratio=True),
    Column("accounted for, %", "accounted for, %", better="more"),
)
CHARTS = (Chart(TABLE, "worst", "The longest span while the sink hangs", "ms"),)
RATE, BURST = 2_000, 20
PATIENCE_S = 30.0
"""After so long we stop waiting for the end."""


def cases(scale: Scale) -> list[Case]:
    seconds = 0.5 if scale.quick else 5.0
    return [Case(TABLE, subject, seconds + 2.0, {"seconds": seconds}) for subject in SUBJECTS]


def derive(rows: dict[str, Figures]) -> None:
    floor = rows.get(peer(UNTRACED).title)
    for found in rows.values():
        if floor is not None and found is not floor:
            found["over 1 ms, more than untraced"] = max(0.0, found["over 1 ms"] - floor["over 1 ms"])


def probe(subject: Peer, folder: Path, seconds: float) -> Figures:
    gate = threading.Event()
    names, close = _started(subject, folder, gate)
    unit = _unit(subject, names)
    for n in range(100):  # what is imported or compiled at the first spans
        unit(n)
    times: list[float] = []
    began = perf_counter()
    while (elapsed := perf_counter() - began) < seconds:
        due = int(elapsed * RATE) - len(times)
        times += [unit(n) for n in range(max(0, due))]
        sleep(BURST / RATE)
    started = perf_counter()
    accounted = close(len(times) + 100)
    closing = perf_counter() - started
    gate.set()
    times.sort()
    figures = {
        "worst": times[-1] * 1e3,
        "p99.9": quantile(times, 0.999) * 1e3,
        "over 1 ms": float(sum(one > 1e-3 for one in times)),
    }
    return figures if subject.title == peer(UNTRACED).title else {**figures, "closing": closing, **accounted}


def _unit(subject: Peer, names: dict[str, Any]) -> Any:
    """A function that records one span and tells how long that took, in seconds."""
    source = f"""\
def unit(n):
    started = perf_counter()
    {block(subject.richest, "unit").replace(chr(10), chr(10) + "    ")}
    return perf_counter() - started
"""
    return function(source, names | {"perf_counter": perf_counter}, "unit")


def _started(subject: Peer, folder: Path, gate: threading.Event) -> tuple[dict[str, Any], Any]:
    """The names that the loop uses, and what closes within a second and says what it accounts for."""
    if subject.title == peer(UNTRACED).title:
        return subject.start(folder), lambda _: {}
    if subject.environment == "opentelemetry":
        names = subject.start(folder)
        subject.exporter.export = lambda _: gate.wait()  # type: ignore[attr-defined]

        def shut_down(_: int) -> Figures:
            closer = threading.Thread(target=_flush_and_shut_down, args=(subject,), daemon=True)
            closer.start()
            closer.join(PATIENCE_S)
            return {}

        return names, shut_down
    names = _ferret_that_hangs(subject, folder, gate)

    def close(spans: int) -> Figures:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = subject.profiler.close(1.0)  # type: ignore[attr-defined]
        told = report.written + report.dropped + report.failed
        return {"accounted for, %": 100.0 * (told == report.recorded == spans)}

    return names, close


def _flush_and_shut_down(subject: Any) -> None:
    subject.provider.force_flush(1000)
    subject.provider.shutdown()


def _ferret_that_hangs(subject: Peer, folder: Path, gate: threading.Event) -> dict[str, Any]:
    if subject.title != "ferret process":
        return subject.start(folder, sink=_Hanging(gate))
    # the other process opens its sink by name, from a module that it can import, too
    from ferret import plugins

    (folder / "hanging_sink.py").write_text(HANGING_SINK)
    sys.path.insert(0, str(folder))
    plugins.register(importlib.import_module("hanging_sink"))
    return subject.start(folder, sink="hanging:")


class _Hanging:
    def __init__(self, gate: threading.Event) -> None:
        self._gate = gate

    def write(self, batch: Any) -> None:
        del batch
        self._gate.wait()

    def flush(self) -> None:
        self._gate.wait()

    def close(self) -> None: ...


HANGING_SINK = """
import threading
from ferret import hookimpl

class Hanging:
    def __init__(self, target=None): ...
    def write(self, batch): threading.Event().wait()
    def flush(self): threading.Event().wait()
    def close(self): ...

@hookimpl
def ferret_sinks(): return {"hanging": Hanging}
"""
