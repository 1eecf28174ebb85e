"""`ferret plugins`: which writers and sinks there are, whose they are, and what is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferret.cli.common import Json, plain_errors, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferret.plugins import Provided


def plugins(as_json: Json = False) -> None:
    """List the writers and sinks that plugins give, and what failed to load.

    A plugin is an installed package with an entry point in group [bold]ferret[/bold].
    """
    from ferret.cli.tables import clash
    from ferret.plugins import plugins as installed

    with plain_errors():
        provided = installed().provided()
        if as_json:
            fields = ("kind", "name", "plugin", "distribution", "version", "error")
            print_json(
                [{**{name: getattr(one, name) for name in fields}, "clash": clash(one, provided)} for one in provided]
            )
        else:
            _show_plugins(provided)


def _show_plugins(provided: Sequence[Provided]) -> None:
    from ferret.cli import tables, terminal

    console = terminal.output()
    terminal.show(console, tables.plugins_table(provided))
    for line in tables.failure_lines(provided):
        console.print(line, soft_wrap=True)
