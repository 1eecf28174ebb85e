"""Two runs, name by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ferret.cli.tables.cells import Column, fitted, line
from ferret.cli.terminal import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.table import Table

    from ferret.analysis.diff import NameDiff
    from ferret.models import AggregatedStats

_NOTABLE = 0.05
"""A mean that changed by less than this part of it is not worth a colour."""


def diff_table(diffs: Sequence[NameDiff], *, width: int | None = None) -> Table:
    """A line per name: what changed, then each number in the earlier and in the later run.

    Args:
        diffs: the names, in the order in which they shall stand.
        width: characters that there are; None for as many as it takes.
    """
    return fitted(
        [
            Column("name", text=True, names=True, cells=[line(one.name, "cyan") for one in diffs]),
            Column("± total", cells=[_signed(one.total_change, one) for one in diffs]),
            Column("± mean", drop=2, cells=[_mean(one) for one in diffs]),
            Column("factor", drop=1, cells=[_factor(one) for one in diffs]),
            Column("count, A → B", drop=11, cells=[_both(one, lambda it: f"{it.count:,}") for one in diffs]),
            Column(
                "total, A → B", drop=12, cells=[_both(one, lambda it: duration(it.total_duration)) for one in diffs]
            ),
            Column("mean, A → B", drop=10, cells=[_both(one, lambda it: duration(it.avg_duration)) for one in diffs]),
            Column("p95, A → B", drop=13, cells=[_both(one, lambda it: duration(it.p95)) for one in diffs]),
        ],
        width,
    )


def _signed(seconds: float, one: NameDiff) -> Text:
    sign = "+" if seconds > 0 else "-" if seconds < 0 else ""
    return Text(sign + duration(abs(seconds)), style=_style(one, seconds))


def _mean(one: NameDiff) -> Text:
    return Text("") if one.mean_change is None else _signed(one.mean_change, one)


def _factor(one: NameDiff) -> Text:
    if one.status != "both":
        return Text(one.status, style="yellow")
    if one.mean_factor is None:
        return Text("")
    return Text(f"{one.mean_factor:.2f}", style=_style(one, one.mean_factor - 1))


def _style(one: NameDiff, change: float) -> str:
    if one.mean_factor is not None and abs(one.mean_factor - 1) < _NOTABLE and one.before and one.after:
        part = abs(one.total_change) / one.before.total_duration if one.before.total_duration else 0.0
        if part < _NOTABLE:
            return "dim"
    return "red" if change > 0 else "green" if change < 0 else "dim"


def _both(one: NameDiff, shown: Callable[[AggregatedStats], str]) -> Text:
    before, after = (shown(side) if side else "-" for side in (one.before, one.after))
    return Text(f"{before} → {after}")
