"""The `ferret` command: its subcommands, each in a module of its own.

What a subcommand needs is imported when it runs, so that `ferret --help` stays quick.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ferret.cli.analyze import analyze
from ferret.cli.common import examples
from ferret.cli.diff import diff
from ferret.cli.export import export
from ferret.cli.plugins import plugins
from ferret.cli.run import run
from ferret.cli.runs import runs
from ferret.cli.streams import Group
from ferret.cli.view import view

app = typer.Typer(
    name="ferret",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import platform

        from ferret import __version__, native

        twin = "with" if native else "without"
        print(f"ferret {__version__} ({twin} its native twin), Python {platform.python_version()}")
        raise typer.Exit


@app.callback(
    epilog=examples(
        ("ferret run script.py", "record what its functions do"),
        ("ferret runs trace.db", "what was recorded, and when"),
        ("ferret analyze trace.db", "where the latest run spent its time"),
        ("ferret analyze trace.db --tree", "the same, as a call tree"),
        ("ferret analyze trace.db --run 3f2a", "an earlier run, by how its id begins"),
    )
)
def main(
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Record what a program does, and look at it."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # what the terminal's encoding lacks is escaped, and not an error
            reconfigure(errors="backslashreplace")


app.command(
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        ("ferret run script.py --its-own options", "record it into trace.db"),
        ("ferret run -m pytest -q", "a module"),
        ("ferret run --show -i 'pygments*' -m pygments -f html a.py", "one package, and the numbers at the end"),
        ("ferret run --all --min-duration 1 script.py", "everything that took a millisecond"),
    ),
)(run)
app.command(
    epilog=examples(
        ("ferret runs trace.db", "all runs, the latest last"),
        ("ferret runs spans.jsonl.gz --json", "all that is known of them, for programs"),
    )
)(runs)
app.command(
    epilog=examples(
        ("ferret analyze trace.db --sort errors", "what failed most often"),
        ("ferret analyze trace.db --sort mean -l 5", "the five slowest, on average"),
        ("ferret analyze trace.db --tree --depth 3", "who called whom, three deep"),
        ("ferret analyze trace.db --slowest 3", "the three longest traces"),
        ("ferret analyze trace.db --json", "every name, for programs"),
    )
)(analyze)
app.command(
    epilog=examples(
        ("ferret export trace.db -o run.pftrace", "for ui.perfetto.dev"),
        ("ferret export trace.db -f speedscope -o a.json", "for speedscope.app"),
        ("ferret export trace.db -f folded | flamegraph.pl", "into a program"),
    )
)(export)
app.command(
    epilog=examples(
        ("ferret diff trace.db", "the last two runs"),
        ("ferret diff before.db after.db", "the latest runs of two files"),
        ("ferret diff trace.db 3f2a 77ab", "two runs, by how their ids begin"),
        ("ferret diff trace.db --fail-above 20", "for CI: exit code 3 if a mean grew by more than 20 %"),
    )
)(diff)
app.command(
    epilog=examples(
        ("ferret plugins", "everything that can be used, and what is broken"),
        ("ferret plugins --json", "the same, for programs"),
    )
)(plugins)
app.command(
    epilog=examples(
        ("ferret view trace.db", "the latest run, in the browser"),
        ("ferret view trace.db --run 3f2a", "an earlier one"),
        ("ferret view trace.db --no-open --port 8123", "for ssh to forward"),
    )
)(view)
