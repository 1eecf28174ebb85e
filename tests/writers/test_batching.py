"""The batcher's decisions: laws that hold for any arrivals and any questions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ferret.writers.batching import BEHIND, LEND_EVERY, Batcher, next_alarm


def test_a_caller_is_asked_for_at_a_batch_and_again_and_again_where_the_consumer_does_not_keep_up() -> None:
    alarms = [
        next_alarm(queued, batch=100, most=BEHIND + 5_000) for queued in (1, 100, BEHIND, BEHIND + LEND_EVERY, 10**9)
    ]
    assert alarms == [100, BEHIND, BEHIND + LEND_EVERY, BEHIND + 2 * LEND_EVERY, BEHIND + 5_000]


def test_nothing_is_due_of_an_empty_queue() -> None:
    batcher = Batcher(batch_size=3, flush_interval=1.0)
    assert batcher.due(0, now=0.0) == 0
    assert batcher.due(0, now=100.0, force=True) == 0
    assert batcher.patience(now=100.0) is None


def test_a_full_batch_is_due_at_once() -> None:
    assert Batcher(batch_size=3, flush_interval=1.0).due(7, now=0.0) == 3


def test_a_part_of_a_batch_is_due_when_its_first_span_has_waited_long_enough() -> None:
    batcher = Batcher(batch_size=3, flush_interval=1.0)
    assert batcher.due(1, now=10.0) == 0
    assert batcher.patience(now=10.25) == 0.75
    assert batcher.due(2, now=10.5) == 0
    assert batcher.due(2, now=11.0) == 2


def test_a_new_wait_begins_after_each_batch() -> None:
    batcher = Batcher(batch_size=3, flush_interval=1.0)
    assert batcher.due(4, now=0.0) == 3
    assert batcher.due(1, now=5.0) == 0
    assert batcher.due(1, now=6.0) == 1


def test_spans_that_may_have_been_there_for_a_while_are_due_so_much_earlier() -> None:
    batcher = Batcher(batch_size=3, flush_interval=1.0)
    assert batcher.due(1, now=10.0, since=9.75) == 0
    assert batcher.patience(now=10.0) == 0.75
    assert batcher.due(1, now=10.5, since=10.25) == 0, "it knows since when they wait"
    assert batcher.due(1, now=10.75, since=10.5) == 1


@given(queued=st.integers(0, 10_000), size=st.integers(1, 500), now=st.floats(0, 1e6), force=st.booleans())
def test_no_batch_is_ever_larger_than_allowed_or_than_what_there_is(
    queued: int, size: int, now: float, force: bool
) -> None:
    assert 0 <= Batcher(size, 0.5).due(queued, now, force=force) <= min(queued, size)


class Consumer(RuleBasedStateMachine):
    """A queue and its one consumer, in simulated time: the consumer sleeps as long as the batcher says it may."""

    size, interval = 4, 1.0
    last_look: float | None = None

    def __init__(self) -> None:
        super().__init__()
        self.batcher = Batcher(self.size, self.interval)
        self.now = 0.0
        self.queue: list[float] = []
        self.taken = 0
        self.arrived = 0

    @rule(count=st.integers(1, 9))
    def spans_arrive(self, count: int) -> None:
        self.queue += [self.now] * count
        self.arrived += count
        self.look()

    @precondition(lambda self: self.queue)
    @rule()
    def the_consumer_wakes_when_it_said_it_would(self) -> None:
        patience = self.batcher.patience(self.now)
        assert patience is not None, "spans wait, and nobody will come"
        self.now += patience
        self.look()

    @rule(seconds=st.floats(0, 3))
    def time_passes_and_the_consumer_wakes_in_time(self, seconds: float) -> None:
        patience = self.batcher.patience(self.now)
        self.now += seconds if patience is None else min(seconds, patience)
        self.look()

    @rule()
    def somebody_flushes(self) -> None:
        while self.look(force=True):
            pass
        assert not self.queue

    def look(self, *, force: bool = False) -> int:
        total = 0
        while count := self.batcher.due(len(self.queue), self.now, since=self.last_look, force=force):
            self.no_span_waits_longer_than_the_interval()
            del self.queue[:count]
            self.taken += count
            total += count
        return total

    @invariant()
    def no_full_batch_waits(self) -> None:
        assert len(self.queue) < self.size

    @invariant()
    def no_span_waits_longer_than_the_interval(self) -> None:
        assert not self.queue or self.now - self.queue[0] <= self.interval + 1e-6

    @invariant()
    def nothing_is_lost_or_made_up(self) -> None:
        assert self.taken + len(self.queue) == self.arrived


class Beating(Consumer):
    """A consumer that nobody wakes: it looks by itself, on each beat."""

    beat = 0.25
    last_look: float = 0.0

    @rule(count=st.integers(1, 9), early=st.floats(0, 0.25))
    def spans_arrive(self, count: int, early: float) -> None:  # type: ignore[override]
        self.queue += [self.last_look + early] * count
        self.arrived += count
        self.the_next_beat_comes()

    @rule()
    def the_next_beat_comes(self) -> None:
        patience = self.batcher.patience(self.now)
        self.now = self.last_look + (self.beat if patience is None else min(self.beat, patience))
        self.look()

    the_consumer_wakes_when_it_said_it_would = None  # type: ignore[assignment]
    time_passes_and_the_consumer_wakes_in_time = None  # type: ignore[assignment]

    def look(self, *, force: bool = False) -> int:
        total = super().look(force=force)
        self.last_look = self.now
        return total


TestConsumer = Consumer.TestCase
TestBeating = Beating.TestCase
