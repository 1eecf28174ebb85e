"""Chunks: the columns of several segments, one after another, with names that mean the same in all of them.

A segment may be small: one that was written after 100 ms holds what was recorded in 100 ms. NumPy costs a microsecond a
call, whatever it is given; so segments are taken together until the work is worth its calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from ferret.segment import Int64, Segment

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
    """Columns of equal length, in the order in which the spans were stored.

    A *key* stands for a span id and a track (process, thread, asyncio task) in 64 bits; 0 is no span. So a child
    whose `parent` equals a span's `own` ran where that span ran.
    """

    name: Int64
    """Numbers of a `NameIndex`."""
    duration_ns: Int64
    running_ns: Int64
    """The duration without the time in which it was suspended; never negative."""
    self_ns: Int64
    """Self time as its recorder measured it; -1 where nobody did."""
    failed: Bools
    own: UInt64
    """The span's key."""
    parent: UInt64
    """The key that its parent has if it ran on the same track; 0 for a span without a parent."""


def chunks(segments: Iterable[Segment], names: NameIndex) -> Iterator[Chunk]:
    """All spans of the segments. Holds one chunk at a time, and the segments that it is made of."""
    waiting: list[Chunk] = []
    spans = 0
    for segment in segments:
        waiting.append(_chunk(segment, names))
        spans += len(segment)
        if spans >= CHUNK:
            yield _joined(waiting)
            waiting, spans = [], 0
    if spans:
        yield _joined(waiting)


def failed(segment: Segment) -> Bools:
    """Whether each span ended with a status other than `"ok"`."""
    return np.array([status != "ok" for status, *_ in segment.outcomes], dtype=np.bool_)[segment.outcome]


def _chunk(segment: Segment, names: NameIndex) -> Chunk:
    factor = _track_factors(segment)
    duration_ns = segment.duration_ns
    return Chunk(
        name=names.of(segment),
        duration_ns=duration_ns,
        running_ns=np.maximum(duration_ns - segment.suspended_ns, 0),
        self_ns=segment.self_ns,
        failed=failed(segment),
        own=segment.span_id.view(np.uint64) * factor,
        parent=segment.parent_id.view(np.uint64) * factor,
    )


def _joined(parts: list[Chunk]) -> Chunk:
    return Chunk(*map(np.concatenate, zip(*parts, strict=True)))


def _track_factors(segment: Segment) -> UInt64:
    """An odd number for each track, spread over 64 bits.

    Multiplied with it, the ids of one track stay distinct, as odd numbers have an inverse, and those of two tracks meet
    with the probability of any two random numbers of 64 bits. There may be a task for each span: a table of tracks
    would grow with the run.
    """
    threads = [hash((segment.token, *thread)) & _BITS | 1 for thread in segment.threads]
    tasks = [hash(("task", task)) & _BITS | 1 for task in segment.tasks]
    factor: UInt64 = np.array(threads, dtype=np.uint64)[segment.thread] * np.array(tasks, dtype=np.uint64)[segment.task]
    return factor
