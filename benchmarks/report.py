"""The tables of a run, in the terminal: `python -m benchmarks.report [FILE]` shows one that was kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from benchmarks.kinds import Column, kind
from benchmarks.peers.ferret import NON_BLOCKING
from benchmarks.results import LAST, Results, Row, in_digits
from benchmarks.targets import Verdict, by_writer, judged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.results import Spread


def shown(columns: tuple[Column, ...] | list[Column], rows: dict[str, Row]) -> list[Column]:
    """The columns that some row has a figure for."""
    return [column for column in columns if any(row.spread(column.figure) for row in rows.values())]


def show(results: Results, console: Console) -> None:
    """Every table, then the targets."""
    for name, tables in results.kinds.items():
        module = kind(name)
        console.print()
        console.print(Text(f"{module.TITLE}", style="bold"), Text(f" · {name}", style="dim"), sep="")
        for table, rows in tables.items():
            for part in _table_parts(table, shown(list(module.COLUMNS), rows), rows, console):
                console.print(part)
            for label, row in rows.items():
                if row.missing:
                    console.print(f"  {label}: {row.missing}", style="yellow", markup=False)
    verdicts = judged(results)
    if verdicts:
        console.print()
        console.print(_verdicts(verdicts))
    if results.quick:
        console.print("[yellow]Measured with --quick: these figures say that it works, and nothing of how fast.[/]")
    console.print(
        f"[dim]{results.machine['processor']}, {results.machine['cores']} cores, {results.machine['python']}; "
        f"{results.rounds} rounds in {results.seconds / 60:.1f} minutes[/]"
    )


def _table_parts(title: str, columns: list[Column], rows: dict[str, Row], console: Console) -> Iterator[Table]:
    """The table; where it is too wide, its first columns, then the others; nothing where nothing was measured."""
    part: list[Column] = []
    for column in columns:
        if part and _least_width(_table(title, [*part, column], rows), console) > console.width:
            yield _table(title, part, rows)
            title, part = "… and", []
        part.append(column)
    if part:
        yield _table(title, part, rows)


def _least_width(table: Table, console: Console) -> int:
    unbounded = console.options.update(width=10_000)
    return Measurement.get(console, unbounded, table).minimum


def _width(column: Column, rows: dict[str, Row]) -> int:
    cells = (_cell(row.spread(column.figure), len(row.rounds)).plain for row in rows.values())
    return max(len(word) for text in (column.heading, *cells) for word in text.split())


def _table(title: str, columns: list[Column], rows: dict[str, Row]) -> Table:
    table = Table(title=title, title_justify="left", title_style="italic", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(
            column.heading.replace("`", ""), justify="right", vertical="top", min_width=_width(column, rows)
        )
    for name, row in rows.items():
        if row.rounds:
            table.add_row(_name(name), *(_cell(row.spread(column.figure), len(row.rounds)) for column in columns))
    return table


def _name(name: str) -> Text:
    ours = name.startswith("ferret ") or name.partition(" ")[0] in {"threaded", "process", "bounded", "sync"}
    return Text(name, style="bold" if ours else "")


def _cell(spread: Spread | None, rounds: int) -> Text:
    if spread is None:
        return Text("–", style="dim")
    text = Text(in_digits(spread.median))
    if rounds > 1:
        text.append(f"\n{in_digits(spread.low)}–{in_digits(spread.high)}", style="dim")
    return text


def _verdicts(verdicts: list[Verdict]) -> Table:
    met = sum(verdict.met for verdict in verdicts)
    title = f"Targets: {met} of {len(verdicts)} met (measured, and what is allowed)"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("")
    table.add_column("target")
    for writer in NON_BLOCKING:
        table.add_column(writer, justify="right", no_wrap=True)
    for (what, limit), found in by_writer(verdicts).items():
        cells = [_verdict(found.get(writer)) for writer in NON_BLOCKING]
        table.add_row(what.replace("`", ""), limit.replace("`", ""), *cells)
    return table


def _verdict(verdict: Verdict | None) -> Text:
    if verdict is None:
        return Text("")
    text = Text("✓ " if verdict.met else "✗ ", style="green" if verdict.met else "red")
    text.append(in_digits(verdict.measured), style="default")
    return text.append(f" / {in_digits(verdict.allowed)}", style="dim")


if __name__ == "__main__":
    show(Results.load(Path(sys.argv[1]) if len(sys.argv) > 1 else LAST), Console())
