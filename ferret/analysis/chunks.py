"""Chunks: the columns of several segments, one after another, with names that mean the same in all of them.

A segment may be small: one that was written after 100 ms holds what was recorded in 100 ms. NumPy costs a microsecond a
call, whatever it is given; so segments are taken together until the work is worth its calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from ferret.packing import Int64
    from ferret.segment import Segment

    type UInt64 = NDArray[np.uint64]
    type Bools = NDArray[np.bool_]

CHUNK: Final = 1 << 16
"""Spans that are taken together, at least; all but the last chunk of a run are as large."""

_BITS: Final = (1 << 64) - 1


class NameIndex:
    """The names of a run, numbered as they turn up: each segment has a numbering of its own."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.sources: dict[str, tuple[str, int]] = {}
        """File and line of the functions that names stand for, as far as that is known."""

    def __len__(self) -> int:
        return len(self.numbers)

    def of(self, segment: Segment) -> Int64:
        """The number of each span's name."""
        numbers = self.numbers
        table = [numbers.setdefault(name, len(numbers)) for name in segment.names]
        if segment.sources:
            self.sources.update(segment.sources)
        return np.array(table, dtype=np.int64)[segment.name]


class Chunk(NamedTuple):
    """Columns of equal length, in the order in which the spans were stored."""

    name: Int64
    """Numbers of a `NameIndex`."""
    span_id: Int64
    parent_id: Int64
    """0 for a span without a parent."""
    start_ns: Int64
    duration_ns: Int64
    running_ns: Int64
    """The duration without the time in which it was suspended; never negative."""
    self_ns: Int64
    """Self time as its recorder measured it; -1 where nobody did."""
    failed: Bools
    track: UInt64
    """An odd number for each track: a process, thread and asyncio task."""


def chunks(segments: Iterable[Segment], names: NameIndex) -> Iterator[Chunk]:
    """All spans of the segments. Holds one chunk at a time, and the segments that it is made of."""
    waiting: list[Chunk] = []
    spans = 0
    for segment in segments:
        waiting.append(chunk_of(segment, names))
        spans += len(segment)
        if spans >= CHUNK:
            yield joined(waiting)
            waiting, spans = [], 0
    if spans:
        yield joined(waiting)


def failed(segment: Segment) -> Bools:
    """Whether each span ended with a status other than `"ok"`."""
    return np.array([status != "ok" for status, *_ in segment.outcomes], dtype=np.bool_)[segment.outcome]


def joined(parts: Sequence[Chunk]) -> Chunk:
    """The chunks as one."""
    return Chunk(*map(np.concatenate, zip(*parts, strict=True)))


def chunk_of(segment: Segment, names: NameIndex) -> Chunk:
    """One segment as a chunk."""
    return Chunk(
        name=names.of(segment),
        span_id=segment.span_id,
        parent_id=segment.parent_id,
        start_ns=segment.start_ns,
        duration_ns=segment.duration_ns,
        running_ns=np.maximum(segment.duration_ns - segment.suspended_ns, 0),
        self_ns=segment.self_ns,
        failed=failed(segment),
        track=_tracks(segment),
    )


def find(keys: NDArray[np.integer], wanted: NDArray[np.integer]) -> tuple[Bools, Int64]:
    """Which of the wanted are among the sorted keys, and where they all would be."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.bool_), np.zeros(len(wanted), dtype=np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return keys[at] == wanted, at


def _tracks(segment: Segment) -> UInt64:
    """Each span's track as a number that no other track has, as the numbers are spread over 64 bits.

    There may be a task for each span: a table of tracks would have to grow with the run.
    """
    threads = [hash((segment.token, *thread)) & _BITS | 1 for thread in segment.threads]
    tasks = [hash(("task", task)) & _BITS | 1 for task in segment.tasks]
    track: UInt64 = np.array(threads, dtype=np.uint64)[segment.thread] * np.array(tasks, dtype=np.uint64)[segment.task]
    return track
