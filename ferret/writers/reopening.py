"""A sink that a forked child inherited, until its first use: then it is opened afresh."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferret.sinks.base import KeepsRuns, Reopens, place_of

if TYPE_CHECKING:
    from ferret.batch import Batch
    from ferret.models import ProcessInfo
    from ferret.sinks.base import Sink


class Reopening:
    """Opening is left to the first `write`, where failing is already provided for; a fork itself must not do I/O."""

    def __init__(self, inherited: Reopens) -> None:
        self._inherited = inherited
        self._opened: Sink | None = None

    @property
    def place(self) -> str | None:
        """The file that will be written to, if the sink says that there is one."""
        return place_of(self._inherited)

    def opened(self) -> Sink:
        """The sink, opened if it was not yet."""
        if self._opened is None:
            self._opened = self._inherited.reopen()
        return self._opened

    def write(self, batch: Batch) -> None:
        """As the sink's."""
        self.opened().write(batch)

    def write_run(self, process: ProcessInfo) -> None:
        """As the sink's, if it has one."""
        sink = self.opened()
        if isinstance(sink, KeepsRuns):
            sink.write_run(process)

    def reopen(self) -> Sink:
        """In a child of the child: from the sink that is open here, which is what it inherits, if there is one."""
        opened: object = self._opened
        return (opened if isinstance(opened, Reopens) else self._inherited).reopen()

    def flush(self) -> None:
        """As the sink's, if it was opened."""
        if self._opened is not None:
            self._opened.flush()

    def close(self) -> None:
        """As the sink's, if it was opened."""
        if self._opened is not None:
            self._opened.close()
