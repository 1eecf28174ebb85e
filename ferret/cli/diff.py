"""`ferret diff`: what got slower from one run to another."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferret.cli.common import LINES, Json, Namespace, plain_errors, print_json, reading, run_facts
from ferret.cli.terminal import printable
from ferret.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferret.analysis.diff import NameDiff
    from ferret.cli.terminal import Watched
    from ferret.models import RunInfo
    from ferret.report import Report

    type Read = tuple[Report, Watched]

SLOWER = 3
"""The exit code that `--fail-above` asks for."""
_NAMED = 5


def diff(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE [FILE | RUN RUN]", help="What to compare, the earlier run first.", show_default=False
        ),
    ],
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-l",
            min=0,
            metavar="N",
            help=f"Show N names, 0 for all. {LINES} in a table, all in JSON.",
            show_default=False,
        ),
    ] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(
            "--fail-above",
            min=0.0,
            metavar="PERCENT",
            show_default=False,
            help=f"Exit with {SLOWER} if the mean of a name grew by more than this.",
        ),
    ] = None,
    min_calls: Annotated[
        int,
        typer.Option(
            "--min-calls", min=1, metavar="N", help="For --fail-above: names with at least so many spans in both runs."
        ),
    ] = 10,
    namespace: Namespace = "_ferret_trace",
    as_json: Json = False,
) -> None:
    """Compare two runs, name by name. What got slower comes first.

    [bold]FILE[/bold]            the last two runs in a file
    [bold]FILE RUN RUN[/bold]    two of its runs, by their ids or how these begin
    [bold]FILE FILE[/bold]       the latest runs in two files
    [bold]FILE@RUN[/bold]        in place of a FILE: this run in it, instead of the latest;
                    alone: this run and the latest
    """
    with ExitStack() as files:
        earlier, later, runs = _open(files, namespace, what)
        from ferret.analysis.diff import compare  # with the report

        diffs = compare(*(_numbers(read, run) for read, run in zip((earlier, later), runs, strict=True)))
        slower = [] if fail_above is None else [one for one in diffs if one.slower_than(fail_above, min_calls)]
        if as_json:
            facts = {"before": run_facts(runs[0]), "after": run_facts(runs[1])}
            print_json(
                {
                    **facts,
                    "names": [_facts(one) for one in diffs[: limit or None]],
                    "slower": [one.name for one in slower],
                }
            )
        else:
            _show(runs, diffs, LINES if limit is None else limit or None)
    if slower:
        print(_verdict(slower, fail_above), file=sys.stderr)
        raise typer.Exit(SLOWER)


def _open(files: ExitStack, namespace: str, what: Sequence[str]) -> tuple[Read, Read, tuple[RunInfo, RunInfo]]:
    """What holds the earlier and the later run, and which they are."""
    if len(what) > 3:
        raise typer.BadParameter(f"it compares two runs, and was given {len(what)} words")
    if len(what) == 3:
        file, *runs = what
        both = files.enter_context(reading(file, namespace))
        return both, both, both[0].two_runs(*runs)
    places = [_file_and_run(one) for one in what]
    if len(places) == 1:
        ((file, run),) = places
        both = files.enter_context(reading(file, namespace))
        return both, both, both[0].two_runs(run)
    if not os.path.exists(places[1][0]) and os.path.exists(places[0][0]):
        with plain_errors():
            raise ConfigError(
                f"{what[1]}: there is no such file; to compare two runs of one file, name both: "
                f"ferret diff {what[0]} RUN RUN"
            )
    found = []
    for file, run in places:  # the run is looked up before the next file is open, so that an error names this one
        read = files.enter_context(reading(file, namespace))
        found.append((read, read[0].run(run)))
    (earlier, before), (later, after) = found
    return earlier, later, (before, after)


def _file_and_run(text: str) -> tuple[str, str | None]:
    """A file, and after the last `@` a run, unless there is a file of the whole name."""
    file, at, run = text.rpartition("@")
    return (file, run) if at and run and not os.path.exists(text) else (text, None)


def _numbers(read: Read, run: RunInfo) -> dict[str, Any]:
    report, watched = read
    watched.expect(run.spans)
    return report.analyze_run(run.run_id)


def _facts(one: NameDiff) -> dict[str, Any]:
    return {
        "name": one.name,
        "status": one.status,
        "total_change": one.total_change,
        "mean_change": one.mean_change,
        "mean_factor": one.mean_factor,
        "before": one.before and asdict(one.before),
        "after": one.after and asdict(one.after),
    }


def _show(runs: tuple[RunInfo, RunInfo], diffs: Sequence[NameDiff], limit: int | None) -> None:
    from ferret.cli import tables, terminal

    console = terminal.output()
    for letter, run in zip("AB", runs, strict=True):
        console.print(f"{letter}  ", tables.run_line(run), sep="", soft_wrap=True)
    console.print()
    terminal.show(console, tables.diff_table(diffs[:limit], width=terminal.width_of(console)))
    if limit is not None and limit < len(diffs):
        console.print(f"… {len(diffs) - limit:,} more names: --limit 0 shows all", style="dim")


def _verdict(slower: Sequence[NameDiff], percent: float | None) -> str:
    named = [f"{printable(one.name, 60)} ({one.mean_factor or 0:.2f}x)" for one in slower[:_NAMED]]
    more = f" and {len(slower) - _NAMED} more" if len(slower) > _NAMED else ""
    names = "name" if len(slower) == 1 else "names"
    return f"ferret: {len(slower)} {names} got slower by more than {percent:g} %: {', '.join(named)}{more}"
