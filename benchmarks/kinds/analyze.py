"""How fast a large file is read and added up, and in how much memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.kinds import Case, Chart, Column, Figures, Scale, no_more
from benchmarks.machine import output

if TYPE_CHECKING:
    from benchmarks.peers.base import Peer

TITLE = "Reading a large run"
ABOUT = """\
A file of a service's requests, 20 spans each, that `benchmarks/synthetic.py` makes as columns; a process of its own reads it
for each question: the numbers of each *name*, the *tree* of all calls, the five *slowest* traces. The floor is NumPy alone,
which groups a million durations by name when they are in memory already. *Peak* is the most memory that the process has had,
its imports included; it should not grow with the file.
"""
TABLE = "analysis"
QUESTIONS = {"names": "analyze_run", "tree": "merged_tree", "slowest": "slowest"}
COLUMNS = (
    *(Column(f"{name}, spans/s", f"{name}, spans/s", better="more") for name in QUESTIONS),
    Column("names, × NumPy alone", "names, × NumPy alone", better="more", ratio=True),
    *(Column(f"{name}, peak MB", f"{name}, peak MB") for name in QUESTIONS),
)
CHARTS = (Chart(TABLE, "names, spans/s", "Numbers of each name", "spans/s"),)
derive = no_more
SYNTHETIC = Path(__file__).parent.parent / "synthetic.py"

ASK = """\
import json, sys, time
from ferret import Report
sys.path.append(sys.argv[1])
from benchmarks.machine import peak_mb
small, large, question = sys.argv[2:]
getattr(Report(small), question)()
ask = getattr(Report(large), question)
started = time.perf_counter()
ask()
print(json.dumps([time.perf_counter() - started, peak_mb()]))
"""
"""The first question, to a small file, is for what is imported late."""


def cases(scale: Scale) -> list[Case]:
    sizes = [10_000] if scale.quick else [size for size in (1_000_000, 10_000_000) if size <= scale.largest]
    return [Case(TABLE, "threaded", 5 + size / 5e5, {"count": size}, f"{size:,} spans") for size in sizes]


def probe(peer: Peer, folder: Path, count: int) -> Figures:
    del peer
    small, large = str(folder / "small.db"), str(folder / "large.db")
    for path, spans in ((small, 1_000), (large, count)):
        output([sys.executable, str(SYNTHETIC), path, str(spans)])
    above = str(SYNTHETIC.parent.parent)
    figures: Figures = {}
    for name, method in QUESTIONS.items():
        command = [sys.executable, "-P", "-c", ASK, above, small, large, method]
        seconds, figures[f"{name}, peak MB"] = json.loads(output(command))
        figures[f"{name}, spans/s"] = count / seconds
    figures["names, × NumPy alone"] = figures["names, spans/s"] / numpy_alone(large)
    return figures


def numpy_alone(path: str) -> float:
    """Spans a second that NumPy groups by name, and adds up, when their columns are in memory."""
    from itertools import islice
    from time import perf_counter

    import numpy as np

    from ferret import Report

    columns = [(one.name, one.duration_ns) for one in islice(Report(path).segments("synthetic"), 250)]
    name, duration = (np.concatenate(column) for column in zip(*columns, strict=True))
    started = perf_counter()
    order = np.argsort(name, kind="stable")
    starts = np.flatnonzero(np.diff(name[order], prepend=-1))
    np.add.reduceat(duration[order], starts)
    np.maximum.reduceat(duration[order], starts)
    return len(name) / (perf_counter() - started)
