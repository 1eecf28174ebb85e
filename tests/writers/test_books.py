"""The books of a writer, by themselves: every span in exactly one place, also where two hands reach for it at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from support import ORIGIN, record

from ferret.batch import Batch
from ferret.writers.batching import BEHIND, Batcher
from ferret.writers.books import Books


def books_with(count: int) -> Books:
    books = Books(ORIGIN)
    for number in range(count):
        books.put(record(number))
    return books


def taken(books: Books, count: int) -> Batch:
    batch = books.take(count)
    assert batch is not None
    return batch


def test_taking_from_an_empty_queue_takes_no_number_and_leaves_nothing_in_flight() -> None:
    books = books_with(0)
    assert books.take(5) is None
    assert (books.untouched, list(books.in_flight)) == (True, [])
    books.put(record(1))
    assert taken(books, 5).sequence == 0
    assert books.take(5) is None
    books.put(record(2))
    assert taken(books, 5).sequence == 1


def test_a_batch_of_which_nothing_is_kept_takes_no_number() -> None:
    books = books_with(3)
    assert books.take(3, keep=lambda _: False) is None
    books.put(record(3))
    assert taken(books, 3).sequence == 0
    assert books.ledger().dropped_by == {"not_owner": 3}


def test_a_short_take_counts_what_it_took() -> None:
    """`drop_oldest` may empty the queue after the batcher looked at its length."""
    books = books_with(3)
    ticket = books.ticket()
    books.settle(taken(books, 10).sequence, None)
    assert (books.until(ticket), books.ledger().written) == (0, 3)
    books.put(record(3))
    later = books.ticket()
    assert (books.until(later), books.reached(later), books.reached(ticket)) == (1, False, True)


def test_more_than_a_ticket_may_have_been_taken() -> None:
    books = books_with(2)
    ticket = books.ticket()
    books.put(record(2))
    books.settle(taken(books, 3).sequence, None)
    assert books.until(ticket) == 0


@pytest.mark.parametrize("drop", [Books.drop_oldest, Books.drop_newest])
def test_a_ticket_is_reached_though_some_of_its_spans_were_dropped(drop: Callable[[Books, str], bool]) -> None:
    books = books_with(3)
    ticket = books.ticket()
    assert drop(books, "overflow")
    assert not books.reached(ticket)
    books.settle(taken(books, 2).sequence, None)
    assert books.reached(ticket)


def test_giving_up_reaches_every_ticket_and_counts_each_span_once() -> None:
    books = books_with(5)
    ticket = books.ticket()
    taken(books, 2)
    books.give_up("close_timeout")
    assert (books.reached(ticket), books.until(ticket)) == (True, 0)
    assert books.ledger().failed_by == {"close_timeout": 5}
    books.put(record(5))
    assert not books.reached(books.ticket())


def test_only_the_first_verdict_on_a_batch_counts() -> None:
    books = books_with(4)
    batch = taken(books, 4)
    books.settle(batch.sequence, "OSError")
    books.settle(batch.sequence, None)
    ledger = books.ledger()
    assert (ledger.recorded, ledger.written, ledger.failed_by, ledger.pending) == (4, 0, {"OSError": 4}, 0)


def test_looking_changes_nothing() -> None:
    books = books_with(3)
    books.drop_oldest("overflow")
    books.count_dropped("suppressed")
    looks = [books.ledger() for _ in range(5)]
    assert looks == [looks[0]] * 5
    assert not any(books.nothing_lost for _ in range(5))
    assert books.ledger() == looks[0]


def test_a_verdict_wakes_whoever_waits_for_it() -> None:
    books = books_with(1)
    batch = taken(books, 1)
    woken: list[Any] = []

    def wait() -> None:
        with books.settled:
            waiting.set()
            woken.append(books.settled.wait_for(lambda: not books.in_flight, 20))

    waiting = threading.Event()
    waiter = threading.Thread(target=wait)
    waiter.start()
    assert waiting.wait(20)
    books.settle(batch.sequence, None)  # it takes the lock, which the waiter lets go of when it waits
    waiter.join(10)
    assert not waiter.is_alive(), "nobody was told"
    assert woken == [True]


def test_the_books_of_a_forked_child_begin_empty() -> None:
    books = books_with(6)
    books.drop_newest("overflow")
    books.settle(taken(books, 1).sequence, None)
    books.settle(taken(books, 1).sequence, "OSError")
    taken(books, 1)
    books.reset(ORIGIN)
    ledger = books.ledger()
    assert (ledger.recorded, ledger.dropped_by, ledger.failed_by) == (0, {}, {})
    assert (books.untouched, books.nothing_lost, books.ticket()) == (True, True, 0)
    books.put(record(9))
    assert taken(books, 1).sequence == 0


def test_what_comes_again_says_so_and_is_otherwise_the_same() -> None:
    batch = taken(books_with(2), 2)
    again = batch.again().again()
    assert (batch.attempt, again.attempt) == (1, 3)
    assert (again.id, again.records, again.origin) == (batch.id, batch.records, batch.origin)


# -- when a batch is due ----------------------------------------------------------------------------


def test_patience_is_never_negative() -> None:
    batcher = Batcher(batch_size=3, flush_interval=1.0)
    batcher.due(1, now=0.0)
    assert batcher.patience(now=5.0) == 0.0


def test_spans_that_come_to_an_emptied_queue_wait_anew() -> None:
    batcher = Batcher(batch_size=3, flush_interval=1.0)
    batcher.due(1, now=0.0)
    assert batcher.due(0, now=0.5) == 0
    assert batcher.patience(now=0.5) is None
    assert batcher.due(1, now=1.5) == 0
    assert batcher.patience(now=1.5) == 1.0


def test_a_batch_is_urgent_while_somebody_waits_for_it_or_many_spans_behind_it() -> None:
    books = books_with(BEHIND)
    batches = [
        books.take(BEHIND // 8, urgent=urgent) for urgent in (False, True, False, False, False, False, True, False)
    ]
    assert [batch is not None and batch.urgent for batch in batches] == [True] * 4 + [False] * 2 + [True, False]
