"""Who is whose child, among the spans of some columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ferret.packing import Int64


class Families:
    """The spans of some columns by their parents.

    Attributes:
        parent: where each span's parent is, or -1 where it is not among them. Following it always ends at a -1.
    """

    def __init__(self, span_id: Int64, parent_id: Int64) -> None:
        self.parent = parents_of(span_id, parent_id)
        # the children of span i are by_parent[first[i + 1]:first[i + 2]], and those without a parent those of span -1
        self._by_parent = np.argsort(self.parent, kind="stable")
        self._first = np.concatenate([[0], np.cumsum(np.bincount(self.parent + 1, minlength=len(self.parent) + 1))])

    @property
    def tops(self) -> Int64:
        """The spans whose parent is not among them."""
        return self._by_parent[: self._first[1]]

    def children(self, spans: Int64) -> tuple[Int64, Int64]:
        """The children of the first of the spans, then those of the second, and so on; and how many each has."""
        start, count = self._first[spans + 1], self._first[spans + 2] - self._first[spans + 1]
        before = np.cumsum(count) - count
        return self._by_parent[np.arange(count.sum()) + np.repeat(start - before, count)], count


def parents_of(span_id: Int64, parent_id: Int64) -> Int64:
    """Where each span's parent is, or -1 for none. Following it always ends at a -1.

    Of two spans with one id the first has the children, and in a circle of parents one has none.
    """
    if not len(span_id):
        return span_id
    order = np.argsort(span_id, kind="stable")
    found = order[np.minimum(np.searchsorted(span_id, parent_id, sorter=order), len(order) - 1)]
    parents: Int64 = np.where((span_id[found] == parent_id) & (parent_id != 0), found, -1)
    for start in _cycles(parents):
        parents[start] = -1
    return parents


def _cycles(parents: Int64) -> list[int]:
    """One span of every circle of parents. Only damaged or forged files have any."""
    ancestors = parents
    for _ in range(len(parents).bit_length()):  # 1, 2, 4, … generations up
        if (ancestors < 0).all():
            return []
        ancestors = np.where(ancestors < 0, -1, ancestors[ancestors])
    # after more generations than there are spans, an ancestor can only be in a circle
    chosen, seen = [], set()
    for start in np.unique(ancestors[ancestors >= 0]).tolist():
        if start not in seen:
            chosen.append(start)
        one = start
        while one not in seen:
            seen.add(one)
            one = int(parents[one])
    return chosen
