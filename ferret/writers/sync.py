"""`sync`: the caller delivers. Nothing runs in the background, and what was recorded can be read at once."""

from __future__ import annotations

import math
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from ferret import sigterm
from ferret.writers.queueing import LONGEST_S, QueueWriter, WriterState

if TYPE_CHECKING:
    from ferret.models import DeliveryReport


TURN_S = 0.01
"""How often a signal handler asks whether it may deliver, where it cannot simply wait for that."""


class SyncWriter(QueueWriter):
    """Delivers in the caller's thread.

    - Runs in: whichever thread records the span that makes a batch due; the others wait for it if they have a batch due too.
    - Holds: less than a batch. `batch_size=1` stores each span before `record` returns.
    - When the sink is slow or fails: the caller waits, for the first failing batch up to `close_timeout`.
    - `flush_interval`: there is no clock, so a batch is late until the next span, `flush` or `close`.
    - Lost on SIGKILL: the open batch.
    """

    in_caller = True

    def _begin(self) -> None:
        super()._begin()
        self._consumer = threading.RLock()
        self._waiting: set[int] = set()
        self._consuming = threading.Lock()  # rather than a flag: whatever interrupts a `with`, it lets go

    def rouse(self) -> None:  # noqa: D102 - as in the base
        if self._refuse_if_closed():
            return
        with sigterm.uninterrupted():
            self._look_after()

    def _look_after(self) -> None:
        if self._consumer.acquire(blocking=False):
            try:
                self._drain(force=False)
            finally:
                self._consumer.release()
        elif len(self.queue) >= self._batcher.batch_size and (thread := threading.get_ident()) not in self._waiting:
            # Another thread delivers: wait only with a batch of one's own, and no signal handler inside that, or a busy timer
            # would pile them up to the recursion limit. The wait that it interrupted goes on with its span.
            try:
                self._waiting.add(thread)
                self._drain(force=False)
            finally:
                self._waiting.discard(thread)

    def _drain(self, *, force: bool, deadline: float | None = None) -> bool:
        """Deliver what is due; False if another thread is at it past the deadline.

        A span that is recorded meanwhile by this same thread (a signal handler, a `__del__`, the sink) only joins the
        queue: the delivery that it interrupted goes on with it.
        """
        with sigterm.uninterrupted():
            return self._drain_alone(force, -1.0 if deadline is None else max(0.0, deadline - time.monotonic()))

    def _drain_alone(self, force: bool, wait: float) -> bool:
        if not self._become_consumer(wait):
            return False
        try:
            if self._consuming.locked():
                return True
            self._drain_now(force)
            if self._state is WriterState.CLOSING:  # or a signal handler, or the sink, closed meanwhile
                self._drain_now(force=True)
            if self._state is not WriterState.OPEN:
                self._finish()
        finally:
            self._consumer.release()
        return True

    def _become_consumer(self, wait: float) -> bool:
        """Whether it is this thread's turn now, within so many seconds; any number if below 0."""
        if not self._books.are_open_here():
            return self._consumer.acquire(timeout=wait)
        # A signal handler, or a finalizer, that interrupted a look into the books, which whoever delivers needs.
        turn = partial(self._consumer.acquire, blocking=False)
        deadline = math.inf if wait < 0 else time.monotonic() + wait
        while not self._books.wait_for(turn, TURN_S):
            if time.monotonic() >= deadline:
                return False
        return True

    def _drain_now(self, force: bool) -> None:
        with self._consuming:
            self._resume()
            while self._consume(force=force):
                pass

    def flush(self, timeout: float | None = None) -> bool:
        """Deliver the open batch now."""
        with sigterm.uninterrupted():
            return self._flush(timeout)

    def _flush(self, timeout: float | None) -> bool:
        ticket = self._books.ticket()
        deadline = None if timeout is None else time.monotonic() + min(timeout, LONGEST_S)
        if self._state is WriterState.OPEN and self._drain(force=True, deadline=deadline):
            self._delivery.flush()
        return self._books.reached(ticket) and self._books.nothing_lost

    def _close(self, deadline: float, last_try: float) -> bool:
        self._delivery.hurry(last_try)
        return self._drain(force=True, deadline=deadline)

    def _is_worker(self) -> bool:
        return self._consuming.locked() and self._consumer._is_owned()  # type: ignore[attr-defined]

    def close(self, timeout: float | None = None) -> DeliveryReport:
        """Deliver the rest in the calling thread; a sink that hangs holds it up (`threaded` does not let it)."""
        return super().close(timeout)
