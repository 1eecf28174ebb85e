"""Runs."""

from __future__ import annotations

import shlex
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from rich.text import Text

from ferret.cli.tables.cells import Column, count, fitted, line, time
from ferret.cli.terminal import local_time, printable
from ferret.models import ProcessFate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from ferret.models import RunInfo

_SHORTEST_ID: Final = 8
_LONGEST_PROGRAM: Final = 60


def runs_table(runs: Sequence[RunInfo], *, short: bool = False, width: int | None = None) -> Table:
    """A line per run.

    Args:
        runs: the runs, in the order in which they shall stand.
        short: cut the run ids to what tells them apart.
        width: characters that there are; None for as many as it takes.
    """
    digits = _telling_length([run.run_id for run in runs]) if short else None
    ids = [Text(printable(run.run_id[:digits]), style="cyan", overflow="fold") for run in runs]
    columns = [
        Column("when", drop=2, left=True, cells=[Text(local_time(run.started_at)) for run in runs]),
        Column("run", left=True, cells=ids),
        Column("program", text=True, cells=[line(_program(run)) for run in runs]),
        Column("took", drop=5, cells=[_took(run) for run in runs]),
        Column("procs", drop=6, cells=[count(len(run.processes)) for run in runs]),
        Column("spans", drop=3, cells=[count(run.spans) for run in runs]),
        Column("errors", drop=4, cells=[count(run.errors, "red") for run in runs]),
        Column("lost", drop=1, cells=[count(run.lost, "red") for run in runs]),
    ]
    if any(run.unclean for run in runs):
        marks = [Text(_state(run), style="yellow") for run in runs]
        columns.append(Column("", left=True, width=len("unclean"), cells=marks))
    return fitted(columns, width)


def _state(run: RunInfo) -> str:
    """What became of a run that has not ended."""
    if not run.unclean:
        return ""
    states = {one.state for one in run.processes if isinstance(one, ProcessFate)}
    return next((state for state in ("killed", "running") if state in states), "unclean")


def _program(run: RunInfo) -> str:
    """The program with its arguments, cut where they are long."""
    arguments = run.processes[0].argv[1:] if run.processes else []
    text = " ".join([run.program, *map(shlex.quote, arguments)])
    return text if len(text) <= _LONGEST_PROGRAM else text[: _LONGEST_PROGRAM - 1] + "…"


def _took(run: RunInfo) -> Text:
    return Text("?", style="dim") if run.ended_at is None else time(max(run.ended_at - run.started_at, 0.0))


def _telling_length(run_ids: Sequence[str]) -> int:
    """How many characters tell all the ids apart, as `--run` takes them."""
    ids = sorted(set(run_ids))
    common = [_common_length(one, other) for one, other in pairwise(ids)]
    return max([_SHORTEST_ID, *(length + 1 for length in common)])


def _common_length(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((index for index, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))
