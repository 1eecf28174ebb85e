"""The `ferret` command. What a subcommand needs is imported when it runs, so that `ferret --help` stays quick."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferret.errors import FerretError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ferret.models import AggregatedStats, RunInfo
    from ferret.report import Report
    from ferret.terminal import Watched

_LINES = 20
_DEPTH = 8
_DEEPEST = 200
_ROOM_FOR_BARS = 100


class Sort(StrEnum):
    """What `ferret analyze` can sort by."""

    TOTAL = "total"
    COUNT = "count"
    MEAN = "mean"
    MAX = "max"
    ERRORS = "errors"
    NAME = "name"


File = Annotated[str, typer.Argument(metavar="FILE", help="A BeaverDB file, or JSON lines, plain or gzipped.")]
Namespace = Annotated[str, typer.Option(metavar="NAME", help="The spans' namespace in a BeaverDB file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs. Times are in seconds.")]

app = typer.Typer(
    name="ferret",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from ferret import __version__  # noqa: PLC0415

        print(f"ferret {__version__}")
        raise typer.Exit


@app.callback(
    epilog="""[bold]A first look[/bold]
  ferret runs trace.db                 what was recorded, and when
  ferret analyze trace.db              where the latest run spent its time
  ferret analyze trace.db --tree       the same, as a call tree
  ferret analyze trace.db --run 3f2a   an earlier run, by the beginning of its id"""
)
def main(
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Read back what a program did, as ferret recorded it."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # what the terminal's encoding lacks is escaped, and not an error
            reconfigure(errors="backslashreplace")


@app.command(
    epilog="""[bold]Examples[/bold]
  ferret runs trace.db
  ferret runs spans.jsonl.gz --json | jq '.[-1].run_id'"""
)
def runs(file: File, namespace: Namespace = "_ferret_trace", as_json: Json = False) -> None:
    """List the runs in FILE, the latest last.

    [yellow]unclean[/yellow] marks a run that still records, or was killed before it could finish.
    """
    with _plain_errors():
        with _reading(file, namespace) as (report, _):
            found = report.runs()
        if as_json:
            _print_json([_run_facts(run) for run in found])
        elif found:
            _show_runs(found)
        else:
            print(f"{file}: no runs yet", file=sys.stderr)


@app.command(
    epilog="""[bold]Examples[/bold]
  ferret analyze trace.db --sort errors           what failed most often
  ferret analyze trace.db --sort mean --limit 5   the five slowest, on average
  ferret analyze trace.db --tree --depth 3        who called them, three levels deep
  ferret analyze trace.db --json | jq '.names[] | select(.max_duration > 1)'"""
)
def analyze(
    file: File,
    run: Annotated[
        str | None,
        typer.Option("--run", "-r", metavar="ID", help="A run's id, or its beginning. The latest run if not given."),
    ] = None,
    sort: Annotated[Sort, typer.Option("--sort", "-s", help="What comes first.")] = Sort.TOTAL,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-l",
            min=0,
            metavar="N",
            help=f"Show N names, or with --tree N calls under each; 0 for all. {_LINES} in a table, all in JSON.",
            show_default=False,
        ),
    ] = None,
    tree: Annotated[bool, typer.Option("--tree", "-t", help="Show who called whom, merged by name.")] = False,
    depth: Annotated[
        int, typer.Option("--depth", "-d", min=1, max=_DEEPEST, metavar="N", help="Levels of the tree to show.")
    ] = _DEPTH,
    namespace: Namespace = "_ferret_trace",
    as_json: Json = False,
) -> None:
    """Show where a run spent its time: by name, or with --tree by path.

    Times are those of whole spans: a call's time contains that of the calls within it, and calls that ran side by
    side add up to more than the time that passed.
    """
    shown = (limit or None) if limit is not None else None if as_json else _LINES
    with _plain_errors():
        with _reading(file, namespace) as (report, watched):
            info = report.run(run)
            watched.expect(info.spans)
            if tree:
                roots = report.merged_tree(info.run_id, depth + 1)
            else:
                stats = report.analyze_run(info.run_id)
        if tree and as_json:
            _print_json({"run": _run_facts(info), "tree": _nested(roots, depth, shown)})
        elif tree:
            _show_tree(info, roots, depth, shown)
        elif as_json:
            _print_json({"run": _run_facts(info), "names": [asdict(one) for one in _sorted(stats, sort)[:shown]]})
        else:
            _show_names(info, _sorted(stats, sort), shown)
