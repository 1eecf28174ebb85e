"""Writers and sinks, and what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ferret.cli.tables.cells import empty_table, line
from ferret.cli.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from ferret.plugins import Provided


def plugins_table(provided: Sequence[Provided]) -> Table:
    """A line per writer or sink, in the order of their kinds and names; those that failed are not among them."""
    table = empty_table()
    for heading in ("name", "kind", "distribution", "version"):
        table.add_column(heading)
    sound = sorted((one for one in provided if not one.error), key=lambda one: (one.kind == "sink", one.name))
    clashes = [clash(one, provided) for one in sound]
    if any(clashes):
        table.add_column("", no_wrap=True)
    for one, problem in zip(sound, clashes, strict=True):
        cells = [line(one.name, "cyan"), Text(one.kind), line(one.distribution or one.plugin), line(one.version)]
        table.add_row(*cells, *([Text(problem, style="yellow")] if any(clashes) else []))
    return table


def clash(one: Provided, provided: Sequence[Provided]) -> str:
    """What is wrong with the name of a writer or sink where several plugins give it, or nothing."""
    givers = [other for other in provided if (other.kind, other.name) == (one.kind, one.name)]
    if len(givers) < 2:
        return ""
    ours = [other for other in givers if other.plugin == "ferret.builtin"]
    if not ours:
        return "given twice: cannot be used"
    return "" if one in ours else "never used: ferret's own comes first"


def failure_lines(provided: Sequence[Provided]) -> Iterator[Text]:
    """A line per plugin that gives nothing, and why."""
    for one in provided:
        if one.error:
            who = f"{one.distribution} {one.version}".strip() or one.plugin
            yield Text(printable(f"{one.name} ({who}) failed to load: {one.error}"), style="red")
