"""`ferret analyze`: where a run spent its time, by name or by path."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferret.cli.common import LINES, ROOM_FOR_BARS, File, Json, Namespace, Run, print_json, reading, run_facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ferret.models import AggregatedStats, RunInfo
    from ferret.tree import PathNode

_DEPTH = 8
_DEEPEST = 200


class Sort(StrEnum):
    """What `ferret analyze` can sort by."""

    TOTAL = "total"
    COUNT = "count"
    MEAN = "mean"
    MAX = "max"
    ERRORS = "errors"
    NAME = "name"


_SORTS = f"What comes first: the largest {', '.join(list(Sort)[:-1])}, or by {Sort.NAME}."


def analyze(
    file: File,
    run: Run = None,
    sort: Annotated[Sort, typer.Option("--sort", "-s", metavar="BY", help=_SORTS)] = Sort.TOTAL,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-l",
            min=0,
            metavar="N",
            help=f"Show N names, or with --tree N calls under each; 0 for all. {LINES} in a table, all in JSON.",
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
    shown = (None if as_json else LINES) if limit is None else limit or None
    with reading(file, namespace) as (report, watched):
        info = report.run(run)
        watched.expect(info.spans)
        if tree:
            roots = report.merged_tree(info.run_id, depth + 1)
            if as_json:
                print_json({"run": run_facts(info), "tree": _nested(roots, depth, shown)})
            else:
                _show_tree(info, roots, depth, shown)
        else:
            stats = _sorted(report.analyze_run(info.run_id).values(), sort)
            if as_json:
                print_json({"run": run_facts(info), "names": [asdict(one) for one in stats[:shown]]})
            else:
                _show_names(info, stats, shown)


def _show_names(info: RunInfo, stats: Sequence[AggregatedStats], limit: int | None) -> None:
    from ferret.cli import tables, terminal  # noqa: PLC0415

    console = terminal.output()
    console.print(tables.run_line(info), end="\n\n", soft_wrap=True)
    if stats:
        longest = max(one.total_duration for one in stats)
        bars = console.width >= ROOM_FOR_BARS
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
        bars = console.width >= ROOM_FOR_BARS
        terminal.show(console, tables.tree_table(roots, depth=depth, limit=limit, bars=bars))
        console.print()
    console.print(tables.ledger_line(info), soft_wrap=True)


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
