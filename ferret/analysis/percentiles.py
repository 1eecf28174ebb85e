"""Percentiles per name in bounded memory: exact while a name has few spans, and from a sketch after that.

The sketch is Apache DataSketches' REQ ("relative error quantiles", in the mode for high ranks). Its error is one of rank,
and shrinks towards the maximum, where a slow span hides: p99 is sharper than p50.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from datasketches import req_floats_sketch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ferret.packing import Int64

    type Floats = NDArray[np.float32]

PERCENTS: Final = (50, 95, 99)
EXACT: Final = 256
"""Spans of a name up to which its percentiles are exact."""

ACCURACY: Final = (
    "p50, p95 and p99 are exact up to 256 spans of a name; beyond that, with a probability of 95 %, p50 is between p49.4 and "
    "p50.6, p95 between p94.94 and p95.06, and p99 between p98.98 and p99.02"
)
"""What is promised of the percentiles."""

_K: Final = 24
_WORTH_A_CALL: Final = 16
"""Values that a sketch is given at a time, at least: a call costs as much as about 20 of them."""
_POOL: Final = 1 << 18


class Percentiles:
    """Durations by name, fed with many at a time. Not thread-safe.

    Holds 20 kB at most for a name of millions of spans, 2 kB for one of up to 256, and a pool of 2 MB.
    """

    def __init__(self) -> None:
        self._sketches: dict[int, req_floats_sketch] = {}
        self._pool: list[tuple[Int64, Floats]] = []
        self._pooled = 0
        self._room = _POOL
        self._exact: Floats = np.zeros((len(PERCENTS), 0), dtype=np.float32)

    def add(self, name: Int64, start: Int64, values: Int64) -> None:
        """Count values in.

        Args:
            name: numbers of names, each once.
            start: where each name's values begin in `values`; they end where the next one's begin.
            values: nanoseconds.
        """
        count = np.diff(start, append=len(values))
        # 24 bits of a duration are enough: an error of 6 in 100,000,000
        values32 = values.astype(np.float32)
        known = np.fromiter(map(self._sketches.__contains__, name.tolist()), dtype=np.bool_, count=len(name))
        many = (count > EXACT) | (known & (count >= _WORTH_A_CALL))
        for one, begin, length in zip(name[many].tolist(), start[many].tolist(), count[many].tolist(), strict=True):
            self._sketch(one).update(values32[begin : begin + length])
        few = np.repeat(~many, count)
        if few.any():
            self._pool.append((np.repeat(name[~many], count[~many]), values32[few]))
            self._pooled += len(self._pool[-1][0])
            if self._pooled > self._room:
                self._relieve()

    def of(self, name: int) -> list[float]:
        """The name's percentiles at `PERCENTS` in nanoseconds. `settle` must have been called since the last `add`."""
        sketch = self._sketches.get(name)
        if sketch is None:
            exact: list[float] = self._exact[:, name].tolist()
            return exact
        return [float(value) for value in sketch.get_quantiles([percent / 100 for percent in PERCENTS], True)]

    def settle(self) -> None:
        """Bring what waits in the pool to where `of` finds it."""
        self._relieve()
        if not self._pooled:
            return
        ((name, values),) = self._pool
        order = np.lexsort((values, name))
        names, start, count = np.unique(name[order], return_index=True, return_counts=True)
        self._exact = np.zeros((len(PERCENTS), names[-1] + 1), dtype=np.float32)
        for row, percent in zip(self._exact, PERCENTS, strict=True):
            # the nearest rank: a duration that was, rather than one between two
            row[names] = values[order][start + (percent * count + 99) // 100 - 1]

    def _relieve(self) -> None:
        """Hand over from the pool what belongs to a sketch by now; the rest stays."""
        if not self._pool:
            return
        name, values = (np.concatenate(column) for column in zip(*self._pool, strict=True))
        order = np.argsort(name, kind="stable")
        name, values = name[order], values[order]
        names, starts, counts = np.unique(name, return_index=True, return_counts=True)
        leaves = np.zeros(len(names), dtype=np.bool_)
        for index, (one, start, count) in enumerate(zip(names.tolist(), starts.tolist(), counts.tolist(), strict=True)):
            if count > EXACT or one in self._sketches:
                self._sketch(one).update(values[start : start + count])
                leaves[index] = True
        stays = np.repeat(~leaves, counts)
        self._pool = [(name[stays], values[stays])]
        self._pooled = int(stays.sum())
        # what stays is sorted again each time: not before as much has come to it
        self._room = 2 * self._pooled + _POOL

    def _sketch(self, name: int) -> req_floats_sketch:
        sketch = self._sketches.get(name)
        if sketch is None:
            sketch = self._sketches[name] = req_floats_sketch(_K, True)
        return sketch
