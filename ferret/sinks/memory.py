"""`memory`: keeps batches in this process; for tests, and for looking at a run as it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferret.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferret.batch import Batch, SpanData
    from ferret.models import ProcessInfo


class MemorySink:
    """Keeps every batch until the process ends. May be read from any thread while a writer writes.

    After a fork, the child goes on with a copy of what there was. Closing keeps everything readable.

    Attributes:
        batches: what was written, by batch id, in order.
        closed: whether `close` was called.
    """

    def __init__(self, target: str | None = None) -> None:
        if target is not None:
            raise TypeError("it lives in this process, and so has no target")
        self.batches: dict[str, Batch] = {}
        self.closed = False
        self._processes: dict[tuple[str, str], ProcessInfo] = {}

    @property
    def spans(self) -> list[SpanData]:
        """All spans, in the order in which their batches came."""
        return [span for batch in list(self.batches.values()) for span in batch]

    def write(self, batch: Batch) -> None:
        """Keep the batch, once."""
        self.batches.setdefault(batch.id, batch)

    def write_run(self, process: ProcessInfo) -> None:
        """Keep the facts."""
        self._processes[process.run_id, process.token] = process

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Note that it was called."""
        self.closed = True

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        """The batches as segments."""
        for batch in list(self.batches.values()):
            if run_id is None or batch.origin.run_id == run_id:
                yield Segment.from_batch(batch)

    def newest_first(self, run_id: str | None = None) -> Iterator[Segment]:
        """The batches as segments, those that were written last before the others."""
        for batch in reversed(list(self.batches.values())):
            if run_id is None or batch.origin.run_id == run_id:
                yield Segment.from_batch(batch)

    def processes(self, run_id: str | None = None) -> Iterator[ProcessInfo]:
        """The facts of each process."""
        for process in list(self._processes.values()):
            if run_id is None or process.run_id == run_id:
                yield process
