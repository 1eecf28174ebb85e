"""`%load_ext ferret` and `%%ferret` in a real IPython shell, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ferret.report import Report

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("IPython")

SHELL = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
shell.run_cell("%load_ext ferret").raise_error()
for cell in sys.argv[1:]:
    print("success:", shell.run_cell(cell).success)
"""

FIB = "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)"


def run(folder: Path, *cells: str) -> str:
    command = [sys.executable, "-c", SHELL, *cells]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, cwd=folder,
        env={"PATH": "", "HOME": str(folder), "IPYTHONDIR": str(folder / "ipython"), "COLUMNS": "100", "PYTHONPATH": "."},
    )  # fmt: skip
    return re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)


def test_a_cells_functions_are_counted_and_nothing_is_left(tmp_path: Path) -> None:
    said = run(tmp_path, f"%%ferret\n{FIB}\nprint('fib', fib(10))")
    assert "fib 55" in said
    (line,) = [line for line in said.splitlines() if "__main__.fib" in line]
    assert "177" in line, "the number of calls"
    assert "success: True" in said
    assert not list(tmp_path.glob("*.db"))


def test_a_file_keeps_every_run(tmp_path: Path) -> None:
    said = run(tmp_path, FIB, "%%ferret --writer sync --tree trace.db\nfib(3)", "fib(20)", "%%ferret trace.db\nfib(4)")
    assert said.count("The spans are in trace.db: ferret analyze trace.db") == 2
    assert "├─ __main__.fib" in said or "└─ __main__.fib" in said
    with Report(tmp_path / "trace.db") as report:
        runs = report.runs()
        assert [run.spans for run in runs] == [5, 9], "only what is called within such a cell"
        assert [run.processes[0].writer for run in runs] == ["sync", "threaded"]
        assert {span.name for span in report.spans()} == {"__main__.fib"}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("", {"__main__.mine", "beside.help_out"}),
        ("--exclude beside", {"__main__.mine"}),
        ("--include json", {"json.dumps", "json.encoder.JSONEncoder.encode"}),
    ],
)
def test_what_is_recorded_can_be_chosen(tmp_path: Path, options: str, names: set[str]) -> None:
    (tmp_path / "beside.py").write_text("def help_out():\n    pass\n")
    cell = "import json, beside\ndef mine():\n    beside.help_out()\n    return json.dumps('x')\nmine()"
    run(tmp_path, f"%%ferret {options} trace.db\n{cell}")
    with Report(tmp_path / "trace.db") as report:
        assert {span.name for span in report.spans()} == names


def test_a_cell_that_fails_says_so_once_and_keeps_what_it_recorded(tmp_path: Path) -> None:
    said = run(tmp_path, "%%ferret trace.db\ndef broken():\n    raise LookupError('no such thing')\nbroken()", "1 + 1")
    assert "success: False" in said
    assert "success: True" in said
    assert said.count("LookupError: no such thing") == 1
    assert "CellFailed" not in said
    with Report(tmp_path / "trace.db") as report:
        (span,) = report.spans()
    assert (span.name, span.error) == ("__main__.broken", "no such thing")


@pytest.mark.parametrize(
    ("line", "says"),
    [("nowhere/trace.db", "there is no directory"), ("--writer thraeded x.db", "did you mean 'threaded'?")],
)
def test_what_cannot_work_is_one_line_and_the_cell_is_not_run(tmp_path: Path, line: str, says: str) -> None:
    said = run(tmp_path, f"%%ferret {line}\nprint('ran')")
    assert says in said
    assert "UsageError" in said
    assert not list(tmp_path.glob("*.db"))
    assert "Traceback" not in said
    assert "ran" not in said.splitlines()
    assert "success: False" in said
