"""Single traces, each as a tree in time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.text import Text

from ferret.cli.tables.cells import Column, fitted, line, time
from ferret.cli.terminal import MAX_NAME, duration, local_time, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from ferret.models import SpanModel, TraceNode

_LANE: Final = 24


def trace_line(number: int, root: TraceNode, spans: int) -> Text:
    """A trace in one line: its place among those that are shown, its root's facts, and how many spans it has."""
    span = root.span
    facts = [
        duration(span.duration or 0.0),
        f"{local_time(span.start_time)}.{int(span.start_time % 1 * 1000):03}",
        f"process {span.process_id}",
        _place(span),
        f"{spans:,} {'span' if spans == 1 else 'spans'}",
    ]
    return Text.assemble(
        f"{number}. ", (printable(span.name, MAX_NAME), "bold cyan"), " · ", printable(" · ".join(facts), 2 * MAX_NAME)
    )


def trace_table(root: TraceNode, *, width: int | None = None) -> Table:
    """A line per span, in the order in which they began, each under its parent.

    Args:
        root: the trace.
        width: characters that there are; None for as many as it takes.
    """
    rows = list(_rows(root))
    whole = max(root.span.duration or 0.0, *(row.node.span.start_time - root.span.start_time for row in rows))
    names = [
        Text.assemble(
            (row.guide, "dim"), (printable(row.node.span.name, MAX_NAME), "cyan"), no_wrap=True, overflow="ellipsis"
        )
        for row in rows
    ]
    columns = [
        Column("span", text=True, names=True, cells=names),
        Column("began", drop=2, cells=[Text(f"+{duration(_began(row.node, root))}", style="dim") for row in rows]),
        Column("took", cells=[time(row.node.span.duration or 0.0) for row in rows]),
        Column("self", drop=1, cells=[time(row.node.self_time) for row in rows]),
        Column("", drop=10, left=True, width=_LANE, cells=[_lane(row.node, root, whole) for row in rows]),
    ]
    notes = [_notes(row.node.span, row.above) for row in rows]
    if any(note.plain for note in notes):
        columns.append(Column("", text=True, cells=notes))
    return fitted(columns, width)


class _Row(NamedTuple):
    guide: str
    node: TraceNode
    above: SpanModel | None


def _rows(root: TraceNode) -> Iterator[_Row]:
    todo = [_Row("", root, None)]
    below = {id(root): ""}
    while todo:
        row = todo.pop()
        yield row
        children = row.node.children
        guide = below.pop(id(row.node))
        for index in reversed(range(len(children))):
            last = index == len(children) - 1
            below[id(children[index])] = guide + ("   " if last else "│  ")
            todo.append(_Row(guide + ("└─ " if last else "├─ "), children[index], row.node.span))


def _began(node: TraceNode, root: TraceNode) -> float:
    return max(node.span.start_time - root.span.start_time, 0.0)


def _lane(node: TraceNode, root: TraceNode, whole: float) -> Text:
    """When it ran, within the time of the trace."""
    if whole <= 0:
        return Text("")
    start = min(int(_LANE * _began(node, root) / whole), _LANE - 1)
    length = min(max(round(_LANE * (node.span.duration or 0.0) / whole), 1), _LANE - start)
    return Text(" " * start + "━" * length, style="red" if node.span.status != "ok" else "green")


def _notes(span: SpanModel, above: SpanModel | None) -> Text:
    """What went wrong, where it ran if not where its parent did, and its tags."""
    note = line("")
    parts: list[tuple[str, str]] = []
    if span.status != "ok":
        what = ": ".join(one for one in (span.error_type, span.error) if one)
        parts.append((what if span.status == "error" and what else f"{span.status} {what}".strip(), "red"))
    if above is not None and _place(span) != _place(above):
        same_thread = (span.process_id, span.thread_id) == (above.process_id, above.thread_id)
        parts.append((f"in {span.task_name if same_thread and span.task_name else _place(span)}", "yellow"))
    parts += [(f"{key}={_value(value)}", "dim") for key, value in span.tags.items()]
    for text, style in parts:
        note.append("  " if note.plain else "")
        note.append(printable(text, MAX_NAME), style=style)
    return note


def _place(span: SpanModel) -> str:
    return span.thread_name + (f" / {span.task_name}" if span.task_name else "")


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
