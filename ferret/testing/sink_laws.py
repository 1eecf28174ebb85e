"""Random lives of a sink, and what must hold in each."""

from __future__ import annotations

import shutil
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from ferret.models import Ledger, ProcessInfo
from ferret.sinks.base import KeepsRuns, Readable
from ferret.testing.brittle import BrittleBatch
from ferret.testing.laws import BrokenLawError, Story, told
from ferret.testing.patience import in_time
from ferret.testing.records import make_batch
from ferret.testing.scenes import NAMES, OUTCOMES, TAGS, TASKS

if TYPE_CHECKING:
    from pathlib import Path

    from ferret.batch import Batch, SpanData
    from ferret.sinks.base import Sink
    from ferret.testing.laws import Trial
    from ferret.testing.sinks import SinkContract

ONCE = "what was written is found after a flush: every batch whole, once, unchanged, in the order of its run"
WHOLE = "a write that does not store a batch whole raises, and stores nothing of it"
KEPT = "what was written is found when it is opened again"
FACTS = "the last facts of each run are those that count"


class SinkLaws(RuleBasedStateMachine):
    """One life of a sink. `contract` and `folder` are set by the class that is made of it for each test."""

    contract: SinkContract
    folder: Path
    trial: Trial
    lives = 0

    def __init__(self) -> None:
        super().__init__()
        self.story = Story()
        self.broken = False
        self.written: list[Batch] = []
        self.facts: dict[tuple[str, str], ProcessInfo] = {}
        self.sequences: dict[str, int] = defaultdict(int)
        SinkLaws.lives += 1
        self.home = self.folder / f"life-{SinkLaws.lives}"
        self.home.mkdir()
        self.sink: Sink = self.contract.make_sink(self.home)
        self.story.tell("the sink was opened")

    # -- what writers do ---------------------------------------------------------------------------

    def _batch(self, run: str, count: int, shift: int) -> Batch:
        sequence = self.sequences[run]
        self.sequences[run] += 1

        def turned(values: list[Any]) -> list[Any]:
            return values[shift % len(values) :] + values[: shift % len(values)]

        return make_batch(
            count, sequence=sequence, run_id=run, names=turned(NAMES), tags=turned(TAGS), outcomes=turned(OUTCOMES),
            tasks=turned(TASKS), parents=[None, 0],
        )  # fmt: skip

    @rule(run=st.sampled_from(["one", "zoë's run/%_*"]), count=st.integers(1, 12), shift=st.integers(0, 40))
    @told
    def write(self, run: str, count: int, shift: int) -> None:
        """A writer hands over its next batch."""
        batch = self._batch(run, count, shift)
        self.story.tell(f"batch {batch.sequence} of {run!r} was written, {count} spans")
        self.sink.write(batch)
        self.written.append(batch)

    @rule(count=st.integers(1, 5))
    @told
    def write_from_another_thread(self, count: int) -> None:
        """Another thread writes."""
        batch = self._batch("one", count, 0)
        self.story.tell(f"batch {batch.sequence} of 'one' was written from another thread, {count} spans")
        in_time(lambda: self.sink.write(batch), "writing from another thread", self.contract.patience_s)
        self.written.append(batch)

    @precondition(lambda self: self.written)
    @rule(data=st.data(), times=st.integers(1, 2))
    @told
    def write_again(self, data: st.DataObject, times: int) -> None:
        """A retry brings a batch that was stored."""
        index = data.draw(st.integers(0, len(self.written) - 1))
        batch = self.written[index]
        for _ in range(times):
            batch = batch.again()
            self.story.tell(f"batch {batch.sequence} of {batch.origin.run_id!r} came again, attempt {batch.attempt}")
            self.sink.write(batch)

    @rule(count=st.integers(1, 6), sound=st.integers(0, 5), retried=st.booleans())
    @told
    def write_what_cannot_be_read(self, count: int, sound: int, retried: bool) -> None:
        """A batch breaks while the sink reads it, and perhaps comes again in a sound state."""
        sound %= count
        batch = self._batch("one", count, 0)
        self.story.tell(
            f"batch {batch.sequence} of 'one' was written, and its span {sound} of {count} could not be read"
        )
        said = BrittleBatch(batch, sound).write_to(self.sink)
        if said == "lied":
            raise BrokenLawError(WHOLE, self.story.steps, "an exception", "none")
        if retried:
            self.story.tell(f"batch {batch.sequence} of 'one' came again, sound")
            self.sink.write(batch.again())
        if retried or said == "kept":
            self.written.append(batch)

    @rule(run=st.sampled_from(["one", "zoë's run/%_*"]), ended=st.none() | st.floats(1, 100))
    @told
    def write_facts(self, run: str, ended: float | None) -> None:
        """A writer tells the facts of a run, at its beginning or end."""
        if not isinstance(self.sink, KeepsRuns):
            return
        origin = make_batch(run_id=run).origin
        ledger = None if ended is None else Ledger(recorded=3, written=3)
        facts = ProcessInfo(run_id=run, token=origin.token, process_id=4242, ended_at=ended, ledger=ledger)
        self.story.tell(f"the facts of {run!r} were written, with its end at {ended}")
        self.sink.write_run(facts)
        self.facts[run, origin.token] = facts

    # -- what readers find -------------------------------------------------------------------------

    @rule()
    @told
    def flush(self) -> None:
        """Flush, and look."""
        self.sink.flush()
        self.story.tell("flush, and everything was read")
        self._look(ONCE)

    @precondition(lambda self: self.contract.persistent)
    @rule()
    @told
    def open_again(self) -> None:
        """Close it without a flush, and open another on the same target."""
        in_time(self.sink.close, "close()", self.contract.patience_s)
        self.sink = self.contract.reopen_sink(self.home)
        self.story.tell("the sink was closed, another was opened on its target, and everything was read")
        self._look(KEPT)

    def _look(self, law: str) -> None:
        found = defaultdict(list)
        for span in self.contract.stored(self.home, self.sink):
            found[span.run_id].append(span)
        expected: dict[str, list[SpanData]] = defaultdict(list)
        for batch in self.written:
            expected[batch.origin.run_id] += list(batch)
        for run in sorted(found.keys() | expected.keys()):
            self.story.same_spans(law, expected[run], found[run], self.contract.tolerance_s)
        if isinstance(self.sink, KeepsRuns) and isinstance(self.sink, Readable):
            processes = {(one.run_id, one.token): one for one in self.sink.processes()}
            self.story.law(FACTS, self.facts, processes)

    @told
    def teardown(self) -> None:
        """The end of every life is a last look."""
        try:
            if not self.broken:
                self.sink.flush()
                self.story.tell("flush, and everything was read")
                self._look(ONCE)
                self.story.tell("the sink was closed")
                in_time(self.sink.close, "close()", self.contract.patience_s)
            else:
                with suppress(Exception):
                    self.sink.close()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)
