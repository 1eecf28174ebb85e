"""When spans were lost: a list that says so, and stays short."""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter_ns
from typing import TYPE_CHECKING, NamedTuple

from ferret.models import Gap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_GAPS = 100
NEAR_S = 1.0
"""Losses of one reason that are no further apart are one gap."""
SEVERAL = "several"
"""The reason of a gap that was joined from gaps of different reasons."""


class Gaps:
    """Gaps in the order in which they were noticed. For one thread at a time, and for what interrupts it.

    Args:
        anchor_ns: what to add to the times of `perf_counter_ns` for nanoseconds since the epoch.
    """

    def __init__(self, anchor_ns: int) -> None:
        self._anchor_ns = anchor_ns
        self._kept = _Kept((), {}, perf_counter_ns())

    def add(self, since_ns: int, until_ns: int, count: int, reason: str) -> None:
        """Note a loss; times are of `perf_counter_ns`."""
        self._change(lambda kept: kept._replace(gaps=self._with(kept.gaps, since_ns, until_ns, count, reason)))

    def notice(self, dropped_by: Mapping[str, int]) -> None:
        """Note what was dropped since the last time, given the counts of all drops until now."""
        now = perf_counter_ns()
        self._change(lambda kept: self._noticed(kept, dropped_by, now))

    def found(self) -> list[Gap]:
        """The gaps."""
        return list(self._kept.gaps)

    def _change(self, into: Callable[[_Kept], _Kept]) -> None:
        while True:
            before = self._kept
            after = into(before)
            # One step, as no signal handler runs between the two: had one made a change meanwhile, it would be lost.
            if self._kept is before:
                self._kept = after
                return

    def _noticed(self, kept: _Kept, dropped_by: Mapping[str, int], now: int) -> _Kept:
        gaps, dropped = kept.gaps, dict(kept.dropped)
        for reason, count in dropped_by.items():
            more = count - dropped.get(reason, 0)
            if more > 0:
                dropped[reason] = count
                gaps = self._with(gaps, kept.looked_ns, now, more, reason)
        return _Kept(gaps, dropped, now)

    def _with(self, gaps: tuple[Gap, ...], since_ns: int, until_ns: int, count: int, reason: str) -> tuple[Gap, ...]:
        since, until = (self._anchor_ns + since_ns) / 1e9, (self._anchor_ns + until_ns) / 1e9
        new = Gap(since=since, until=until, count=count, reason=reason)
        for index in range(len(gaps) - 1, -1, -1):
            if gaps[index].reason == reason:
                if new.since - gaps[index].until <= NEAR_S:
                    return (*gaps[:index], _joined(gaps[index], new), *gaps[index + 1 :])
                break
        return _shortened((*gaps, new))


class _Kept(NamedTuple):
    gaps: tuple[Gap, ...]
    dropped: Mapping[str, int]
    """What was dropped until the last look, by reason."""
    looked_ns: int


def _shortened(gaps: tuple[Gap, ...]) -> tuple[Gap, ...]:
    """Join the two neighbours that are nearest to each other, those of one reason first, if there are too many gaps."""
    if len(gaps) <= MOST_GAPS:
        return gaps
    distances = [
        (one.reason != other.reason, other.since - one.until, index)
        for index, (one, other) in enumerate(pairwise(gaps))
    ]
    index = min(distances)[2]
    return (*gaps[:index], _joined(*gaps[index : index + 2]), *gaps[index + 2 :])


def _joined(one: Gap, other: Gap) -> Gap:
    return Gap(
        since=min(one.since, other.since),
        until=max(one.until, other.until),
        count=one.count + other.count,
        reason=one.reason if one.reason == other.reason else SEVERAL,
    )
