"""The books of a writer: how many spans are where, such that nothing can be in two places or in none."""

from __future__ import annotations

import itertools
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from ferret.batch import Batch
from ferret.models import DeliveryReport, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferret.batch import Origin
    from ferret.span import Record


class Books:
    """Holds every span between `record` and its verdict: written, failed or dropped.

    The numbers are not kept beside the spans but are the spans: what is pending is the length of the queue and of the
    batches in flight. A span moves by one atomic `append` or `popleft`, or under the lock, which `record` never takes.

    `put`, `drop_newest`, `drop_oldest` and `count_dropped` may be called from anywhere at any time; the rest takes the lock.
    """

    def __init__(self, origin: Origin) -> None:
        self.queue: deque[Record] = deque()
        self.put: Callable[[Record], None] = self.queue.append
        self.reset(origin)

    def reset(self, origin: Origin) -> None:
        """Empty the books; in a forked child, whose lock may have been held by a thread that is gone."""
        self.origin = origin
        self.queue.clear()
        self.in_flight: deque[Batch] = deque()
        # an RLock, so that a signal handler that asks for the ledger cannot wait for the code it interrupted
        self.settled = threading.Condition(threading.RLock())
        self._sequence = 0
        self._taken = 0
        self._written = 0
        self._failed: Counter[str] = Counter()
        self._dropped: dict[str, _AtomicCount] = {
            reason: _AtomicCount() for reason in ("overflow", "closed", "suppressed", "not_owner")
        }

    def count_dropped(self, reason: str) -> None:
        """Count a span that never was in the queue."""
        self._dropped[reason].increment()

    def drop_newest(self, reason: str) -> bool:
        """Drop the span that was queued last, if there is one."""
        return self._drop(self.queue.pop, reason)

    def drop_oldest(self, reason: str) -> bool:
        """Drop the span that was queued first, if there is one."""
        return self._drop(self.queue.popleft, reason)

    def _drop(self, pop: Callable[[], Any], reason: str) -> bool:
        try:
            pop()
        except IndexError:  # somebody else, most likely the worker, was faster
            return False
        self._dropped[reason].increment()
        return True

    def take(self, count: int, keep: Callable[[Record], bool] | None = None) -> Batch | None:
        """Move up to `count` spans from the queue into a new batch in flight.

        Args:
            count: how many.
            keep: which to keep; the others count as dropped, `not_owner`.
        """
        records: list[Record] = []
        with self.settled:
            batch = Batch(self.origin, self._sequence, records)
            self.in_flight.append(batch)
            try:
                # popped straight into the batch, in C: no span is ever in neither
                records.extend(itertools.starmap(self.queue.popleft, itertools.repeat((), count)))
            except IndexError:  # drop_oldest took some meanwhile
                pass
            finally:
                self._taken += len(records)
                self._sequence += 1
            if keep is not None:
                kept = [record for record in records if keep(record)]
                for _ in range(len(records) - len(kept)):
                    self._dropped["not_owner"].increment()
                records[:] = kept
            self.settled.notify_all()  # there is room in the queue
            if records:
                return batch
            self._sequence -= 1
            self.in_flight.remove(batch)
            return None

    def settle(self, sequence: int, failure: str | None) -> None:
        """Pass the verdict on a batch: written, or failed and why. The first verdict on a batch is the one that counts."""
        with self.settled:
            batch = next((one for one in self.in_flight if one.sequence == sequence), None)
            if batch is None:
                return
            self.in_flight.remove(batch)
            if failure is None:
                self._written += len(batch)
            else:
                self._failed[failure] += len(batch)
            self.settled.notify_all()

    def fail_in_flight(self, reason: str) -> None:
        """Count all batches in flight as failed."""
        with self.settled:
            while self.in_flight:
                self._failed[reason] += len(self.in_flight.popleft())
            self.settled.notify_all()

    def give_up(self, reason: str) -> None:
        """Count all that is pending as failed."""
        with self.settled:
            self.fail_in_flight(reason)
            while self._drain_one():
                self._failed[reason] += 1

    def _drain_one(self) -> bool:
        try:
            self.queue.popleft()
        except IndexError:
            return False
        self._taken += 1
        return True

    def ticket(self) -> int:
        """What `reached` must be told so as to know that all that is queued now has had its verdict."""
        with self.settled:
            return self._taken + len(self.queue)

    def until(self, ticket: int) -> int:
        """How many spans are still to be taken up to the ticket."""
        return max(0, ticket - self._taken)

    def reached(self, ticket: int) -> bool:
        """Whether all spans up to the ticket have had their verdict."""
        with self.settled:
            pending = sum(len(batch) for batch in self.in_flight)
            return self._taken - pending >= ticket or not (pending or self.queue)

    @property
    def untouched(self) -> bool:
        """Whether no batch was ever taken, and none waits."""
        return not (self._sequence or self.queue)

    @property
    def nothing_lost(self) -> bool:
        """Whether no span was ever dropped or failed."""
        with self.settled:
            return not (self._failed or self._dropped_by())

    # Only under the lock: looking at a count takes a number.
    def _dropped_by(self) -> dict[str, int]:
        counts = {reason: count.value() for reason, count in self._dropped.items()}
        return {reason: count for reason, count in counts.items() if count}

    def ledger(self) -> Ledger:
        """The numbers now."""
        return Ledger(**self._numbers())

    def report(self, *, timed_out: bool) -> DeliveryReport:
        """The numbers at the end."""
        return DeliveryReport(**self._numbers(), timed_out=timed_out)

    def _numbers(self) -> dict[str, Any]:
        with self.settled:
            pending = len(self.queue) + sum(len(batch) for batch in self.in_flight)
            dropped_by, failed_by = self._dropped_by(), dict(self._failed)
            dropped, failed = sum(dropped_by.values()), sum(failed_by.values())
            return {
                "recorded": self._written + dropped + failed + pending,
                "written": self._written,
                "dropped": dropped,
                "failed": failed,
                "pending": pending,
                "dropped_by": dropped_by,
                "failed_by": failed_by,
            }


class _AtomicCount:
    """A counter that any thread or signal handler may increment without a lock (`next` is one step under the GIL)."""

    __slots__ = ("_looks", "_next")

    def __init__(self) -> None:
        self._next = itertools.count().__next__
        self._looks = 0

    def increment(self) -> None:
        self._next()

    def value(self) -> int:
        """How often it was incremented. Only under the books' lock: looking takes a number too."""
        number = self._next() - self._looks
        self._looks += 1
        return number
