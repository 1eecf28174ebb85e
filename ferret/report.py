"""Reading back what was recorded: runs, spans, numbers per name, and trees."""

from __future__ import annotations

import difflib
import io
import os
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from ferret.aggregate import aggregate
from ferret.errors import RunNotFoundError, StorageError
from ferret.models import AggregatedStats, ProcessInfo, RunInfo, SpanModel, TraceNode
from ferret.sinks.base import Readable, Sink
from ferret.sinks.reading import open_readable
from ferret.sinks.summary import summaries
from ferret.tree import PathNode, build_trees, merge_paths, span_models

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from beaver import BeaverDB

    from ferret.segment import Segment
    from ferret.sinks.summary import SegmentSummary

    type Source = str | os.PathLike[str] | BeaverDB | Recording | Readable

__all__ = ["AggregatedStats", "PathNode", "Report", "RunNotFoundError", "TraceNode"]


@runtime_checkable
class Recording(Protocol):
    """A live `Profiler`, as far as a report needs to know one."""

    def flush(self) -> bool:
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

    Raises:
        StorageError: there is no such file, or it is of another kind.
        TypeError: the source is none of the above.
    """

    def __init__(self, source: Source, namespace: str = "_ferret_trace") -> None:
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

    def runs(self) -> list[RunInfo]:
        """Every run, the oldest first, with the facts of all its processes."""
        source = self._fresh()
        found: dict[str, tuple[list[ProcessInfo], list[SegmentSummary]]] = {}
        for process in source.processes():
            found.setdefault(process.run_id, ([], []))[0].append(process)
        for run_id, several in groupby(summaries(source), attrgetter("run_id")):
            found.setdefault(run_id, ([], []))[1].extend(several)
        runs = [_run_info(run_id, *facts) for run_id, facts in found.items()]
        return sorted(runs, key=attrgetter("started_at"))

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
        raise RunNotFoundError(_no_such_run(run_id, [run.run_id for run in matching or runs], bool(matching)))

    def spans(self, run_id: str | None = None) -> Iterator[SpanModel]:
        """The spans of a run, in the order in which they were stored. Streams."""
        for segment in self.segments(run_id):
            yield from span_models(segment)

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        """The stored batches of a run, as columns: for what is too much for an object per span. Streams."""
        if run_id is None:
            runs = self.runs()
            if not runs:
                return iter(())
            run_id = runs[-1].run_id
        return self._fresh().segments(run_id)

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

        Args:
            run_id: the run.
            depth: how many levels; all unless given.
        """
        return merge_paths(self.segments(run_id), depth)

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


def _is_beaver(source: object) -> bool:
    """Whether it is a `BeaverDB`, asked without importing one."""
    return any(kind.__module__.partition(".")[0] == "beaver" for kind in type(source).__mro__)


def _open(source: Any, namespace: str) -> Readable:
    if not _is_beaver(source):
        return open_readable(source, namespace)
    from ferret.sinks.beaver import reader_of  # noqa: PLC0415 - it imports beaver, which this kind of source has done

    return reader_of(source, namespace)


def _run_info(run_id: str, processes: list[ProcessInfo], segments: Iterable[SegmentSummary]) -> RunInfo:
    segments = [one for one in segments if one.spans]
    processes.sort(key=attrgetter("started_at"))
    starts = [process.started_at for process in processes if process.started_at]
    starts += [one.start_ns / 1e9 for one in segments]
    # where no facts were stored, the last span's end is the nearest thing to the run's
    ends = [process.ended_at for process in processes] or [one.end_ns / 1e9 for one in segments]
    known = [end for end in ends if end is not None]
    return RunInfo(
        run_id=run_id,
        program=processes[0].program if processes else "",
        started_at=min(starts, default=0.0),
        ended_at=max(known) if known and len(known) == len(ends) else None,
        spans=sum(one.spans for one in segments),
        errors=sum(one.errors for one in segments),
        lost=sum(process.ledger.lost for process in processes if process.ledger),
        processes=processes,
    )


def _no_such_run(run_id: str, known: list[str], ambiguous: bool) -> str:
    if ambiguous:
        return f"{len(known)} runs begin with {run_id!r}: {_listed(known)}"
    nearest = difflib.get_close_matches(run_id, known, n=3)
    hint = f"did you mean {_listed(nearest)}?" if nearest else f"there is {_listed(known)}"
    return f"there is no run {run_id!r}; {hint}"


def _listed(run_ids: list[str]) -> str:
    """The latest few."""
    shown = ", ".join(map(repr, run_ids[:-6:-1]))
    return f"{shown} and {len(run_ids) - 5} more" if len(run_ids) > 5 else shown
