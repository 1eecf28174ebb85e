"""What the command shows: runs, names, the call tree and plugins as tables, and a run's ledger in a line."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from ferret.terminal import MAX_NAME, bar, duration, local_time, printable, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ferret.models import AggregatedStats, RunInfo
    from ferret.plugins import Provided
    from ferret.tree import PathNode

_BAR = 12
_SHORTEST_ID = 8


def runs_table(runs: Sequence[RunInfo], short: bool = False) -> Table:
    """One line per run.

    Args:
        runs: the runs, as they shall stand.
        short: cut the run ids to what still tells them apart.
    """
    table = _table("when", "run", "program", "procs", "spans", "errors", "lost", "")
    table.columns[1].overflow = "fold"
    digits = _telling_length([run.run_id for run in runs]) if short else None
    for run in runs:
        table.add_row(
            local_time(run.started_at),
            Text(printable(run.run_id[:digits]), style="cyan"),
            _line(run.program),
            _number(len(run.processes)),
            _number(run.spans),
            _number(run.errors, "red"),
            _number(run.lost, "red"),
            Text("unclean", style="yellow") if run.unclean else "",
        )
    return table
