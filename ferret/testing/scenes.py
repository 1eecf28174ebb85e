"""What the contracts of sinks and writers have happen: programs, sinks, and how to count what came of them."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ferret.core import Profiler
from ferret.sinks.memory import MemorySink
from ferret.testing.patience import WAIT_S
from ferret.testing.records import make_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ferret.batch import Batch, SpanData
    from ferret.config import Settings
    from ferret.models import Ledger
    from ferret.sinks.base import Sink
    from ferret.writers.base import Writer

NAMES = ["work", "GET /π/{user}", "'; DROP TABLE spans; --", "", "a\nb\t\0\x1b", "名前 🦦", "\ud800", "x" * 8000]
TAGS: list[dict[str, Any] | None] = [
    None,
    {"n": 1, "float": 1.0, "yes": True, "no": False, "null": None, "": ""},
    {"big": 2**63, "bigger": -(2**200), "tiny": 5e-324, "huge": 1.7976931348623157e308},
    {"nested": {"list": [1, [2, {"three": None}]], "empty": {}}, "名": "\0\u2028🦦\"\\'\n"},
    {"long": "y" * 20_000},
]
OUTCOMES = [None, ("error", "no such user: 'zoë'\n", "KeyError"), ("cancelled", None, None), ("error", "", "E")]
TASKS = [None, "Task-1", "tâche; 2"]


def hostile_batch() -> Batch:
    """Spans with all that a sink may meet: lengths without a common factor, so that everything meets everything."""
    return make_batch(60, names=NAMES, tags=TAGS, outcomes=OUTCOMES, parents=[None, 0, 1], tasks=TASKS)


def profiler_of(make_writer: Callable[[Sink, Settings], Writer], sink: Sink | str, options: dict[str, Any]) -> Profiler:
    """A real profiler, whose writer is made so rather than looked up among the plugins."""

    class Tried(Profiler):
        def _make_writer(self) -> Writer:
            return make_writer(self._sink, self.settings)  # type: ignore[arg-type]  # by name, for one that opens it

    return Tried(sink=sink, **options)


def record_tree(profiler: Profiler, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Record an outer span with so many inner ones; names and tags, in the order in which they end."""
    with profiler.measure("outer", {"of": count}):
        for number in range(count):
            with profiler.measure("inner", {"n": number}):
                pass
    return [*(("inner", {"n": number}) for number in range(count)), ("outer", {"of": count})]


class MeasuredSink(MemorySink):
    """Records a span of its own for every batch."""

    profiler: Profiler

    def write(self, batch: Batch) -> None:
        """Keep the batch, and measure that."""
        with self.profiler.measure("the sink's own"):
            super().write(batch)


def record(profiler: Profiler, numbers: Iterable[int]) -> None:
    """Record a span for each number."""
    for number in numbers:
        profiler.start("work", {"n": number}).end()


def in_threads(count: int, work: Callable[[], object]) -> None:
    """Do the work in so many threads at a time, and raise what one of them raises."""
    # All live until all are done, or else the system may give two of them one id.
    barrier = threading.Barrier(count, timeout=WAIT_S)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            barrier.wait()
            work()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            errors.append(error)
        barrier.wait()

    threads = [threading.Thread(target=run, name=f"contract-{number}", daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def by_thread(spans: Iterable[SpanData]) -> list[list[int]]:
    """The numbers that each thread recorded, in the order in which they are stored."""
    found: dict[int, list[int]] = defaultdict(list)
    for span in spans:
        found[span.thread_id].append(span.tags["n"])
    return list(found.values())


def totals(ledger: Ledger) -> tuple[int, int, int, int]:
    """Recorded, written, dropped, failed; with nothing pending."""
    assert ledger.pending == 0
    return ledger.recorded, ledger.written, ledger.dropped, ledger.failed
