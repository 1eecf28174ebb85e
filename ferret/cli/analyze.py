"""`ferret analyze`: where a run spent its time, by name, by path, or in its slowest traces."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferret.cli.common import (
    LINES,
    ROOM_FOR_BARS,
    File,
    Json,
    Namespace,
    Run,
    plain_errors,
    print_json,
    reading,
    run_facts,
)
from ferret.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ferret.analysis.tree import PathNode
    from ferret.models import AggregatedStats, RunInfo, Trace, TraceNode

_DEPTH = 8
_DEEPEST = 200
_SPANS = 40
_MOST_SPANS = 10_000


class Sort(StrEnum):
    """What `ferret analyze` can sort by."""

    TOTAL = "total"
    SELF = "self"
    COUNT = "count"
    MEAN = "mean"
    P50 = "p50"
    P95 = "p95"
    P99 = "p99"
    MAX = "max"
    ERRORS = "errors"
    NAME = "name"


_FIELDS = {
    Sort.TOTAL: "total_duration",
    Sort.SELF: "self_duration",
    Sort.COUNT: "count",
    Sort.MEAN: "avg_duration",
    Sort.P50: "p50",
    Sort.P95: "p95",
    Sort.P99: "p99",
    Sort.MAX: "max_duration",
    Sort.ERRORS: "error_count",
}
_SORTS = f"What comes first: the largest {', '.join(list(Sort)[:-1])}, or by {Sort.NAME}."
_LIMITS = (
    f"Show N names; with --tree N calls under each; with --slowest the N longest spans of each trace. 0 for all, of a trace "
    f"{_MOST_SPANS:,}. {LINES} in a table and {_SPANS} in a trace, all in JSON."
)


def analyze(
    context: typer.Context,
    file: File,
    run: Run = None,
    sort: Annotated[Sort, typer.Option("--sort", "-s", metavar="BY", help=_SORTS)] = Sort.TOTAL,
    limit: Annotated[
        int | None, typer.Option("--limit", "-l", min=0, metavar="N", help=_LIMITS, show_default=False)
    ] = None,
    tree: Annotated[bool, typer.Option("--tree", "-t", help="Show who called whom, merged by name.")] = False,
    depth: Annotated[
        int, typer.Option("--depth", "-d", min=1, max=_DEEPEST, metavar="N", help="Levels of the tree to show.")
    ] = _DEPTH,
    min_share: Annotated[
        float,
        typer.Option(
            "--min-share",
            min=0.0,
            max=100.0,
            metavar="PERCENT",
            help="Hide calls in the tree that took less of their root than this.",
        ),
    ] = 0.0,
    slowest: Annotated[
        int | None,
        typer.Option("--slowest", "-S", min=1, max=1000, metavar="N", help="Show the N longest single traces."),
    ] = None,
    namespace: Namespace = "_ferret_trace",
    as_json: Json = False,
) -> None:
    """Show where a run spent its time: by name, with --tree by path, with --slowest trace by trace.

    A span's [bold]total[/bold] contains that of the spans within it, and its [bold]self[/bold] time
    does not. Spans that ran side by side add up to more than the time that
    passed. Percentiles are exact for up to 256 spans of a name; beyond that
    they are estimates: with a probability of 95 %, p50 is between p49.4
    and p50.6, p95 between p94.94 and p95.06, and p99 between p98.98 and p99.02.
    """  # fmt: skip
    with plain_errors():
        _check_options(context, tree=tree, slowest=slowest is not None)
    with reading(file, namespace) as (report, watched):
        info = report.run(run)
        watched.expect(info.spans)
        if slowest is not None:
            spans = (_MOST_SPANS if as_json else _SPANS) if limit is None else limit or _MOST_SPANS
            traces = report.slowest(slowest, info.run_id, spans=spans)
            if as_json:
                print_json({"run": run_facts(info), "traces": list(map(_trace_facts, traces))})
            else:
                _show_traces(info, traces)
            return
        shown = (None if as_json else LINES) if limit is None else limit or None
        if tree:
            roots = report.merged_tree(info.run_id, depth + 1)
            if as_json:
                print_json({"run": run_facts(info), "tree": _nested(roots, depth, shown, min_share / 100)})
            else:
                _show_tree(info, roots, depth, shown, min_share / 100)
        else:
            stats = _sorted(report.analyze_run(info.run_id).values(), sort)
            if as_json:
                _print_names(info, stats[:shown])
            else:
                _show_names(info, stats, shown, sort)


def _check_options(context: typer.Context, *, tree: bool, slowest: bool) -> None:
    """Refuse options that would do nothing beside the others."""
    if tree and slowest:
        raise ConfigError("--tree shows all traces as one, and --slowest single ones: give one of them")
    for option in ("depth", "min_share") if not tree else ():
        if _is_given(context, option):
            raise ConfigError(f"--{option.replace('_', '-')} is for the tree: give --tree too, or leave it out")
    if (tree or slowest) and _is_given(context, "sort"):
        other = "--tree" if tree else "--slowest"
        raise ConfigError(
            f"--sort is for the table of names, and {other} begins with what took longest: give one of them"
        )


def _is_given(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _print_names(info: RunInfo, stats: Sequence[AggregatedStats]) -> None:
    from ferret.analysis import ACCURACY  # with NumPy

    print_json({"run": run_facts(info), "names": [asdict(one) for one in stats], "percentiles": ACCURACY})


def _show_names(info: RunInfo, stats: Sequence[AggregatedStats], limit: int | None, by: Sort) -> None:
    from ferret.cli import tables, terminal

    console = terminal.output()
    console.print(tables.run_line(info), end="\n\n", soft_wrap=True)
    if stats:
        longest = max(one.total_duration for one in stats)
        bars = console.width >= ROOM_FOR_BARS
        width = terminal.width_of(console)
        terminal.show(console, tables.names_table(stats[:limit], longest=longest, bars=bars, width=width, by=by))
        if limit is not None and limit < len(stats):
            console.print(f"… {len(stats) - limit:,} more names: --limit 0 shows all", style="dim")
        console.print()
    console.print(tables.ledger_line(info), soft_wrap=True)


def _show_tree(info: RunInfo, roots: Sequence[PathNode], depth: int, limit: int | None, min_share: float) -> None:
    from ferret.cli import tables, terminal

    console = terminal.output()
    console.print(tables.run_line(info), end="\n\n", soft_wrap=True)
    if roots:
        table = tables.tree_table(
            roots, depth=depth, limit=limit, bars=console.width >= ROOM_FOR_BARS, width=terminal.width_of(console),
            min_share=min_share,
        )  # fmt: skip
        terminal.show(console, table)
        console.print()
    console.print(tables.ledger_line(info), soft_wrap=True)


def _show_traces(info: RunInfo, traces: Sequence[Trace]) -> None:
    from ferret.cli import tables, terminal

    console = terminal.output()
    console.print(tables.run_line(info), end="\n\n", soft_wrap=True)
    for number, root in enumerate(traces, 1):
        spans = len(list(_walk(root)))
        console.print(tables.trace_line(number, root, spans + root.hidden), end="\n\n", soft_wrap=True)
        terminal.show(console, tables.trace_table(root, width=terminal.width_of(console)))
        if root.hidden:
            more = f"… {root.hidden:,} more spans, shorter than these"
            hint = f": --limit 0 shows up to {_MOST_SPANS:,}" if spans < _MOST_SPANS else ""
            console.print(more + hint, style="dim")
        console.print()
    console.print(tables.ledger_line(info), soft_wrap=True)


def _sorted(stats: Iterable[AggregatedStats], by: Sort) -> list[AggregatedStats]:
    if by is Sort.NAME:
        return sorted(stats, key=lambda one: one.name)
    field = _FIELDS[by]
    return sorted(stats, key=lambda one: (-getattr(one, field), -one.total_duration, one.name))


def _nested(
    siblings: Sequence[PathNode], depth: int, limit: int | None, min_share: float, whole: float | None = None
) -> list[dict[str, Any]]:
    """The tree as JSON; `whole` is what the root took, or None for roots."""
    if not depth:
        return []
    large = [one for one in siblings if whole is None or one.total_duration >= min_share * whole]
    found = []
    for one in large[:limit]:
        root = one.total_duration if whole is None else whole
        facts = {
            "name": one.name,
            "count": one.count,
            "total_duration": one.total_duration,
            "self_duration": one.self_duration,
            "share": one.total_duration / root if root else None,
            "error_count": one.error_count,
            "children": _nested(one.children, depth - 1, limit, min_share, root),
        }
        found.append(facts)
    return found


def _trace_facts(root: Trace) -> dict[str, Any]:
    """A trace as JSON: flat, as it may be deeper than JSON can be nested."""
    spans = [
        {**node.span.model_dump(mode="json"), "depth": depth, "self_time": node.self_time}
        for node, depth in _walk(root)
    ]
    return {"hidden": root.hidden, "spans": spans}


def _walk(root: TraceNode) -> Iterator[tuple[TraceNode, int]]:
    """Each span before its children."""
    todo = [(root, 0)]
    while todo:
        node, depth = todo.pop()
        yield node, depth
        todo += [(child, depth + 1) for child in reversed(node.children)]
