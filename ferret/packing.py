"""Columns of integers, and the bytes that they are stored as: docs/segment-format.md describes these."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from numpy.typing import NDArray

    type Int64 = NDArray[np.int64]


def int64(values: Sequence[int]) -> Int64:
    """Numbers of up to 63 bits, and their sign."""
    if values and values[0] == values[-1] and values.count(values[0]) == len(values):  # 1 ns each, and often so
        return np.full(len(values), values[0], dtype=np.int64)
    return np.fromiter(values, dtype=np.int64, count=len(values))  # 10 ns each; array.array() takes 18


def ids(values: Sequence[int]) -> Int64:
    """Ids of up to 64 bits. What is computed with them wraps around, and so comes back."""
    return np.fromiter(values, dtype=np.uint64, count=len(values)).view(np.int64)


def deltas(values: Int64) -> Int64:
    """How much more each is than the one before it; `numpy.cumsum` is the way back."""
    return np.diff(values, prepend=0)


def distances(span_id: Int64, parent_id: Int64) -> Int64:
    """How far before its child each parent is, most often a few ids: 1 is the span itself, and 0 no parent."""
    distance = span_id - parent_id
    distance += distance >= 0
    return np.where(parent_id == 0, 0, distance)


def parents(span_id: Int64, distance: Int64) -> Int64:
    """What `distances` was made of."""
    return np.where(distance == 0, 0, span_id - distance + (distance > 0))


def table[T: Hashable](values: Sequence[T], **first: T) -> tuple[list[T], Int64]:
    """The distinct values (`first`, if given, before all) and each value's index among them."""
    if values and values.count(values[0]) == len(values):
        constant = dict.fromkeys([*first.values(), values[0]])
        return list(constant), np.full(len(values), len(constant) - 1, dtype=np.int64)
    distinct = dict.fromkeys([*first.values(), *values])
    places = dict(zip(distinct, range(len(distinct)), strict=True))
    return list(places), np.fromiter(map(places.__getitem__, values), dtype=np.int64, count=len(values))


def pack(values: Int64) -> bytes:
    """Little-endian, with the bytes of equal weight side by side: the high ones are all alike and compress away."""
    return values.astype("<i8", copy=False).view(np.uint8).reshape(-1, 8).T.tobytes()


def unpack(data: bytes, count: int) -> Int64:
    """What `pack` was given.

    Raises:
        ValueError: there are not eight bytes for each value.
    """
    shuffled = np.frombuffer(data, dtype=np.uint8).reshape(8, count)
    return np.ascontiguousarray(shuffled.T).view("<i8").reshape(count).astype(np.int64, copy=False)


def unpack_or(default: int, data: bytes, count: int) -> Int64:
    """The same, or a column of `default` where nothing is stored."""
    return unpack(data, count) if data else np.full(count, default, dtype=np.int64)


def within(data: bytes, count: int, size: int) -> bool:
    """Whether the column's values are all at least 0, and less than `size`."""
    high = np.frombuffer(data, dtype=np.uint8, offset=count)
    if size <= 256 and not high.any():  # most tables are short: the lowest bytes tell all
        return bool(np.frombuffer(data, dtype=np.uint8, count=count).max() < size)
    values = unpack(data, count)
    return bool(values.min() >= 0 and values.max() < size)


class TagsColumn:
    """The tags of a stored segment, cut out of one text only when asked for: most analyses never ask."""

    __slots__ = ("_ends", "_text")

    def __init__(self, lengths: Int64, text: bytes) -> None:
        self._ends = np.cumsum(lengths)
        self._text = text
        if (lengths < 0).any() or (len(lengths) and self._ends[-1] != len(text)):
            raise ValueError("the lengths of the tags do not add up")

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> bytes:
        return self._text[int(self._ends[index - 1]) if index else 0 : int(self._ends[index])]

    def __iter__(self) -> Iterator[bytes]:
        start = 0
        for end in self._ends.tolist():
            yield self._text[start:end]
            start = end
