"""Breaks each promise on purpose, in a copy, and sees whether its tests fail: `make break`."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import psutil
from mutations import MUTATIONS, Mutation
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).parents[2]
COPIED = ["ferret", "tests", "docs", "examples", "conftest.py", "pyproject.toml", "README.md"]
TEST_S = 60
"""How long one test may take, which may hang for what was broken."""
LONGEST_S = 300


class Outcome(NamedTuple):
    """What pytest said of each test that ran: `passed`, `failure`, `error` or `skipped`, for any of its parameters."""

    found: dict[str, set[str]]
    output: str

    def of(self, test: str) -> set[str]:
        """What it said of a test."""
        name = test.partition("[")[0].replace(".py::", ".").replace("::", ".").replace("/", ".")
        return self.found.get(name, set())


class Broken(NamedTuple):
    """A mutation, and what its tests made of it."""

    mutation: Mutation
    found: str
    """`noticed`, or what went wrong."""
    output: str
    seconds: float

    @property
    def noticed(self) -> bool:
        return self.found == "noticed"


def copy_to(folder: Path) -> Path:
    """A copy of what the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
        else:
            shutil.copy(source, folder / name)
    return folder


def run(folder: Path, tests: list[str], *, until_one_fails: bool = False) -> Outcome:
    """Run tests in a copy, with the copy's ferret."""
    report = folder / "report.xml"
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--timeout={TEST_S}",
        f"--junitxml={report}", "-o", "junit_family=xunit1", *(["-x"] if until_one_fails else []), *tests,
    ]  # fmt: skip
    # in plain Python, which is what is changed
    environment = {
        **os.environ, "FERRET_PURE": "1", "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "160"
    }  # fmt: skip
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            output = f"it did not end within {LONGEST_S} s"
        finally:
            _end_session(process.pid)
    return Outcome(_read(report) if report.exists() else {}, output)


def _end_session(leader: int) -> None:
    """End what tests have left that failed: also writing processes, which are in process groups of their own."""
    for one in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(one) == leader:
                os.kill(one, signal.SIGKILL)


def _read(report: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name', '').partition('[')[0]}"
        verdict = next((one.tag for one in case if one.tag in {"failure", "error", "skipped"}), "passed")
        found.setdefault(name, set()).add(verdict)
    return found


def break_one(mutation: Mutation, home: Path) -> Broken:
    """Make a copy wrong, and run the tests that must notice it."""
    started = time.monotonic()
    folder = copy_to(Path(tempfile.mkdtemp(dir=home)))
    file = folder / mutation.file
    before = file.read_text(encoding="utf-8")
    file.write_text(before.replace(mutation.old, mutation.new), encoding="utf-8")
    outcome = run(folder, list(mutation.tests), until_one_fails=len(mutation.tests) == 1)
    silent = [test for test in mutation.tests if "failure" not in outcome.of(test)]
    if before.count(mutation.old) != 1:
        found = f"the text to change is {before.count(mutation.old)} times in {mutation.file}"
    elif silent and (not outcome.found or any("error" in verdicts for verdicts in outcome.found.values())):
        found = "could not be tried: an error outside the tests"
    elif silent:
        found = "survived " + ", ".join(test.rpartition("::")[2] for test in silent)
    else:
        found = "noticed"
    shutil.rmtree(folder, ignore_errors=True)
    return Broken(mutation, found, outcome.output, time.monotonic() - started)


def unbroken(mutations: list[Mutation], home: Path) -> tuple[list[str], str]:
    """The tests that do not pass where nothing is broken, which is none if they are worth anything; and what pytest said."""
    tests = list(dict.fromkeys(test for one in mutations for test in one.tests))
    outcome = run(copy_to(Path(tempfile.mkdtemp(dir=home))), tests)
    return [test for test in tests if outcome.of(test) - {"skipped"} != {"passed"}], outcome.output


def table(results: list[Broken]) -> Table:
    """What became of each promise."""
    shown = Table("promise", "broken in", "noticed by", "result", title_justify="left", pad_edge=False)
    for one in results:
        tests = escape("\n".join(test.rpartition("::")[2] for test in one.mutation.tests))
        style = "green" if one.noticed else "red"
        shown.add_row(escape(one.mutation.promise), one.mutation.file, tests, f"[{style}]{escape(one.found)}[/]")
    return shown


def summary(results: list[Broken]) -> str:
    """In a line."""
    promises, noticed = len({one.mutation.promise for one in results}), sum(one.noticed for one in results)
    broken = f"{promises} promise{'s' * (promises != 1)} broken in {len(results)} way{'s' * (len(results) != 1)}"
    return f"{broken}: {noticed} noticed, {len(results) - noticed} not"


def keep(path: Path, results: list[Broken]) -> None:
    """Write the result as text."""
    when = dt.datetime.now(dt.UTC).date()
    lines = [f"{when}, Python {platform.python_version()} on {platform.system()}", summary(results)]
    width = max(len(one.mutation.file) for one in results)
    last = ""
    for one in results:
        if one.mutation.promise != last:
            last = one.mutation.promise
            lines.append(last)
        failed = sum(1 for _ in one.mutation.tests)
        tests = f"{failed} tests fail" if failed > 1 else "1 test fails"
        lines.append(f"  {one.mutation.file:{width}}  {tests if one.noticed else one.found}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="", help="break only what has this text in its promise, its file or its tests"
    )
    parser.add_argument("--jobs", type=int, default=2, help="copies at a time (2)")
    parser.add_argument("--result", type=Path, help="a file to write the result to")
    options = parser.parse_args()
    console = Console()
    wanted = [one for one in MUTATIONS if options.only.lower() in " ".join([*one[:2], *one.tests]).lower()]
    if not wanted:
        console.print(f"nothing has {options.only!r} in it", style="red", markup=False)
        return 2
    home = Path(tempfile.mkdtemp(prefix="ferret-break-"))
    try:
        with Progress(console=console, transient=True) as progress, ThreadPoolExecutor(options.jobs) as pool:
            task = progress.add_task("breaking", total=len(wanted) + 1)

            def tell(what: str, output: str = "", style: str = "red") -> None:
                progress.update(task, advance=1)
                if output or not console.is_terminal:
                    progress.console.print(what, style=style, markup=False, highlight=False)
                    progress.console.print(output[-1500:], markup=False, highlight=False)

            def break_next(mutation: Mutation) -> Broken:
                result = break_one(mutation, home)
                what = f"{result.found}: {mutation.promise} ({mutation.file}), {result.seconds:.0f} s"
                tell(what, "" if result.noticed else result.output, "green" if result.noticed else "red")
                return result

            sound = pool.submit(unbroken, wanted, home)
            results = list(pool.map(break_next, wanted))
            failing, output = sound.result()
            if failing:
                tell("\n  ".join(["These do not pass where nothing is broken:", *failing]), output)
                return 1
    finally:
        shutil.rmtree(home, ignore_errors=True)
    console.print(table(results))
    console.print(summary(results))
    if options.result and not options.only:
        keep(options.result, results)
    return 0 if all(one.noticed for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
