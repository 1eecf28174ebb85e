"""What a sink is. Nothing needs to be inherited: an object with the right methods will do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferret.batch import Batch
    from ferret.models import ProcessInfo
    from ferret.segment import Segment


@runtime_checkable
class Sink(Protocol):
    """A place where spans rest. A runtime-checkable protocol.

    A writer calls all three methods from one thread at a time, but not always from the same thread. They may block:
    what then waits is the writer's page of the promise table. What they record themselves is left out.
    """

    def write(self, batch: Batch) -> None:
        """Store the batch, whole or not at all.

        Iterating the batch gives spans (`ferret.batch.SpanData`); `batch.columns()` gives them by attribute.
        `batch.id` is the same when a batch comes again after a failure that may have stored it (`batch.attempt` is then
        above 1): a sink stores an id once.

        Raises:
            Exception: any, to say "not stored"; the batch comes again, with growing delays.
        """

    def flush(self) -> None:
        """Make what was written findable by readers. May do nothing."""

    def close(self) -> None:
        """Let go of files and connections. Called once, after the last `write`; nothing follows."""


@runtime_checkable
class KeepsRuns(Protocol):
    """A sink that also stores the facts of a run: program, start, end and final ledger."""

    def write_run(self, process: ProcessInfo) -> None:
        """Store the facts under `(process.run_id, process.token)`, in place of earlier ones.

        Called before the first batch, and again before `close` with the end and the ledger. Raising costs the facts only.
        """


@runtime_checkable
class Reopens(Protocol):
    """A sink that a forked child cannot go on using, such as one that holds a database connection."""

    def reopen(self) -> Sink:
        """A new sink of the same kind, on the same target, for this process.

        Called in the child, before its first `write`. The old sink is kept, untouched, for as long as the process lives:
        closing an inherited database connection can damage the parent's file.
        """


@runtime_checkable
class HasPlace(Protocol):
    """A sink, or a readable, of spans in one file of this machine.

    A profiler that writes there keeps its counts where a reader of the same file finds them, also after a SIGKILL.
    """

    @property
    def place(self) -> str | None:
        """The file's absolute path; None if this one has none, such as a database in memory."""


def place_of(thing: object) -> str | None:
    """The file behind a sink or a readable, with links resolved: two that share it must find the same."""
    place = getattr(thing, "place", None)
    return os.path.realpath(place) if isinstance(place, str) and place else None


@runtime_checkable
class Readable(Protocol):
    """Something that gives back what was stored. `Report` reads from it; sinks may be readable too."""

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        """The stored batches, oldest first within a process, each once; of one run, or of all.

        Streams: no more than a few segments are held at a time.
        """

    def processes(self, run_id: str | None = None) -> Iterator[ProcessInfo]:
        """The stored facts of each process, of one run or of all."""
