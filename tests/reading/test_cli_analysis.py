"""`ferret analyze --slowest`, `ferret diff`, and what the command does with files that are damaged or still written."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support import THREADS, record
from test_cli import FAILED, SECOND, START, ferret, on_a_terminal, rows

from ferret.analysis.diff import NameDiff, compare
from ferret.batch import Batch, Origin
from ferret.errors import FormatError
from ferret.models import AggregatedStats, ProcessInfo
from ferret.report import Report, RunNotFoundError
from ferret.segment import Segment
from ferret.sinks.beaver import BeaverSink
from ferret.sinks.jsonl import JsonlSink
from ferret.sinks.memory import MemorySink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MS = 1_000_000


def fill(sink: Any, run: str, start: int, *times: tuple[str, int, int]) -> None:
    """A run in which each name ran so many times for so many ms."""
    records = [
        record(number, span_id=number + 1, name=name, start_ns=0, end_ns=ms * MS)
        for number, (name, ms) in enumerate((name, ms) for name, count, ms in times for _ in range(count))
    ]
    sink.write_run(
        ProcessInfo(run_id=run, token=run.rjust(16, "0"), process_id=1, program="shop.py", started_at=start,
                    ended_at=start + 1.5, argv=["shop.py", "--port", "80", "a b"])
    )  # fmt: skip
    sink.write(Batch(Origin(run, run.rjust(16, "0"), 1, start * SECOND), 0, records, THREADS))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three runs in one file."""
    path = str(tmp_path_factory.mktemp("diff") / "trace.db")
    sink = BeaverSink(path)
    fill(sink, "aa-first", START, ("pay", 20, 10), ("load", 20, 5), ("gone", 3, 1))
    fill(sink, "bb-second", START + 60, ("pay", 20, 10), ("load", 20, 4), ("rare", 2, 1))
    fill(sink, "cc-third", START + 120, ("pay", 20, 15), ("load", 20, 2), ("rare", 2, 9), ("fresh", 1, 3))
    sink.close()
    return path


class TestDiff:
    def test_the_last_two_runs_are_compared_and_what_got_slower_comes_first(self, runs: str) -> None:
        done = ferret("diff", runs)
        assert (done.returncode, done.stderr) == (0, "")
        earlier, later, heading, *names = rows(done.stdout)
        assert "run bb-second · shop.py" in " ".join(earlier)
        assert "run cc-third · shop.py" in " ".join(later)
        assert heading == ["name", "± total", "± mean", "factor", *[f"{one}, A → B" for one in
                           ("count", "total", "mean", "p95")]]  # fmt: skip
        assert names == [
            ["pay", "+100 ms", "+5.00 ms", "1.50", "20 → 20", "200 ms → 300 ms", *["10.0 ms → 15.0 ms"] * 2],
            ["rare", "+16.0 ms", "+8.00 ms", "9.00", "2 → 2", "2.00 ms → 18.0 ms", *["1.00 ms → 9.00 ms"] * 2],
            ["fresh", "+3.00 ms", "new", "- → 1", *["- → 3.00 ms"] * 3],
            ["load", "-40.0 ms", "-2.00 ms", "0.50", "20 → 20", "80.0 ms → 40.0 ms", *["4.00 ms → 2.00 ms"] * 2],
        ]

    def compared(self, *arguments: str) -> tuple[str, str]:
        found = json.loads(ferret("diff", *arguments, "--json").stdout)
        return found["before"]["run_id"], found["after"]["run_id"]

    def test_runs_are_chosen_by_their_ids_in_any_order(self, runs: str) -> None:
        assert self.compared(runs, "aa", "cc-third") == ("aa-first", "cc-third")
        assert self.compared(runs, "cc", "aa") == ("cc-third", "aa-first")

    def test_files_are_compared_by_their_latest_runs_or_by_chosen_ones(self, runs: str, tmp_path: Path) -> None:
        other = str(tmp_path / "other.jsonl")
        fill(sink := JsonlSink(other), "dd", START, ("pay", 1, 1))
        sink.close()
        assert self.compared(runs, other) == ("cc-third", "dd")
        assert self.compared(f"{runs}@aa", other) == ("aa-first", "dd")
        assert self.compared(other, f"{runs}@bb-second") == ("dd", "bb-second")
        assert self.compared(f"{runs}@aa") == ("aa-first", "cc-third")

    def test_a_file_whose_name_has_an_at_sign_is_a_file(self, runs: str, tmp_path: Path) -> None:
        shutil.copy(runs, tmp_path / "me@home.db")
        assert self.compared(f"{tmp_path}/me@home.db") == ("bb-second", "cc-third")
        assert self.compared(f"{tmp_path}/me@home.db@aa") == ("aa-first", "cc-third")

    def test_json_has_both_sides_of_each_name(self, runs: str) -> None:
        names = {one["name"]: one for one in json.loads(ferret("diff", runs, "aa", "cc", "--json").stdout)["names"]}
        assert names["gone"]["after"] is None
        assert (names["fresh"]["status"], names["gone"]["status"], names["pay"]["status"]) == ("new", "gone", "both")
        assert names["pay"]["mean_factor"] == 1.5
        assert names["pay"]["before"]["count"] == 20

    def test_it_fails_where_a_name_that_ran_often_enough_got_slower(self, runs: str) -> None:
        done = ferret("diff", runs, "--fail-above", "20")
        assert done.returncode == 3
        assert done.stderr == "ferret: 1 name got slower by more than 20 %: pay (1.50x)\n"
        assert "pay" in done.stdout
        assert ferret("diff", runs, "--fail-above", "50").returncode == 0
        assert ferret("diff", runs, "--fail-above", "50", "--min-calls", "2").returncode == 3
        failing = ferret("diff", runs, "--fail-above", "20", "--json")
        assert (failing.returncode, json.loads(failing.stdout)["slower"]) == (3, ["pay"])

    @pytest.mark.parametrize("columns", [60, 80, 120])
    def test_nothing_is_wider_than_the_terminal(self, runs: str, columns: int) -> None:
        lines = ferret("diff", runs, columns=columns).stdout.splitlines()
        assert max(len(line) for line in lines[2:]) <= columns
        assert any("+100 ms" in line and "1.50" in line for line in lines)

    def test_on_a_terminal_slower_is_red_and_faster_green(self, runs: str) -> None:
        _, shown = on_a_terminal(sys.executable, "-m", "ferret", "diff", runs)
        assert re.search(r"\x1b\[31m *\+100 ms", shown)
        assert re.search(r"\x1b\[32m *-40\.0 ms", shown)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["{}", "aa", "zz"], "ferret: {}: there is no run 'zz'; there is 'cc-third', 'bb-second', 'aa-first'"),
            (["{}", "bb"], "ferret: bb: there is no such file; to compare two runs of one file, name both: {}"),
            (["{}@aa", "{}@zz"], "ferret: {}: there is no run 'zz'; there is 'cc-third', 'bb-second', 'aa-first'"),
            (["nowhere.db"], "ferret: nowhere.db: there is no such file"),
            (["nowhere.db", "{}"], "ferret: nowhere.db: there is no such file"),
        ],
    )  # fmt: skip
    def test_what_is_not_there_is_named_in_one_line(self, runs: str, arguments: list[str], said: str) -> None:
        done = ferret("diff", *(one.format(runs) for one in arguments))
        assert (done.returncode, done.stdout) == (1, "")
        said = said.replace("both: {}", "both: ferret diff {} RUN RUN")
        assert done.stderr == said.format(*[runs] * said.count("{}")) + "\n"

    def test_a_single_run_has_nothing_to_be_compared_with(self, tmp_path: Path) -> None:
        fill(sink := JsonlSink(tmp_path / "x"), "one", START, ("pay", 1, 1))
        sink.close()
        done = ferret("diff", str(tmp_path / "x"))
        assert (done.returncode, done.stderr) == (
            1, f"ferret: {tmp_path}/x: there is no run before 'one' to compare it with\n",
        )  # fmt: skip
        with pytest.raises(RunNotFoundError):
            Report(tmp_path / "x").diff()

    def test_too_many_words_are_wrong_usage(self, runs: str) -> None:
        assert ferret("diff", runs, "aa", "bb", "cc").returncode == 2

    def test_a_report_compares_too(self, runs: str) -> None:
        assert [one.name for one in Report(runs).diff()] == ["pay", "rare", "fresh", "load"]
        assert Report(runs).diff("cc", "aa")[0].name == "load"

    def test_means_of_nothing_divide_nothing(self) -> None:
        zero, some = (AggregatedStats("x", 20, total, total / 20, 0, 0, 0, 0) for total in (0.0, 1.0))
        (one,) = compare({"x": zero}, {"x": some})
        assert (one.mean_factor, one.mean_change, one.slower_than(1000, 20)) == (None, 0.05, True)
        assert not NameDiff("x", None, some).slower_than(0, 1)


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("slowest") / "spans.jsonl")
    sink = JsonlSink(path)
    records = [
        record(1, span_id=11, parent_id=10, name="query", start_ns=10 * MS, end_ns=30 * MS, outcome=FAILED),
        record(2, span_id=12, parent_id=10, name="job", start_ns=20 * MS, end_ns=90 * MS, thread=1, task="Task-7"),
        record(3, span_id=10, name="slow", start_ns=0, end_ns=100 * MS, tags=b'{"user":7,"who":"Zo\xc3\xab"}'),
        record(4, span_id=20, name="quick", start_ns=0, end_ns=5 * MS),
    ]
    sink.write(Batch(Origin("run", "a" * 16, 42, START * SECOND), 0, records, THREADS))
    sink.close()
    return path


class TestSlowest:
    def test_a_trace_is_a_tree_with_times_errors_tags_and_where_it_ran(self, traces: str) -> None:
        done = ferret("analyze", traces, "--slowest", "1")
        _, title, heading, *spans, _ = rows(done.stdout)
        assert re.fullmatch(
            r"1\. slow · 100 ms · [\d-]+ [\d:]+\.000 · process 42 · MainThread · 3 spans", " ".join(title)
        )
        assert heading == ["span", "began", "took", "self"]
        bars = [[cell for cell in row if "━" not in cell] for row in spans]
        assert bars == [
            ["slow", "+0 ns", "100 ms", "80.0 ms", "user=7", "who=Zoë"],
            ["├─ query", "+10.0 ms", "20.0 ms", "20.0 ms", "ValueError: boom", "n=1"],
            ["└─ job", "+20.0 ms", "70.0 ms", "70.0 ms", "in worker / Task-7", "n=2"],
        ]

    def test_what_a_limit_leaves_out_is_said(self, traces: str) -> None:
        shown = ferret("analyze", traces, "--slowest", "2", "--limit", "2").stdout
        assert "job" in shown
        assert "query" not in shown
        assert "… 1 more spans, shorter than these: --limit 0 shows up to 10,000" in shown
        assert "2. quick" in shown

    def test_json_has_the_spans_flat_each_after_its_parent(self, traces: str) -> None:
        (slow, quick) = json.loads(ferret("analyze", traces, "--slowest", "5", "--json").stdout)["traces"]
        assert [(one["name"], one["depth"]) for one in slow["spans"]] == [("slow", 0), ("query", 1), ("job", 1)]
        assert slow["spans"][0]["tags"] == {"user": 7, "who": "Zoë"}
        assert slow["spans"][1]["parent_id"] == slow["spans"][0]["span_id"]
        assert slow["spans"][0]["self_time"] == pytest.approx(0.08)
        assert (quick["hidden"], len(quick["spans"])) == (0, 1)

    def test_a_very_deep_trace_is_no_problem(self, tmp_path: Path) -> None:
        sink = JsonlSink(tmp_path / "deep")
        deep = [record(n, span_id=n, parent_id=n - 1, start_ns=n, end_ns=9000 - n) for n in range(3000, 0, -1)]
        sink.write(Batch(Origin("run", "a" * 16, 42, START * SECOND), 0, deep, THREADS))
        sink.close()
        for options in (["--slowest", "1", "-l", "0"], ["--slowest", "1", "--json"], ["--tree"]):
            assert ferret("analyze", str(tmp_path / "deep"), *options).returncode == 0, options

    def test_one_way_of_looking_at_a_time(self, traces: str) -> None:
        done = ferret("analyze", traces, "--slowest", "1", "--tree")
        assert (done.returncode, done.stdout) == (1, "")
        assert "give one of them" in done.stderr


READING = [["analyze"], ["analyze", "--tree"], ["analyze", "--slowest", "2"], ["diff"], ["runs"]]


class TestDamage:
    @pytest.fixture
    def damaged(self, tmp_path: Path) -> str:
        """Three segments in each of two runs, of which one in each is damaged."""
        path = str(tmp_path / "trace.db")
        sink = BeaverSink(path)
        for number, run in enumerate(("one", "two")):
            sink.write_run(ProcessInfo(run_id=run, token=run.rjust(16, "0"), process_id=1, started_at=START + number))
            origin = Origin(run, run.rjust(16, "0"), 1, START * SECOND)
            for sequence in range(3):
                spans = [record(n, span_id=sequence * 100 + n + 1) for n in range(10)]
                sink.write(Batch(origin, sequence, spans, THREADS))
        sink.close()
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE __beaver_blobs__ SET data = substr(data, 1, 60) WHERE key LIKE '%0000000001'")
        connection.close()
        return path

    def test_sound_segments_are_shown_and_the_others_told_of(self, damaged: str) -> None:
        done = ferret("analyze", damaged, "--json")
        assert [one["count"] for one in json.loads(done.stdout)["names"]] == [20]
        assert done.returncode == 1
        assert re.fullmatch(
            rf"ferret: {damaged}: 1 damaged part was left out of what is shown: segment 'two/0+two/0000000001': .*\n",
            done.stderr,
        )

    def test_each_is_told_of_once_however_often_it_was_met(self, damaged: str) -> None:
        done = ferret("diff", damaged)
        assert "20 → 20" in done.stdout
        assert done.returncode == 1
        assert "2 damaged parts were left out" in done.stderr
        assert done.stderr.count("\n") == 1
        assert "1 damaged part was" in ferret("analyze", damaged, "--slowest", "2").stderr

    def test_both_files_of_a_comparison_are_told_of(self, damaged: str, tmp_path: Path) -> None:
        shutil.copy(damaged, tmp_path / "other.db")
        done = ferret("diff", damaged, str(tmp_path / "other.db"))
        assert done.returncode == 1
        assert [line.partition(": 1 damaged part")[0] for line in done.stderr.splitlines()] == [
            f"ferret: {tmp_path}/other.db", f"ferret: {damaged}",
        ]  # fmt: skip

    def test_damaged_facts_are_left_out_too(self, damaged: str) -> None:
        with sqlite3.connect(damaged) as connection:
            connection.execute("UPDATE __beaver_dicts__ SET value = '{}' WHERE key LIKE 'one%'")
            connection.execute("UPDATE __beaver_blobs__ SET metadata = 'x' WHERE key LIKE 'two%2'")
        connection.close()
        done = ferret("runs", damaged)
        assert {row[1] for row in rows(done.stdout)[1:]} == {"one", "two"}
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "2 damaged parts were left out of what is shown: facts of process 'one/" in done.stderr

    def test_a_report_raises_unless_it_is_told_to_go_on(self, damaged: str) -> None:
        with pytest.raises(FormatError, match="0000000001"):
            Report(damaged).analyze_run("one")
        with Report(damaged, skip_damaged=True) as report:
            assert report.analyze_run("one")["work"].count == 20
            assert sum(node.count for node in report.merged_tree("one")) == 20
            assert len(report.damaged) == 1

    @pytest.mark.parametrize("options", READING[:-1])
    def test_a_newer_format_is_no_damage_and_ends_the_reading(self, damaged: str, options: list[str]) -> None:
        with sqlite3.connect(damaged) as connection:
            connection.execute("UPDATE __beaver_blobs__ SET data = CAST(X'46525402' || data AS BLOB)")
        connection.close()
        command, *rest = options
        done = ferret(command, damaged, *rest)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"ferret: .*trace\.db.*a segment of version 2; .*: update ferret-trace\n", done.stderr)


class TestBadFiles:
    @pytest.mark.parametrize("options", READING)
    @pytest.mark.parametrize(
        ("name", "content"),
        [("missing.db", None), ("empty.db", b""), ("text.db", b"hello\n"), ("sqlite.db", b"SQLite format 3\0" + b"x" * 999)],
    )  # fmt: skip
    def test_one_line_names_it_and_nothing_is_made_or_changed(
        self, tmp_path: Path, options: list[str], name: str, content: bytes | None
    ) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        command, *rest = options
        done = ferret(command, str(tmp_path / name), *rest)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(rf"ferret: .*{name}.*\n", done.stderr)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


WRITER = """
import sys
from ferret import Profiler
with Profiler(sys.argv[1], run_id="live", batch_size=50) as profiler:
    for number in range(500):
        with profiler.measure("outer"):
            with profiler.measure("inner"):
                pass
    profiler.flush()
    with profiler.measure("open"):
        print("ready", flush=True)
        sys.stdin.readline()
"""


class TestAFileBeingWritten:
    @pytest.fixture
    def live(self, tmp_path: Path) -> Iterator[str]:
        path = str(tmp_path / "trace.db")
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield path
            process.communicate("\n", timeout=60)
        assert process.returncode == 0
        assert Report(path).analyze_run("live")["outer"].count == 500

    def test_it_reads_like_any_other(self, live: str) -> None:
        names = {one["name"]: one["count"] for one in json.loads(ferret("analyze", live, "--json").stdout)["names"]}
        assert names == {"outer": 500, "inner": 500}
        tree = ferret("analyze", live, "--tree")
        assert [row[:2] for row in rows(tree.stdout)[2:4]] == [["outer", "500"], ["└─ inner", "500"]]
        assert "still running" in tree.stdout
        assert rows(ferret("runs", live).stdout)[1][3] == "?"
        assert len(json.loads(ferret("analyze", live, "--slowest", "2", "--json").stdout)["traces"]) == 2


def test_a_program_is_listed_with_its_arguments(runs: str) -> None:
    assert rows(ferret("runs", runs).stdout)[1][2:4] == ["shop.py --port 80 'a b'", "1.50 s"]


@pytest.mark.parametrize("kind", [BeaverSink, MemorySink])
def test_a_run_can_be_read_from_its_end(kind: Any) -> None:
    sink = kind(None)
    try:
        for sequence in range(40):  # more than a page
            for run in ("run", "other"):
                origin = Origin(run, run.rjust(16, "0"), 1, START * SECOND)
                sink.write(Batch(origin, sequence, [record(sequence)], THREADS))
        found: list[Segment] = list(sink.newest_first("run"))
        assert [(one.run_id, one.sequence) for one in found] == [("run", number) for number in range(39, -1, -1)]
    finally:
        sink.close()
