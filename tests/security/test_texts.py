"""No text of a file breaks out of what it is put into: a terminal, a line, a page, a path, an SQL statement."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import record
from typer.testing import CliRunner

from ferret import Profiler, Report, export
from ferret.ambient import ThreadInfo
from ferret.batch import Batch, Origin
from ferret.cli import app
from ferret.models import Gap, Ledger, ProcessInfo
from ferret.sinks.beaver import BeaverSink
from ferret.sinks.jsonl import JsonlSink

EVIL = (
    "\x1b[31m\x1b]0;title\x07\x1b]8;;http://evil\x1b\\\x9b5n\x9d0;x\x9c\x85\r\n\t\x00\x7f\u202egnp.exe\u2066\u200f\u061c"
    "\u2028\u2029</script><script>alert(1)</script><!--[red]x[/]:smile:=cmd|' /C calc'!A0,\"; DROP TABLE x;--"
    "../../etc/passwd\ufeff"
)
STEERS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""What a terminal obeys, or nobody sees; line ends are ferret's own, as long as there are no more of them."""


def fill(sink: Any) -> None:
    """Two runs in which every text that a file can hold is an evil one."""
    for number, run in enumerate((f"one {EVIL}", f"two {EVIL}")):
        origin = Origin(run, f"{number:016x}", 1, 1_700_000_000_000_000_000 + number * 10**12)
        gap = Gap(since=1.0, until=2.0, count=3, reason=EVIL)
        ledger = Ledger(
            recorded=9, written=3, dropped=3, failed=3, dropped_by={EVIL: 3}, failed_by={EVIL: 3}, gaps=[gap]
        )
        sink.write_run(
            ProcessInfo(
                run_id=run, token=origin.token, process_id=1, program=EVIL, argv=[EVIL], host=EVIL, python=EVIL, writer=EVIL,
                started_at=1.7e9 + number * 1000, ledger=ledger,
            )
        )  # fmt: skip
        told = f'["error",{_json(EVIL)},{_json(EVIL)}]'.encode()
        other = f"[{_json(EVIL)},null,null]".encode()
        tags = f"{{{_json(EVIL)}:{_json(EVIL)}}}".encode()
        records = [
            record(1, span_id=1, name=EVIL, tags=tags, outcome=told, task=EVIL, end_ns=10**9),
            record(2, span_id=2, parent_id=1, name=f"inner {EVIL}", tags=tags, outcome=other, thread=1, end_ns=10**8),
            record(3, span_id=3, parent_id=1, name=f"only {number} {EVIL}", tags=tags, end_ns=10**7 * (number + 1)),
        ]
        threads = [ThreadInfo(1, EVIL), ThreadInfo(2, f"2 {EVIL}")]
        sources = {EVIL: (EVIL, 7), f"inner {EVIL}": (EVIL, 8)}
        sink.write(Batch(origin, 0, records, threads, sources=sources))
    sink.close()


def _json(text: str) -> str:
    return json.dumps(text)


@pytest.fixture(scope="module", params=["db", "jsonl"])
def evil(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evil") / f"x.{request.param}"
    fill(BeaverSink(str(path)) if request.param == "db" else JsonlSink(path))
    return path


COMMANDS = [
    ["runs"], ["analyze"], ["analyze", "--tree"], ["analyze", "--slowest", "2"], ["analyze", "--run", "no such run"],
    ["analyze", "--run", "one"], ["diff"], ["diff", "--before", "none"], ["export", "-f", "folded", "-o", "-"],
    ["export", "-f", "otlp-json", "-o", "-"], ["export", "-f", "speedscope", "-o", "-"],
    ["export", "--run", "none", "-f", "folded"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nothing_that_a_command_prints_steers_the_terminal(command: list[str], evil: Path) -> None:
    done = CliRunner().invoke(app, [command[0], str(evil), *command[1:]])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    shown = done.output + done.stderr
    assert shown.strip()
    assert "Traceback" not in shown
    assert not STEERS.search(shown), STEERS.findall(shown)


def test_the_path_of_a_file_does_not_steer_the_terminal(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ferret", "runs", str(tmp_path / "\x1b[31m\x9b5n\u202egnp.exe\r\n[red]x[")],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode
    assert not STEERS.search(done.stderr.decode()), done.stderr
    assert done.stderr.decode().count("\n") <= 2


@pytest.mark.parametrize("form", ["folded", "html", "otlp-json", "speedscope"])
def test_an_exported_text_has_no_raw_control_character_and_no_markup(form: str, evil: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export.write(evil, form, out)
    text = out.read_text("utf-8")
    if form != "folded":
        assert "</script><script>alert" not in text
    if form == "html":
        assert EVIL not in text
    else:
        assert not STEERS.search(text)
    if form == "folded":
        lines = text.splitlines()
        assert len(lines) == 3
        assert all(re.fullmatch(r"[^;]+(;[^;]+)* \d+", line) for line in lines)


NAMES = [
    "'; DROP TABLE __beaver_blobs__; --",
    '"',
    "a/b",
    "../../x",
    "%",
    "_",
    "%s{}",
    "\x00",
    "名前",
    "-" * 100,
    "x'||zeroblob(9)||'",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_namespace_and_a_run_are_never_sql_nor_a_path(name: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.db"
    for namespace, run_id in ((name, "plain"), ("plain", name), ("plain", "other")):
        with Profiler(path, namespace=namespace, run_id=run_id) as profiler:
            profiler.start(f"{namespace} {run_id}").end()
    for namespace, run_id in ((name, "plain"), ("plain", name), ("plain", "other")):
        report = Report(path, namespace=namespace)
        assert [span.name for span in report.spans(run_id)] == [f"{namespace} {run_id}"]
    assert {run.run_id for run in Report(path, namespace="plain").runs()} == {name, "other"}
    assert {one.name for one in tmp_path.iterdir()} <= {"trace.db", "trace.db-wal", "trace.db-shm"}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM __beaver_blobs__").fetchone() == (3,)


def test_no_output_is_csv() -> None:
    """Were one added, its cells would have to be kept from being formulas: then this test is to be replaced."""
    assert set(export.FORMATS) == {"speedscope", "perfetto", "folded", "html", "otlp-json"}
    assert not [suffix for one in export.FORMATS.values() for suffix in one.suffixes if suffix in {".csv", ".tsv"}]
