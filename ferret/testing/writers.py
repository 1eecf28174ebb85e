"""What every writer promises, as tests to inherit."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from ferret.plugins import plugins, register
from ferret.testing import far
from ferret.testing.far import Interruption
from ferret.testing.gated import REJECTED, GatedSink, Script
from ferret.testing.laws import run_laws
from ferret.testing.patience import WAIT_S, in_child, in_time, wait_until
from ferret.testing.records import make_batch
from ferret.testing.scenes import MeasuredSink, by_thread, in_threads, profiler_of, record, totals
from ferret.writers.base import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ferret.batch import SpanData
    from ferret.config import Settings
    from ferret.core import Profiler
    from ferret.models import DeliveryReport, Ledger
    from ferret.sinks.base import Sink

    type Gate = GatedSink | far.FarGate


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
class WriterContract:
    """The promises of a writer. Inherit, and name yours in `writer`; pytest does the rest.

    A writer that opens its sink elsewhere (`opens_sink`) gets one by name, which the tests reach through files.

    Attributes:
        writer: the name of a plugin's writer, or its factory; or override `make_writer`.
        options: options of `Profiler` that the writer needs. A bounded queue must hold 2,000 spans.
        delivers_in_caller: whether the program itself waits for the sink. A sink that hangs is then not tried.
        blocks_when_full: whether the program waits where the queue is full. Spans that are recorded while a sink hangs are
            then recorded with an empty queue, which must take nine.
        patience_s: seconds after which something hangs.
        examples: how many random programs are tried.
        shrink_s: seconds in which a shorter one is looked for, once one fails.
    """

    writer: ClassVar[str | Callable[[Any, Any], Writer] | None] = None
    options: ClassVar[dict[str, Any]] = {}
    delivers_in_caller: ClassVar[bool] = False
    blocks_when_full: ClassVar[bool] = False
    patience_s: ClassVar[float] = WAIT_S
    examples: ClassVar[int] = 25
    shrink_s: ClassVar[float] = 10.0

    # -- what to override --------------------------------------------------------------------------

    def make_writer(self, sink: Sink, settings: Settings) -> Writer:
        """The writer, made as a profiler makes it."""
        return self._factory()(sink, settings)

    def _factory(self) -> Callable[[Any, Any], Writer]:
        factory = type(self).writer  # by the class: a function must not become a method
        if factory is None:
            raise NotImplementedError(f"{type(self).__name__} must say in `writer` which writer it tries")
        return plugins().find("writer", factory) if isinstance(factory, str) else factory

    # -- what is tried -----------------------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def _scene(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where sinks of other processes are met; and no long pauses of ferret's own between two attempts."""
        self._folder = tmp_path
        self._gates = 0
        monkeypatch.setattr("ferret.writers.delivery.FIRST_DELAY_S", 0.001)
        monkeypatch.setattr("ferret.writers.delivery.LONGEST_DELAY_S", 0.05)

    def test_it_has_the_methods_of_a_writer(self) -> None:
        """A writer has record, suppress, flush, stats, close and after_fork."""
        with self.profiler(self.make_gate()) as profiler:
            assert isinstance(profiler.writer, Writer)

    def test_four_threads_have_everything_stored_once_and_in_their_order(self) -> None:
        """After close, each thread's spans are in the sink, none missing, none twice, in the order it recorded them."""
        sink = self.make_gate()
        with self.profiler(sink, batch_size=16) as profiler:
            in_threads(4, lambda: record(profiler, range(400)))
            report = self.close(profiler)
        assert totals(report) == (1600, 1600, 0, 0)
        assert by_thread(sink.spans) == [list(range(400))] * 4

    @pytest.mark.parametrize(
        ("retryable", "permanent"),
        [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.4, 0.3)],
        ids=["always succeeds", "fails for a while", "rejects", "both"],
    )
    def test_tries_and_successes_are_exactly_what_the_sink_made_of_them(
        self, retryable: float, permanent: float
    ) -> None:
        """Stored are the batches that were sent less those rejected; each failure that may pass costs one more try."""
        if permanent and REJECTED is None:
            pytest.skip("this ferret has no RejectedError: a sink cannot say that it will never take a batch")
        sent = 12 if isinstance(self.make_gate(), far.FarGate) else 40
        script = Script(seed=20, retryable=retryable, permanent=permanent)
        fates = [script.fate(number) for number in range(sent)]
        failures, rejected = sum(len(fate.failures) for fate in fates), sum(fate.rejected for fate in fates)
        sink = self.make_gate()
        sink.follow(script)
        with self.profiler(sink, batch_size=1) as profiler:
            for number in range(sent):
                record(profiler, [number])
                # so that each span is a batch, in any writer
                complete = profiler.flush(timeout=self.patience_s)
                assert complete or permanent, f"flush() was false after span {number}, which the sink took in the end"
            report = self.close(profiler)
        expected = [number for number, fate in enumerate(fates) if not fate.rejected]
        assert [span.tags["n"] for span in sink.spans] == expected, "successes = sent - permanent"
        assert sink.writes == sent + failures, "tries = sent + retryable"
        assert totals(report) == (sent, sent - rejected, 0, rejected), "recorded, written, dropped, failed"

    def test_a_batch_comes_again_as_it_was(self) -> None:
        """A retry has the spans of the first attempt, all of them, in their order."""
        sink = self.make_gate()
        sink.follow(Script(seed=1, retryable=1.0))
        with self.profiler(sink, batch_size=6) as profiler:
            record(profiler, range(60))
            self.close(profiler)
        assert any(len(attempts) > 1 for attempts in sink.attempts.values()), "nothing came again"
        for attempts in sink.attempts.values():
            assert all(again == attempts[0] for again in attempts), "a batch came again with other spans in it"
        assert by_thread(sink.spans) == [list(range(60))]

    def test_what_is_recorded_last_is_stored(self) -> None:
        """Close delivers the batch that is not full yet, and so does the flush before it."""
        for count in (1, 5, 7):
            sink = self.make_gate()
            with self.profiler(sink, batch_size=3, flush_interval=3600) as profiler:
                record(profiler, range(count))
                report = self.close(profiler)
            assert totals(report) == (count, count, 0, 0)
            assert by_thread(sink.spans) == [list(range(count))]

    def test_close_returns_while_the_sink_works(self) -> None:
        """With a sink that works, close comes back."""
        with self.profiler(self.make_gate()) as profiler:
            record(profiler, range(10))
            self.close(profiler)

    def test_every_program_keeps_the_laws(self) -> None:
        """Random programs: threads, flushes, a sink that fails or hangs for a while, closing, recording after it."""
        pytest.importorskip("hypothesis", reason="random sequences need hypothesis: pip install hypothesis")
        from ferret.testing.writer_laws import WriterLaws  # noqa: PLC0415 - it is made of hypothesis

        program = type("Program", (WriterLaws,), {"contract": self})
        starts = getattr(self._factory(), "opens_sink", False)  # each program starts another interpreter
        examples = max(1, self.examples // 5) if starts else self.examples
        run_laws(program, examples=examples, steps=12, shrink_s=self.shrink_s)

    def test_the_ledger_adds_up_at_every_look(self) -> None:
        """Whoever looks, while others record and the sink writes, finds every span in exactly one place."""
        looks: list[Ledger] = []
        with self.profiler(self.make_gate(), batch_size=16) as profiler:
            producer = threading.Thread(target=lambda: record(profiler, range(1500)))
            producer.start()
            while producer.is_alive():
                looks.append(profiler.stats())
            looks += [profiler.stats(), self.close(profiler), profiler.stats()]
        for ledger in looks:
            assert ledger.recorded == ledger.written + ledger.dropped + ledger.failed + ledger.pending
            assert ledger.dropped == sum(ledger.dropped_by.values())
            assert ledger.failed == sum(ledger.failed_by.values())
        assert [ledger.recorded for ledger in looks] == sorted(ledger.recorded for ledger in looks)
        assert [ledger.recorded for ledger in looks[-3:]] == [1500] * 3

    def test_a_look_while_the_sink_works_misses_no_span(self) -> None:
        """What the sink is busy with is pending."""
        sink = self.make_gate()
        with self.profiler(sink, batch_size=4) as profiler:
            sink.hold()
            producer = threading.Thread(target=lambda: record(profiler, range(10)))
            producer.start()
            try:
                assert sink.entered.acquire(timeout=self.patience_s), "a full batch was not written"
                if not self.delivers_in_caller:
                    producer.join()
                look = profiler.stats()
            finally:
                sink.release()
                producer.join()
            self.close(profiler)
        recorded = 4 if self.delivers_in_caller else 10
        assert (look.recorded, look.written, look.pending) == (recorded, 0, recorded)

    def test_a_span_after_close_is_counted_as_dropped(self) -> None:
        """Recording after close neither raises nor stores, and is counted as `closed`."""
        sink = self.make_gate()
        with self.profiler(sink) as profiler:
            record(profiler, [0])
            self.close(profiler)
            record(profiler, [1])
            profiler.writer.record(make_batch(1).records[0])
            assert profiler.stats().dropped_by == {"closed": 2}
        assert [span.tags for span in sink.spans] == [{"n": 0}]

    def test_closing_twice_gives_one_report(self) -> None:
        """The second close changes nothing, and closes the sink no second time."""
        sink = self.make_gate()
        with self.profiler(sink) as profiler:
            record(profiler, range(3))
            first = self.close(profiler)
            assert self.close(profiler) == first
        assert sink.closes == 1

    def test_closing_in_two_threads_gives_one_report(self) -> None:
        """Threads that close at the same time wait for one another, and get the same report."""
        sink = self.make_gate()
        with self.profiler(sink) as profiler:
            record(profiler, range(100))
            reports: list[DeliveryReport] = []
            in_threads(2, lambda: reports.append(self.close(profiler)))
        assert reports[0] == reports[1]
        assert totals(reports[0]) == (100, 100, 0, 0)
        assert len(sink.spans) == 100

    def test_flush_is_true_only_once_all_is_stored(self) -> None:
        """While the sink is busy flush waits or says False; when it says True, the sink has everything."""
        sink = self.make_gate()
        with self.profiler(sink) as profiler:
            sink.hold()
            record(profiler, range(3))
            answers: list[tuple[int, int]] = []
            flusher = threading.Thread(target=lambda: answers.append((profiler.flush(), len(sink.spans))), daemon=True)
            flusher.start()
            assert sink.entered.acquire(timeout=self.patience_s), "flush did not have the batch written"
            if not self.delivers_in_caller:
                assert not profiler.flush(timeout=0.02)
            assert answers == [], "flush returned before the sink had stored the spans"
            sink.release()
            wait_until(lambda: answers, "flush did not return", self.patience_s)
        assert answers == [(True, 3)]

    @pytest.mark.parametrize("after_storing", [False, True], ids=["before storing", "after storing"])
    def test_a_sink_that_fails_for_a_while_gets_everything_once(self, after_storing: bool) -> None:
        """A batch comes again under its id until the sink takes it, whether or not a failed write had stored it."""
        sink = self.make_gate()
        sink.fail(2, after_storing=after_storing)
        with self.profiler(sink) as profiler:
            record(profiler, range(10))
            report = self.close(profiler)
        assert totals(report) == (10, 10, 0, 0)
        assert by_thread(sink.spans) == [list(range(10))]
        assert sink.writes >= 3

    def test_what_a_broken_sink_does_not_take_is_counted_as_failed(self) -> None:
        """A sink that fails for good costs its spans, which are counted and given a reason; nothing is raised."""
        sink = self.make_gate()
        sink.fail()
        with self.profiler(sink, close_timeout=0.3) as profiler:
            record(profiler, range(10))
            report = self.close(profiler)
            assert not profiler.flush(timeout=0)
        assert totals(report) == (10, 0, 0, 10)
        assert sum(report.failed_by.values()) == 10
        assert sink.spans == []

    def test_it_survives_a_sink_that_raises_what_is_no_exception(self) -> None:
        """A sink's BaseException neither stops the writer nor makes a span uncounted."""
        sink = self.make_gate()
        sink.fail(1, error=Interruption)
        with self.profiler(sink) as profiler:
            for number in range(2):
                with suppress(Interruption):  # where the caller delivers, it is the caller's
                    record(profiler, [number])
                    profiler.flush(timeout=self.patience_s)
            report = self.close(profiler)
        assert (report.recorded, report.pending, report.written) == (2, 0, len(sink.spans))
        assert {"n": 1} in [span.tags for span in sink.spans], "nothing was delivered after it"

    def test_close_does_not_wait_for_a_sink_that_hangs(self) -> None:
        """Close returns in its time, counts as failed what the sink did not confirm, and never counts it otherwise."""
        if self.delivers_in_caller:
            pytest.skip("delivers_in_caller = True: the program waits for the sink, also when that hangs")
        sink = self.make_gate()
        with self.profiler(sink, batch_size=4) as profiler:
            sink.hold()
            record(profiler, range(10))
            assert sink.entered.acquire(timeout=self.patience_s), "a full batch was not written"
            started = time.monotonic()
            report = in_time(lambda: profiler.close(timeout=0.2), "close(timeout=0.2)", self.patience_s)
            assert time.monotonic() - started < 0.2 + min(2.0, self.patience_s)
            sink.release()
            self._nothing_runs()
            after = profiler.stats()
        assert report.timed_out
        assert totals(report) == totals(after) == (10, 0, 0, 10)

    def test_the_sinks_own_spans_do_not_feed_back(self) -> None:
        """A sink whose code is measured does not make a batch of every batch: what it records is counted and left out."""
        if getattr(self._factory(), "opens_sink", False):
            pytest.skip("opens_sink = True: what the sink records in another process is no span of this profiler")
        sink = MeasuredSink()
        with self.profiler(sink, batch_size=1) as profiler:
            sink.profiler = profiler
            record(profiler, range(5))
            report = self.close(profiler)
        assert (report.written, report.dropped_by) == (5, {"suppressed": len(sink.batches)})
        assert by_thread(sink.spans) == [list(range(5))]

    def test_nothing_runs_after_close(self) -> None:
        """Close ends the threads that the writer started, and closes the sink."""
        sink = self.make_gate()
        with self.profiler(sink) as profiler:
            record(profiler, range(3))
            self.close(profiler)
            self._nothing_runs()
        assert sink.closed

    def test_a_forked_child_begins_empty(self) -> None:
        """What waits at a fork is the parent's; the child counts from zero, and delivers its own."""
        sink = self.make_gate()
        with self.profiler(sink, flush_interval=3600) as profiler:
            record(profiler, range(3))

            def own() -> list[SpanData]:
                return [span for span in sink.spans if span.process_id == os.getpid()]

            def live() -> None:
                assert profiler.stats().recorded == 0
                record(profiler, [99])
                assert totals(profiler.close()) == (1, 1, 0, 0)
                assert [span.tags for span in own()] == [{"n": 99}]

            in_child(live, self.patience_s)
            record(profiler, [3])
            assert totals(self.close(profiler)) == (4, 4, 0, 0)
        assert by_thread(own()) == [[0, 1, 2, 3]]

    # -- how ---------------------------------------------------------------------------------------

    def make_gate(self) -> Gate:
        """A sink that tests hold and make fail: an object, or for a writer that opens its sink elsewhere, by name."""
        if not getattr(self._factory(), "opens_sink", False):
            return GatedSink()
        if not plugins().manager.is_registered(far):
            register(far)
        self._gates += 1
        return far.FarGate(self._folder / f"far-{self._gates}")

    @contextmanager
    def profiler(self, sink: Gate | Sink, **options: Any) -> Iterator[Profiler]:
        """A real profiler with the writer that is tried; closed at the end, whatever happens."""
        self._threads_before = set(threading.enumerate())
        given: Sink | str = sink.spec if isinstance(sink, far.FarGate) else sink
        profiler = profiler_of(self.make_writer, given, {**self.options, **options})
        try:
            yield profiler
        finally:
            if isinstance(sink, GatedSink | far.FarGate):
                sink.release()  # or else a failing test would leave a thread that waits for it
            with suppress(Exception, pytest.fail.Exception):
                self.close(profiler)

    def close(self, profiler: Profiler) -> DeliveryReport:
        """Close it, and fail if that hangs."""
        return in_time(profiler.close, "close()", self.patience_s)

    def _nothing_runs(self) -> None:
        before = self._threads_before
        wait_until(lambda: set(threading.enumerate()) <= before, "a thread of the writer did not end", self.patience_s)
