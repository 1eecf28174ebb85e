"""`ferret run`: run a program, and record its functions."""

from __future__ import annotations

import os
import uuid
from typing import Annotated, Any

import typer

from ferret.cli.common import plain_errors
from ferret.errors import ConfigError

_DEFAULT_FILE = "trace.db"


def run(
    program: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="A script, a folder with a __main__.py, or with -m a module.")
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="The program's own arguments.", show_default=False)
    ] = None,
    as_module: Annotated[
        bool, typer.Option("-m", help="Run a module, as python -m does. Stands right before it.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The BeaverDB file to record into.", show_default=_DEFAULT_FILE
        ),
    ] = None,
    sink: Annotated[
        str | None, typer.Option(metavar="NAME[:TARGET]", help="Another sink instead, such as jsonl:spans.jsonl.")
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include", "-i", metavar="GLOB", help="Record only these modules, wherever they are. May be repeated."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", "-x", metavar="GLOB", help="Leave these modules out. May be repeated."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Record all Python functions, those of the standard library too.")
    ] = False,
    min_duration: Annotated[
        float,
        typer.Option(
            "--min-duration", min=0.0, metavar="MS", help="Leave out calls shorter than this, in milliseconds."
        ),
    ] = 0.0,
    children: Annotated[
        bool, typer.Option("--children", help="Record child processes too: forked, spawned, or started as Python.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Show where the time went, on stderr, when the program has ended.")
    ] = False,
    writer: Annotated[
        str | None, typer.Option(metavar="NAME", help="How spans leave the program.", show_default="process")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Record into this run.", show_default="a new one")
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The spans' namespace in a BeaverDB file.", show_default="_ferret_trace"),
    ] = None,
) -> None:
    """Run a program and record its functions, without a change to it.

    Unless told otherwise, functions are recorded whose file is in the
    program's own folder; with -m, in its package or the current folder.
    Options of ferret stand before the program, and its own behind it.
    """
    from ferret.run import program as programs
    from ferret.run.selection import Selection
    from ferret.run.session import Plan

    with plain_errors():
        given = list(arguments or ())
        target = programs.module(program, given) if as_module else programs.script(program, given)
        selection = Selection(
            folders=target.folders, include=tuple(include or ()), exclude=tuple(exclude or ()), everything=everything,
            main=target.main,
        )  # fmt: skip
        if run_id is None:  # chosen here, as children are to have the same
            run_id = os.environ.get("FERRET_RUN_ID", uuid.uuid4().hex)
        options: dict[str, Any] = {"namespace": namespace, "run_id": run_id, "writer": writer}
        options |= _target(output, sink, show=show)
        plan = Plan(
            process_id=os.getpid(),
            folder=target.folder,
            selection=selection,
            min_duration_ns=round(min_duration * 1e6),
            options=options,
            children=children,
            show=show,
            python_path=os.environ.get("PYTHONPATH"),
        )
        programs.become(target, plan)


def _target(output: str | None, sink: str | None, *, show: bool) -> dict[str, str]:
    """Where the spans go, by the options or else the environment; absolute, as child processes may run elsewhere."""
    from ferret.plugins import SinkSpec  # with what it imports
    from ferret.run import goodbye

    if output is not None and sink is not None:
        raise ConfigError("--output names a file, and --sink something else: give one of them")
    if output is None and sink is None:
        sink = os.environ.get("FERRET_SINK")
        output = os.environ.get("FERRET_DB_PATH") if sink is None else None
    if sink is None:
        file = _DEFAULT_FILE if output is None else output
        given = {"db_path": os.path.abspath(file) if file and file != ":memory:" else file}
        found = goodbye.readable(SinkSpec("beaver", file))
    else:
        spec = SinkSpec.parse(sink)
        given = {"sink": spec.absolute().text}
        found = goodbye.readable(spec)
    if show and found is None:
        raise ConfigError(
            f"--show reads a file at the end, and {sink or output!r} is none: leave it out, or give one with --output"
        )
    return given
