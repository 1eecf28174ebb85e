"""The `ferret` command: what it prints, that no name can harm a terminal, and how it fails."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import THREADS, record
from typer.testing import CliRunner

from ferret import __version__, native
from ferret.batch import Batch, Origin
from ferret.cli import app, terminal
from ferret.cli.tables import clash, ledger_line
from ferret.cli.terminal import Watched, bar, duration, local_time, printable, share
from ferret.models import Ledger, ProcessInfo, RunInfo
from ferret.plugins import Provided
from ferret.report import Report
from ferret.sinks.beaver import BeaverSink
from ferret.sinks.jsonl import JsonlSink
from ferret.sinks.memory import MemorySink

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 1_000_000_000
START = 1_700_000_000
FAILED = b'["error","boom","ValueError"]'
HOSTILE = [
    "[red]x",
    "[/]",
    "\x1b[31mred",
    "two\nlines\r",
    "\x9b5n",
    "\u202egnp.exe",
    "\ud800",
    ":smile:",
    "名前",
    "x" * 500,
]


def ferret(*args: str, columns: int | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")}
    if columns:
        clean["COLUMNS"] = str(columns)
    return subprocess.run(
        [sys.executable, "-m", "ferret", *args], capture_output=True, timeout=60, check=False,
        encoding="utf-8", errors="strict", env={**clean, **environment},
    )  # fmt: skip


def on_a_terminal(*command: str, columns: int = 80) -> tuple[int, str]:
    """Run a command whose output and errors both go to a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm-256color"}
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # how Linux says that the other end is gone
            pass
        os.close(ours)
        return process.wait(timeout=60), shown.decode()


def fill(sink: Any) -> None:
    """An earlier clean run of two processes, and a later one that was killed."""
    early = Origin("3f2a-early", "a" * 16, 1, START * SECOND)
    other = Origin("3f2a-early", "b" * 16, 2, START * SECOND)
    late = Origin("77ab-late", "c" * 16, 3, (START + 3600) * SECOND)
    facts = {"program": "shop.py", "started_at": START, "ended_at": START + 60}
    ledger = Ledger(recorded=10, written=3, dropped=4, failed=3, dropped_by={"overflow": 4}, failed_by={"OSError": 3})
    sink.write_run(ProcessInfo(run_id=early.run_id, token=early.token, process_id=1, ledger=ledger, **facts))
    sink.write_run(
        ProcessInfo(run_id=early.run_id, token=other.token, process_id=2, ledger=Ledger(recorded=1, written=1), **facts)
    )
    sink.write_run(
        ProcessInfo(run_id=late.run_id, token=late.token, process_id=3, program="shop.py", started_at=START + 3600)
    )
    sink.write(
        Batch(
            early, 0,
            [
                record(1, span_id=1, name="request", start_ns=0, end_ns=2 * SECOND),
                record(2, span_id=2, parent_id=1, name="query", start_ns=0, end_ns=SECOND // 2),
                record(3, span_id=3, parent_id=1, name="query", start_ns=0, end_ns=SECOND // 4, outcome=FAILED),
            ],
            THREADS,
        )
    )  # fmt: skip
    sink.write(Batch(other, 0, [record(4, span_id=4, name="tick", start_ns=0, end_ns=1500)], THREADS))
    sink.write(Batch(late, 0, [record(n, name=name) for n, name in enumerate(HOSTILE)], THREADS))
    sink.close()


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("cli") / "spans.jsonl")
    fill(JsonlSink(path))
    return path


def rows(output: str) -> list[list[str]]:
    """The cells of each line of a table, by the gaps between them."""
    return [re.split(r"  +", line.strip()) for line in output.splitlines() if line.strip() and "──" not in line]


class TestRuns:
    def test_each_run_is_a_line_with_its_numbers_the_latest_last(self, spans: str) -> None:
        done = ferret("runs", spans)
        assert (done.returncode, done.stderr) == (0, "")
        heading, early, late = rows(done.stdout)
        assert heading == ["when", "run", "program", "took", "procs", "spans", "errors", "lost"]
        assert early == [local_time(START), "3f2a-early", "shop.py", "60.0 s", "2", "4", "1", "7"]
        late_numbers = ["?", "1", f"{len(HOSTILE)}", "0", "0", "unclean"]
        assert late == [local_time(START + 3600), "77ab-late", "shop.py", *late_numbers]

    @pytest.mark.parametrize("kind", ["beaver", "jsonl.gz"])
    def test_all_kinds_of_file_read_alike(self, spans: str, tmp_path: Path, kind: str) -> None:
        path = str(tmp_path / f"spans.{kind}")
        fill(BeaverSink(path) if kind == "beaver" else JsonlSink(path))
        assert ferret("runs", path).stdout == ferret("runs", spans).stdout

    def test_json_has_every_fact(self, spans: str) -> None:
        early, late = json.loads(ferret("runs", spans, "--json").stdout)
        assert (early["run_id"], early["spans"], early["lost"], early["unclean"]) == ("3f2a-early", 4, 7, False)
        assert early["processes"][0]["ledger"]["dropped_by"] == {"overflow": 4}
        assert late["unclean"]

    @pytest.mark.parametrize("common", [0, 20])
    def test_in_a_terminal_ids_are_cut_to_what_still_finds_them(self, tmp_path: Path, common: int) -> None:
        path = str(tmp_path / "spans.jsonl")
        sink = JsonlSink(path)
        run_ids = ["0" * common + last * (32 - common) for last in "123"]
        for run_id in run_ids:
            sink.write(Batch(Origin(run_id, run_id, 1, START * SECOND), 0, [record(1)], THREADS))
        sink.close()
        shown = re.findall(r":20  (\w+)", ferret("runs", path, columns=80).stdout)
        assert {len(one) for one in shown} == {max(8, common + 1)}
        assert [Report(path).run(one).run_id for one in shown] == run_ids
        assert [row[1] for row in rows(ferret("runs", path).stdout)[1:]] == run_ids

    def test_a_file_without_runs_is_no_error(self, db: str) -> None:
        BeaverSink(db).close()
        done = ferret("runs", db)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", f"{db}: no runs yet\n")
        assert json.loads(ferret("runs", db, "--json").stdout) == []


class TestAnalyze:
    def test_names_come_with_their_numbers_the_largest_total_first(self, spans: str) -> None:
        done = ferret("analyze", spans, "--run", "3f2a")
        assert done.returncode == 0
        title, heading, *names, ledger = rows(done.stdout)
        assert title == [f"run 3f2a-early · shop.py · {local_time(START)} · 2 processes · 4 spans"]
        assert heading == ["name", "count", "total", "self", "mean", "p50", "p95", "p99", "max", "errors"]
        assert names == [
            ["request", "1", "2.00 s", "1.25 s", *["2.00 s"] * 5, "0"],
            ["query", "2", "750 ms", "750 ms", "375 ms", "250 ms", "500 ms", "500 ms", "500 ms", "1"],
            ["tick", "1", *["1.50 µs"] * 7, "0"],
        ]
        assert ledger == ["lost 7 of 11 spans: 4 dropped (overflow), 3 failed (OSError)"]

    @pytest.mark.parametrize(
        ("by", "order"),
        [
            ("total", ["request", "query", "tick"]),
            ("self", ["request", "query", "tick"]),
            ("p50", ["request", "query", "tick"]),
            ("p95", ["request", "query", "tick"]),
            ("p99", ["request", "query", "tick"]),
            ("count", ["query", "request", "tick"]),
            ("mean", ["request", "query", "tick"]),
            ("max", ["request", "query", "tick"]),
            ("errors", ["query", "request", "tick"]),
            ("name", ["query", "request", "tick"]),
        ],
    )
    def test_it_sorts_as_it_is_told(self, spans: str, by: str, order: list[str]) -> None:
        done = CliRunner().invoke(app, ["analyze", spans, "-r", "3f2a", "--sort", by, "--json"])
        assert [one["name"] for one in json.loads(done.stdout)["names"]] == order

    def test_what_a_limit_leaves_out_is_said(self, spans: str) -> None:
        shown = ferret("analyze", spans, "-r", "3f2a", "--limit", "1").stdout
        assert "request" in shown
        assert "query" not in shown
        assert "… 2 more names: --limit 0 shows all" in shown
        assert "more" not in ferret("analyze", spans, "-r", "3f2a", "--limit", "0").stdout

    def test_the_tree_merges_calls_of_one_name_under_one_path(self, spans: str) -> None:
        done = ferret("analyze", spans, "-r", "3f2a", "--tree")
        _, heading, *calls, _ = rows(done.stdout)
        assert heading == ["call", "count", "total", "self", "share", "errors"]
        assert calls == [
            ["request", "1", "2.00 s", "1.25 s", "100.0%", "0"],
            ["└─ query", "2", "750 ms", "750 ms", "37.5%", "1"],
            ["tick", "1", "1.50 µs", "1.50 µs", "100.0%", "0"],
        ]

    def test_the_tree_says_what_depth_and_limit_leave_out(self, spans: str) -> None:
        shown = ferret("analyze", spans, "-r", "3f2a", "--tree", "--depth", "1", "--limit", "1").stdout
        assert [row[:2] for row in rows(shown)[2:-1]] == [["request", "1"], ["└─ … deeper", "2"], ["… 1 more", "1"]]

    def test_the_tree_as_json_is_nested(self, spans: str) -> None:
        done = ferret("analyze", spans, "-r", "3f2a", "--tree", "--json")
        (request, _) = json.loads(done.stdout)["tree"]
        assert request["self_duration"] == 1.25
        assert request["children"] == [
            {
                "name": "query", "count": 2, "total_duration": 0.75, "self_duration": 0.75, "share": 0.375,
                "error_count": 1, "children": [],
            }
        ]  # fmt: skip

    def test_small_branches_are_hidden_when_that_is_asked_for(self, spans: str) -> None:
        shown = ferret("analyze", spans, "-r", "3f2a", "--tree", "--min-share", "40").stdout
        assert [row[0] for row in rows(shown)[2:-1]] == ["request", "└─ … 1 more", "tick"]
        done = ferret("analyze", spans, "-r", "3f2a", "--tree", "--min-share", "40", "--json")
        assert [one["children"] for one in json.loads(done.stdout)["tree"]] == [[], []]
        assert "query" in ferret("analyze", spans, "-r", "3f2a", "--tree", "--min-share", "37").stdout

    def test_without_a_run_it_is_the_latest(self, spans: str) -> None:
        done = ferret("analyze", spans, "--json")
        assert json.loads(done.stdout)["run"]["run_id"] == "77ab-late"
        assert "unclean: the program was killed or still runs" in ferret("analyze", spans).stdout

    @pytest.mark.parametrize("columns", [60, 80, 120])
    @pytest.mark.parametrize("options", [["analyze"], ["analyze", "--tree"], ["analyze", "--slowest=9"], ["runs"]])
    def test_nothing_is_wider_than_the_terminal(self, spans: str, columns: int, options: list[str]) -> None:
        done = ferret(*options, spans, columns=columns)
        tables = [line for line in done.stdout.splitlines() if " · " not in line]  # facts in a row may wrap
        assert max(map(len, tables)) <= columns

    def test_in_80_columns_what_it_is_sorted_by_stays_and_numbers_are_whole(self, spans: str) -> None:
        for by in ("p50", "p99", "max"):
            done = ferret("analyze", spans, "-r", "3f2a", "--sort", by, columns=70)
            heading, *names = rows(done.stdout)[1:-1]
            assert by in heading
            assert "…" not in "".join(cell for name in names for cell in name)

    def test_in_a_pipe_nothing_is_cut(self, tmp_path: Path) -> None:
        name = "package.module.Class.method_with_a_long_name_" * 3
        sink = JsonlSink(tmp_path / "x")
        sink.write(Batch(Origin("r" * 32, "t", 1, 0), 0, [record(1, name=name)], THREADS))
        sink.close()
        done = ferret("analyze", str(tmp_path / "x"))
        assert name in done.stdout


class TestHostileNames:
    @pytest.mark.parametrize(
        "options", [["analyze"], ["analyze", "--tree"], ["analyze", "--json"], ["analyze", "--slowest", "99"], ["runs"]]
    )
    def test_nothing_but_text_and_line_ends_reaches_the_output(self, spans: str, options: list[str]) -> None:
        done = ferret(*options, spans)
        assert done.returncode == 0
        assert all(line.isprintable() for line in done.stdout.split("\n"))

    def test_names_are_shown_for_what_they_are(self, spans: str) -> None:
        shown = ferret("analyze", spans, "--limit", "0").stdout
        for name in ["[red]x", "[/]", r"\x1b[31mred", r"two\nlines\r", r"\x9b5n", r"\u202egnp.exe", ":smile:", "名前"]:
            assert re.search(rf"^{re.escape(name)}  +1  ", shown, re.MULTILINE), name

    def test_a_terminal_is_not_steered_either(self, spans: str) -> None:
        code, shown = on_a_terminal(sys.executable, "-m", "ferret", "analyze", spans, "--limit", "0")
        assert code == 0
        ours = re.sub(r"\x1b\[[\d;]*m", "", shown)  # the colours are ferret's
        assert r"\x1b[31mred" in ours
        assert all(line.isprintable() for line in ours.split("\r\n"))

    def test_json_gives_names_back_exactly(self, spans: str) -> None:
        names = {one["name"] for one in json.loads(ferret("analyze", spans, "--json").stdout)["names"]}
        assert names == {name.encode(errors="replace").decode() for name in HOSTILE}

    def test_an_encoding_that_lacks_a_character_is_no_error(self, spans: str) -> None:
        done = ferret("analyze", spans, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
        assert done.returncode == 0
        assert r"\u540d\u524d" in done.stdout

    @given(st.text(st.characters()))
    def test_any_text_becomes_one_printable_line(self, text: str) -> None:
        assert printable(text).isprintable()

    @given(st.text(st.characters(categories=["L", "N", "P", "S"])))
    def test_harmless_text_stays_as_it_is(self, text: str) -> None:
        assert printable(text) == text

    def test_long_text_is_cut_with_an_ellipsis(self) -> None:
        assert printable("abcdef", 4) == "abc…"
        assert printable("abcd", 4) == "abcd"


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("missing", None), ("empty", b""), ("text", b"hello\x1b[31m\n"), ("json", b'{"a": 1}\n'),
            ("gzip", b"\x1f\x8bjunk"), ("sqlite", b"SQLite format 3\0" + b"junk" * 999),
        ],
    )  # fmt: skip
    def test_a_bad_file_is_one_line_on_stderr(self, tmp_path: Path, name: str, content: bytes | None) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        done = ferret("analyze", str(tmp_path / name))
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(rf"ferret: .*{name}.*\n", done.stderr)
        assert done.stderr[:-1].isprintable()

    def test_a_directory_is_one_line_on_stderr(self, tmp_path: Path) -> None:
        assert re.fullmatch(r"ferret: .* is a directory.*\n", ferret("runs", str(tmp_path)).stderr)

    def test_an_unknown_run_is_answered_with_the_known_ones(self, spans: str) -> None:
        done = ferret("analyze", spans, "--run", "3f2a-eraly")
        assert done.returncode == 1
        assert done.stderr == f"ferret: {spans}: there is no run '3f2a-eraly'; did you mean '3f2a-early'?\n"

    def test_analyzing_a_file_without_runs_is_an_error(self, db: str) -> None:
        BeaverSink(db).close()
        done = ferret("analyze", db)
        assert (done.returncode, done.stderr) == (1, f"ferret: {db}: nothing has been recorded yet\n")

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--depth", "3"], "--depth is for the tree"),
            (["--min-share", "0", "--slowest", "2"], "--min-share is for the tree"),
            (["--sort", "total", "--tree"], "--sort is for the table of names, and --tree"),
            (["-s", "max", "--slowest", "2"], "--sort is for the table of names, and --slowest"),
        ],
    )
    def test_an_option_that_would_do_nothing_is_refused(self, spans: str, options: list[str], said: str) -> None:
        done = CliRunner().invoke(app, ["analyze", spans, *options])
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith(f"ferret: {said}")

    def test_another_namespace_is_named_with_those_that_there_are(self, db: str) -> None:
        for namespace in ("mine", "yours"):
            sink = BeaverSink(db, namespace=namespace)
            sink.write_run(ProcessInfo(run_id="r", token="t", process_id=1, started_at=1.0))
            sink.close()
        said = f"{db}: nothing has been recorded under the namespace '_ferret_trace'; there is 'mine', 'yours'\n"
        done = ferret("analyze", db)
        assert (done.returncode, done.stderr) == (1, f"ferret: {said}")
        done = ferret("runs", db)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", said)

    @pytest.mark.parametrize(
        "arguments",
        [["analyze"], ["analyze", "x", "--sort", "colour"], ["analyze", "x", "--limit", "-1"], ["nonsense"]],
    )
    def test_wrong_usage_exits_with_2(self, arguments: list[str]) -> None:
        done = ferret(*arguments)
        assert done.returncode == 2
        assert "Usage: " in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_reader_that_goes_away_is_no_error(self, spans: str) -> None:
        for options in (["analyze", spans], ["analyze", spans, "--json"], ["runs", spans], ["--help"]):
            with subprocess.Popen(
                [sys.executable, "-m", "ferret", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                process.stdout.close()
                assert process.stderr is not None
                assert process.stderr.read() == b""
            assert process.returncode == 0, options

    @pytest.mark.parametrize("where", ["closed", "full"])
    def test_output_that_cannot_be_written_is_one_line(self, spans: str, where: str) -> None:
        if where == "full" and not os.path.exists("/dev/full"):
            pytest.skip("no /dev/full here")
        why = "No space left on device" if where == "full" else "Bad file descriptor"
        for options in (["runs", spans], ["runs", spans, "--json"], ["export", spans, "-f", "folded"], ["--help"]):
            command = shlex.join([sys.executable, "-m", "ferret", *options])
            redirection = ">/dev/full" if where == "full" else ">&-"
            done = subprocess.run(
                f"{command} {redirection}", shell=True, stderr=subprocess.PIPE, text=True, check=False
            )
            assert (done.returncode, done.stderr) == (1, f"ferret: standard output cannot be written: {why}\n"), options


class TestHelp:
    def test_the_version(self) -> None:
        twin, python = "with" if native else "without", platform.python_version()
        assert ferret("--version").stdout == f"ferret {__version__} ({twin} its native twin), Python {python}\n"

    @pytest.mark.parametrize("command", [[], ["runs"], ["analyze"], ["diff"], ["plugins"]])
    def test_help_shows_examples(self, command: list[str]) -> None:
        done = ferret(*command, "--help", columns=80)
        assert done.returncode == 0
        assert f"$ ferret {' '.join(command)}" in done.stdout

    def test_every_option_that_an_example_uses_exists(self, spans: str) -> None:
        examples = re.findall(r"\$ ferret (analyze .*?)(?:   |$)", ferret("analyze", "-h", columns=120).stdout)
        assert len(examples) > 3
        for example in examples:
            assert ferret(*example.replace("trace.db", spans).split()).returncode == 0, example

    def test_help_imports_nothing_heavy(self) -> None:
        code = (
            "import sys\nfrom ferret.cli import app\n"
            "try: app(['--help'])\nexcept SystemExit: pass\n"
            "print(sorted({'numpy', 'pydantic', 'beaver', 'sqlite3', 'ferret.core'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.endswith("[]\n")


class TestPlugins:
    def test_ours_are_listed_with_kind_distribution_and_version(self) -> None:
        listed = rows(ferret("plugins").stdout)
        assert listed[0] == ["name", "kind", "distribution", "version"]
        assert ["threaded", "writer", "ferret-trace", __version__] in listed
        assert ["beaver", "sink", "ferret-trace", __version__] in listed

    def test_what_failed_and_what_is_given_twice_is_said(self, tmp_path: Path) -> None:
        install(tmp_path, "one", "def ferret_sinks(): return {'twin': object, 'memory': object}")
        install(tmp_path, "two", "def ferret_sinks(): return {'twin': object, '[red]x\\x1b': object}")
        install(tmp_path, "broken", "raise RuntimeError('not\\ntoday')")
        done = ferret("plugins", columns=100, PYTHONPATH=str(tmp_path))
        assert done.returncode == 0
        listed = rows(done.stdout)
        assert ["twin", "sink", "ferret-one", "1.0", "given twice: cannot be used"] in listed
        assert ["twin", "sink", "ferret-two", "1.0", "given twice: cannot be used"] in listed
        assert ["memory", "sink", "ferret-one", "1.0", "never used: ferret's own comes first"] in listed
        assert ["memory", "sink", "ferret-trace", __version__] in listed
        assert [r"[red]x\x1b", "sink", "ferret-two", "1.0"] in listed
        assert r"broken (ferret-broken 1.0) failed to load: RuntimeError: not\ntoday" in done.stdout
        listed_json = json.loads(ferret("plugins", "--json", PYTHONPATH=str(tmp_path)).stdout)
        assert {one["clash"] for one in listed_json if one["name"] == "twin"} == {"given twice: cannot be used"}
        assert [one["error"] for one in listed_json if one["error"]] == ["RuntimeError: not\ntoday"]

    def test_a_name_of_another_kind_is_no_clash(self) -> None:
        sink, writer = Provided("sink", "x", "a"), Provided("writer", "x", "b")
        assert clash(sink, [sink, writer]) == ""


def install(folder: Path, name: str, code: str) -> None:
    """A distribution `ferret-NAME` 1.0 with a plugin."""
    marked = code.replace("def ", "import ferret\n@ferret.hookimpl\ndef ")
    (folder / f"plugin_{name}.py").write_text(marked)
    facts = folder / f"ferret_{name}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ferret-{name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[ferret]\n{name} = plugin_{name}\n")


class TestLedgerLine:
    def line(self, *processes: ProcessInfo, spans: int = 5) -> str:
        return ledger_line(RunInfo(run_id="r", started_at=0.0, spans=spans, processes=list(processes))).plain

    def process(self, *, ended: bool = True, **ledger: Any) -> ProcessInfo:
        return ProcessInfo(
            run_id="r", token="t", process_id=1, ended_at=1.0 if ended else None,
            ledger=Ledger(**ledger) if ledger else None,
        )  # fmt: skip

    def test_everything_that_was_recorded_is_there(self) -> None:
        assert self.line(self.process(recorded=5, written=5)) == "complete: 5 spans recorded, none lost"

    def test_what_was_lost_is_told_by_reason_over_all_processes(self) -> None:
        line = self.line(
            self.process(recorded=9, written=3, dropped=6, dropped_by={"overflow": 5, "closed": 1}),
            self.process(recorded=4, written=2, dropped=2, dropped_by={"overflow": 2}),
        )
        assert line == "lost 8 of 13 spans: 7 dropped (overflow), 1 dropped (closed)"

    def test_a_loss_and_a_killed_process_are_both_told(self) -> None:
        line = self.line(
            self.process(recorded=6, written=5, failed=1, failed_by={"OSError": 1}), self.process(ended=False)
        )
        assert line == "lost 1 of 6 spans: 1 failed (OSError); unclean: 1 of 2 processes was killed or still runs"

    def test_spans_that_were_written_but_are_gone_are_missed(self) -> None:
        assert self.line(self.process(recorded=8, written=8)) == "3 spans were written, but are not in this file"

    @pytest.mark.parametrize("facts", [[], [ProcessInfo(run_id="r", token="t", process_id=1, ended_at=1.0)]])
    def test_without_a_ledger_nothing_is_claimed(self, facts: list[ProcessInfo]) -> None:
        assert self.line(*facts) == "no ledger: nothing tells whether spans are missing"


class TestNumbers:
    @pytest.mark.parametrize(
        ("seconds", "shown"),
        [
            (0, "0 ns"), (1e-9, "1 ns"), (999e-9, "999 ns"), (1e-6, "1.00 µs"), (12.34e-6, "12.3 µs"),
            (999.4e-6, "999 µs"), (999.6e-6, "1.00 ms"), (9.996e-3, "10.0 ms"), (0.99996, "1.00 s"), (59.94, "59.9 s"),
            (99.96, "100 s"), (1234, "1,234 s"), (9.999e-7, "1.00 µs"),
        ],
    )  # fmt: skip
    def test_durations_have_three_digits_and_a_unit(self, seconds: float, shown: str) -> None:
        assert duration(seconds) == shown

    @given(st.floats(1e-9, 999))
    def test_a_duration_reads_as_what_it_is(self, seconds: float) -> None:
        number, unit = duration(seconds).split()
        value = float(number.replace(",", "")) * {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1}[unit]
        assert value == pytest.approx(seconds, rel=0.006, abs=0.51e-9)
        assert float(number.replace(",", "")) < 1000

    def test_a_time_beyond_all_calendars_is_a_question_mark(self) -> None:
        assert [local_time(beyond) for beyond in (1e300, float("nan"), float("inf"), -1e18)] == ["?"] * 4

    def test_bars_and_shares_of_nothing_are_empty(self) -> None:
        assert (bar(1, 0, 10), share(1, 0)) == ("", "")
        assert (bar(1, 2, 10), bar(3, 2, 10), bar(1, 80, 10), bar(-1, 2, 10)) == ("█████", "█" * 10, "▏", "")
        assert share(1, 3) == "33.3%"


class TestProgress:
    SCRIPT = """
import time
from ferret.cli import terminal
from ferret.sinks.memory import MemorySink
class Slow(MemorySink):
    def segments(self, run_id=None):
        for _ in range(5):
            time.sleep(0.05)
            yield [None] * 1000
terminal.PATIENCE = {patience}
watched = terminal.Watched(Slow())
watched.expect(5000)
print(sum(map(len, watched.segments())))
"""

    def test_a_long_reading_shows_itself_on_a_terminal_and_leaves_no_trace(self) -> None:
        code, shown = on_a_terminal(sys.executable, "-c", self.SCRIPT.format(patience=0.01))
        assert code == 0
        assert "reading" in shown
        assert shown.endswith("\x1b[1A\x1b[2K5000\r\n")

    def test_a_short_reading_shows_nothing(self) -> None:
        assert on_a_terminal(sys.executable, "-c", self.SCRIPT.format(patience=60)) == (0, "5000\r\n")

    def test_where_there_is_no_terminal_nothing_shows(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(terminal, "PATIENCE", 0)
        sink = MemorySink()
        sink.write(Batch(Origin("r", "t", 1, 0), 0, [record(1)], THREADS))
        assert len(list(Watched(sink).segments())) == 1
        assert capsys.readouterr().err == ""
