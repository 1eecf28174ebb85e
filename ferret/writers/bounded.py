"""`bounded`: a thread delivers, and the queue has an end."""

from __future__ import annotations

from ferret import sigterm
from ferret.writers.batching import Batcher
from ferret.writers.threaded import FAR, ThreadedWriter


class BoundedWriter(ThreadedWriter):
    """Delivers from a thread of its own, and holds no more than `max_queue` spans, plus the batch being written.

    - Runs in: one daemon thread.
    - Holds: `max_queue` spans.
    - When the queue is full: `overflow` decides. `drop_newest` keeps what came first, `drop_oldest` what came last, and
      `block` makes the caller wait for room, at most `block_timeout`, before it drops the newest. Each drop is counted.
    - Lost on SIGKILL: what is queued.
    """

    def _begin(self) -> None:
        self._full = False
        super()._begin()

    def _set_alarms(self) -> None:
        size = min(self._config.batch_size, self._config.max_queue)
        self._batcher = Batcher(size, self._config.flush_interval)
        self._batch_alarm = size
        self._far_alarm = max(size, min(FAR, self._config.max_queue // 2))
        self._no_alarm = self._config.max_queue + 1

    def rouse(self) -> None:  # noqa: D102 - as in the base
        super().rouse()
        # The span is in the queue already. Whoever finds the queue too long takes one span out, by one atomic step: so
        # however many threads come at once, as many spans leave as there were too many, and each is counted.
        if len(self.queue) > self._config.max_queue:
            if self._config.overflow == "block" and self._wait_for_room():
                return
            self._full = True
            if self._config.overflow == "drop_oldest":
                self._books.drop_oldest("overflow")
            else:
                self._books.drop_newest("overflow")

    def _wait_for_room(self) -> bool:
        with sigterm.uninterrupted():
            return self._books.wait_for(
                lambda: len(self.queue) <= self._config.max_queue or self._no_use_waiting(), self._config.block_timeout
            )

    def _work_once(self) -> bool:
        done = super()._work_once()
        if self._full:
            self._full = False
            self._warn(f"the queue of {self._config.max_queue} spans was full ({self._config.overflow})")
        return done
