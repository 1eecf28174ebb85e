"""`make bench`: measure ferret and its peers in turns, show the tables, and keep the result in benchmarks/last.json.

Every measurement is a process of its own. Those of one table take turns, so that a slow minute of the machine slows
all of them, and a ratio is one of figures of the same round. What is shown is the median of the rounds, and the quarters
around it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import environments
from benchmarks.kinds import NAMES, Scale, kind
from benchmarks.machine import facts
from benchmarks.peers import UNTRACED, peer
from benchmarks.peers.ferret import PURE, WRITERS
from benchmarks.report import show
from benchmarks.results import LAST, Results, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.kinds import Case, Figures

HERE = Path(__file__).parent


class FailedError(Exception):
    """A measurement failed; the message is for a table."""


def measure(kinds: Sequence[str], rounds: int, scale: Scale, console: Console) -> Results:
    """All of it."""
    begun = time.perf_counter()
    taken, machine = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), facts()
    cases = {name: [one for one in kind(name).cases(scale) if not scale.ours or _is_ours(one)] for name in kinds}
    seconds = sum(case.seconds for several in cases.values() for case in several) * rounds
    names = sorted({case.subject for several in cases.values() for case in several})
    to_make = sum(not environments.is_ready(peer(name)) for name in names)
    console.print(
        f"{', '.join(kinds)}: {rounds} rounds, about {_spoken(seconds)}"
        + (f", and {_spoken(to_make * environments.SECONDS)} to install {to_make} peers" if to_make else "")
    )
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    results = Results(taken, rounds, scale.quick, machine, {})
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=seconds)
        pythons = {}
        for name in names:
            progress.update(bar, description=f"installing {name}")
            pythons[name] = _environment(name)
        for name, several in cases.items():

            def advance(case: Case, name: str = name) -> None:
                progress.update(bar, advance=case.seconds, description=f"{name}: {case.table}, {_row(case)}")

            results.kinds[name] = _tables(name, several, rounds, pythons, advance)
            if not console.is_terminal:
                console.print(f"{name}: measured, {_spoken(time.perf_counter() - begun)} after the start")
    results.versions = environments.versions([peer(name) for name in names])
    results.seconds = time.perf_counter() - begun
    return results


def _environment(subject: str) -> str | FailedError:
    try:
        return environments.python(peer(subject))
    except environments.UnavailableError as error:
        return FailedError(str(error))


def _tables(
    name: str, cases: list[Case], rounds: int, pythons: dict[str, str | FailedError], advance: Callable[[Case], None]
) -> dict[str, dict[str, Row]]:
    """The tables of a kind. A row that failed once is left out from then on."""
    tables: dict[str, dict[str, Row]] = {}
    for case in cases:
        tables.setdefault(case.table, {})[_row(case)] = Row(case.subject)
    for number in range(rounds):
        turn = number * len(cases) // rounds  # who comes first, and after whom, differs from round to round
        found: dict[str, dict[str, Figures]] = {}
        for case in cases[turn:] + cases[:turn]:
            row = tables[case.table][_row(case)]
            if not row.missing:
                try:
                    found.setdefault(case.table, {})[_row(case)] = probe(name, case, pythons[case.subject])
                except FailedError as error:
                    row.missing = str(error)
            advance(case)
        for table, rows in found.items():
            kind(name).derive(rows)
            for label, figures in rows.items():
                tables[table][label].rounds.append(figures)
    return tables


def probe(name: str, case: Case, python: str | FailedError) -> Figures:
    """One measurement, in a process of its own.

    Raises:
        FailedError: there is no such environment, or the process failed or took too long.
    """
    if isinstance(python, FailedError):
        raise python
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("FERRET_", "OTEL_", "PYTHON"))}
    environ |= peer(case.subject).environ
    try:
        done = subprocess.run(
            [python, "-W", "ignore", str(HERE / "probe.py"), name, case.subject, json.dumps(case.options)],
            capture_output=True, text=True, check=False, timeout=60 + 10 * case.seconds, env=environ,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FailedError(f"took more than {60 + 10 * case.seconds:.0f} s") from None
    if done.returncode:
        raise FailedError(f"failed: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _is_ours(case: Case) -> bool:
    return case.subject in {UNTRACED, *WRITERS, PURE}


def _row(case: Case) -> str:
    return case.row or peer(case.subject).title


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, show, and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"some of {', '.join(NAMES)}; all unless given")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one short round: to see that it works, not how fast")
    parser.add_argument(
        "--largest", type=float, default=1e7, help="most spans of `growth` and `analyze` (default: 1e7)"
    )
    parser.add_argument("--ours", action="store_true", help="ferret and its floor alone, without its peers")
    parser.add_argument("--output", type=Path, default=LAST, help="where to keep the result (default: last.json)")
    given = parser.parse_args(arguments)
    if unknown := set(given.kinds) - set(NAMES):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if given.rounds < 1:
        parser.error(f"--rounds is {given.rounds}: at least one is needed")
    kinds = [name for name in NAMES if name in given.kinds or not given.kinds]
    scale = Scale(quick=given.quick, largest=int(given.largest), ours=given.ours)
    try:
        results = measure(kinds, 1 if given.quick else given.rounds, scale, Console(stderr=True))
    except KeyboardInterrupt:
        sys.exit("stopped; nothing was kept")
    results.save(given.output)
    show(results, Console())


if __name__ == "__main__":
    main()
