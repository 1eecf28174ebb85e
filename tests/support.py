"""Sinks under a test's control, and what tests compare."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import psutil
from hypothesis import settings
from hypothesis import strategies as st

from ferret.ambient import ThreadInfo
from ferret.batch import Batch, Origin, SpanData
from ferret.span import Record
from ferret.testing import patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WAIT_S = 60.0
"""How long a test waits for something that must happen, before it says that it did not."""

EXAMPLES = 60
"""How many examples `make test` tries of a property."""

SAME_EXAMPLES = {"CI": "true"}
"""For a process with a pytest of its own: hypothesis draws the same examples there each time, too."""

ORIGIN = Origin("a run", "0123456789abcdef", 4242, 1_700_000_000_000_000_000)
THREADS = [ThreadInfo(1, "MainThread"), ThreadInfo(2, "worker")]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
"""Values that JSON has a form for: they must come back as they were."""

tags_strategy = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), json_values, max_size=4)


def in_proportion(examples: int) -> int:
    """As many in `make test`, for a property whose examples take longer or shorter than most; more in `make explore`."""
    return max(1, examples * settings.default.max_examples // EXAMPLES)


def wait_until(condition: Callable[[], object], seconds: float = WAIT_S) -> None:
    """Wait for what another thread or process is about to do."""
    patience.wait_until(condition, "it never happened", seconds)


def is_gone(process: psutil.Process) -> bool:
    """Whether it has ended, and at most waits for its parent to ask how."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the two
        return True


def record(number: int, **changes: Any) -> Record:
    """A finished span, as a writer gets it."""
    fields: dict[str, Any] = {
        "span_id": 1000 + number, "parent_id": 0, "name": "work", "start_ns": number * 10, "end_ns": number * 10 + 5,
        "thread": 0, "task": None, "tags": b'{"n":%d}' % number, "outcome": None,
        "suspended_ns": 0, "self_ns": -1, **changes,
    }  # fmt: skip
    return tuple(fields.values())  # type: ignore[return-value]


def batch(*records: Record, sequence: int = 0, attempt: int = 1, origin: Origin = ORIGIN) -> Batch:
    """A batch as a sink gets it."""
    return Batch(origin, sequence, list(records), THREADS, attempt)


class ScriptedSink:
    """Keeps batches, each once, and misbehaves as it is told. Any thread may tell it.

    `faults` is a list of what the next writes do: `"fail"` raises before it stores, `"doubt"` stores and then raises.
    """

    def __init__(self, target: str | None = None) -> None:
        self.stored: dict[str, list[SpanData]] = {}
        self.writes = 0
        self.faults: list[str] = []
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.flushes = 0
        self.closed = 0

    @property
    def spans(self) -> list[SpanData]:
        return [span for spans in self.stored.values() for span in spans]

    def write(self, batch: Batch) -> None:
        self.writes += 1
        self.entered.release()
        if not self.gate.wait(WAIT_S):
            raise TimeoutError("the test never opened the gate")
        if self.closed:
            raise AssertionError("written to after close")
        fault = self.faults.pop(0) if self.faults else None
        if self.broken or fault == "fail":
            raise OSError("the sink fails")
        self.stored.setdefault(batch.id, list(batch))
        if fault == "doubt":
            raise OSError("the sink stored the batch, but does not say so")

    def flush(self) -> None:
        self.flushes += 1

    def close(self) -> None:
        self.closed += 1


def numbers_by_thread(spans: Iterable[SpanData]) -> dict[int, list[int]]:
    """The tag `n` of each thread's spans, in the order in which they are stored."""
    found: dict[int, list[int]] = defaultdict(list)
    for span in spans:
        found[span.thread_id].append(span.tags["n"])
    return dict(found)
