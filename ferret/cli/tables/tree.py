"""The merged call tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from ferret.cli.tables.cells import BAR, Column, count, filled, fitted, time
from ferret.cli.terminal import MAX_NAME, printable, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from ferret.analysis.tree import PathNode


def tree_table(
    roots: Sequence[PathNode],
    *,
    depth: int,
    limit: int | None,
    bars: bool,
    width: int | None = None,
    min_share: float = 0.0,
) -> Table:
    """A line per path, each under its parent.

    Args:
        roots: the merged tree; what it has below `depth` is only mentioned.
        depth: how many levels to show.
        limit: how many children to show under one parent; all if None.
        bars: whether there may be bars.
        width: characters that there are; None for as many as it takes.
        min_share: hide calls that took less than this part of their root.
    """
    rows = list(_tree_rows(roots, depth, limit, min_share))
    calls = [
        Text.assemble((row.guide, "dim"), (row.name, row.style), no_wrap=True, overflow="ellipsis") for row in rows
    ]
    columns = [
        Column("call", text=True, names=True, cells=calls),
        Column("count", drop=2, cells=[count(row.calls) for row in rows]),
        Column("total", cells=[time(row.total) for row in rows]),
        Column("self", drop=4, cells=[time(row.own) for row in rows]),
        Column("share", drop=1, cells=[Text(share(row.total, row.whole)) for row in rows]),
        Column(
            "errors",
            drop=3 if any(row.errors for row in rows) else 10,
            cells=[count(row.errors, "red") for row in rows],
        ),
    ]
    if bars:
        columns.append(Column("", drop=11, left=True, width=BAR, cells=[filled(row.total, row.whole) for row in rows]))
    return fitted(columns, width)


class _Row(NamedTuple):
    guide: str
    name: str
    style: str
    calls: int
    total: float
    own: float
    whole: float
    errors: int


def _tree_rows(
    siblings: Sequence[PathNode],
    depth: int,
    limit: int | None,
    min_share: float,
    guide: str | None = None,
    whole: float = 0.0,
) -> Iterator[_Row]:
    """The lines of a tree, with the guides that join them; `guide` is None for roots, which nothing joins."""
    large = [node for node in siblings if guide is None or node.total_duration >= min_share * whole]
    shown = large[:limit] if depth else []
    hidden = [node for node in siblings if not any(node is one for one in shown)] if len(shown) < len(siblings) else []
    for index, node in enumerate(shown):
        last = index == len(shown) - 1 and not hidden
        here, below = ("", "") if guide is None else (guide + "├─ ", guide + "│  ")
        if last and guide is not None:
            here, below = guide + "└─ ", guide + "   "
        whole_here = node.total_duration if guide is None else whole
        name = printable(node.name, MAX_NAME)
        own = node.self_duration
        yield _Row(here, name, "cyan", node.count, node.total_duration, own, whole_here, node.error_count)
        yield from _tree_rows(node.children, depth - 1, limit, min_share, below, whole_here)
    if hidden:
        name = f"… {len(hidden):,} more" if depth else "… deeper"
        yield _Row(
            guide="" if guide is None else guide + "└─ ",
            name=name,
            style="dim",
            calls=sum(node.count for node in hidden),
            total=sum(node.total_duration for node in hidden),
            own=sum(node.self_duration for node in hidden),
            whole=whole,
            errors=sum(node.error_count for node in hidden),
        )
