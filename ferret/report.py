"""Reading back what was recorded: runs, spans, numbers per name, and trees."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from ferret.analysis import aggregate
from ferret.analysis.calltree import merge_paths
from ferret.analysis.diff import NameDiff, compare
from ferret.analysis.runinfo import no_such_run, run_infos
from ferret.analysis.slowest import SPANS, slowest
from ferret.analysis.tree import PathNode, build_trees, span_models
from ferret.errors import RunNotFoundError, StorageError
from ferret.ledger.live import look
from ferret.models import AggregatedStats, RunInfo, SpanModel, Trace, TraceNode
from ferret.sinks.backwards import with_horizon
from ferret.sinks.base import Readable, Sink, place_of
from ferret.sinks.reading import open_readable
from ferret.sinks.summary import summaries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beaver import BeaverDB

    from ferret.segment import Segment

    type Source = str | os.PathLike[str] | BeaverDB | Recording | Readable

__all__ = ["AggregatedStats", "NameDiff", "PathNode", "Report", "RunNotFoundError", "Trace", "TraceNode"]


@runtime_checkable
class Recording(Protocol):
    """A live `Profiler`, as far as a report needs to know one."""

    def flush(self) -> object:
        """Bring everything recorded so far into the sink."""

    def readable(self) -> Readable:
        """What the sink holds."""


class Report:
    """Reads what was recorded. Nothing that it reads from is changed.

    A run id of None means the run that started last; a run without spans gives empty results, and so does an
    id that nobody recorded under (`run` raises for it). All times are in seconds. May be used from any thread
    that the source may be used from: one report per thread is always right.

    Args:
        source: the path of a BeaverDB file or of JSON lines; a `BeaverDB`; a `Profiler`, which is flushed
            before each reading; or a readable sink, such as `MemorySink`.
        namespace: where in a BeaverDB the spans are.
        skip_damaged: read on after a segment of a BeaverDB file that is damaged, rather than raise. (In JSON lines what is
            damaged is always passed over.)

    Attributes:
        damaged: what was left out so far because it could not be read, and why. Empty unless `skip_damaged`.

    Raises:
        StorageError: there is no such file, or it is of another kind.
        TypeError: the source is none of the above.
    """

    def __init__(self, source: Source, namespace: str = "_ferret_trace", *, skip_damaged: bool = False) -> None:
        self.damaged: dict[str, str] = {}
        self._recording: Recording | None = None
        self._readable: Readable | None = None
        self._closed = False
        self._owned = isinstance(source, str | os.PathLike)
        if self._owned or _is_beaver(source):
            self._readable = _open(source, namespace)
        elif isinstance(source, Readable):
            self._readable = source
        elif isinstance(source, Recording) and not isinstance(source, io.IOBase):
            self._recording, self._owned = source, True
        else:
            kind = type(source).__name__
            raise TypeError(f"a report reads a path, a BeaverDB, a Profiler or a readable sink, not a {kind}")
        if skip_damaged and hasattr(self._readable, "on_damage"):
            self._readable.on_damage = self._note_damage  # type: ignore[union-attr]

    def runs(self) -> list[RunInfo]:
        """Every run, the oldest first, with the facts of all its processes."""
        source = self._fresh()
        place = place_of(source)
        lives = look(place) if place else {}  # first: what a dead process had stored by then is all that there is
        return run_infos(source.processes(), summaries(source), lives)

    def run(self, run_id: str | None = None) -> RunInfo:
        """One run: by its id, by a beginning that no other id has, or the latest.

        Raises:
            RunNotFoundError: there is none; the message names the nearest.
        """
        runs = self.runs()
        if not runs:
            raise RunNotFoundError("nothing has been recorded yet")
        if run_id is None:
            return runs[-1]
        exact = [run for run in runs if run.run_id == run_id]
        matching = exact or [run for run in runs if run_id and run.run_id.startswith(run_id)]
        if len(matching) == 1:
            return matching[0]
        raise RunNotFoundError(no_such_run(run_id, [run.run_id for run in matching or runs], bool(matching)))

    def spans(self, run_id: str | None = None) -> Iterator[SpanModel]:
        """The spans of a run, in the order in which they were stored. Streams."""
        for segment in self.segments(run_id):
            yield from span_models(segment)

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        """The stored batches of a run, as columns: for what is too much for an object per span. Streams."""
        chosen = self._chosen(run_id)
        return iter(()) if chosen is None else self._fresh().segments(chosen)

    def analyze_run(self, run_id: str | None = None) -> dict[str, AggregatedStats]:
        """Count, durations and errors of each name in a run. Memory grows with the names, not the spans."""
        return aggregate(self.segments(run_id))

    def build_trees(self, run_id: str | None = None) -> list[TraceNode]:
        """Every span of a run as a node: the roots in the order of their start, each with its children.

        A span whose parent is not in the run is a root. Holds all the run's spans, about 2 kB each;
        `merged_tree` does with far less.
        """
        return build_trees(self.segments(run_id))

    def merged_tree(self, run_id: str | None = None, depth: int | None = None) -> list[PathNode]:
        """A run's call tree with all spans of one name under one path as one node, the longest first.

        Memory grows with the paths, and with how many spans were open at the same moment; but JSON lines, which cannot
        be read from their end, are held as a whole.

        Args:
            run_id: the run.
            depth: how many levels; all unless given.
        """
        chosen = self._chosen(run_id)
        return [] if chosen is None else merge_paths(with_horizon(self._fresh(), chosen), depth)

    def slowest(self, count: int = 5, run_id: str | None = None, *, spans: int = SPANS) -> list[Trace]:
        """The longest single traces of a run: the spans that have no parent in it, each with what is below it.

        The longest comes first. Reads the run two to five times, in memory for what it returns; but JSON lines are held
        as a whole.

        Args:
            count: how many traces.
            run_id: the run.
            spans: how many of each trace's spans are kept at most, at least 1: the longest. The root's `hidden` tells
                how many are not.
        """
        chosen = self._chosen(run_id)
        return [] if chosen is None or count < 1 else slowest(self._fresh(), chosen, count, max(spans, 1))

    def diff(self, before: str | None = None, after: str | None = None) -> list[NameDiff]:
        """Compare two runs of this source, name by name; what got slower comes first.

        For runs of two sources there is `ferret.analysis.diff.compare`.

        Args:
            before: the earlier run's id, or its beginning; the run before `after` if not given.
            after: the later run's; the latest run if not given.

        Raises:
            RunNotFoundError: one of them is not there.
        """
        earlier, later = self.two_runs(before, after)
        return compare(self.analyze_run(earlier.run_id), self.analyze_run(later.run_id))

    def two_runs(self, before: str | None = None, after: str | None = None) -> tuple[RunInfo, RunInfo]:
        """The runs that `diff` compares; takes and raises the same."""
        later = self.run(after)
        if before is not None:
            return self.run(before), later
        ids = [run.run_id for run in self.runs()]
        place = ids.index(later.run_id)
        if not place:
            raise RunNotFoundError(f"there is no run before {later.run_id!r} to compare it with")
        return self.run(ids[place - 1]), later

    def close(self) -> None:
        """Close what this report opened: a path's file, nothing that it was given open. Idempotent."""
        if self._owned and not self._closed:
            self._closed = True
            close = getattr(self._readable, "close", None)
            # a live profiler may have shown the very sink that it writes to
            if close is not None and not isinstance(self._readable, Sink):
                close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fresh(self) -> Readable:
        """The source, with everything in it that was recorded before this call."""
        if self._closed:
            raise StorageError("this report is closed: make a new one to read again")
        if self._recording is not None:
            self._recording.flush()
            if self._readable is None:  # not before: the first flush may be what makes the file
                self._readable = self._recording.readable()
        assert self._readable is not None
        return self._readable

    def _chosen(self, run_id: str | None) -> str | None:
        """The run that is meant; None if there is none."""
        if run_id is not None:
            return run_id
        runs = self.runs()
        return runs[-1].run_id if runs else None

    def _note_damage(self, what: str, why: str) -> None:
        self.damaged[what] = why


def _is_beaver(source: object) -> bool:
    """Whether it is a `BeaverDB`, asked without importing one."""
    return any(kind.__module__.partition(".")[0] == "beaver" for kind in type(source).__mro__)


def _open(source: Any, namespace: str) -> Readable:
    if not _is_beaver(source):
        return open_readable(source, namespace)
    from ferret.sinks.beaver import reader_of  # noqa: PLC0415 - it imports beaver, which this kind of source has done

    return reader_of(source, namespace)
