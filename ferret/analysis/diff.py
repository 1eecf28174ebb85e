"""Two runs, name by name: what got slower, what got faster, what is new and what is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferret.models import AggregatedStats


@dataclass
class NameDiff:
    """One name in an earlier and a later run. Durations are in seconds."""

    name: str
    before: AggregatedStats | None
    """None where the name is new."""
    after: AggregatedStats | None
    """None where it is gone."""

    @property
    def status(self) -> str:
        """`"new"`, `"gone"`, or `"both"`."""
        return "new" if self.before is None else "gone" if self.after is None else "both"

    @property
    def total_change(self) -> float:
        """Seconds that the later run spent more in all spans of the name; negative where it spent less."""
        return (self.after.total_duration if self.after else 0.0) - (self.before.total_duration if self.before else 0.0)

    @property
    def mean_change(self) -> float | None:
        """Seconds that a span took longer on average; None where one of the runs has none."""
        if self.before is None or self.after is None:
            return None
        return self.after.avg_duration - self.before.avg_duration

    @property
    def mean_factor(self) -> float | None:
        """How many times as long a span took on average; None where one of the runs has none, or none that took time."""
        if self.before is None or self.after is None or not self.before.avg_duration:
            return None
        return self.after.avg_duration / self.before.avg_duration

    def slower_than(self, percent: float, calls: int) -> bool:
        """Whether the mean grew by more than so many percent, over at least so many spans in each of the two runs."""
        if self.before is None or self.after is None or min(self.before.count, self.after.count) < calls:
            return False
        return self.after.avg_duration > self.before.avg_duration * (1 + percent / 100)


def compare(before: Mapping[str, AggregatedStats], after: Mapping[str, AggregatedStats]) -> list[NameDiff]:
    """All names of two runs; those to which the later one added the most time come first.

    Args:
        before: what `Report.analyze_run` says of the earlier run.
        after: the same of the later one.
    """
    names = dict.fromkeys([*before, *after])
    diffs = [NameDiff(name, before.get(name), after.get(name)) for name in names]
    return sorted(diffs, key=lambda one: (-one.total_change, one.name))
