"""Random programs that record through a writer, and what must hold in each."""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from ferret.testing.laws import BrokenLawError, Story, told
from ferret.testing.scenes import in_threads

if TYPE_CHECKING:
    from ferret.models import DeliveryReport
    from ferret.testing.laws import Trial
    from ferret.testing.writers import WriterContract

SOMEWHERE = "recorded = written + dropped + failed + pending, and recorded is what the program recorded"
FLUSHED = "when flush says True, everything that was recorded before it is in the sink"
TRUE = "flush says True when the sink takes everything and nothing was lost"
CONSERVED = "after close, the sink has exactly what the ledger calls written"
ONCE = "a span is stored once"
UNCHANGED = "a span is stored as it was recorded"
ORDER = "the spans of a thread are stored in the order in which they ended"
SAME = "a batch that comes again has the same spans as the first time"
ONE_REPORT = "closing again tells the same"
CLOSED = "what is recorded after close is dropped, and counted as closed"


class WriterLaws(RuleBasedStateMachine):
    """One program. `contract` is set by the class that is made of it for each test."""

    contract: WriterContract
    trial: Trial

    def __init__(self) -> None:
        super().__init__()
        self.story = Story()
        self.broken = False
        self.recorded: dict[int, tuple[str, str]] = {}
        self.lock = threading.Lock()
        self.report: DeliveryReport | None = None
        self.after_close = 0
        self.sink = self.contract.make_gate()
        self.stack = ExitStack()
        options = {"batch_size": 4, "flush_interval": 60.0, "close_timeout": 5.0}
        self.profiler = self.stack.enter_context(self.contract.profiler(self.sink, **options))
        self.story.tell("a profiler was made, with batches of 4 spans")

    # -- what programs do --------------------------------------------------------------------------

    def _record(self, count: int) -> None:
        for _ in range(count):
            with self.lock:
                number = len(self.recorded)
                self.recorded[number] = (f"span {number % 3}", json.dumps({"n": number, "π": "é\n" * (number % 4)}))
            name, tags = self.recorded[number]
            self.profiler.start(name, json.loads(tags)).end()
        if self.report is not None:
            self.after_close += count

    @rule(count=st.integers(1, 11))
    @told
    def record(self, count: int) -> None:
        """The main thread records."""
        self.story.tell(f"{count} spans were recorded")
        self._record(count)
        self._look()

    @rule(threads=st.integers(2, 3), count=st.integers(1, 9))
    @told
    def record_in_threads(self, threads: int, count: int) -> None:
        """Several threads record at once."""
        self.story.tell(f"{threads} threads recorded {count} spans each")
        before = self.after_close
        in_threads(threads, lambda: self._record(count))
        if self.report is not None:
            self.after_close = before + threads * count  # `+=` of several threads may lose some
        self._look()

    @precondition(lambda self: self.report is None)
    @rule(times=st.integers(1, 2), after_storing=st.booleans())
    @told
    def the_sink_fails_for_a_while(self, times: int, after_storing: bool) -> None:
        """The next writes raise."""
        how = "after they stored the batch" if after_storing else "before they store anything"
        self.story.tell(f"the sink was told to fail in its next {times} writes, {how}")
        self.sink.fail(times, after_storing=after_storing)

    @precondition(lambda self: self.report is None and not self.contract.delivers_in_caller)
    @rule(count=st.integers(1, 9))
    @told
    def the_sink_hangs_for_a_while(self, count: int) -> None:
        """Spans are recorded while the sink is held, and nobody may say that they are stored."""
        self.story.tell(f"{count} spans were recorded while the sink was held, and flush was called with little time")
        if self.contract.blocks_when_full:
            self.profiler.flush(timeout=self.contract.patience_s)
        self.sink.hold()
        try:
            self._record(count)
            self.story.law(FLUSHED, False, bool(self.profiler.flush(timeout=0.01)))
        finally:
            self.sink.release()
        self._look()

    @precondition(lambda self: self.report is None)
    @rule()
    @told
    def flush(self) -> None:
        """Flush, and see what is stored."""
        recorded = set(self.recorded)
        complete = bool(self.profiler.flush(timeout=self.contract.patience_s))
        self.story.tell(f"flush said {complete}")
        if complete:
            stored = {span.tags["n"] for span in self.sink.spans}
            self.story.law(FLUSHED, "nothing missing", _missing(recorded - stored))
        ledger = self._look()
        self.story.law(TRUE, not (ledger.pending or ledger.lost), complete)

    @rule()
    @told
    def close(self) -> None:
        """Close, perhaps again."""
        report = self.contract.close(self.profiler)
        self.story.tell("the profiler was closed")
        if self.report is not None:
            self.story.law(ONE_REPORT, self.report, report)
        self.report = report

    # -- what must be true -------------------------------------------------------------------------

    def _look(self) -> Any:
        ledger = self.profiler.stats()
        parts = f"{ledger.written} written, {ledger.dropped} dropped, {ledger.failed} failed, {ledger.pending} pending"
        found = ledger.written + ledger.dropped + ledger.failed + ledger.pending
        wanted = len(self.recorded)
        if (ledger.recorded, found) != (wanted, wanted):
            raise BrokenLawError(SOMEWHERE, self.story.steps, f"{wanted} recorded", f"{ledger.recorded}: {parts}")
        if self.report is not None:
            before = self.report.dropped_by.get("closed", 0)
            self.story.law(CLOSED, before + self.after_close, ledger.dropped_by.get("closed", 0))
        return ledger

    @told
    def teardown(self) -> None:
        """Every program is closed, and judged."""
        with self.stack:
            if self.broken:
                return
            if self.report is None:
                self.report = self.contract.close(self.profiler)
                self.story.tell("the profiler was closed")
            ledger = self._look()
            for attempts in self.sink.attempts.values():
                for again in attempts[1:]:
                    self.story.law(SAME, attempts[0], again)
            stored = self.sink.spans
            numbers = Counter(span.tags["n"] for span in stored)
            self.story.law(
                ONCE, [], [f"span {number}, {times} times" for number, times in numbers.items() if times > 1]
            )
            doubtful = len(numbers) - ledger.written  # stored by a write that raised, and then given up
            if not 0 <= doubtful <= ledger.failed:
                raise BrokenLawError(CONSERVED, self.story.steps, f"{ledger.written} spans", f"{len(numbers)} spans")
            for span in stored:
                name, tags = self.recorded[span.tags["n"]]
                self.story.law(UNCHANGED, (name, json.loads(tags)), (span.name, span.tags))
            by_thread = defaultdict(list)
            for span in stored:
                by_thread[span.thread_id].append(span.tags["n"])
            for found in by_thread.values():
                self.story.law(ORDER, sorted(found), found)


def _missing(numbers: set[int]) -> str:
    return f"{len(numbers)} spans missing: {sorted(numbers)[:10]}" if numbers else "nothing missing"
