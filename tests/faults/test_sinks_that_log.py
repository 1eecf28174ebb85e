"""A sink that logs, into a handler that records, through the profiler whose sink it is: no circle, and nothing lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from support import ScriptedSink

from ferret import Profiler
from ferret.writers import delivery

pytestmark = pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")


class Recording(logging.Handler):
    """Records a span for each line that is logged, as bridges from logging to tracing do."""

    def __init__(self) -> None:
        super().__init__()
        self.profiler: Profiler | None = None
        self.lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        if self.profiler is not None:
            with self.profiler.measure(f"log: {record.getMessage()}"):
                pass


class Talkative(ScriptedSink):
    """Says what it does, and what it cannot do."""

    def write(self, batch: Any) -> None:
        logging.getLogger("sink").warning("writing %d spans", len(batch))
        try:
            super().write(batch)
        except OSError:
            logging.getLogger("sink").exception("could not")
            raise


@pytest.fixture
def handler() -> Iterator[Recording]:
    handler = Recording()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded"])
def test_a_sink_that_logs_into_a_handler_that_records_does_not_feed_itself(
    writer: str, handler: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY_S", 0.001)
    sink = Talkative()
    sink.faults = ["fail", "doubt", "fail"]
    profiler = handler.profiler = Profiler(sink=sink, writer=writer, batch_size=5, close_timeout=20)
    for number in range(50):
        profiler.start("x", {"n": number}).end()
    report = profiler.close()
    assert [span.tags["n"] for span in sink.spans] == list(range(50))
    assert (report.written, report.failed) == (50, 0)
    assert report.dropped_by == {"suppressed": handler.lines}
    assert handler.lines == sink.writes + 3


@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded", "process"])
def test_ferret_logs_nothing_itself(writer: str, handler: Recording, db: str) -> None:
    handler.profiler = Profiler(db, writer=writer, batch_size=5)
    for number in range(50):
        handler.profiler.start("x", {"n": number}).end()
    assert handler.profiler.close().written == 50
    assert handler.lines == 0
