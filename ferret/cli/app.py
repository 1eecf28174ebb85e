"""The `ferret` command. What a subcommand needs is imported when it runs, so that `ferret --help` stays quick."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from ferret.cli.terminal import printable
from ferret.errors import FerretError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ferret.cli.terminal import Watched
    from ferret.models import AggregatedStats, RunInfo
    from ferret.plugins import Provided
    from ferret.report import Report
    from ferret.tree import PathNode

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


_SORTS = f"What comes first: the largest {', '.join(list(Sort)[:-1])}, or by {Sort.NAME}."

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


def _flush_output() -> None:
    """Write what is still buffered while somebody may be told: a reader that is gone (`| head`) is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _examples(*lines: tuple[str, str]) -> str:
    width = max(len(command) for command, _ in lines)
    shown = [f"$ {escape(command.ljust(width))}   [dim]{meaning}[/dim]".rstrip() for command, meaning in lines]
    return "\n".join(["[bold]Examples[/bold]", *shown])


@app.callback(
    epilog=_examples(
        ("ferret runs trace.db", "what was recorded, and when"),
        ("ferret analyze trace.db", "where the latest run spent its time"),
        ("ferret analyze trace.db --tree", "the same, as a call tree"),
        ("ferret analyze trace.db --run 3f2a", "an earlier run, by how its id begins"),
    )
)
def main(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Read back what a program did, as ferret recorded it."""
    context.call_on_close(_flush_output)

    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # what the terminal's encoding lacks is escaped, and not an error
            reconfigure(errors="backslashreplace")


@app.command(
    epilog=_examples(
        ("ferret runs trace.db", "all runs, the latest last"),
        ("ferret runs spans.jsonl.gz --json", "all that is known of them, for programs"),
    )
)
def runs(file: File, namespace: Namespace = "_ferret_trace", as_json: Json = False) -> None:
    """List the runs in FILE, the latest last.

    [yellow]unclean[/yellow] marks a run that still records, or that was killed
    before it could store its ledger.
    """
    with _reading(file, namespace) as (report, _):
        found = report.runs()
        if as_json:
            _print_json([_run_facts(run) for run in found])
        elif found:
            _show_runs(found)
        else:
            print(f"{printable(file)}: no runs yet", file=sys.stderr)


@app.command(
    epilog=_examples(
        ("ferret analyze trace.db --sort errors", "what failed most often"),
        ("ferret analyze trace.db --sort mean -l 5", "the five slowest, on average"),
        ("ferret analyze trace.db --tree --depth 3", "who called whom, three deep"),
        ("ferret analyze trace.db --json", "every name, for programs"),
    )
)
def analyze(
    file: File,
    run: Annotated[
        str | None,
        typer.Option("--run", "-r", metavar="ID", help="A run's id, or its beginning. The latest run if not given."),
    ] = None,
    sort: Annotated[Sort, typer.Option("--sort", "-s", metavar="BY", help=_SORTS)] = Sort.TOTAL,
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

    A span's time contains that of the spans within it. Spans that ran side
    by side add up to more than the time that passed.
    """
    shown = (None if as_json else _LINES) if limit is None else limit or None
    with _reading(file, namespace) as (report, watched):
        info = report.run(run)
        watched.expect(info.spans)
        if tree:
            roots = report.merged_tree(info.run_id, depth + 1)
            if as_json:
                _print_json({"run": _run_facts(info), "tree": _nested(roots, depth, shown)})
            else:
                _show_tree(info, roots, depth, shown)
        else:
            stats = _sorted(report.analyze_run(info.run_id).values(), sort)
            if as_json:
                _print_json({"run": _run_facts(info), "names": [asdict(one) for one in stats[:shown]]})
            else:
                _show_names(info, stats, shown)


@app.command(
    epilog=_examples(
        ("ferret plugins", "everything that can be used, and what is broken"),
        ("ferret plugins --json", "the same, for programs"),
    )
)
def plugins(as_json: Json = False) -> None:
    """List the writers and sinks that plugins give, and what failed to load.

    A plugin is an installed package with an entry point in group [bold]ferret[/bold].
    """
    from ferret.cli.tables import clash  # noqa: PLC0415
    from ferret.plugins import plugins as installed  # noqa: PLC0415

    with _plain_errors():
        provided = installed().provided()
        if as_json:
            fields = ("kind", "name", "plugin", "distribution", "version", "error")
            _print_json(
                [{**{name: getattr(one, name) for name in fields}, "clash": clash(one, provided)} for one in provided]
            )
        else:
            _show_plugins(provided)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """An expected error ends the command with one line on stderr and exit code 1."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (FerretError, OSError) as error:
        print(f"ferret: {printable(str(error))}", file=sys.stderr)
        raise typer.Exit(1) from None


@contextmanager
def _reading(file: str, namespace: str) -> Iterator[tuple[Report, Watched]]:
    from ferret.cli.terminal import Watched  # noqa: PLC0415
    from ferret.report import Report, RunNotFoundError  # noqa: PLC0415
    from ferret.sinks.reading import open_readable  # noqa: PLC0415

    with _plain_errors():
        watched = Watched(open_readable(file, namespace))
        try:
            yield Report(watched), watched
        except RunNotFoundError as error:
            raise RunNotFoundError(f"{file}: {error}") from None
        finally:
            watched.close()


def _show_runs(found: Sequence[RunInfo]) -> None:
    from ferret.cli import tables, terminal  # noqa: PLC0415

    console = terminal.output()
    terminal.show(console, tables.runs_table(found, short=terminal.has_width(console)))


def _show_names(info: RunInfo, stats: Sequence[AggregatedStats], limit: int | None) -> None:
    from ferret.cli import tables, terminal  # noqa: PLC0415

    console = terminal.output()
    console.print(tables.run_line(info), end="\n\n", soft_wrap=True)
    if stats:
        longest = max(one.total_duration for one in stats)
        bars = console.width >= _ROOM_FOR_BARS
        terminal.show(console, tables.names_table(stats[:limit], longest=longest, bars=bars))
        if limit is not None and limit < len(stats):
            console.print(f"… {len(stats) - limit:,} more names: --limit 0 shows all", style="dim")
        console.print()
    console.print(tables.ledger_line(info), soft_wrap=True)


def _show_tree(info: RunInfo, roots: Sequence[PathNode], depth: int, limit: int | None) -> None:
    from ferret.cli import tables, terminal  # noqa: PLC0415

    console = terminal.output()
    console.print(tables.run_line(info), end="\n\n", soft_wrap=True)
    if roots:
        bars = console.width >= _ROOM_FOR_BARS
        terminal.show(console, tables.tree_table(roots, depth=depth, limit=limit, bars=bars))
        console.print()
    console.print(tables.ledger_line(info), soft_wrap=True)


def _show_plugins(provided: Sequence[Provided]) -> None:
    from ferret.cli import tables, terminal  # noqa: PLC0415

    console = terminal.output()
    terminal.show(console, tables.plugins_table(provided))
    for line in tables.failure_lines(provided):
        console.print(line, soft_wrap=True)


def _sorted(stats: Iterable[AggregatedStats], by: Sort) -> list[AggregatedStats]:
    if by is Sort.NAME:
        return sorted(stats, key=lambda one: one.name)
    field = {
        Sort.TOTAL: "total_duration",
        Sort.COUNT: "count",
        Sort.MEAN: "avg_duration",
        Sort.MAX: "max_duration",
        Sort.ERRORS: "error_count",
    }[by]
    return sorted(stats, key=lambda one: (-getattr(one, field), -one.total_duration, one.name))


def _run_facts(info: RunInfo) -> dict[str, Any]:
    return {**info.model_dump(mode="json"), "unclean": info.unclean}


def _nested(siblings: Sequence[PathNode], depth: int, limit: int | None) -> list[dict[str, Any]]:
    if not depth:
        return []
    return [
        {
            "name": one.name,
            "count": one.count,
            "total_duration": one.total_duration,
            "error_count": one.error_count,
            "children": _nested(one.children, depth - 1, limit),
        }
        for one in siblings[:limit]
    ]


def _print_json(value: Any) -> None:
    # ASCII only: then no name can reach the terminal with a control character in it, in whatever encoding
    json.dump(value, sys.stdout, indent=2)
    print()
