"""The books of a writer: how many spans are where, such that nothing can be in two places or in none."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ferret import twin
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
        self.queue = twin.make_queue()
        self.counts = Counts()
        self.put = _counting(self.counts, self.queue.append)
        self.reset(origin)

    def reset(self, origin: Origin) -> None:
        """Empty the books; in a forked child, whose lock may have been held by a thread that is gone."""
        self.origin = origin
        self.queue.clear()
        self.counts.clear()
        self.in_flight: tuple[Batch, ...] = ()
        # an RLock, so that a signal handler that asks for the ledger cannot wait for the code it interrupted
        self.settled = threading.Condition(threading.RLock())
        self._looks = 0
        self._issued = 0
        self._stored = 0
        self._failed: Counter[str] = Counter()
        self._gaps = Gaps(origin.anchor_ns)

    def count_dropped(self, reason: str, count: int = 1) -> None:
        """Count spans that are in no queue and no batch."""
        self.counts.cells[DROPPED[reason]] += count

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

    def take(self, count: int, keep: Callable[[Record], bool] | None = None, *, urgent: bool = True) -> Batch | None:
        """Move up to `count` spans from the queue into a new batch in flight.

        Args:
            count: how many.
            keep: which to keep; the others count as dropped, `not_owner`.
            urgent: whether somebody waits for them. They are urgent, too, if many more wait behind them.
        """
        records: list[Record] = twin.unseen_list([])
        self.counts.retire()
        with self.settled:
            batch = Batch(self.origin, self._issued, records)
            batch.before = self._taken()
            self._move((*self.in_flight, batch), issued=1)
            with suppress(IndexError):  # drop_oldest took some meanwhile
                # popped straight into the batch, in C: no span is ever in neither
                records.extend(itertools.starmap(self.queue.popleft, itertools.repeat((), count)))
            batch.urgent = urgent or len(self.queue) >= BEHIND // 2
            self._notice_drops()
            if keep is not None:
                self.disown(batch, keep)
            self.settled.notify_all()  # there is room in the queue
            if records:
                return batch
            self._move(self._without(batch), issued=-1)
            return None

    def disown(self, batch: Batch, keep: Callable[[Record], bool]) -> None:
        """Drop what is not to be kept from a batch in flight, `not_owner`."""
        assert isinstance(batch.records, list)
        kept = [record for record in batch.records if keep(record)]
        lost, cell = len(batch.records) - len(kept), DROPPED["not_owner"]
        self.counts.cells[cell], batch.records[:] = self.counts.cells[cell] + lost, kept

    def settle(self, sequence: int, failure: str | None) -> None:
        """Pass the verdict on a batch: written, or failed and why. The first verdict on a batch is the one that counts."""
        with self.settled:
            batch = self._found(sequence)
            if batch is None:
                return
            if failure is None:
                self._move(self._without(batch), written=len(batch), stored=1)
            else:
                self._move(self._without(batch), failed=batch.records, failure=failure)
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
            batch = self._found(sequence)
            if batch is None:
                return []
            records, blamed = batch.records, frozenset(bad)
            failed = [one for index, one in enumerate(records) if index in blamed]
            if blamed:
                shares = [[one for index, one in enumerate(records) if index not in blamed]]
            else:
                middle = (len(records) + 1) // 2
                shares = [list(records[:middle]), list(records[middle:])]
            parts = [
                Batch(self.origin, self._issued + index, one, part=True) for index, one in enumerate(shares) if one
            ]
            for part in parts:
                part.before = batch.before
            place = self.in_flight.index(batch)
            around = self.in_flight[:place], self.in_flight[place + 1 :]
            self._move((*around[0], *parts, *around[1]), issued=len(parts), failed=failed, failure=failure)
            self.settled.notify_all()
            return parts

    def discard_empty(self) -> None:
        """Forget batches in flight that have nothing in them, such as one that was about to be filled."""
        with self.settled:
            self._move(tuple(batch for batch in self.in_flight if batch.records))

    def fail_in_flight(self, reason: str) -> None:
        """Count all batches in flight as failed."""
        with self.settled:
            while self.in_flight:
                self._move(self.in_flight[1:], failed=self.in_flight[0].records, failure=reason)
            self.settled.notify_all()

    def give_up(self, reason: str) -> None:
        """Count all that is pending as failed."""
        with self.settled:
            while self.queue:
                self.take(len(self.queue))
            self.fail_in_flight(reason)

    def _found(self, sequence: int) -> Batch | None:
        return next((one for one in self.in_flight if one.sequence == sequence), None)

    def _without(self, batch: Batch) -> tuple[Batch, ...]:
        return tuple(one for one in self.in_flight if one is not batch)

    def _move(
        self,
        in_flight: tuple[Batch, ...],
        *,
        issued: int = 0,
        stored: int = 0,
        written: int = 0,
        failed: Sequence[Record] = (),
        failure: str = "",
    ) -> None:
        """Change what is in flight, and what became of the rest. Needs the lock."""
        count = len(failed)
        failed_by = self._failed + Counter({failure: count}) if count else self._failed
        issued, stored, cells = self._issued + issued, self._stored + stored, self.counts.cells
        written, lost = cells[WRITTEN] + written, cells[FAILED] + count
        # One step, as in `Counts`: whatever interrupts the writer, each span is where it was or where it goes, never in
        # both or in neither.
        self.in_flight, self._failed, self._issued, self._stored, cells[WRITTEN], cells[FAILED] = (
            in_flight, failed_by, issued, stored, written, lost
        )  # fmt: skip
        if count:
            self._gaps.add(min(one[3] for one in failed), max(one[4] for one in failed), count, failure)

    def wait_for(self, what: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until something is so, or the time is up; whether it is. Looked at whenever a verdict is passed.

        A signal handler and a finalizer may wait, too. What they interrupted may be a look into these books by their own
        thread, and so hold the lock that the consumer needs: waiting lets go of it, and the look is begun again after that.
        """
        with self.settled:
            self._looks += 1
            return self.settled.wait_for(what, timeout)

    def are_open_here(self) -> bool:
        """Whether the calling thread was interrupted in the middle of them: then it must not wait but by `wait_for`."""
        return self.settled._is_owned()  # type: ignore[attr-defined, no-any-return]

    def _look[T](self, at: Callable[[], T]) -> T:
        """Look under the lock, and again if this thread has looked or waited elsewhere meanwhile, in a signal handler."""
        with self.settled:
            while True:
                self._looks += 1
                this = self._looks
                seen = at()
                if this == self._looks:
                    return seen

    def ticket(self) -> int:
        """What `reached` must be told so as to know that all that is queued now has had its verdict."""
        return self._look(lambda: self._taken() + len(self.queue))

    def until(self, ticket: int) -> int:
        """How many spans are still to be taken up to the ticket."""
        return max(0, ticket - self._look(self._taken))

    def reached(self, ticket: int) -> bool:
        """Whether all spans up to the ticket have had their verdict."""
        return self._look(lambda: self._has_reached(ticket))

    def _has_reached(self, ticket: int) -> bool:
        in_flight = self.in_flight
        if not in_flight:
            return self._taken() >= ticket or not self.queue
        # those in front were taken first, but verdicts need not come in that order
        return in_flight[0].before >= ticket

    def _taken(self) -> int:
        """How many spans were ever taken: those in flight, and those that have had their verdict."""
        cells = self.counts.cells
        return cells[WRITTEN] + cells[FAILED] + cells[DROPPED["not_owner"]] + self._flying()

    def _pending(self) -> int:
        return len(self.queue) + self._flying()

    def _flying(self) -> int:
        return sum(len(batch) for batch in self.in_flight)

    @property
    def untouched(self) -> bool:
        """Whether no batch was ever taken, and none waits."""
        return not (self._issued or self.queue)

    @property
    def nothing_lost(self) -> bool:
        """Whether no span was ever dropped or failed."""
        return self._look(lambda: not (self._failed or self._dropped_by()))

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
        return self._look(self._numbers_now)

    def _numbers_now(self) -> dict[str, Any]:
        pending = self._pending()
        dropped_by, failed_by = self._dropped_by(), dict(self._failed)
        self._gaps.notice(dropped_by)
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
            "batches": self._issued,
            "void_batches": self._issued - self._stored - len(self.in_flight),
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
