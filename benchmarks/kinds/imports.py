"""What it costs to have it: importing, starting, ending."""

from __future__ import annotations

import statistics
import subprocess
import sys
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.kinds import Case, Chart, Column, Figures, Scale, no_more
from benchmarks.loops import block, function
from benchmarks.peers import SPAN_RECORDERS, UNTRACED
from benchmarks.peers.ferret import WRITERS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.base import Peer

TITLE = "Importing, starting, ending"
ABOUT = """\
*Import* is what a fresh interpreter takes for what a program imports, the median of several; *start* what it then
takes to set recording up; *first span* includes what is done only then; *close* is the end, with three spans to
deliver. `process` starts an interpreter, and by default waits until that has opened the file; `sync` and `threaded`
import BeaverDB.
"""
TABLE = "start"
COLUMNS = (
    Column("import, ms", "import, ms"),
    Column("import, × interpreter", "× bare interpreter", ratio=True),
    Column("start, ms", "start, ms"),
    Column("first span, ms", "first span, ms"),
    Column("close, ms", "close, ms"),
)
CHARTS = (Chart(TABLE, "import, ms", "What the import takes", "ms"),)
derive = no_more


def cases(scale: Scale) -> list[Case]:
    times = 1 if scale.quick else 5
    return [
        Case(TABLE, UNTRACED, 0.5, {"times": times, "line": "pass"}, "bare interpreter"),
        Case(TABLE, "threaded", 0.8, {"times": times, "line": "import ferret"}, "import ferret"),
        *(Case(TABLE, subject, 2, {"times": times}) for subject in (*WRITERS, *SPAN_RECORDERS)),
    ]


def probe(peer: Peer, folder: Path, times: int, line: str = "") -> Figures:
    code = line or peer.import_line
    bare = statistics.median(_interpreter("pass")[0] for _ in range(times))
    if code == "pass":
        return {"import, ms": bare * 1e3, "import, × interpreter": 1.0}
    imported = statistics.median(_interpreter(code)[1] for _ in range(times))
    figures = {"import, ms": imported * 1e3, "import, × interpreter": imported / bare}
    return figures if line else figures | _begun_and_ended(peer, folder)


def _interpreter(code: str) -> tuple[float, float]:
    """Seconds of a whole interpreter, and of the code in it."""
    timed = f"from time import perf_counter as p; t = p(); {code}; print(p() - t)"
    started = perf_counter()
    done = subprocess.run([sys.executable, "-P", "-W", "ignore", "-c", timed], stdout=subprocess.PIPE, check=True)
    return perf_counter() - started, float(done.stdout.split()[-1])


def _begun_and_ended(peer: Peer, folder: Path) -> Figures:
    exec(peer.import_line, {})
    begun = perf_counter()
    names = peer.start(folder)
    started = perf_counter()
    once = function(f"def once():\n    n = 1\n    {block(peer.outer, 'x').replace('\n', '\n    ')}", names, "once")
    ready = perf_counter()
    once()
    first = perf_counter()
    once()
    once()
    closing = perf_counter()
    peer.stop()
    closed = perf_counter()
    return {
        "start, ms": (started - begun) * 1e3,
        "first span, ms": (first - ready) * 1e3,
        "close, ms": (closed - closing) * 1e3,
    }
