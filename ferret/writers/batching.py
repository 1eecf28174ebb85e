"""When a batch is due: pure decisions, with no clock, no thread and no lock. Every writer asks here."""

from __future__ import annotations

BEHIND = 32_768
"""With so many spans in the queue, the consumer does not keep up."""
LEND_EVERY = 2_048
"""Spans between two moments in which the program lends a consumer that does not keep up the GIL."""


def next_alarm(queued: int, batch: int, most: int) -> int:
    """The length of the queue at which a caller is to look after it again.

    Args:
        queued: its length now.
        batch: a batch is due.
        most: the last alarm that there is.
    """
    if queued < batch:
        return batch
    return min(most, BEHIND if queued < BEHIND else queued + LEND_EVERY)


class Batcher:
    """Decides how many queued spans to take, given how many there are and what time it is.

    A batch is due when `batch_size` spans wait, or when the oldest of them has waited for `flush_interval`. The
    batcher learns that spans wait when it is asked; a writer therefore asks soon after the first span, or says since when
    it may have been there.

    Not thread-safe: the one consumer of a queue owns it. Time is any clock that does not go backwards, in seconds.
    """

    __slots__ = ("_waiting_since", "batch_size", "flush_interval")

    def __init__(self, batch_size: int, flush_interval: float) -> None:
        self.batch_size = batch_size
        self.flush_interval = flush_interval
        self._waiting_since: float | None = None

    def due(self, queued: int, now: float, *, since: float | None = None, force: bool = False) -> int:
        """How many spans to take now: 0, or at most `batch_size`.

        Args:
            queued: spans that wait.
            now: the time.
            since: the earliest time at which the first of them can have come, if that is not now.
            force: whether to take what there is without waiting for more.
        """
        if queued <= 0:
            self._waiting_since = None
            return 0
        if self._waiting_since is None:
            self._waiting_since = now if since is None else since
        if force or queued >= self.batch_size or now - self._waiting_since >= self.flush_interval:
            # what is left over has not waited longer than what was taken; its time starts at the next question
            self._waiting_since = None
            return min(queued, self.batch_size)
        return 0

    def patience(self, now: float) -> float | None:
        """Seconds until what waits is due, if no more comes; None when nothing is known to wait."""
        if self._waiting_since is None:
            return None
        return max(0.0, self._waiting_since + self.flush_interval - now)
