"""The native twin keeps and loses nothing: no reference, no memory, no span."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

import ferret.decorate
import ferret.ledger.counts
from ferret import Profiler
from ferret.ambient import register_thread, threads


@pytest.fixture
def profiler() -> Iterator[Profiler]:
    with Profiler(sink="null", writer="bounded", batch_size=10**6, max_queue=10**6, flush_interval=3600) as profiler:
        yield profiler
        profiler.writer.queue.clear()  # type: ignore[attr-defined]


def spans_of_all_kinds(profiler: Profiler, name: str, tags: dict[str, Any], work: Any, count: int) -> None:
    for _ in range(count):
        with profiler.measure(name, tags):
            work(1, two=2)
        with profiler.measure(name, {"a": 1.5}) as span:
            span.annotate(b=None)
        try:
            with profiler.measure(name):
                work()
        except ValueError:
            pass


async def in_a_task(*given: Any) -> None:
    spans_of_all_kinds(*given)


def test_ten_thousand_spans_hold_on_to_nothing(profiler: Profiler) -> None:
    name, tags = "a name of its own, ".removesuffix(", "), {"user": 7, "text": "x"}

    @profiler.measure(name)
    def work(*args: int, two: int = 0) -> Any:
        if not args:
            raise ValueError("no")
        return tags

    held = [name, tags, profiler, work, work.__wrapped__, profiler.current, profiler.queue]  # type: ignore[attr-defined]
    given = (profiler, name, tags, work)
    spans_of_all_kinds(*given, 10)
    profiler.writer.queue.clear()  # type: ignore[attr-defined]
    gc.collect()
    before = [sys.getrefcount(one) for one in held]
    spans_of_all_kinds(*given, 3_000)
    asyncio.run(in_a_task(*given, 300))
    profiler.writer.queue.clear()  # type: ignore[attr-defined]
    gc.collect()
    assert [sys.getrefcount(one) for one in held] == before


def test_a_quarter_of_a_million_spans_leave_the_memory_as_it_was(profiler: Profiler) -> None:
    work = profiler.measure("call")(lambda: None)

    def burst() -> None:
        for number in range(250):
            with profiler.measure("x", {"user": number, "items": 3}):
                work()
        profiler.writer.queue.clear()  # type: ignore[attr-defined]

    for _ in range(100):
        burst()
    before = psutil.Process().memory_info().rss
    for _ in range(500):
        burst()
    assert psutil.Process().memory_info().rss - before < 8 * 2**20


class Interrupted(Exception):  # noqa: N818 - what happens to it
    """Raised by a signal handler, at any moment."""


def test_signal_handlers_that_record_and_raise_at_any_moment_double_nothing(profiler: Profiler) -> None:
    """A span that was appended was counted, and no span is there twice; what is current comes back."""
    heard, inside = [0, 0], []
    interrupted = {__file__, ferret.span.__file__, ferret.decorate.__file__, ferret.ledger.counts.__file__}

    def handler(_: int, frame: Any) -> None:
        if inside:  # on a busy machine the next signal comes before this one is done
            return
        inside.append(1)
        heard[0] += 1
        with profiler.measure("handler", {"n": heard[0]}):
            pass
        inside.clear()
        if heard[0] % 3 == 0 and frame.f_code.co_filename in interrupted:  # and not in a finalizer, or in pytest
            raise Interrupted

    work = profiler.measure("call")(lambda: None)
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        while heard[0] < 120:
            try:
                for number in range(10_000):
                    with profiler.measure("x", {"user": number}):
                        work()
            except Interrupted:
                heard[1] += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert heard[1] > 15
    records = list(profiler.writer.queue)  # type: ignore[attr-defined]
    assert len({record[0] for record in records}) == len(records)
    assert sum(record[2] == "handler" for record in records) == heard[0]
    profiler.flush(0)
    assert profiler.stats().recorded >= len(records)


def test_threads_that_record_at_once_lose_nothing(profiler: Profiler) -> None:
    work = profiler.measure("call")(lambda: None)

    def record() -> None:
        for number in range(5_000):
            with profiler.measure("x", {"user": number}):
                work()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=record) for _ in range(6)]
    try:
        for one in threads:
            one.start()
    finally:
        for one in threads:
            one.join()
        sys.setswitchinterval(interval)
    records = list(profiler.writer.queue)  # type: ignore[attr-defined]
    assert len(records) == 60_000 == len({record[0] for record in records})
    parents = {record[0]: record for record in records if record[2] == "x"}
    assert all(parents[record[1]][5] == record[5] for record in records if record[2] == "call"), (
        "a parent in another thread"
    )


def test_a_fork_within_blocks_and_calls_goes_on_with_ids_and_threads_of_its_own(profiler: Profiler) -> None:
    @profiler.measure("call")
    def fork() -> int:
        return os.fork()

    with profiler.measure("outer"):
        child = fork()
        if child == 0:
            with profiler.measure("inner"):
                pass
    if child == 0:
        records = list(profiler.writer.queue)  # type: ignore[attr-defined]
        ok = [one[2] for one in records] == ["call", "inner", "outer"] and len({one[5] for one in records}) == 1
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    records = list(profiler.writer.queue)  # type: ignore[attr-defined]
    assert [one[2] for one in records] == ["call", "outer"]


def test_a_thread_that_gets_another_index_records_under_it(profiler: Profiler) -> None:
    """As `ferret run` gives one to a thread that has recorded already."""

    def record() -> None:
        for _ in range(2):
            with profiler.measure("x"):
                pass
            register_thread("renamed")

    thread = threading.Thread(target=record)
    thread.start()
    thread.join()
    first, second = [threads[record[5]].thread_name for record in profiler.writer.queue]  # type: ignore[attr-defined]
    assert (first == "renamed", second) == (False, "renamed")
