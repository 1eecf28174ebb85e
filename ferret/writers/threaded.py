"""`threaded`, the default: a thread delivers, and the caller never waits."""

from __future__ import annotations

import math
import sys
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue

from ferret import ambient, sigterm
from ferret.tags import error_text
from ferret.writers.batching import BEHIND, next_alarm
from ferret.writers.queueing import QueueWriter, WriterState

IDLE_WAIT_S = 1.0
"""How long the worker sleeps with nothing to do. It is woken for work; this only bounds the harm of a lost wake-up."""

BEAT_S = 0.1
BUSY_BEATS = 10
"""While spans come, and for so many beats after, the worker looks at the queue by itself on each beat, and nobody wakes it.
A wake-up costs the caller 10 to 25 µs; without any, the worst of 1,000 tasks that end together waits 5 µs rather than 20."""
FAR = 8_192
"""Spans in the queue that are too many for the next beat to wait for."""

RESTART_DELAY_S = 0.05
"""Before a worker that met an error of its own goes on."""


class ThreadedWriter(QueueWriter):
    """Delivers from a thread of its own, which starts with the first span.

    - Runs in: one daemon thread; in the caller's, where no thread can start any more (interpreter shutdown).
    - Holds: without bound, about 250 bytes a span, while the sink is slower than the program.
    - When the sink is slow or fails: the caller does not notice; the queue grows.
    - Lost on SIGKILL: what is queued, `flush_interval` of spans if the sink keeps up.
    """

    def _begin(self) -> None:
        super()._begin()
        self._worker: threading.Thread | None = None
        self._starting = threading.RLock()
        self._wake: SimpleQueue[None] = SimpleQueue()  # its put() may be called from a signal handler
        self._flush_ticket = self._flushed = 0
        self._busy_until = 0.0
        self._set_alarms()

    def _set_alarms(self) -> None:
        self._batch_alarm = self._batcher.batch_size
        self._far_alarm = max(self._batch_alarm, FAR)
        self._no_alarm = sys.maxsize

    # -- the caller's side -------------------------------------------------------------------------

    def rouse(self) -> None:  # noqa: D102 - as in the base
        try:
            self._look_after()
        except BaseException:  # a recursion that ran too deep, or what a signal handler raised
            self.alarm = 1
            raise

    def _look_after(self) -> None:
        # Each alarm goes off once: the worker sets the next. A record that comes between the two lines cannot be
        # missed, because the worker looks at the queue after it has set an alarm, and is woken after this has.
        queued = len(self.queue)
        self.alarm = next_alarm(queued, self._batch_alarm, self._no_alarm)
        if self._refuse_if_closed():
            return
        if not self._has_worker() and not self._start(wait=0):
            self.alarm = 1  # the next span tries again
        if self._wake.empty():  # a worker that hangs takes no tokens, and they must not pile up
            self._wake.put(None)
        if BEHIND <= queued < self._no_alarm:
            # A program that does nothing but record would give the worker the GIL only after 5 ms, each time that it asks,
            # and the queue would grow: a burst of a million spans left 720,000 in it, and 60,000 to 130,000 now.
            time.sleep(0)

    def _start(self, wait: float) -> bool:
        """Start the worker, or where no thread can start, do its work here; whether there is a worker.

        Args:
            wait: seconds to wait for another caller who is at it; a span that is recorded does not wait.
        """
        with sigterm.uninterrupted():
            if not self._starting.acquire(timeout=wait):
                return True
            try:
                return self._has_worker() or self._start_thread()
            finally:
                self._starting.release()

    def abandon(self) -> None:
        """Let the worker end by itself."""
        super().abandon()
        self._wake.put(None)

    def _has_worker(self) -> bool:
        # A thread whose start was interrupted can die before it comes to its work (CPython: a KeyError of `_limbo`).
        return self._worker is not None and self._worker.is_alive()

    def _start_thread(self) -> bool:
        # It is the worker before it runs: a start that is interrupted (by Ctrl-C, or an alarm that raises) may leave a
        # thread that runs, and a thread that is not the worker ends soon.
        before = self._worker
        self._worker = worker = threading.Thread(target=self._work, args=[before], name="ferret-writer", daemon=True)
        try:
            worker.start()
        except BaseException as error:
            if worker.ident is not None:
                return True
            self._worker = None
            if isinstance(error, RecursionError) or not isinstance(error, RuntimeError):
                if isinstance(error, Exception):
                    return False
                raise
            # "can't start new thread at interpreter shutdown"
            while self._consume(force=True):
                pass
            return False
        return True

    # -- the worker's side -------------------------------------------------------------------------

    def _work(self, before: threading.Thread | None) -> None:
        if before is not None and before.is_alive():
            # its start was interrupted, by a signal handler that started this one: there must never be two at work
            self._wake.put(None)
            before.join()
        while self._is_worker():
            try:
                self._resume()
                while self._is_worker() and not self._work_once():
                    pass
            except BaseException as error:  # noqa: BLE001 - nobody else would notice that the worker is gone
                self._warn(f"the writer's thread failed and goes on: {error_text(error)}")
                time.sleep(RESTART_DELAY_S)
            else:
                return

    def _work_once(self) -> bool:
        """Deliver what is due, then sleep until more is; whether that was the last."""
        closing = self._state is not WriterState.OPEN
        if self._consume(force=closing or self._flush_is_due()):
            return False
        if closing:
            self._finish()
            return True
        self._sleep()
        return False

    def _flush_is_due(self) -> bool:
        """Whether somebody waits for spans that are still queued; answers those whose spans are stored."""
        if self._flushed >= self._flush_ticket:
            return False
        if not self._books.reached(self._flush_ticket):
            return True
        self._answer_flushes()
        return False

    def _sleep(self) -> None:
        now, beat = time.monotonic(), min(BEAT_S, self._batcher.flush_interval)
        if self.queue:
            self._busy_until = now + BUSY_BEATS * beat
        busy = now < self._busy_until
        self.alarm = self._far_alarm if busy else self._batch_alarm if self.queue else 1
        if self._state is not WriterState.OPEN:
            self.alarm = 0
            return
        patience = self._batcher.patience(now)
        if len(self.queue) >= self._batch_alarm or (self.queue and patience is None):
            return  # spans came after the last look
        self.counts.retire()
        self._note()
        wait = IDLE_WAIT_S if patience is None else patience
        self._last_look = now if busy else None
        with suppress(Empty):
            self._wake.get(timeout=min(wait, beat) if busy else wait)

    def _answer_flushes(self) -> None:
        ticket = self._flush_ticket
        self._delivery.flush()
        self._answered(ticket)

    def _answered(self, ticket: int) -> None:
        with self._books.settled:
            self._flushed = max(self._flushed, ticket)
            self._books.settled.notify_all()

    # -- the end -----------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> bool:
        """Have the worker deliver what is queued, and wait for it. False at once in the sink's own code."""
        with sigterm.uninterrupted():
            return self._flush(timeout)

    def _flush(self, timeout: float | None) -> bool:
        books = self._books
        ticket = books.ticket()
        if ambient.is_delivering(self) or self._is_worker():  # the worker cannot wait for itself
            return False
        if self._state is WriterState.OPEN and ticket > self._flushed:
            with books.settled:
                self._flush_ticket = max(self._flush_ticket, ticket)
            deadline = math.inf if timeout is None else time.monotonic() + timeout
            while not (self._flushed >= ticket or self._no_use_waiting()) and time.monotonic() <= deadline:
                if not self._has_worker() and not self._start(wait=self._config.close_timeout):
                    self._flushed = ticket
                if self._wake.empty():
                    self._wake.put(None)
                books.wait_for(  # now and then: the worker may die of an error of its own
                    lambda: self._flushed >= ticket or self._no_use_waiting(),
                    min(IDLE_WAIT_S, max(0.0, deadline - time.monotonic())),
                )
        return books.reached(ticket) and books.nothing_lost

    def _no_use_waiting(self) -> bool:
        return self._state is WriterState.CLOSED or sigterm.asked_to_end()

    def _hurry(self, last_try: float) -> None:
        self._delivery.hurry(last_try)

    def _is_worker(self) -> bool:
        return self._worker is threading.current_thread()

    def _close(self, deadline: float, last_try: float) -> bool:
        self._hurry(last_try)
        if self._worker is None and self._idle_child():
            self._finish()
            return True
        while self._start(wait=max(0.0, deadline - time.monotonic())):
            worker = self._worker
            if worker is None:  # another thread is still starting it
                return False
            self._wake.put(None)
            while not self._finished and worker.is_alive() and (left := deadline - time.monotonic()) > 0:
                self._books.wait_for(lambda: self._finished, min(BEAT_S, left))
            worker.join(max(0.0, deadline - time.monotonic()))
            if worker.is_alive():
                return False
            if self._finished:
                return True
        self._finish()
        return True
