"""A sink that will not take some spans: these are set aside with the reason, and all others are stored, each once."""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import in_proportion

from ferret import Profiler, hookimpl, plugins
from ferret.batch import Batch
from ferret.errors import RejectedError, StorageError
from ferret.sinks.jsonl import JsonlSink
from ferret.sinks.memory import MemorySink
from ferret.tags import CUT
from ferret.writers import delivery, quarantine
from ferret.writers.quarantine import path_of

WRITERS = ["sync", "threaded", "bounded", "process"]
ERRORS: dict[str, Callable[[list[int]], Exception]] = {
    "named": lambda bad: RejectedError("cannot take these", bad),
    "the first one named": lambda bad: RejectedError("cannot take this", bad[:1]),
    "unnamed": lambda bad: RejectedError("cannot take it"),
    "wrongly named": lambda bad: RejectedError("cannot take these", [-1, *bad, 10**9]),
    "a value": lambda bad: ValueError("a poisoned value"),
    "a type": lambda bad: TypeError("a poisoned type"),
}


class Picky(JsonlSink):
    """Stores no batch in which a span has the tag `poison`, and says so in the way that its target names."""

    def __init__(self, target: str) -> None:
        how, _, path = target.partition("|")
        super().__init__(path)
        self.how, self.target = how, target

    def write(self, batch: Batch) -> None:
        bad = [index for index, span in enumerate(batch) if span.tags.get("poison")]
        if bad:
            raise ERRORS[self.how](bad)
        super().write(batch)

    def reopen(self) -> Picky:
        return Picky(self.target)


@hookimpl
def ferret_sinks() -> dict[str, Callable[..., Any]]:
    return {"picky": Picky}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY_S", 0.0001)
    warnings.simplefilter("ignore")


def picky_profiler(how: str, path: Path, writer: str, **options: Any) -> Profiler:
    plugins.register(sys.modules[__name__]) if not plugins.plugins().manager.is_registered(
        sys.modules[__name__]
    ) else None
    return Profiler(sink=f"picky:{how}|{path}", writer=writer, close_timeout=30, **options)


def check(profiler: Profiler, path: Path, poisoned: list[bool]) -> None:
    for number, poison in enumerate(poisoned):
        profiler.start("x", {"n": number, "poison": poison}).end()
    complete = profiler.flush()
    ledger = profiler.close()
    stored = [span.tags["n"] for segment in JsonlSink(path).segments() for span in segment]
    assert sorted(stored) == [number for number, poison in enumerate(poisoned) if not poison]
    assert ledger.written == len(stored)
    assert ledger.failed == sum(ledger.failed_by.values()) == sum(poisoned)
    assert bool(complete) == (not any(poisoned))
    aside = Path(path_of(str(path)))
    lines = aside.read_text().splitlines() if aside.exists() else []
    assert sorted(json.loads(line)["span"]["tags"]["n"] for line in lines) == [
        number for number, poison in enumerate(poisoned) if poison
    ]
    assert sum(gap.count for gap in ledger.gaps) == sum(poisoned)
    assert ledger.batches - ledger.void_batches == len(list(JsonlSink(path).summaries()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize("writer", WRITERS[:3])
@settings(max_examples=in_proportion(15))
@example(poisoned=[False, True, False, False, True], size=5)
@given(poisoned=st.lists(st.booleans() | st.just(False), max_size=40), size=st.integers(1, 50))
def test_of_n_spans_with_p_poisoned_ones_exactly_n_minus_p_are_stored(
    writer: str, how: str, poisoned: list[bool], size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "spans.jsonl")
        check(picky_profiler(how, path, writer, batch_size=size, max_queue=1000, flush_interval=60), path, poisoned)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ERRORS)
@settings(max_examples=in_proportion(3))
@example(poisoned=[False, True, False, False, True], size=5)
@given(poisoned=st.lists(st.booleans() | st.just(False), min_size=1, max_size=40), size=st.integers(1, 50))
def test_the_same_through_another_process(how: str, poisoned: list[bool], size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "spans.jsonl")
        check(picky_profiler(how, path, "process", batch_size=size), path, poisoned)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "indices", [(), (None,), (["1"],), ([1.0],), ([np.int64(1)],), (np.array([1, 99]),), ({1: "one"},)], ids=repr
)
@pytest.mark.parametrize("writer", WRITERS[:3])
def test_however_a_sink_names_what_it_rejects_that_costs_no_other_span(
    writer: str, indices: tuple[object, ...]
) -> None:
    class OddlyRejectedError(RejectedError):
        """A sink's own kind, which says in its own way what it rejects."""

        def __init__(self, message: str) -> None:
            Exception.__init__(self, message)
            if indices:
                (self.indices,) = indices  # type: ignore[assignment]

    class OddlyPickySink(MemorySink):
        def write(self, batch: Batch) -> None:
            if any("poison" in span.tags for span in batch):
                raise OddlyRejectedError("poisoned")
            super().write(batch)

    sink = OddlyPickySink()
    profiler = Profiler(sink=sink, writer=writer, batch_size=10, close_timeout=30)
    for number in range(4):
        profiler.start("x", {"poison": 1} if number == 1 else {"n": number}).end()
    report = profiler.close()
    assert (report.written, report.failed_by, report.timed_out) == (3, {"OddlyRejectedError": 1}, False)
    assert sorted(span.tags["n"] for span in sink.spans) == [0, 2, 3]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("writer", WRITERS)
def test_the_quarantine_says_what_is_wrong_and_is_private(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "spans.jsonl"
    profiler = picky_profiler("a value", path, writer)
    profiler.start("good").end()
    profiler.start("bad", {"poison": 1}).end()
    report = profiler.close()
    assert report.failed_by == {"ValueError": 1}
    aside = Path(path_of(str(path)))
    assert stat.S_IMODE(os.stat(aside).st_mode) == 0o600
    (line,) = aside.read_text().splitlines()
    told = json.loads(line)
    assert (told["error"], told["span"]["name"]) == ("ValueError: a poisoned value", "bad")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("writer", WRITERS)
def test_a_fallback_sink_takes_what_the_first_will_not(tmp_path: Path, writer: str) -> None:
    path, second = tmp_path / "spans.jsonl", tmp_path / "second.jsonl"
    profiler = picky_profiler("unnamed", path, writer, fallback_sink=f"jsonl:{second}")
    for number in range(10):
        profiler.start("x", {"n": number, "poison": number in {3, 4, 8}}).end()
    assert profiler.close().failed == 3
    assert sorted(span.tags["n"] for segment in JsonlSink(second).segments() for span in segment) == [3, 4, 8]
    assert not os.path.exists(path_of(str(path)))


@pytest.mark.filterwarnings("ignore")
def test_a_tag_that_claims_to_be_json_and_is_not_costs_no_span(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    with Profiler(sink=f"jsonl:{path}") as profiler:
        for number in range(5):
            profiler.start("x", {"n": msgspec.Raw(b"{no json" if number == 3 else b"%d" % number)}).end()
    tags = [span.tags for segment in JsonlSink(path).segments() for span in segment]
    assert [one["n"] for one in tags if "n" in one] == [0, 1, 2, 4]
    assert "{no json" in tags[3][CUT]
    assert profiler.stats().failed == 0


@pytest.mark.filterwarnings("ignore")
def test_a_batch_that_fails_for_want_of_storage_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []

    class Full:
        def write(self, batch: Batch) -> None:
            writes.append(len(batch))
            raise StorageError("the disk is full")

        def flush(self) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr(delivery, "FIRST_DELAY_S", 0.0005)
    monkeypatch.setattr(delivery, "LONGEST_DELAY_S", 0.005)
    profiler = Profiler(sink=Full(), batch_size=8, close_timeout=0.3)
    for _ in range(8):
        profiler.start("x").end()
    assert not profiler.flush()  # until it is given up
    assert profiler.close().failed_by == {"StorageError": 8}
    assert set(writes) == {8}
    assert len(writes) > delivery.DATA_TRIES


@pytest.mark.filterwarnings("ignore")
def test_a_sink_that_takes_nothing_at_all_is_soon_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "HOPELESS", 20)
    writes: list[int] = []

    class Broken:
        broken = True

        def write(self, batch: Batch) -> None:
            writes.append(len(batch))
            if self.broken:
                raise TypeError("a mistake in the sink")

        def flush(self) -> None: ...

        def close(self) -> None: ...

    sink = Broken()
    profiler = Profiler(sink=sink, writer="sync", batch_size=64, close_timeout=30)
    for _ in range(64 * 10):
        profiler.start("x").end()
    assert profiler.stats().failed_by == {"TypeError": 640}
    assert len(writes) < 100
    sink.broken = False
    for _ in range(64):
        profiler.start("x").end()
    assert profiler.close().written == 64


@pytest.mark.filterwarnings("ignore")
def test_a_quarantine_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "MOST_BYTES", 1000)
    path = tmp_path / "spans.jsonl"
    profiler = picky_profiler("named", path, "sync")
    for _ in range(100):
        profiler.start("x", {"poison": 1}).end()
        profiler.flush()
    assert profiler.close().failed == 100
    assert 0 < os.stat(path_of(str(path))).st_size <= 1000


def test_a_batch_that_was_taken_apart_is_stored_once_though_the_writing_process_dies_in_between(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        profiler = picky_profiler("unnamed", path, "process", batch_size=64)
        for number in range(640):
            profiler.start("x", {"n": number, "poison": number % 50 == 7}).end()
            if number % 100 == 99:
                pid = profiler.writer.child_pid  # type: ignore[attr-defined]
                if pid:
                    os.kill(pid, 9)
        report = profiler.close(30)
    stored = sorted(span.tags["n"] for segment in JsonlSink(path).segments() for span in segment)
    assert stored == [number for number in range(640) if number % 50 != 7]
    assert (report.written, report.failed_by) == (len(stored), {"RejectedError": 13})
