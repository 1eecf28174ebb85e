"""What the subcommands share: options, reading a file, errors for people, and JSON for programs."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from ferret.cli.terminal import printable
from ferret.errors import FerretError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferret.cli.terminal import Watched
    from ferret.models import RunInfo
    from ferret.report import Report

LINES = 20
ROOM_FOR_BARS = 100

File = Annotated[str, typer.Argument(metavar="FILE", help="A BeaverDB file, or JSON lines, plain or gzipped.")]
Namespace = Annotated[str, typer.Option(metavar="NAME", help="The spans' namespace in a BeaverDB file.")]
Run = Annotated[
    str | None,
    typer.Option("--run", "-r", metavar="ID", help="A run's id, or its beginning. The latest run if not given."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs. Times are in seconds.")]


def examples(*lines: tuple[str, str]) -> str:
    """Commands and what they are for, as the end of a `--help`."""
    width = max(len(command) for command, _ in lines)
    shown = [f"$ {escape(command.ljust(width))}   [dim]{meaning}[/dim]".rstrip() for command, meaning in lines]
    return "\n".join(["[bold]Examples[/bold]", *shown])


@contextmanager
def plain_errors() -> Iterator[None]:
    """An expected error ends the command with one line on stderr and exit code 1."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (FerretError, OSError) as error:
        _complain(str(error))
        raise typer.Exit(1) from None


def _complain(text: str) -> None:
    print(f"ferret: {printable(text)}", file=sys.stderr)


def _left_out(damaged: dict[str, str]) -> str:
    what, why = next(iter(damaged.items()))
    parts = f"{len(damaged):,} damaged parts were" if len(damaged) > 1 else "1 damaged part was"
    return f"{parts} left out of what is shown: {what}: {why}" + (", and others" if len(damaged) > 1 else "")


@contextmanager
def reading(file: str, namespace: str) -> Iterator[tuple[Report, Watched]]:
    """A report of the file, and the same as something to `expect` spans of; what cannot be read ends the command.

    Segments that are damaged are left out; then the command ends with a line that says so, and exit code 1.
    """
    from ferret.cli.terminal import Watched
    from ferret.report import Report, RunNotFoundError
    from ferret.sinks.reading import open_readable

    with plain_errors():
        watched = Watched(open_readable(file, namespace))
        report = Report(watched, skip_damaged=True)
        try:
            yield report, watched
        except RunNotFoundError as error:
            elsewhere = "" if report.runs() else no_runs(watched, namespace)
            raise RunNotFoundError(f"{file}: {elsewhere or error}") from None
        except typer.Exit:  # something is wrong with another file
            if report.damaged:
                _complain(f"{file}: {_left_out(report.damaged)}")
            raise
        finally:
            watched.close()
        if report.damaged:
            raise StorageError(f"{file}: {_left_out(report.damaged)}")


def no_runs(watched: Watched, namespace: str) -> str:
    """What to say of a file that has no run in the namespace, but in others; nothing if it has none at all."""
    others = [repr(name) for name in watched.namespaces() if name != namespace]
    return (
        f"nothing has been recorded under the namespace {namespace!r}; there is {', '.join(others)}" if others else ""
    )


def run_facts(info: RunInfo) -> dict[str, Any]:
    """A run as JSON has it."""
    return {**info.model_dump(mode="json"), "unclean": info.unclean}


def print_json(value: Any) -> None:
    """Print it for programs."""
    # ASCII only: then no name can reach the terminal with a control character in it, in whatever encoding
    json.dump(value, sys.stdout, indent=2)
    print()
