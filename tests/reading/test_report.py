"""Reading back: a report says what was recorded, from wherever it was stored, and changes nothing there."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import THREADS, record

from ferret import Profiler
from ferret.batch import Batch, Origin
from ferret.errors import FerretError, StorageError
from ferret.models import Ledger, ProcessInfo
from ferret.report import Report, RunNotFoundError
from ferret.sinks.beaver import BeaverSink
from ferret.sinks.jsonl import JsonlSink
from ferret.sinks.memory import MemorySink
from ferret.sinks.summary import SegmentSummary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ferret.analysis.tree import PathNode
    from ferret.models import AggregatedStats, TraceNode
    from ferret.segment import Segment
    from ferret.span import Record

SECOND = 1_000_000_000
START = 1_700_000_000
FAILED = b'["error","boom","ValueError"]'


def a_batch(
    *records: Record, run_id: str = "run", token: str = "a" * 16, sequence: int = 0, start: int = START
) -> Batch:
    return Batch(Origin(run_id, token, 4242, start * SECOND), sequence, list(records), THREADS)


def a_process(run_id: str = "run", token: str = "a" * 16, **facts: Any) -> ProcessInfo:
    defaults: dict[str, Any] = {"process_id": 4242, "program": "shop.py", "started_at": START}
    return ProcessInfo(run_id=run_id, token=token, **{**defaults, **facts})


def a_sink(*batches: Batch, processes: Sequence[ProcessInfo] = ()) -> MemorySink:
    sink = MemorySink()
    for batch in batches:
        sink.write(batch)
    for process in processes:
        sink.write_run(process)
    return sink


def split(records: Sequence[Record], cuts: Sequence[int]) -> list[Batch]:
    """The records in order, in a batch from each cut to the next."""
    ends = sorted({min(cut, len(records)) for cut in cuts} | {len(records)})
    parts = [records[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [a_batch(*part, sequence=sequence) for sequence, part in enumerate(parts) if part]


small_ids = st.integers(0, 12)


@st.composite
def any_records(draw: st.DrawFn) -> list[Record]:
    """Spans with parents anywhere, ids that come twice, circles, names that are alike only once they are stored."""
    return [
        record(
            number,
            span_id=draw(small_ids),
            parent_id=draw(st.just(0) | small_ids),
            name=draw(st.sampled_from(["a", "b", "", "\ud800", "\udfff", "[red]x"])),
            start_ns=(start := draw(st.integers(0, 50)) * 1000),  # a float of the time tells no less apart
            end_ns=start + draw(st.integers(0, 10**12)),
            outcome=draw(st.sampled_from([None, FAILED, b'["ok",null,null]', b'["late",null,null]'])),
        )
        for number in range(draw(st.integers(0, 25)))
    ]


def walk(nodes: Sequence[TraceNode]) -> Iterator[TraceNode]:
    for node in nodes:
        yield node
        yield from walk(node.children)


class TestRuns:
    def test_the_oldest_run_comes_first(self) -> None:
        sink = a_sink(
            a_batch(record(1), run_id="later", start=START + 60),
            a_batch(record(1), run_id="earlier", token="b" * 16, start=START),
        )
        assert [run.run_id for run in Report(sink).runs()] == ["earlier", "later"]

    def test_a_run_has_the_facts_of_all_its_processes(self) -> None:
        sink = a_sink(
            a_batch(record(1), record(2, outcome=FAILED), token="a" * 16),
            a_batch(record(3), token="b" * 16, start=START + 5),
            processes=[
                a_process(token="b" * 16, program="child.py", started_at=START + 4, ended_at=START + 9,
                          ledger=Ledger(recorded=3, written=1, dropped=1, failed=1)),
                a_process(token="a" * 16, started_at=START - 1, ended_at=START + 8,
                          ledger=Ledger(recorded=6, written=2, dropped=4)),
            ],
        )  # fmt: skip
        (run,) = Report(sink).runs()
        assert (run.spans, run.errors, run.lost) == (3, 1, 6)
        assert (run.program, len(run.processes)) == ("shop.py", 2)
        assert (run.started_at, run.ended_at, run.unclean) == (START - 1, START + 9, False)

    def test_a_run_of_which_one_process_did_not_end_is_unclean(self) -> None:
        processes = [a_process(ended_at=START + 1.0), a_process(token="b" * 16)]
        (run,) = Report(a_sink(processes=processes)).runs()
        assert run.unclean
        assert run.ended_at is None

    def test_a_run_without_stored_facts_is_known_by_its_spans(self) -> None:
        (run,) = Report(a_sink(a_batch(record(0, start_ns=0, end_ns=3 * SECOND)))).runs()
        assert (run.started_at, run.ended_at, run.spans) == (START, START + 3, 1)
        assert run.processes == []

    def test_an_empty_source_has_no_runs(self) -> None:
        report = Report(MemorySink())
        assert report.runs() == []
        assert (report.analyze_run(), report.build_trees(), list(report.spans())) == ({}, [], [])

    def test_listing_runs_reads_no_segment_where_the_source_has_summaries(self) -> None:
        class Summarised(MemorySink):
            def summaries(self, run_id: str | None = None) -> Iterator[SegmentSummary]:
                yield SegmentSummary("run", "a", 1, 0, spans=7, errors=2, start_ns=SECOND, end_ns=4 * SECOND)

            def segments(self, run_id: str | None = None) -> Iterator[Segment]:
                raise AssertionError("a segment was read")

        (run,) = Report(Summarised()).runs()
        assert (run.spans, run.errors, run.started_at, run.ended_at) == (7, 2, 1.0, 4.0)


class TestWhichRun:
    def report(self) -> Report:
        runs = {"3f2a-early": START, "3f2b-late": START + 60, "nightly": START + 30}
        return Report(
            a_sink(
                *(
                    a_batch(record(1, name=run_id), run_id=run_id, token=run_id, start=start)
                    for run_id, start in runs.items()
                )
            )
        )

    def test_without_an_id_it_is_the_run_that_started_last(self) -> None:
        report = self.report()
        assert report.run().run_id == "3f2b-late"
        assert list(report.analyze_run()) == ["3f2b-late"]
        assert [node.span.name for node in report.build_trees()] == ["3f2b-late"]
        assert [span.name for span in report.spans()] == ["3f2b-late"]

    def test_an_id_chooses_its_run(self) -> None:
        assert list(self.report().analyze_run("nightly")) == ["nightly"]

    def test_an_id_that_nobody_recorded_under_gives_empty_results(self) -> None:
        report = self.report()
        assert report.analyze_run("nobody") == {}
        assert report.build_trees("nobody") == []
        assert list(report.spans("nobody")) == []
        assert report.merged_tree("nobody") == []

    def test_a_beginning_that_only_one_id_has_is_enough(self) -> None:
        assert self.report().run("night").run_id == "nightly"

    @pytest.mark.parametrize(
        ("wanted", "said"),
        [
            ("nightyl", "there is no run 'nightyl'; did you mean 'nightly'?"),
            ("zzz", "there is no run 'zzz'; there is '3f2b-late', 'nightly', '3f2a-early'"),
            ("3f2", "2 runs begin with '3f2': '3f2b-late', '3f2a-early'"),
            ("", "there is no run ''; there is '3f2b-late', 'nightly', '3f2a-early'"),
        ],
    )
    def test_an_id_that_leads_nowhere_is_answered_with_those_that_do(self, wanted: str, said: str) -> None:
        with pytest.raises(RunNotFoundError, match="run") as caught:
            self.report().run(wanted)
        assert str(caught.value) == said
        assert isinstance(caught.value, FerretError)

    def test_many_runs_are_not_all_listed(self) -> None:
        sink = a_sink(*(a_batch(record(1), run_id=f"run{n}", token=f"{n}", start=START + n) for n in range(30)))
        with pytest.raises(RunNotFoundError, match=r"'run29', .*'run25' and 25 more$"):
            Report(sink).run("x")


class TestAnalyzeRun:
    @given(any_records(), st.lists(st.integers(0, 25), max_size=4))
    def test_it_equals_adding_up_the_spans_one_by_one(self, records: list[Record], cuts: list[int]) -> None:
        report = Report(a_sink(*split(records, cuts)))
        stats = report.analyze_run("run")
        durations: dict[str, list[float]] = defaultdict(list)
        errors: dict[str, int] = defaultdict(int)
        for span in report.spans("run"):
            assert span.duration is not None
            durations[span.name].append(span.duration)
            errors[span.name] += span.status != "ok"
        assert list(stats) == list(durations)
        for name, one in stats.items():
            count = len(durations[name])
            assert (one.name, one.count, one.error_count) == (name, count, errors[name])
            assert one.total_duration == pytest.approx(sum(durations[name]))
            assert one.avg_duration == pytest.approx(sum(durations[name]) / count)
            assert (one.min_duration, one.max_duration) == (min(durations[name]), max(durations[name]))
            assert one.error_rate == errors[name] / count

    def test_more_names_than_were_made_room_for_are_all_counted(self) -> None:
        names = [f"name {number % 700}" for number in range(1000)]
        batches = split([record(number, name=name) for number, name in enumerate(names)], range(0, 1000, 150))
        stats = Report(a_sink(*batches)).analyze_run()
        assert {name: one.count for name, one in stats.items()} == Counter(names)

    def test_a_total_of_many_years_is_exact(self) -> None:
        century = 100 * 365 * 86_400 * SECOND
        batch = a_batch(record(0, start_ns=0, end_ns=century), record(1, start_ns=0, end_ns=century + 1))
        stats = Report(a_sink(batch)).analyze_run()["work"]
        assert stats.total_duration == (2 * century + 1) / 1e9

    def test_no_object_is_made_for_a_span(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise AssertionError("a span was looked at one by one")

        monkeypatch.setattr("ferret.segment.Segment.__iter__", refuse)
        report = Report(a_sink(a_batch(record(1), record(2))))
        assert report.analyze_run()["work"].count == 2
        assert report.merged_tree()[0].count == 2
        assert report.runs()[0].spans == 2


class TestSpans:
    def test_they_come_as_they_were_recorded(self) -> None:
        given_span = record(
            1, span_id=255, parent_id=16, start_ns=SECOND, end_ns=3 * SECOND, thread=1, task="Task-1", outcome=FAILED
        )
        (span,) = Report(a_sink(a_batch(given_span))).spans()
        assert (span.span_id, span.parent_id, span.run_id) == ("00000000000000ff", "0000000000000010", "run")
        assert (span.start_time, span.end_time, span.duration) == (START + 1, START + 3, 2.0)
        assert (span.status, span.error, span.error_type, span.tags) == ("error", "boom", "ValueError", {"n": 1})
        assert (span.thread_name, span.task_name, span.process_id) == ("worker", "Task-1", 4242)

    def test_they_stream_one_segment_at_a_time(self) -> None:
        taken: list[int] = []

        class Counting(MemorySink):
            def segments(self, run_id: str | None = None) -> Iterator[Segment]:
                for segment in super().segments(run_id):
                    taken.append(segment.sequence)
                    yield segment

        sink = Counting()
        for sequence in range(5):
            sink.write(a_batch(record(1), sequence=sequence))
        spans = Report(sink).spans("run")
        assert taken == []
        next(spans)
        assert taken == [0]


class TestTrees:
    @given(any_records(), st.lists(st.integers(0, 25), max_size=4))
    def test_every_span_is_in_the_trees_exactly_once(self, records: list[Record], cuts: list[int]) -> None:
        report = Report(a_sink(*split(records, cuts)))
        found = sorted(node.span.model_dump_json() for node in walk(report.build_trees("run")))
        assert found == sorted(span.model_dump_json() for span in report.spans("run"))

    @given(any_records(), st.lists(st.integers(0, 25), max_size=4))
    def test_a_child_is_below_its_parent_and_siblings_stand_by_their_start(
        self, records: list[Record], cuts: list[int]
    ) -> None:
        roots = Report(a_sink(*split(records, cuts))).build_trees("run")
        for node in walk(roots):
            assert all(child.span.parent_id == node.span.span_id for child in node.children)
        for siblings in [roots, *(node.children for node in walk(roots))]:
            starts = [node.span.start_time for node in siblings]
            assert starts == sorted(starts)

    def test_a_span_whose_parent_is_not_in_the_run_is_a_root(self) -> None:
        batch = a_batch(record(1, span_id=5, parent_id=4), record(2, span_id=6, parent_id=5))
        (root,) = Report(a_sink(batch)).build_trees()
        assert root.span.parent_id == "0000000000000004"
        assert [child.span.span_id for child in root.children] == ["0000000000000006"]

    def test_parents_are_found_across_segments_and_processes(self) -> None:
        sink = a_sink(
            a_batch(record(1, span_id=9, parent_id=3), token="b" * 16),
            a_batch(record(2, span_id=3), token="a" * 16),
        )
        (root,) = Report(sink).build_trees()
        assert [child.span.span_id for child in root.children] == ["0000000000000009"]

    def test_spans_that_are_each_others_parents_are_kept(self) -> None:
        ring = [record(n, span_id=n + 1, parent_id=(n + 1) % 3 + 1) for n in range(3)]
        roots = Report(a_sink(a_batch(*ring, record(9, span_id=9, parent_id=9)))).build_trees()
        assert len(roots) == 2
        assert len(list(walk(roots))) == 4

    def test_a_very_deep_recursion_is_no_problem(self) -> None:
        depth = 5000
        sink = a_sink(a_batch(*(record(n, span_id=n + 1, parent_id=n) for n in range(depth))))
        (root,) = Report(sink).build_trees()
        levels = 1
        while root.children:
            (root,) = root.children
            levels += 1
        assert levels == depth
        (path,) = Report(sink).merged_tree(depth=3)
        assert path.children[0].children[0].children == []


def in_circles(records: Sequence[Record]) -> bool:
    """Whether a span is its own ancestor."""
    parents = {record[0]: record[1] for record in reversed(records)}  # the first of an id counts
    for one, parent in parents.items():
        above, steps = parent, 0
        while above in parents and above and steps <= len(parents):
            if above == one:
                return True
            above, steps = parents[above], steps + 1
    return False


class TestMergedTree:
    @given(any_records(), st.lists(st.integers(0, 25), max_size=4))
    def test_it_equals_merging_the_trees_node_by_node(self, records: list[Record], cuts: list[int]) -> None:
        report = Report(a_sink(*split(records, cuts)))
        assert as_paths(report.merged_tree("run")) == merged(report.build_trees("run"))

    @given(any_records(), st.integers(0, 4))
    def test_a_depth_leaves_out_what_is_below(self, records: list[Record], depth: int) -> None:
        assume(not in_circles(records))  # which of a circle is the root may depend on the depth
        report = Report(a_sink(*split(records, [])))
        whole = as_paths(report.merged_tree("run"))
        shallow = as_paths(report.merged_tree("run", depth))
        assert shallow == {path: values for path, values in whole.items() if len(path) <= depth}

    def test_the_longest_comes_first(self) -> None:
        batch = a_batch(
            record(1, name="short", start_ns=0, end_ns=1),
            record(2, name="long", start_ns=0, end_ns=9),
            record(3, name="short", start_ns=0, end_ns=2),
        )
        assert [node.name for node in Report(a_sink(batch)).merged_tree()] == ["long", "short"]


def as_paths(nodes: Sequence[PathNode], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for node in nodes:
        path = (*above, node.name)
        assert path not in found
        found[path] = (node.count, pytest.approx(node.total_duration), node.error_count)
        found |= as_paths(node.children, path)
    return found


def merged(nodes: Sequence[TraceNode], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    groups: dict[str, list[TraceNode]] = defaultdict(list)
    for node in nodes:
        groups[node.span.name].append(node)
    found: dict[tuple[str, ...], Any] = {}
    for name, group in groups.items():
        path = (*above, name)
        durations = [node.span.duration or 0.0 for node in group]
        errors = sum(node.span.status != "ok" for node in group)
        found[path] = (len(group), pytest.approx(sum(durations)), errors)
        found |= merged([child for node in group for child in node.children], path)
    return found


class TestSources:
    def stats(self, source: Any) -> AggregatedStats:
        with Report(source) as report:
            return report.analyze_run("run")["work"]

    @pytest.mark.parametrize("name", ["spans.jsonl", "spans.jsonl.gz", "anything"])
    def test_json_lines_are_read_from_their_path(self, tmp_path: Path, name: str) -> None:
        sink = JsonlSink(tmp_path / name)
        sink.write(a_batch(record(1), record(2)))
        sink.close()
        assert self.stats(tmp_path / name).count == 2
        assert self.stats(str(tmp_path / name)).count == 2

    def test_a_beaver_file_is_read_from_its_path(self, db: str) -> None:
        sink = BeaverSink(db)
        sink.write(a_batch(record(1), record(2)))
        sink.close()
        assert self.stats(db).count == 2

    @pytest.mark.parametrize("where", ["file", "memory"])
    def test_an_open_beaver_db_is_read_and_stays_open(self, db: str, where: str) -> None:
        sink = BeaverSink(db if where == "file" else None)
        try:
            sink.write(a_batch(record(1)))
            assert self.stats(sink.db).count == 1
            sink.write(a_batch(record(2), sequence=1))
            assert self.stats(sink.db).count == 2
        finally:
            sink.close()

    def test_a_namespace_is_its_own(self, db: str) -> None:
        sink = BeaverSink(db, namespace="mine")
        sink.write(a_batch(record(1)))
        sink.close()
        assert Report(db).runs() == []
        assert Report(db, "mine").analyze_run()["work"].count == 1

    def test_a_live_profiler_is_flushed_before_each_reading(self) -> None:
        with Profiler(sink=MemorySink(), batch_size=1000, flush_interval=3600) as profiler:
            report = Report(profiler)
            for expected in (1, 2, 3):
                with profiler.measure("work"):
                    pass
                assert report.analyze_run()["work"].count == expected
                assert len(report.build_trees()) == expected
                assert len(list(report.spans())) == expected
            report.close()
            with profiler.measure("work"):
                pass
            assert Report(profiler).runs()[0].spans == 4

    def test_a_live_profiler_on_a_file_is_read_from_its_first_span_on(self, db: str) -> None:
        with Profiler(db) as profiler, Report(profiler) as report:
            with profiler.measure("work"):
                pass
            assert report.analyze_run(profiler.run_id)["work"].count == 1
            assert report.run().unclean
        assert not Report(db).run().unclean

    @pytest.mark.parametrize("source", [None, 7, object(), b"trace.db"])
    def test_anything_else_is_refused_by_its_type(self, source: Any) -> None:
        with pytest.raises(TypeError, match=type(source).__name__):
            Report(source)

    def test_an_open_file_is_refused_although_it_can_be_flushed_and_is_readable(self) -> None:
        with open(os.devnull) as file, pytest.raises(TypeError, match="TextIOWrapper"):
            Report(file)  # type: ignore[arg-type]

    def test_a_closed_report_says_so_and_closing_twice_is_fine(self, tmp_path: Path) -> None:
        JsonlSink(tmp_path / "x").close()
        sink = JsonlSink(tmp_path / "x")
        sink.write(a_batch(record(1)))
        sink.close()
        report = Report(tmp_path / "x")
        report.close()
        report.close()
        with pytest.raises(StorageError, match="closed"):
            report.runs()

    def test_closing_leaves_a_given_source_open(self) -> None:
        sink = a_sink(a_batch(record(1)))
        report = Report(sink)
        report.close()
        assert not sink.closed
        assert len(report.runs()) == 1


class TestBadPaths:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "directory").mkdir()
        (tmp_path / "empty").touch()
        (tmp_path / "text").write_text("hello")
        (tmp_path / "header").write_bytes(b"SQLite format 3\0")
        (tmp_path / "garbage").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20)
        (tmp_path / "json").write_text('{"a": 1}\n')
        (tmp_path / "gzip").write_bytes(b"\x1f\x8bjunk")
        (tmp_path / "dangling").symlink_to("nowhere")
        os.mkfifo(tmp_path / "pipe")
        with sqlite3.connect(tmp_path / "foreign") as connection:
            connection.execute("CREATE TABLE t (x)")
        connection.close()
        return tmp_path

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("missing", "there is no such file"),
            ("dangling", "there is no such file"),
            ("directory", "is a directory"),
            ("empty", "is empty"),
            ("text", "not a file of spans: it begins with b'hello'"),
            ("pipe", "not a regular file"),
            ("header", ""),
            ("garbage", ""),
            ("json", ""),
            ("gzip", ""),
            ("foreign", ""),
            ("nul\0", "cannot be read"),
        ],
    )
    def test_each_is_refused_in_a_line_that_names_it_and_nothing_is_touched(
        self, folder: Path, name: str, said: str
    ) -> None:
        before = contents(folder)
        with pytest.raises(StorageError) as caught:
            Report(folder / name)
        message = str(caught.value)
        assert said in message
        assert name in message
        assert "\n" not in message
        assert contents(folder) == before

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("{}")
        (tmp_path / "secret").chmod(0)
        with pytest.raises(StorageError, match="Permission denied"):
            Report(tmp_path / "secret")

    def test_memory_is_pointed_to_the_profiler(self) -> None:
        with pytest.raises(StorageError, match="read from the Profiler itself"):
            Report(":memory:")

    @pytest.mark.parametrize(
        "kind",
        [
            BeaverSink,
            JsonlSink,
        ],
    )
    def test_reading_a_good_file_leaves_its_folder_as_it_was(self, tmp_path: Path, kind: Any) -> None:
        sink = kind(str(tmp_path / "spans"))
        sink.write_run(a_process())
        sink.write(a_batch(record(1)))
        sink.close()
        before = contents(tmp_path)
        with Report(tmp_path / "spans") as report:
            report.runs()
            report.analyze_run()
            report.build_trees()
        assert contents(tmp_path) == before


def contents(folder: Path) -> dict[str, bytes | None]:
    return {path.name: path.read_bytes() if path.is_file() else None for path in folder.iterdir()}


def test_reading_imports_nothing_that_records() -> None:
    code = (
        "import sys, ferret.report\n"
        "print([name for name in sys.modules if name.startswith(('ferret.core', 'ferret.writers', 'beaver.'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
