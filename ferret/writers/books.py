"""The books of a writer: how many spans are where, such that nothing can be in two places or in none."""

from __future__ import annotations

import itertools
import threading
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ferret.batch import Batch
from ferret.ledger.counts import DROPPED, FAILED, WRITTEN, Counts
from ferret.ledger.gaps import Gaps
from ferret.models import DeliveryReport, Ledger
from ferret.writers.batching import BEHIND

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferret.batch import Origin
    from ferret.span import Record


class Books:
    """Holds every span between `record` and its verdict: written, failed or dropped.

    The numbers are not kept beside the spans but are the spans: what is pending is the length of the queue and of the
    batches in flight. A span moves by one atomic `append` or `popleft`, or under the lock, which `record` never takes.

    What comes in, is written, fails or is dropped is also counted in cells that may survive the process
    (`ferret.ledger.live`).

    `put`, `drop_newest`, `drop_oldest` and `count_dropped` may be called from anywhere at any time; the rest takes the lock.
    """

    def __init__(self, origin: Origin) -> None:
        self.queue: deque[Record] = deque()
        self.counts = Counts()
        self.put = _counting(self.counts, self.queue.append)
        self.reset(origin)

    def reset(self, origin: Origin) -> None:
        """Empty the books; in a forked child, whose lock may have been held by a thread that is gone."""
        self.origin = origin
        self.queue.clear()
        self.counts.clear()
        self.in_flight: deque[Batch] = deque()
        # an RLock, so that a signal handler that asks for the ledger cannot wait for the code it interrupted
        self.settled = threading.Condition(threading.RLock())
        self._sequence = 0
        self._taken = 0
        self._failed: Counter[str] = Counter()
        self._void = 0
        self._gaps = Gaps(origin.anchor_ns)

    def count_dropped(self, reason: str, count: int = 1) -> None:
        """Count spans that are in no queue and no batch."""
        self.counts.cells[DROPPED[reason]] += count

    def _fail(self, reason: str, records: Sequence[Record]) -> None:
        if not records:
            return
        count = len(records)
        self._failed[reason] += count
        self.counts.cells[FAILED] += count
        self._gaps.add(min(one[3] for one in records), max(one[4] for one in records), count, reason)

    def _notice_drops(self) -> None:
        self._gaps.notice(self._dropped_by())

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
        self.count_dropped(reason)
        return True

    def take(self, count: int, keep: Callable[[Record], bool] | None = None) -> Batch | None:
        """Move up to `count` spans from the queue into a new batch in flight.

        Args:
            count: how many.
            keep: which to keep; the others count as dropped, `not_owner`.
        """
        records: list[Record] = []
        self.counts.retire()
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
            batch.urgent = len(self.queue) >= BEHIND // 2
            self._notice_drops()
            if keep is not None:
                kept = [record for record in records if keep(record)]
                self.count_dropped("not_owner", len(records) - len(kept))
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
                self.counts.cells[WRITTEN] += len(batch)
            else:
                self._fail(failure, batch.records)
                self._void += 1
            self.settled.notify_all()

    def split(self, sequence: int, bad: Sequence[int], failure: str) -> list[Batch]:
        """Take a batch apart that the sink would not take, into batches with numbers of their own.

        Args:
            sequence: the batch's number, which is void from now on.
            bad: the spans that are to blame, which count as failed. Without them, the batch becomes two halves.
            failure: why.

        Returns:
            The new batches, in flight in the old one's place; none if it has had its verdict already.
        """
        with self.settled:
            batch = next((one for one in self.in_flight if one.sequence == sequence), None)
            if batch is None:
                return []
            records, blamed = batch.records, frozenset(bad)
            if blamed:
                self._fail(failure, [one for index, one in enumerate(records) if index in blamed])
                shares = [[one for index, one in enumerate(records) if index not in blamed]]
            else:
                middle = (len(records) + 1) // 2
                shares = [list(records[:middle]), list(records[middle:])]
            parts = [
                Batch(self.origin, self._sequence + index, one, part=True) for index, one in enumerate(shares) if one
            ]
            self._sequence += len(parts)
            self._void += 1
            place = self.in_flight.index(batch)
            self.in_flight.remove(batch)
            for part in reversed(parts):
                self.in_flight.insert(place, part)
            self.settled.notify_all()
            return parts

    def fail_in_flight(self, reason: str) -> None:
        """Count all batches in flight as failed."""
        with self.settled:
            while self.in_flight:
                self._fail(reason, self.in_flight.popleft().records)
                self._void += 1
            self.settled.notify_all()

    def give_up(self, reason: str) -> None:
        """Count all that is pending as failed."""
        with self.settled:
            self.fail_in_flight(reason)
            rest: list[Record] = []
            with suppress(IndexError):
                rest.extend(itertools.starmap(self.queue.popleft, itertools.repeat(())))
            self._taken += len(rest)
            self._fail(reason, rest)

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

    def _dropped_by(self) -> dict[str, int]:
        counts = {reason: self.counts.cells[cell] for reason, cell in DROPPED.items()}
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
            self._notice_drops()
            dropped_by, failed_by = self._dropped_by(), dict(self._failed)
            written = self.counts.cells[WRITTEN]
            dropped, failed = sum(dropped_by.values()), sum(failed_by.values())
            return {
                "recorded": written + dropped + failed + pending,
                "written": written,
                "dropped": dropped,
                "failed": failed,
                "pending": pending,
                "dropped_by": dropped_by,
                "failed_by": failed_by,
                "batches": self._sequence,
                "void_batches": self._void,
                "gaps": self._gaps.found(),
            }


def _counting(counts: Counts, append: Callable[[Record], None]) -> Callable[[Record], None]:
    """`append`, and count before it: what is handed over may be stored at once, and must have been counted by then."""

    def put(record: Record) -> None:
        try:
            counts.draw()
        except StopIteration:
            counts.claim()
        append(record)

    return put
