"""The counts by themselves: nothing is ever counted twice or not at all, whoever comes between whom."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferret import Profiler
from ferret.ledger import live
from ferret.ledger.counts import CLAIMED, FAILED, MOST_CLAIMED, Counts


def bounds(counts: Counts) -> tuple[int, int]:
    """How many were counted, at least and at most, as a reader takes it."""
    life = live.Life("", False, tuple(counts.cells), b"{}", True, "")
    return life.recorded - life.uncertain, life.recorded


@pytest.fixture
def hasty_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@given(st.lists(st.sampled_from(["count", "retire"]), max_size=400))
def test_the_bounds_hold_after_each_step_and_meet_after_each_look(steps: list[str]) -> None:
    counts, counted = Counts(), 0
    for step in steps:
        if step == "count":
            counts.count()
            counted += 1
        else:
            counts.retire()
            assert bounds(counts) == (counted, counted)
        least, most = bounds(counts)
        assert least <= counted <= most
        assert most - least < MOST_CLAIMED


def test_many_threads_and_somebody_who_looks_all_the_time_lose_nothing(
    hasty_switches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferret.ledger.counts.CLAIM_NS", 10**12)  # many spans are claimed at once, however slow this is
    counts, each, stop = Counts(), 20_000, threading.Event()

    def count() -> None:
        for _ in range(each):
            counts.count()

    def look() -> None:
        while not stop.is_set():
            counts.retire()

    threads = [threading.Thread(target=count) for _ in range(6)]
    looker = threading.Thread(target=look)
    for thread in [looker, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    looker.join()
    counts.retire()
    assert bounds(counts) == (6 * each, 6 * each)


def test_a_cell_is_increased_in_one_step(hasty_switches: None) -> None:
    counts, each = Counts(), 50_000

    def fail() -> None:
        for _ in range(each):
            counts.cells[FAILED] += 1

    threads = [threading.Thread(target=fail) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts.cells[FAILED] == 6 * each


def test_a_signal_handler_that_counts_in_the_middle_of_counting_is_counted() -> None:
    counts, handled, counted = Counts(), 0, 0

    def handle(*_: object) -> None:
        nonlocal handled
        counts.count()
        handled += 1

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        while handled < 300:
            counts.count()
            counted += 1
            if not counted % 1000:
                counts.retire()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    counts.retire()
    assert bounds(counts) == (counted + handled, counted + handled)


def test_moving_into_a_file_while_others_count_loses_nothing(
    hasty_switches: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MEMORY", str(tmp_path))
    counts, each = Counts(), 20_000
    begun = threading.Barrier(5)

    def count() -> None:
        begun.wait()
        for _ in range(each):
            counts.count()
            counts.cells[FAILED] += 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    path = live.begin(counts, "0" * 16, str(tmp_path / "x"), b"{}")
    for thread in threads:
        thread.join()
    counts.retire()
    assert path is not None
    (life,) = live.look(str(tmp_path / "x")).values()
    assert (life.recorded, life.uncertain, life.failed) == (4 * each, 0, 4 * each)


@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded", "process"])
def test_what_is_counted_is_what_the_ledger_says(db: str, writer: str) -> None:
    profiler = Profiler(db, writer=writer, batch_size=10)

    @profiler.measure("decorated")
    def work() -> None: ...

    for number in range(200):
        with profiler.measure("x", {"n": number}):
            work()
        profiler.start("y").end()
        profiler.put((number, 0, "z", 1, 2, 0, None, None, None, 0, -1))
    profiler.flush()
    profiler.close()
    for _ in range(5):
        work()
    counts = profiler.writer.counts  # type: ignore[attr-defined]
    counts.retire()
    ledger = profiler.stats()
    assert (ledger.recorded, ledger.dropped_by) == (805, {"closed": 5})
    assert counts.cells[CLAIMED] == 805


def test_a_forked_child_counts_from_zero_and_leaves_its_parents_count_alone(db: str) -> None:
    profiler = Profiler(db, writer="sync", batch_size=1000)
    for _ in range(100):
        profiler.start("x").end()
    counts = profiler.writer.counts  # type: ignore[attr-defined]
    counts.retire()
    if (child := os.fork()) == 0:
        code = 1
        try:
            for _ in range(7):
                profiler.start("x").end()
            counts.retire()
            code = 0 if counts.cells[CLAIMED] == 7 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert counts.cells[CLAIMED] == 100
    profiler.close()
