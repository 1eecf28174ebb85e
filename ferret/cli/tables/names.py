"""Numbers per name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.text import Text

from ferret.cli.tables.cells import BAR, Column, count, filled, fitted, line, time
from ferret.cli.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from ferret.models import AggregatedStats


def names_table(
    stats: Sequence[AggregatedStats], *, longest: float, bars: bool, width: int | None = None, by: str = ""
) -> Table:
    """A line per span name.

    Args:
        stats: the names, in the order in which they shall stand.
        longest: the total that fills a bar, in seconds.
        bars: whether there may be bars.
        width: characters that there are; None for as many as it takes.
        by: the heading of the column that they are sorted by, which is shown in any case.
    """
    columns = [
        Column("name", text=True, names=True, cells=[line(one.name, "cyan") for one in stats]),
        Column("count", drop=1, cells=[count(one.count) for one in stats]),
        Column("total", cells=[time(one.total_duration) for one in stats]),
        Column("self", drop=4, cells=[time(one.self_duration) for one in stats]),
        Column("mean", drop=12, cells=[time(one.avg_duration) for one in stats]),
        Column("p50", drop=11, cells=[time(one.p50) for one in stats]),
        Column("p95", drop=5, cells=[time(one.p95) for one in stats]),
        Column("p99", drop=10, cells=[time(one.p99) for one in stats]),
        Column("max", drop=13, cells=[time(one.max_duration) for one in stats]),
        Column(
            "errors",
            drop=2 if any(one.error_count for one in stats) else 6,
            cells=[count(one.error_count, "red") for one in stats],
        ),
    ]
    for one in columns:
        if one.heading == by:
            one.drop = 0
    if bars:
        columns.append(
            Column("", drop=15, left=True, width=BAR, cells=[filled(one.total_duration, longest) for one in stats])
        )
    if any(one.file for one in stats):
        columns.append(Column("where", drop=14, left=True, cells=[Text(_where(one), style="dim") for one in stats]))
    return fitted(columns, width)


def _where(one: AggregatedStats) -> str:
    """File and line; the file from the current folder on, or else its last two parts."""
    if one.file is None:
        return ""
    here = os.getcwd() + os.sep
    file = one.file[len(here) :] if one.file.startswith(here) else os.sep.join(one.file.split(os.sep)[-2:])
    return printable(f"{file}:{one.line}")
