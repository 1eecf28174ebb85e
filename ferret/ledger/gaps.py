"""When spans were lost: a list that says so, and stays short."""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter_ns
from typing import TYPE_CHECKING

from ferret.models import Gap

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_GAPS = 100
NEAR_S = 1.0
"""Losses of one reason that are no further apart are one gap."""
SEVERAL = "several"
"""The reason of a gap that was joined from gaps of different reasons."""


class Gaps:
    """Gaps in the order in which they were noticed. Not thread-safe.

    Args:
        anchor_ns: what to add to the times of `perf_counter_ns` for nanoseconds since the epoch.
    """

    def __init__(self, anchor_ns: int) -> None:
        self._anchor_ns = anchor_ns
        self._gaps: list[Gap] = []
        self._dropped: dict[str, int] = {}
        self._looked_ns = perf_counter_ns()

    def add(self, since_ns: int, until_ns: int, count: int, reason: str) -> None:
        """Note a loss; times are of `perf_counter_ns`."""
        since, until = (self._anchor_ns + since_ns) / 1e9, (self._anchor_ns + until_ns) / 1e9
        new = Gap(since=since, until=until, count=count, reason=reason)
        for index in range(len(self._gaps) - 1, -1, -1):
            if self._gaps[index].reason == reason:
                if new.since - self._gaps[index].until <= NEAR_S:
                    self._gaps[index] = _joined(self._gaps[index], new)
                    return
                break
        self._gaps.append(new)
        if len(self._gaps) > MOST_GAPS:
            self._shorten()

    def notice(self, dropped_by: Mapping[str, int]) -> None:
        """Note what was dropped since the last time, given the counts of all drops until now."""
        now = perf_counter_ns()
        for reason, count in dropped_by.items():
            more = count - self._dropped.get(reason, 0)
            if more > 0:
                self._dropped[reason] = count
                self.add(self._looked_ns, now, more, reason)
        self._looked_ns = now

    def found(self) -> list[Gap]:
        """The gaps."""
        return list(self._gaps)

    def _shorten(self) -> None:
        """Join the two neighbours that are nearest to each other, those of one reason first."""
        distances = [
            (one.reason != other.reason, other.since - one.until, index)
            for index, (one, other) in enumerate(pairwise(self._gaps))
        ]
        index = min(distances)[2]
        self._gaps[index : index + 2] = [_joined(*self._gaps[index : index + 2])]


def _joined(one: Gap, other: Gap) -> Gap:
    return Gap(
        since=min(one.since, other.since),
        until=max(one.until, other.until),
        count=one.count + other.count,
        reason=one.reason if one.reason == other.reason else SEVERAL,
    )
