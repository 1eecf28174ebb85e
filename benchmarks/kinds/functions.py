"""Whole programs, with their functions recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.kinds import Case, Chart, Column, Figures, Scale
from benchmarks.peers import UNTRACED

if TYPE_CHECKING:
    from benchmarks.peers.base import Peer

TITLE = "Whole programs, with every function recorded"
ABOUT = """\
Three programs, unchanged: Pygments colours 12,000 lines of Python, docutils renders a manual, and an asyncio
service answers its clients. *Only Pygments* and its like record the functions of that one package, which is what
one asks for who studies it; `--all` records every Python function, those of the standard library too. Time, CPU and
peak memory are those of the command with all that it started, from start to end, with the interpreter's start and
whatever a tool writes at the end. VizTracer keeps the last 1,000,000 events. It is shown with and without calls of
C functions, which ferret does not record. pyinstrument samples and cProfile sums up; neither keeps calls.
"""
PROGRAMS = Path(__file__).parent.parent / "programs"
TABLES = {
    "Pygments": ("highlight.py", "pygments", "12000"),
    "docutils": ("render.py", "docutils", "400"),
    "asyncio": ("service.py", "asyncio", "6000"),
}
"""The program, the package that it is about, and how much it does."""
SMALL = {"Pygments": "300", "docutils": "5", "asyncio": "100"}

RUN = "-m ferret run -o trace.db"
VIZ = "-m viztracer --quiet -o trace.json"
TOOLS: dict[str, tuple[str, str, str]] = {
    "untraced": (UNTRACED, "", ""),
    "ferret run, only the package": ("process", f"{RUN} -i PACKAGE", "trace.db"),
    "ferret run --all": ("process", f"{RUN} --all", "trace.db"),
    "ferret run --all, threaded": ("threaded", f"{RUN} --all --writer threaded", "trace.db"),
    "VizTracer": ("viztracer", VIZ, "trace.json"),
    "VizTracer, no C functions": ("viztracer", f"{VIZ} --ignore_c_function", "trace.json"),
    "cProfile": ("cprofile", "-m cProfile -o trace.prof", "trace.prof"),
    "pyinstrument": ("pyinstrument", "-m pyinstrument -o trace.txt", "trace.txt"),
}
"""A row's name: whose environment it runs in, what goes before the program, and the file that it leaves."""

RING = 1_000_000
"""VizTracer keeps so many events: one that is full does not tell how many calls there were."""

COLUMNS = (
    Column("wall, s", "time, s"),
    Column("wall, × untraced", "× untraced", ratio=True),
    Column("CPU, s", "CPU, s"),
    Column("CPU, × untraced", "× untraced", ratio=True),
    Column("peak, MB", "peak, MB"),
    Column("kept", "calls kept", better=""),
    Column("lost", "lost"),
    Column("file, MB", "file, MB"),
    Column("ns/call", "ns more a call"),
)
CHARTS = tuple(
    Chart(table, "wall, × untraced", f"{table}, with its functions recorded", "× untraced") for table in TABLES
)


def cases(scale: Scale) -> list[Case]:
    amounts = SMALL if scale.quick else {table: amount for table, (_, _, amount) in TABLES.items()}
    return [
        Case(table, subject, 1 if scale.quick else 4, {"table": table, "tool": tool, "amount": amounts[table]}, tool)
        for table in TABLES
        for tool, (subject, *_) in TOOLS.items()
    ]


def derive(rows: dict[str, Figures]) -> None:
    floor = rows.get("untraced")
    for found in rows.values():
        if floor is not None:
            found["wall, × untraced"] = found["wall, s"] / floor["wall, s"]
            found["CPU, × untraced"] = found["CPU, s"] / floor["CPU, s"]
            if found.get("kept") not in {None, 0.0, RING}:
                found["ns/call"] = (found["wall, s"] - floor["wall, s"]) / found["kept"] * 1e9


def probe(peer: Peer, folder: Path, table: str, tool: str, amount: str) -> Figures:
    del peer
    program, package, _ = TABLES[table]
    _, before, left = TOOLS[tool]
    started = perf_counter()
    process = subprocess.Popen(
        [sys.executable, *before.replace("PACKAGE", package).split(), str(PROGRAMS / program), amount],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder,
    )  # fmt: skip
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{tool}: {errors.decode()}")
    figures = {"wall, s": wall, "CPU, s": used.ru_utime + used.ru_stime, "peak, MB": used.ru_maxrss / 1e3}
    if left:
        figures["file, MB"] = Path(folder, left).stat().st_size / 1e6
        figures |= _kept(tool, folder / left)
    return figures


def _kept(tool: str, output: Path) -> Figures:
    """How many calls are in the file, where a tool keeps calls."""
    if tool.startswith("ferret"):
        from ferret import Report

        run = Report(output).run()
        return {"kept": float(run.spans), "lost": float(run.lost)}
    if tool.startswith("VizTracer"):
        text = output.read_bytes()
        return {"kept": float(text.count(b'"ph":"X"') + text.count(b'"ph": "X"'))}
    return {}
