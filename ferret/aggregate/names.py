"""Numbers per span name, added up over columns: a Python object per name, never one per span."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ferret.models import AggregatedStats

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ferret.segment import Int64, Segment

_INT64 = np.iinfo(np.int64)
_NOTHING_YET = np.array([[0], [0], [0], [_INT64.max], [_INT64.min]], dtype=np.int64)
"""One name's count, errors, total, least and most, before its first span."""


class NameIndex:
    """The names of a run, numbered as they turn up: each segment has a numbering of its own."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def of(self, segment: Segment) -> Int64:
        """The number of each span's name."""
        numbers = self.numbers
        table = [numbers.setdefault(name, len(numbers)) for name in segment.names]
        return np.array(table, dtype=np.int64)[segment.name]


class NameTotals:
    """Count, errors and durations of each name, fed with one segment after another. Not thread-safe.

    Exact in nanoseconds, up to 292 years for the total of a name. Memory grows with the names alone.
    """

    def __init__(self) -> None:
        self._names = NameIndex()
        self._columns = np.repeat(_NOTHING_YET, 64, axis=1)

    def add(self, segment: Segment) -> None:
        """Count the segment's spans in."""
        name = self._names.of(segment)
        while len(self._names) > self._columns.shape[1]:
            room = np.repeat(_NOTHING_YET, self._columns.shape[1], axis=1)
            self._columns = np.hstack([self._columns, room])
        count, errors, total, least, most = self._columns
        # `.at`, as a name may turn up under two numbers of one segment: `+=` would count only one of them
        np.add.at(count, name, 1)
        np.add.at(total, name, segment.duration_ns)
        np.minimum.at(least, name, segment.duration_ns)
        np.maximum.at(most, name, segment.duration_ns)
        np.add.at(errors, name[failed(segment)], 1)

    def stats(self) -> dict[str, AggregatedStats]:
        """What was added up, by name, in the order in which the names turned up."""
        rows = zip(self._names.numbers, self._columns.T.tolist(), strict=False)
        return {name: _stats(name, row) for name, row in rows if row[0]}


def failed(segment: Segment) -> np.typing.NDArray[np.bool_]:
    """Whether each span ended with a status other than `"ok"`."""
    return np.array([status != "ok" for status, *_ in segment.outcomes], dtype=np.bool_)[segment.outcome]


def aggregate(segments: Iterable[Segment]) -> dict[str, AggregatedStats]:
    """The spans of all segments by name. Holds one segment at a time."""
    totals = NameTotals()
    for segment in segments:
        totals.add(segment)
    return totals.stats()


def _stats(name: str, row: list[int]) -> AggregatedStats:
    count, errors, total, least, most = row
    return AggregatedStats(
        name=name,
        count=count,
        total_duration=total / 1e9,
        avg_duration=total / count / 1e9,
        min_duration=least / 1e9,
        max_duration=most / 1e9,
        error_count=errors,
        error_rate=errors / count,
    )
