"""What every sink promises, as tests to inherit."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing, suppress
from typing import TYPE_CHECKING, ClassVar

import pytest

from ferret.core import Profiler
from ferret.models import Ledger, ProcessInfo
from ferret.sinks.base import KeepsRuns, Readable, Reopens, Sink
from ferret.testing.brittle import BrittleBatch
from ferret.testing.laws import run_laws
from ferret.testing.patience import WAIT_S, Flag, in_background, in_child, in_time
from ferret.testing.records import facts, make_batch, spans_in
from ferret.testing.scenes import hostile_batch, record_tree
from ferret.testing.storage import fill_the_disk, killed_while_it_writes, numbered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ferret.batch import Batch, SpanData


class SinkContract:
    """The promises of a sink. Inherit, and say in `make_sink` how yours is made; pytest does the rest.

    A promise that cannot be tried is skipped, and the reason says what would change that.

    Attributes:
        persistent: whether a sink that is opened later finds what an earlier one stored on the same target. Say False for
            one that lives in its process; it is then not tried with a second sink, nor across a fork.
        fork_safe: whether a forked child may go on with the sink that it inherited. One with `reopen` need not say so.
        tolerance_s: seconds by which a stored time may differ, for a sink that keeps, say, whole microseconds.
        patience_s: seconds after which something hangs.
        examples: how many random sequences of calls are tried.
        shrink_s: seconds in which a shorter one is looked for, once one fails.
    """

    persistent: ClassVar[bool] = True
    fork_safe: ClassVar[bool] = False
    tolerance_s: ClassVar[float] = 0.0
    patience_s: ClassVar[float] = WAIT_S
    examples: ClassVar[int] = 25
    shrink_s: ClassVar[float] = 10.0

    # -- what to override --------------------------------------------------------------------------

    def make_sink(self, tmp_path: Path) -> Sink:
        """A new sink on a target in `tmp_path`, the same target whenever the folder is the same."""
        raise NotImplementedError(f"{type(self).__name__} must say in make_sink(self, tmp_path) how its sink is made")

    def reopen_sink(self, tmp_path: Path) -> Sink:
        """Another sink on the target of an earlier one; made by `make_sink` unless overridden."""
        return self.make_sink(tmp_path)

    def stored(self, tmp_path: Path, sink: Sink) -> Iterable[SpanData]:  # noqa: ARG002 - for those that override it
        """All that is stored on the target, in its order. Override it for a sink that ferret cannot read.

        Args:
            tmp_path: the folder of the target.
            sink: the sink that wrote it, flushed and still open.
        """
        if not isinstance(sink, Readable):
            pytest.skip(f"{type(sink).__name__} cannot be read back: override stored(), or give it segments()")
        return spans_in(sink)

    # -- what is tried -----------------------------------------------------------------------------

    @pytest.fixture
    def sink(self, tmp_path: Path) -> Iterator[Sink]:
        """A sink that is closed after the test; that closing works has a test of its own."""
        sink = self.make_sink(tmp_path)
        yield sink
        with suppress(Exception, pytest.fail.Exception):
            in_time(sink.close, "close()", self.patience_s)

    def test_it_has_the_methods_of_a_sink(self, sink: Sink) -> None:
        """A sink has write, flush and close."""
        assert isinstance(sink, Sink)

    def test_close_may_follow_at_once(self, tmp_path: Path) -> None:
        """A program that records nothing opens a sink and closes it."""
        in_time(self.make_sink(tmp_path).close, "close()", self.patience_s)

    def test_close_returns(self, tmp_path: Path) -> None:
        """Close comes back, in the thread that wrote or in another."""
        sink = self.make_sink(tmp_path)
        self._write(sink, make_batch())
        in_time(sink.close, "close()", self.patience_s)

    def test_what_is_written_is_found_unchanged(self, tmp_path: Path, sink: Sink) -> None:
        """Every attribute of every span comes back: hostile names, all of JSON, errors, parents, tasks, threads."""
        hostile = hostile_batch()
        self._write(sink, hostile)
        self._assert_stored(tmp_path, sink, hostile)

    @pytest.mark.parametrize("count", [1, 5000])
    def test_a_batch_of_any_size_is_stored_whole(self, tmp_path: Path, sink: Sink, count: int) -> None:
        """One span or thousands are stored alike."""
        batch = make_batch(count)
        self._write(sink, batch)
        self._assert_stored(tmp_path, sink, batch)

    def test_batches_keep_their_order(self, tmp_path: Path, sink: Sink) -> None:
        """Within a process, what was written first is found first."""
        batches = [make_batch(7, sequence=number) for number in range(12)]
        self._write(sink, *batches)
        self._assert_stored(tmp_path, sink, *batches)

    def test_flush_makes_it_findable(self, tmp_path: Path, sink: Sink) -> None:
        """After each flush everything that was written before it is found, while the sink stays open."""
        first, second = make_batch(), make_batch(sequence=1)
        self._write(sink, first)
        self._assert_stored(tmp_path, sink, first)
        self._write(sink, second)
        self._assert_stored(tmp_path, sink, first, second)

    def test_a_batch_that_comes_again_is_stored_once(self, tmp_path: Path, sink: Sink) -> None:
        """A retry after a write that did store the batch changes nothing, also after later batches."""
        first, second = make_batch(), make_batch(sequence=1)
        self._write(sink, first, first.again(), second, first.again(), second.again().again())
        self._assert_stored(tmp_path, sink, first, second)

    def test_a_batch_that_comes_again_to_another_sink_is_stored_once(self, tmp_path: Path) -> None:
        """A retry may reach a newly opened sink, as when a writing process was replaced."""
        self._needs_persistence()
        batch = make_batch()
        with closing(self.make_sink(tmp_path)) as sink:
            self._write(sink, batch)
        with closing(self.reopen_sink(tmp_path)) as again:
            self._write(again, batch.again())
            self._assert_stored(tmp_path, again, batch)

    def test_equal_spans_of_different_batches_are_all_kept(self, tmp_path: Path, sink: Sink) -> None:
        """It is the id that makes a batch the same, not what is in it."""
        batches = [make_batch(2, sequence=number, tags=[None]) for number in range(3)]
        self._write(sink, *batches)
        self._assert_stored(tmp_path, sink, *batches)

    def test_several_runs_share_a_target(self, tmp_path: Path, sink: Sink) -> None:
        """Runs that write in turns are kept apart, each in its own order, whatever their ids look like."""
        runs = ["one", "two", "zoë's run/%_*"]
        batches = [make_batch(sequence=number, run_id=run) for number in range(3) for run in runs]
        self._write(sink, *batches)
        found = list(self.stored(tmp_path, sink))
        assert len(found) == sum(map(len, batches))
        for run in runs:
            own = [batch for batch in batches if batch.origin.run_id == run]
            self._assert_same([span for span in found if span.run_id == run], own)
            if isinstance(sink, Readable):
                self._assert_same([span for segment in sink.segments(run) for span in segment], own)

    def test_what_was_closed_is_found_when_it_is_opened_again(self, tmp_path: Path) -> None:
        """Closing keeps everything, and a later sink adds to it."""
        self._needs_persistence()
        first, second = make_batch(), make_batch(sequence=1)
        with closing(self.make_sink(tmp_path)) as sink:
            sink.write(first)  # closing must do without a flush
        with closing(self.reopen_sink(tmp_path)) as again:
            self._assert_stored(tmp_path, again, first)
            self._write(again, second)
            self._assert_stored(tmp_path, again, first, second)

    def test_a_write_that_cannot_store_raises(self, sink: Sink) -> None:
        """A batch that breaks while the sink reads it is not stored, and the sink says so, wherever it breaks."""
        for sound in range(5):
            said = BrittleBatch(make_batch(5, sequence=sound), sound).write_to(sink)
            assert said != "lied", f"span {sound} of 5 could not be read, and write() returned as if all were stored"

    def test_a_write_that_fails_stores_nothing(self, tmp_path: Path, sink: Sink) -> None:
        """A batch is stored whole or not at all: after a failure nothing of it is found, and a retry stores it whole."""
        batches = [make_batch(5, sequence=number) for number in range(5)]
        for sound, batch in enumerate(batches):
            kept = BrittleBatch(batch, sound).write_to(sink) == "kept"
            sink.flush()
            self._assert_stored(tmp_path, sink, *batches[: sound + kept])
            self._write(sink, batch.again())
        self._assert_stored(tmp_path, sink, *batches)

    def test_every_sequence_of_calls_keeps_the_laws(self, tmp_path: Path) -> None:
        """Random lives: batches, retries, batches that break, flushes, other threads, closing and opening again."""
        pytest.importorskip("hypothesis", reason="random sequences need hypothesis: pip install hypothesis")
        from ferret.testing.sink_laws import SinkLaws  # noqa: PLC0415 - it is made of hypothesis

        life = type("Life", (SinkLaws,), {"contract": self, "folder": tmp_path})
        run_laws(life, examples=self.examples, steps=15, shrink_s=self.shrink_s)

    def test_a_killed_process_leaves_whole_batches(self, tmp_path: Path) -> None:
        """After a SIGKILL at any moment, what write returned from is there, whole, and a later sink goes on."""
        self._needs_persistence()
        self._needs_fork()
        written = 0
        for seed in range(6):
            first = seed * 1000
            count = killed_while_it_writes(lambda: self.make_sink(tmp_path), first, seed, 0.03)
            written += count
            with closing(self.reopen_sink(tmp_path)) as sink:
                sink.flush()
                found = Counter(span.name for span in self.stored(tmp_path, sink))
            own = {name: number for name, number in found.items() if first <= int(name.split()[1]) < first + 1000}
            numbers = sorted(int(name.split()[1]) for name in own)
            assert numbers[:count] == [*range(first, first + count)], "a batch that write() returned from is missing"
            assert len(numbers) <= count + 1, "more is stored than was written"
            for number in numbers:
                assert own[f"batch {number}"] == len(numbered(number)), f"batch {number} is not whole"
        assert written, "no batch was written before the kills"

    def test_a_full_disk_costs_nothing_that_comes_again(self, tmp_path: Path) -> None:
        """What a full disk keeps out is refused by an exception, and stored whole, once, when there is room again."""
        self._needs_persistence()
        self._needs_fork()

        def used() -> int:
            return max((path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()), default=0)

        fill_the_disk(lambda: self.make_sink(tmp_path), used, 40)
        with closing(self.reopen_sink(tmp_path)) as sink:
            found = Counter(span.name for span in self.stored(tmp_path, sink))
        assert found == {f"batch {number}": len(numbered(number)) for number in range(40)}

    def test_it_leaves_the_batch_as_it_was(self, sink: Sink) -> None:
        """A batch may go to other sinks too, and come again."""
        batch = hostile_batch()
        before, columns = list(batch), batch.columns()
        self._write(sink, batch)
        assert (list(batch), batch.columns(), len(batch)) == (before, columns, len(before))

    def test_it_may_be_used_from_another_thread(self, tmp_path: Path) -> None:
        """A sink is made in one thread, and most writers use and close it in another."""
        sink, batch = self.make_sink(tmp_path), make_batch()
        try:
            in_time(lambda: self._write(sink, batch), "writing from another thread", self.patience_s)
            self._assert_stored(tmp_path, sink, batch)
        finally:
            in_time(sink.close, "closing from another thread", self.patience_s)

    def test_the_facts_of_a_run_are_replaced_by_later_ones(self, sink: Sink) -> None:
        """The facts are given before the first batch and again at the end, and the last ones count."""
        if not isinstance(sink, KeepsRuns):
            pytest.skip(f"{type(sink).__name__} has no write_run(), which is optional")
        origin = make_batch().origin
        start = ProcessInfo(run_id=origin.run_id, token=origin.token, process_id=4242, argv=["zoë"])
        end = start.model_copy(update={"ended_at": 2.5, "ledger": Ledger(recorded=3, written=3)})
        sink.write_run(start)
        self._write(sink, make_batch())
        sink.write_run(end)
        sink.flush()
        if isinstance(sink, Readable):
            assert list(sink.processes()) == [end]

    @pytest.mark.parametrize("writer", ["sync", "threaded", "bounded"])
    def test_a_profiler_finds_in_it_what_its_ledger_says(self, tmp_path: Path, writer: str) -> None:
        """Under each writer, what is stored is what was recorded, and what the ledger calls written."""
        sink = self.make_sink(tmp_path)
        profiler = Profiler(sink=sink, writer=writer, batch_size=16, close_timeout=5)
        try:
            expected = record_tree(profiler, 50)
            assert profiler.flush(timeout=20)
            found = list(self.stored(tmp_path, sink))
        finally:
            report = profiler.close()
        assert [(span.name, span.tags) for span in found] == expected
        assert (report.recorded, report.written, report.lost) == (len(expected), len(found), 0)

    def test_parent_and_child_go_on_after_a_fork(self, tmp_path: Path) -> None:
        """After a fork, the spans of the parent and those of the child are on the target, each once."""
        self._needs_persistence()
        sink = self.make_sink(tmp_path)
        if not (self.fork_safe or isinstance(sink, Reopens)):
            sink.close()
            pytest.skip(f"{type(sink).__name__} has no reopen(), and the class does not say fork_safe = True")
        profiler = Profiler(sink=sink, writer="sync", batch_size=1)

        def live() -> None:
            profiler.start("in the child").end()
            assert profiler.close().written == 1

        try:
            profiler.start("before").end()
            in_child(live)
            profiler.start("after").end()
            profiler.flush()
            found = [span.name for span in self.stored(tmp_path, sink)]
        finally:
            profiler.close()
        assert sorted(found) == ["after", "before", "in the child"]

    def test_a_forked_child_goes_on_after_its_parent_has_closed(self, tmp_path: Path) -> None:
        """What a child writes is stored, also when its parent has closed the sink that both began with."""
        self._needs_persistence()
        self._needs_fork()
        sink = self.make_sink(tmp_path)
        if not (self.fork_safe or isinstance(sink, Reopens)):
            sink.close()
            pytest.skip(f"{type(sink).__name__} has no reopen(), and the class does not say fork_safe = True")
        profiler = Profiler(sink=sink, writer="sync", batch_size=1)
        profiler.start("before").end()
        parent_closed, child_recorded = Flag(tmp_path / "parent"), Flag(tmp_path / "child")

        def live() -> None:
            profiler.start("in the child").end()
            child_recorded.set()
            assert parent_closed.wait(self.patience_s)
            profiler.start("in the child, afterwards").end()
            assert profiler.close().written == 2

        with in_background(live, self.patience_s):
            assert child_recorded.wait(self.patience_s), "the child did not record"
            profiler.close()
            parent_closed.set()
        with closing(self.reopen_sink(tmp_path)) as again:
            found = sorted(span.name for span in self.stored(tmp_path, again))
        assert found == ["before", "in the child", "in the child, afterwards"]

    # -- how ---------------------------------------------------------------------------------------

    def _needs_persistence(self) -> None:
        if not self.persistent:
            pytest.skip("persistent = False: no second sink, and no forked child, shares the target")

    @staticmethod
    def _needs_fork() -> None:
        if not hasattr(os, "fork"):
            pytest.skip("there is no fork() here")

    @staticmethod
    def _write(sink: Sink, *batches: Batch) -> None:
        for batch in batches:
            sink.write(batch)
        sink.flush()

    def _assert_stored(self, tmp_path: Path, sink: Sink, *batches: Batch) -> None:
        self._assert_same(self.stored(tmp_path, sink), batches)

    def _assert_same(self, found: Iterable[SpanData], batches: Iterable[Batch]) -> None:
        have = [facts(span) for span in found]
        want = [facts(span) for batch in batches for span in batch]
        for one in want if self.tolerance_s else ():
            for name in ("start_time", "end_time", "duration"):
                one[name] = pytest.approx(one[name], rel=0, abs=self.tolerance_s)
        # The first that differs says more than a comparison of thousands.
        for number, (stored, written) in enumerate(zip(have, want, strict=False)):
            assert stored == written, f"span {number} of {len(want)} is not what was written"
        assert len(have) == len(want), "not as many spans are stored as were written"
