"""What all of ferret's writers share: a queue that any thread appends to, and one consumer that empties it."""

from __future__ import annotations

import enum
import sys
import threading
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from ferret import ambient, lifecycle, sigterm
from ferret.batch import Origin
from ferret.errors import LostSpansWarning
from ferret.ledger import live
from ferret.span import Alarmed
from ferret.writers.batching import Batcher
from ferret.writers.books import Books
from ferret.writers.delivery import Delivery, Refusal, process_info

if TYPE_CHECKING:
    from ferret.batch import Batch
    from ferret.config import Settings
    from ferret.models import DeliveryReport, Ledger, ProcessInfo
    from ferret.sinks.base import Sink
    from ferret.span import Record


LONGEST_S = threading.TIMEOUT_MAX / 2
"""Whoever wants to wait for longer, or for ever, waits for so long: a few centuries."""


class WriterState(enum.Enum):
    """A writer's life goes one way."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class QueueWriter(Alarmed):
    """A queue with one consumer at a time.

    `record` appends, which is one atomic step under the GIL, and compares the length of the queue with `alarm`; that is
    all, unless the alarm goes off. The subclass sets the alarm and says in `rouse` what is to happen then. (Spans do
    these two steps themselves, without the call, unless a subclass has a `record` of its own: 50 ns of 900.)

    Args:
        sink: an open sink.
        config: the options.
    """

    in_caller = False
    """Whether the program itself waits for the sink; see `Delivery`."""

    def __init__(self, sink: Sink, config: Settings) -> None:
        self._prepare(config)
        info = process_info(self._books.origin, config.writer)
        self._delivery = Delivery(self, sink, config, info, self._warn, in_caller=self.in_caller)
        self._go_live(self._delivery.place, info)

    def _go_live(self, place: str | None, info: ProcessInfo) -> None:
        """From now on, keep the counts where they survive the process, if the spans go to a file."""
        self._asked_live = True
        if place is not None:
            facts = info.model_dump_json().encode()
            with self._books.settled:  # another thread may be passing a verdict
                self._live_file = live.begin(self.counts, info.token, place, facts)

    def _prepare(self, config: Settings) -> None:
        self._config = config
        self._books = Books(Origin.here(config.run_id))
        self.queue = self._books.queue
        self.put = self._books.put
        self.counts = self._books.counts
        self._forked = False
        self._begin()

    def _begin(self) -> None:
        """Set what a forked child needs anew: no lock of the parent's is worth anything there."""
        self._batcher = Batcher(self._config.batch_size, self._config.flush_interval)
        self._last_look: float | None = None  # where nobody would wake the consumer: when it saw the queue last
        self._closing = threading.RLock()
        self._state = WriterState.OPEN
        self._report: DeliveryReport | None = None
        self._finished = self._finishing = False
        self._live_file = None
        self._asked_live = False
        self._exit_armed = not self._forked
        self._last_ticket = sys.maxsize
        self._warned = False
        self.alarm = 1

    @property
    def sink(self) -> Sink:
        """The sink that is written to; in a forked child its own, which is opened if it was not yet."""
        return self._delivery.sink

    # -- the caller's side -------------------------------------------------------------------------

    def record(self, record: Record) -> None:
        """Queue the span. Takes no lock and does no I/O, unless the writer says so (`sync`; `overflow="block"`)."""
        self.put(record)
        if len(self.queue) >= self.alarm:
            self.rouse()

    def rouse(self) -> None:
        """The slow path of `record`: a batch is due, or the consumer sleeps, or the writer was closed.

        Must ask `_refuse_if_closed` after it has set an alarm.
        """
        raise NotImplementedError

    def _refuse_if_closed(self) -> bool:
        """After the end, empty the queue that nobody else will.

        Asked after the span was queued and after the alarm was set, so that whoever comes last sweeps: a span that is
        recorded while `close` runs is either stored or counted, never stranded between the two.
        """
        if not self._exit_armed:  # the first span of a forked child: only now can its end be provided for
            self._exit_armed = True
            lifecycle.arm_child_exit()
        if self._state is WriterState.OPEN:
            return False
        self.alarm = 0
        if self._state is WriterState.CLOSED:
            while self._books.drop_newest("closed"):
                pass
        else:
            time.sleep(0)  # a thread that records in a tight loop must not keep the GIL from the one that closes
        return True

    def suppress(self) -> None:
        """Count a span of the sink's own."""
        self._books.count_dropped("suppressed")

    def stats(self) -> Ledger:
        """The ledger now."""
        with sigterm.uninterrupted():
            if self._state is WriterState.CLOSED:
                self._refuse_if_closed()
            return self._books.ledger()

    # -- the consumer's side -----------------------------------------------------------------------

    def _consume(self, *, force: bool = False) -> bool:
        """Deliver one batch if one is due; whether there was one. Only for the one consumer."""
        count = self._batcher.due(len(self.queue), time.monotonic(), since=self._last_look, force=force)
        if self._state is not WriterState.OPEN:
            # Only what was there when the closing began: busy producers must not keep a writer from ever ending.
            count = min(count, self._books.until(self._last_ticket))
        if not count:
            return False
        if not self._asked_live:
            self._child_goes_live()
        batch = self._books.take(count, self._is_ours if self._forked else None, urgent=force or self.in_caller)
        if batch is not None:
            self._handle(batch)
        return True

    def _child_goes_live(self) -> None:
        """In a forked child, which does so only once it has something to deliver."""
        self._go_live(self._delivery.place, self._delivery.info)

    def _handle(self, batch: Batch) -> None:
        """See the batch to its verdict, or the parts of it, where the sink would not take it whole."""
        waiting = [batch]
        while waiting:
            one = waiting.pop()
            verdict = self._delivery.deliver(one)
            if isinstance(verdict, Refusal):
                waiting += reversed(self._books.split(one.sequence, verdict.bad, verdict.failure))
            else:
                self._books.settle(one.sequence, verdict)
        self._note()

    def _note(self) -> None:
        """Have the ledger stored from time to time. Only for the one consumer."""
        self._delivery.note(self._books.ledger)

    def _resume(self) -> None:
        """Deliver what an interrupted consumer left behind, such as a sync writer's at Ctrl-C."""
        self._books.discard_empty()
        for batch in self._books.in_flight:
            if self._forked:
                self._books.disown(batch, self._is_ours)
            self._handle(batch.again())

    @staticmethod
    def _is_ours(record: Record) -> bool:
        return ambient.ids.owns(record[0])

    # -- the end -----------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was recorded before the call is in the sink."""
        raise NotImplementedError

    def close(self, timeout: float | None = None) -> DeliveryReport:
        """Store everything queued, within the time, and say what became of it."""
        if ambient.is_delivering(self) or self._is_worker():  # called by the sink, or by the garbage collector: this
            self._begin_to_close()  # thread cannot wait for itself, and closes when it comes to it
            return self._books.report(timed_out=False)
        timeout = min(self._config.close_timeout if timeout is None else timeout, LONGEST_S)
        now = time.monotonic()
        with sigterm.uninterrupted():
            if not self._closing.acquire(timeout=max(0.0, timeout)):  # another thread closes, and takes longer
                return self._books.report(timed_out=True)
            try:
                if self._report is None:
                    self._begin_to_close()
                    # the last part is for what is left to do once a failing sink is given up
                    timed_out = not self._close(now + timeout, last_try=now + timeout * 0.8)
                    self._report = self._seal(timed_out=timed_out)
                return self._report
            finally:
                self._closing.release()

    def _begin_to_close(self) -> None:
        if self._state is WriterState.OPEN:
            self._state = WriterState.CLOSING
            self._last_ticket = self._books.ticket()
        self.alarm = 0

    def _close(self, deadline: float, last_try: float) -> bool:
        """Deliver the rest and finish the sink; whether that was done in time.

        Args:
            deadline: when to stop waiting, of `time.monotonic`.
            last_try: when to stop trying a batch again.
        """
        raise NotImplementedError

    def _is_worker(self) -> bool:
        """Whether the calling thread is the consumer itself."""
        return False

    def abandon(self) -> None:
        """End by itself: the profiler was collected as garbage.

        That may happen in any thread, at any moment, also in one that the sink waits for: so nobody waits here. What is
        left to do is done at the end of the process, or when the next profiler is made.
        """
        if self._state is WriterState.OPEN:
            self._begin_to_close()
            lifecycle.close_later(self)

    def _seal(self, *, timed_out: bool) -> DeliveryReport:
        self._set_closed()
        if timed_out:
            self._books.give_up("close_timeout")
        self._refuse_if_closed()
        report = self._books.report(timed_out=timed_out)
        if report.lost:
            parts = {**report.dropped_by, **report.failed_by}
            reasons = ", ".join(f"{count} {reason}" for reason, count in parts.items())
            self._warn(f"{report.lost} of {report.recorded} spans were not stored ({reasons})")
        return report

    def _warn(self, what: str) -> None:
        """Tell the program that something was lost; once."""
        if self._warned:
            return
        self._warned = True
        message = f"ferret: {what} (said once; Profiler.stats() has the numbers)"
        with suppress(Exception):  # under -W error, the worker must not die of its own warning
            warnings.warn(message, LostSpansWarning, stacklevel=2)

    def _set_closed(self) -> None:
        with self._books.settled:
            self._state = WriterState.CLOSED
            self._books.settled.notify_all()

    def _finish(self) -> None:
        """The consumer's last act: everything queued is settled, so that the ledger that is stored is final."""
        self._set_closed()
        self._refuse_if_closed()
        if self._finished or self._finishing:
            return
        self._finishing = True  # a signal handler may close while this closes
        try:
            if not self._idle_child() and self._finish_sink() and self._live_file is not None:
                live.remove(self._live_file)
            with self._books.settled:
                self._finished = True
                self._books.settled.notify_all()
        finally:
            self._finishing = False

    def _idle_child(self) -> bool:
        """Whether this is a forked process that never recorded: it leaves no trace, and opens no sink to do so."""
        return self._forked and self._books.untouched

    def _finish_sink(self) -> bool:
        """Close the sink; whether the end of the run is stored, so that what survives a kill is of no use any more."""
        return self._delivery.finish(self._books.ledger())

    # -- fork --------------------------------------------------------------------------------------

    def after_fork(self) -> None:
        """Begin empty in a forked child, with an origin of its own; a writer that was closed stays closed."""
        closed = self._state is WriterState.CLOSED
        report = self._report
        origin = Origin.here(self._config.run_id)
        self._books.reset(origin)
        self._forked = True
        self._begin()
        if closed:
            self._state, self._report, self.alarm = WriterState.CLOSED, report, 0
        else:
            self._reopen(origin)

    def _reopen(self, origin: Origin) -> None:
        self._delivery.after_fork(origin)
