"""A run as columns for the page: every span once, in the order of their start, with its track, parent and self time."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ferret.analysis.selftime import self_times
from ferret.analysis.tree import parents_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ferret.packing import Int64
    from ferret.segment import Segment

type Outcome = tuple[str, str | None, str | None]


class Track(NamedTuple):
    """What spans that mostly nest have in common: a thread of a process, or an asyncio task on one."""

    token: str
    process_id: int
    thread_id: int
    thread_name: str
    task: str
    """`""` for what ran in no task."""


class RunColumns(NamedTuple):
    """A run's spans, ordered by start; of those that start together the longest first. Times are in nanoseconds."""

    origin_ns: int
    """When the first span began, since the epoch."""
    names: list[str]
    sources: dict[int, tuple[str, int]]
    """By index into `names`: the file and line of the function, where it was one."""
    tracks: list[Track]
    outcomes: list[Outcome]
    """Status, error message and error type; the first is what most spans have."""

    span_id: Int64
    parent: Int64
    """The index of the span's parent; -1 where it is not in the run."""
    name: Int64
    track: Int64
    outcome: Int64
    start_ns: Int64
    """Since `origin_ns`."""
    duration_ns: Int64
    suspended_ns: Int64
    self_ns: Int64

    stored: Int64
    """The span's number in the order in which spans are stored: that of the tags."""
    tag_lengths: Int64
    """How many bytes each *stored* span's tags take."""
    tag_blocks: list[bytes]
    """The tags as JSON, one after the other, each segment's compressed with zlib."""
    tag_spans: list[int]
    """How many spans each of the blocks is of."""


def gather(segments: Iterable[Segment]) -> RunColumns:
    """Bring one run's segments together. Holds about 200 bytes a span, and the tags compressed."""
    tables = _Tables()
    kept = [tables.columns(segment) for segment in segments if len(segment)]
    tag_lengths = np.concatenate([columns.pop("tag_lengths") for columns in kept] or [_NONE])
    joined = {name: np.concatenate([columns[name] for columns in kept] or [_NONE]) for name in _COLUMNS}
    del kept
    stored = np.lexsort((joined["span_id"].view(np.uint64), -joined["duration_ns"], joined["start_ns"]))
    columns = {name: joined.pop(name)[stored] for name in _COLUMNS}
    parent = parents_of(columns["span_id"], columns.pop("parent_id"))
    measured = columns.pop("self_ns")
    origin_ns = int(columns["start_ns"][0]) if len(stored) else 0
    columns["start_ns"] -= origin_ns
    self_ns = self_times(parent, columns["track"], columns["duration_ns"], columns["suspended_ns"], measured)
    return RunColumns(
        origin_ns=origin_ns,
        names=list(tables.names),
        sources=tables.sources,
        tracks=list(tables.tracks),
        outcomes=list(tables.outcomes),
        parent=parent,
        self_ns=self_ns,
        stored=stored,
        tag_lengths=tag_lengths,
        tag_blocks=tables.tag_blocks,
        tag_spans=tables.tag_spans,
        **columns,
    )


_COLUMNS = ("span_id", "parent_id", "name", "track", "outcome", "start_ns", "duration_ns", "suspended_ns", "self_ns")
_NONE = np.empty(0, dtype=np.int64)


class _Tables:
    """What the columns of all segments are indices into: each segment has tables of its own."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.sources: dict[int, tuple[str, int]] = {}
        self.tracks: dict[Track, int] = {}
        self.outcomes: dict[Outcome, int] = {("ok", None, None): 0}
        self.tag_blocks: list[bytes] = []
        self.tag_spans: list[int] = []

    def columns(self, segment: Segment) -> dict[str, Int64]:
        for name, source in segment.sources.items():
            self.sources.setdefault(_number(self.names, name), source)
        names = [_number(self.names, name) for name in segment.names]
        outcomes = [_number(self.outcomes, tuple(outcome)) for outcome in segment.outcomes]
        tags = list(segment.tags)
        self.tag_blocks.append(zlib.compress(b"".join(tags), 1) if any(tags) else b"")
        self.tag_spans.append(len(tags))
        return {
            "span_id": segment.span_id,
            "parent_id": segment.parent_id,
            "name": np.array(names, dtype=np.int64)[segment.name],
            "track": self._track(segment),
            "outcome": np.array(outcomes, dtype=np.int64)[segment.outcome],
            "start_ns": segment.start_ns,
            "duration_ns": segment.duration_ns,
            "suspended_ns": segment.suspended_ns,
            "self_ns": segment.self_ns,
            "tag_lengths": np.fromiter(map(len, tags), dtype=np.int64, count=len(tags)),
        }

    def _track(self, segment: Segment) -> Int64:
        pairs, index = np.unique(segment.thread * len(segment.tasks) + segment.task, return_inverse=True)
        numbers = []
        for pair in pairs.tolist():
            thread, task = divmod(pair, len(segment.tasks))
            thread_id, thread_name = segment.threads[thread]
            track = Track(segment.token, segment.process_id, thread_id, thread_name, segment.tasks[task])
            numbers.append(_number(self.tracks, track))
        return np.array(numbers, dtype=np.int64)[index]


def _number(table: dict[Any, int], key: Any) -> int:
    return table.setdefault(key, len(table))
