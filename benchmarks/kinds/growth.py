"""Whether anything gets worse as a run grows."""

from __future__ import annotations

import json
import sys
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.kinds import Case, Chart, Column, Figures, Scale, no_more
from benchmarks.kinds.drain import empty_with, record_requests
from benchmarks.machine import output, peak_mb

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.ferret import Ferret

TITLE = "As a run grows"
ABOUT = """\
Requests of five spans, each with two tags, as fast as one thread records them, by the `threaded` writer into
BeaverDB. *Caller* is what the loop took, with the writer's thread at work beside it; *stored* is the time until all
of it was in the file, and *recording peak* the most memory meanwhile. Then another process reads the file: what
`Report.analyze_run()` takes, and the most memory that the process has had, its imports included.
"""
TABLE = "growth"
COLUMNS = (
    Column("caller, ns/span", "caller, ns/span"),
    Column("caller, × empty with", "× empty `with`", ratio=True),
    Column("stored, µs/span", "stored, µs/span"),
    Column("recording peak, MB", "recording peak, MB"),
    Column("bytes/span", "file, bytes/span", ratio=True),
    Column("analyze, s", "analyze, s"),
    Column("analyzed spans/s", "analyzed spans/s", better="more"),
    Column("analyze peak, MB", "analyze peak, MB"),
)
CHARTS = (Chart(TABLE, "analyzed spans/s", "Spans analyzed a second, by the size of the run", "spans/s"),)
derive = no_more

READ = """\
import json, sys, time
from ferret import Report
sys.path.append(sys.argv[2])
from benchmarks.machine import peak_mb
Report(sys.argv[3]).analyze_run()
started = time.perf_counter()
names = Report(sys.argv[1]).analyze_run()
seconds = time.perf_counter() - started
print(json.dumps([seconds, peak_mb(), sum(one.count for one in names.values())]))
"""
"""The first reading, of a small file, is for what is imported late."""


def sizes(scale: Scale) -> list[int]:
    """10⁴, 10⁵ … to the largest."""
    size, found = 1_000 if scale.quick else 10_000, []
    while size <= (10_000 if scale.quick else scale.largest):
        found.append(size)
        size *= 10
    return found


def cases(scale: Scale) -> list[Case]:
    return [Case(TABLE, "threaded", 2.5 + count / 1e5, {"count": count}, f"{count:,} spans") for count in sizes(scale)]


def probe(peer: Ferret, folder: Path, count: int) -> Figures:
    small, large = folder / "small.db", folder / "large.db"
    first = type(peer)(peer.writer)
    record_requests(first.start(folder, sink=f"beaver:{small}")["measure"], 5, tagged=True)
    first.stop()
    measure = peer.start(folder, sink=f"beaver:{large}", close_timeout=600)["measure"]
    floor = empty_with()
    started = perf_counter()
    record_requests(measure, count, tagged=True)
    recorded = perf_counter() - started
    books = peer.stop()
    stored = perf_counter() - started
    assert books.delivered == count, books
    seconds, peak = _analyzed(small, large, count)
    return {
        "caller, ns/span": recorded / count * 1e9,
        "caller, × empty with": recorded / count / floor,
        "stored, µs/span": stored / count * 1e6,
        "recording peak, MB": peak_mb(),
        "bytes/span": large.stat().st_size / count,
        "analyze, s": seconds,
        "analyzed spans/s": count / seconds,
        "analyze peak, MB": peak,
    }


def _analyzed(small: Path, large: Path, count: int) -> tuple[float, float]:
    """Seconds and MB."""
    import benchmarks

    above = str(next(iter(benchmarks.__path__))).rpartition("/")[0]
    command = [sys.executable, "-P", "-c", READ, str(large), above, str(small)]
    seconds, peak, found = json.loads(output(command))
    assert found == count, f"{found} of {count} spans were read"
    return seconds, peak
