"""The twin's queue is a deque in all that a writer does with it, except that the garbage collector does not look into it."""

from __future__ import annotations

import gc
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferret import Profiler, _native, twin
from ferret.writers.books import Books

BLOCK = 510
"""How many items a block of it has."""

steps = st.lists(
    st.tuples(st.sampled_from(["append", "pop", "popleft"]), st.sampled_from([1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK]))
    | st.just(("clear", 1)),
    max_size=25,
)  # fmt: skip


def outcome(queue: Any, step: str, item: int) -> object:
    try:
        return getattr(queue, step)(item) if step == "append" else getattr(queue, step)()
    except IndexError:
        return IndexError


@given(steps)
def test_it_does_what_a_deque_does(steps: list[tuple[str, int]]) -> None:
    queue, model = twin.make_queue(), deque[int]()
    item = 10_000  # numbers that Python does not share, so that a wrong count of references would be seen
    for step, times in steps:
        for _ in range(times):
            item += 1
            assert outcome(queue, step, item) == outcome(model, step, item)
            assert len(queue) == len(model)
    assert list(queue) == list(model)  # type: ignore[call-overload]
    if model:
        assert (queue[0], queue[-1]) == (model[0], model[-1])  # type: ignore[index]
    assert [queue.popleft() for _ in range(len(queue))] == list(model)


def test_it_lets_go_of_what_it_gives_and_of_what_it_had() -> None:
    item = object()
    before = sys.getrefcount(item)
    for take in ("pop", "popleft", "clear", None):
        queue = twin.make_queue()
        for _ in range(3 * BLOCK):
            queue.append(item)
        assert sys.getrefcount(item) == before + 3 * BLOCK
        if take is not None:
            for _ in range(1 if take == "clear" else 3 * BLOCK):
                getattr(queue, take)()
            assert sys.getrefcount(item) == before, take
        del queue
        assert sys.getrefcount(item) == before, take


@pytest.mark.parametrize(
    "wrong", [lambda q: q.append(), lambda q: q.append(1, 2), lambda q: q.pop(0), lambda q: q.popleft(1)]
)
def test_wrong_calls_are_refused(wrong: Any) -> None:
    queue = twin.make_queue()
    queue.append(1)
    with pytest.raises(TypeError):
        wrong(queue)
    assert len(queue) == 1


def test_threads_that_append_and_take_lose_nothing_and_see_nothing_twice() -> None:
    queue, taken = twin.make_queue(), list[list[int]]()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    done = threading.Event()

    def give(first: int) -> None:
        for number in range(first, first + 20_000):
            queue.append(number)

    def take(pop: Any) -> None:
        mine = list[int]()
        taken.append(mine)
        while not (done.is_set() and not len(queue)):
            with suppress(IndexError):
                mine.append(pop())

    try:
        givers = [threading.Thread(target=give, args=(first,)) for first in (0, 20_000)]
        takers = [threading.Thread(target=take, args=(pop,)) for pop in (queue.popleft, queue.pop)]
        for thread in givers + takers:
            thread.start()
        for thread in givers:
            thread.join()
        done.set()
        for thread in takers:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert sorted(number for mine in taken for number in mine) == list(range(40_000))


def test_the_garbage_collector_sees_neither_the_queue_nor_what_is_in_it() -> None:
    with Profiler(sink="null", writer="threaded", batch_size=10**6, flush_interval=3600) as profiler:
        with profiler.measure("first"):
            pass
        gc.collect()
        before = len(gc.get_objects())
        for number in range(20_000):
            with profiler.measure("x", {"number": number, "text": "y"}):
                pass
        gc.collect()
        assert len(gc.get_objects()) - before < 100
        books: Books = profiler.writer._books  # type: ignore[attr-defined]
        assert len(books.queue) >= 20_000
        assert not gc.is_tracked(books.queue)


records = st.integers(0, 40).flatmap(
    lambda fields: st.lists(st.tuples(*[st.integers() | st.none() | st.text()] * fields), max_size=30).map(
        lambda rows: (fields, rows)
    )
)


@given(records, st.integers(0, 5))
def test_records_become_columns_as_they_do_in_python(given: tuple[int, list[tuple[Any, ...]]], first: int) -> None:
    fields, rows = given
    columns = [twin.unseen_list([None] * (first + len(rows) + 2)) for _ in range(fields)]
    twin.turn(tuple(rows), first, columns)
    assert columns == [[None] * first + [row[index] for row in rows] + [None] * 2 for index in range(fields)]


def test_records_become_columns_and_are_held_once_by_each() -> None:
    item = object()
    before = sys.getrefcount(item)
    columns = [twin.unseen_list([item]) for _ in range(2)]
    rows = ((item, 1), (2, item))[:1]
    twin.turn(rows, 0, columns)
    assert columns == [[item], [1]]
    del columns, rows
    assert sys.getrefcount(item) == before


@pytest.mark.parametrize(
    ("rows", "first", "columns"),
    [
        (((1, 2),), 0, [[None]]), (((1, 2),), 0, [[None], [None], [None]]), (([1, 2],), 0, [[None], [None]]),
        (((1, 2),), 1, [[None], [None]]), (((1, 2),), -1, [[None], [None]]), (((1, 2),), 0, [[None], (None,)]),
    ],
)  # fmt: skip
def test_records_that_do_not_fit_the_columns_are_refused(rows: Any, first: int, columns: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"record 0 is no tuple|has no room"):
        _native.turn(rows, first, columns)


def test_a_column_that_shrinks_under_it_is_an_error() -> None:
    class Clears:
        def __del__(self) -> None:
            columns[0].clear()

    columns: list[list[Any]] = [[None] * 100]
    columns[0][0] = Clears()
    with pytest.raises(IndexError):
        _native.turn(tuple((number,) for number in range(100)), 0, columns)


def test_only_a_list_is_taken_out_of_the_collectors_sight() -> None:
    assert gc.is_tracked([])
    assert not gc.is_tracked(twin.unseen_list([]))
    with pytest.raises(TypeError, match="is no list"):
        _native.untrack({})  # type: ignore[arg-type]
