"""From the caller to where spans rest: speed, CPU, memory, disk, and a burst that is faster than any sink."""

from __future__ import annotations

import gc
import sqlite3
import statistics
import time
import tracemalloc
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.kinds import Case, Chart, Column, Figures, Scale, no_more
from benchmarks.machine import children_cpu, collector_pauses, peak_mb
from benchmarks.peers.ferret import NON_BLOCKING, WRITERS
from benchmarks.peers.untraced import Empty

if TYPE_CHECKING:
    from benchmarks.peers.ferret import Ferret

TITLE = "From the caller to the disk"
ABOUT = """\
*Spans into a sink*: a loop records 200,000 spans with two tags, and closes; the time is from the first span to the
end of `close()`. Raw `sqlite3` inserts as many rows of four small columns with `executemany`, with the same
settings as BeaverDB; the raw file gets a line of text for each. *Other CPU* is what the other process of `process`
took, without its start.

*A burst* records a million spans without a pause, which no sink keeps up with: `threaded` lets its queue grow, and
lends its worker the GIL once it is far behind; `bounded` and `process` hold 100,000 unless told otherwise, and drop
and count the rest. *GC* is the longest pause of Python's garbage collector meanwhile.

*Waiting spans* are spans that stay in the queue: what each weighs, and how long a full collection of the garbage
collector takes with and without a million of them.
"""
SINKS, BURST, WAITING, DISK = "spans into a sink", "a burst", "waiting spans", "disk"
COLUMNS = (
    Column("spans/s", "spans/s", better="more"),
    Column("× raw sqlite3", "× raw `sqlite3`", better="more", ratio=True),
    Column("× raw file", "× raw file", better="more", ratio=True),
    Column("CPU, µs/span", "CPU, µs/span"),
    Column("CPU, × empty with", "CPU, × empty `with`", ratio=True),
    Column("other CPU, µs/span", "other CPU, µs/span"),
    Column("caller, ns/span", "caller, ns/span"),
    Column("caller, × empty with", "caller, × empty `with`", ratio=True),
    Column("dropped, %", "dropped, %"),
    Column("until closed, s", "until closed, s"),
    Column("peak, MB", "peak, MB"),
    Column("GC, ms", "GC, ms"),
    Column("bytes/span, no tags", "bytes/span, no tags", ratio=True),
    Column("bytes/span, two tags", "bytes/span, two tags", ratio=True),
    Column("collection, empty queue, ms", "collection, empty queue, ms"),
    Column("collection, full queue, ms", "collection, full queue, ms"),
)
CHARTS = (Chart(SINKS, "spans/s", "200,000 spans with two tags, recorded and on disk", "spans/s"),)
derive = no_more
FILES = {"beaver": "trace.db", "jsonl": "spans.jsonl"}


def cases(scale: Scale) -> list[Case]:
    count = 5_000 if scale.quick else 200_000
    into = [("threaded", sink) for sink in ("beaver", "jsonl", "memory", "null")]
    into += [(writer, "beaver") for writer in WRITERS if writer != "threaded"]
    return [
        *(
            Case(SINKS, writer, 3.5, {"what": "sink", "sink": sink, "count": count}, f"{writer} into {sink}")
            for writer, sink in into
        ),
        *(Case(BURST, writer, 8, {"what": "burst", "count": 5 * count}) for writer in NON_BLOCKING),
        Case(WAITING, "threaded", 5, {"what": "waiting", "count": 5 * count}),
        *(
            Case(DISK, "threaded", 2.5, {"what": "disk", "sink": sink, "count": count // 4}, sink)
            for sink in ("beaver", "jsonl")
        ),
    ]


def probe(peer: Ferret, folder: Path, what: str, count: int, **options: Any) -> Figures:
    measured = {"sink": into_sink, "burst": a_burst, "waiting": waiting, "disk": on_disk}[what]
    return measured(peer, folder, count, **options)


def where(sink: str, folder: Path) -> str:
    """The sink as an option."""
    return f"{sink}:{folder / FILES[sink]}" if sink in FILES else sink


def empty_with(count: int = 20_000) -> float:
    """Seconds of an empty `with` block: the median of several loops."""
    found = []
    for _ in range(9):
        started = perf_counter()
        for _ in range(count):
            with Empty():
                pass
        found.append((perf_counter() - started) / count)
    return statistics.median(found)


def into_sink(peer: Ferret, folder: Path, count: int, sink: str) -> Figures:
    raw_rows, raw_lines = raw_sqlite(folder, count), raw_file(folder, count)
    measure = peer.start(folder, sink=where(sink, folder), max_queue=count)["measure"]
    floor = empty_with()
    child_start = idle_child_cpu(peer, folder)
    started, cpu = perf_counter(), time.process_time()
    for number in range(count):
        with measure("load", {"user": number % 1000, "items": 3}):
            pass
    books = peer.stop()
    seconds, cpu = perf_counter() - started, time.process_time() - cpu
    assert books.delivered == count, books
    figures = {
        "spans/s": count / seconds,
        "× raw sqlite3": count / seconds / raw_rows,
        "× raw file": count / seconds / raw_lines,
        "CPU, µs/span": cpu / count * 1e6,
        "CPU, × empty with": cpu / count / floor,
    }
    if peer.writer == "process":
        figures["other CPU, µs/span"] = (children_cpu() - 2 * child_start) / count * 1e6
    return figures


def idle_child_cpu(peer: Ferret, folder: Path) -> float:
    """CPU seconds of a child that `process` starts and ends with next to nothing to store."""
    if peer.writer != "process":
        return 0.0
    before = children_cpu()
    other = type(peer)(peer.writer)
    with other.start(folder, sink=f"beaver:{folder / 'idle.db'}")["measure"]("x"):
        pass
    other.stop()
    return children_cpu() - before


def raw_sqlite(folder: Path, count: int) -> float:
    """Rows a second that `sqlite3` itself inserts: tiny rows, batches as ours, the same PRAGMAs as BeaverDB's."""
    database = sqlite3.connect(folder / "raw.db", isolation_level=None)
    database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t (a, b, c, d)")
    started = perf_counter()
    for first in range(0, count, 4096):
        database.execute("BEGIN")
        rows = [(number, number, "load", 3) for number in range(first, min(first + 4096, count))]
        database.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
        database.execute("COMMIT")
    seconds = perf_counter() - started
    database.close()
    return count / seconds


def raw_file(folder: Path, count: int) -> float:
    """Lines a second that Python itself writes."""
    started = perf_counter()
    with Path(folder, "raw.txt").open("w") as file:
        file.writelines(f"{number},{number},load,3\n" for number in range(count))
    return count / (perf_counter() - started)


def a_burst(peer: Ferret, folder: Path, count: int) -> Figures:
    measure = peer.start(folder, close_timeout=300)["measure"]
    with measure("first"):
        pass
    peer.profiler.flush()
    floor = empty_with()
    with collector_pauses() as pauses:
        started = perf_counter()
        for _ in range(count):
            with measure("load"):
                pass
        recorded = perf_counter() - started
        report = peer.profiler.close()
        seconds = perf_counter() - started
    return {
        "caller, ns/span": recorded / count * 1e9,
        "caller, × empty with": recorded / count / floor,
        "dropped, %": 100 * (report.dropped + report.failed) / report.recorded,
        "until closed, s": seconds,
        "peak, MB": peak_mb(),
        "GC, ms": max(pauses, default=0.0) * 1e3,
    }


def waiting(peer: Ferret, folder: Path, count: int) -> Figures:
    few = min(count, 50_000)
    stay = {"sink": "null", "flush_interval": 3600, "batch_size": 1_000_000, "close_timeout": 300}
    measure = peer.start(folder, **stay)["measure"]
    with measure("first"):
        pass
    _full_collection()  # what starting left behind
    figures = {"collection, empty queue, ms": _full_collection()}
    for figure, tags in (("bytes/span, no tags", None), ("bytes/span, two tags", {"user": 7, "items": 3})):
        tracemalloc.start()
        for _ in range(few):
            with measure("x", tags):
                pass
        figures[figure] = tracemalloc.get_traced_memory()[0] / few
        tracemalloc.stop()
    for _ in range(count - 2 * few - 2):
        with measure("x"):
            pass
    figures["collection, full queue, ms"] = _full_collection()
    assert peer.profiler.stats().pending >= count - 2, peer.profiler.stats()
    peer.stop()
    return figures


def _full_collection() -> float:
    started = perf_counter()
    gc.collect()
    return (perf_counter() - started) * 1e3


def on_disk(peer: Ferret, folder: Path, count: int, sink: str) -> Figures:
    """Requests of five spans, with and without tags."""
    figures = {}
    for figure, tagged in (("bytes/span, no tags", False), ("bytes/span, two tags", True)):
        place = folder / figure.replace("/", " ")
        place.mkdir()
        other = type(peer)(peer.writer)
        record_requests(other.start(place, sink=where(sink, place))["measure"], count, tagged=tagged)
        assert other.stop().delivered == count
        figures[figure] = (place / FILES[sink]).stat().st_size / count
    return figures


def record_requests(measure: Any, count: int, *, tagged: bool) -> None:
    """So many spans of a program's shape: a request, and four steps in it."""
    for number in range(count // 5):
        with measure(f"request {number % 20}", {"user": number % 1000, "items": 3} if tagged else None):
            for step in range(4):
                with measure(f"step {step}", {"user": number % 1000, "part": step} if tagged else None):
                    pass
