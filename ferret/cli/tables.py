"""What the command shows: runs, names, the call tree and plugins as tables, and a run's ledger in a line."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from ferret.cli.terminal import MAX_NAME, bar, duration, local_time, printable, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ferret.models import AggregatedStats, ProcessInfo, RunInfo
    from ferret.plugins import Provided
    from ferret.tree import PathNode

_BAR = 12
_SHORTEST_ID = 8


def runs_table(runs: Sequence[RunInfo], *, short: bool = False) -> Table:
    """A line per run.

    Args:
        runs: the runs, in the order in which they shall stand.
        short: cut the run ids to what tells them apart.
    """
    table = _table("when", "run", "program", numbers=("procs", "spans", "errors", "lost"))
    table.columns[0].no_wrap = True
    table.columns[1].overflow = "fold"
    unclean = any(run.unclean for run in runs)
    if unclean:
        table.add_column("", no_wrap=True)
    digits = _telling_length([run.run_id for run in runs]) if short else None
    for run in runs:
        cells = [
            Text(local_time(run.started_at)),
            Text(printable(run.run_id[:digits]), style="cyan"),
            _line(run.program),
            _count(len(run.processes)),
            _count(run.spans),
            _count(run.errors, "red"),
            _count(run.lost, "red"),
        ]
        table.add_row(*cells, *([Text("unclean" if run.unclean else "", style="yellow")] if unclean else []))
    return table


def names_table(stats: Sequence[AggregatedStats], *, longest: float, bars: bool) -> Table:
    """A line per span name.

    Args:
        stats: the names, in the order in which they shall stand.
        longest: the total that fills a bar, in seconds.
        bars: whether there is room for bars.
    """
    table = _table("name", numbers=("count", "total", "mean", "min", "max", "errors"))
    if bars:
        table.add_column("", min_width=_BAR, no_wrap=True)
    for one in stats:
        times = (one.total_duration, one.avg_duration, one.min_duration, one.max_duration)
        cells = [_line(one.name, "cyan"), _count(one.count), *map(_time, times), _count(one.error_count, "red")]
        table.add_row(*cells, *([_bar(one.total_duration, longest)] if bars else []))
    return table


def tree_table(roots: Sequence[PathNode], *, depth: int, limit: int | None, bars: bool) -> Table:
    """A line per path, each under its parent.

    Args:
        roots: the merged tree; what it has below `depth` is only mentioned.
        depth: how many levels to show.
        limit: how many children to show under one parent; all if None.
        bars: whether there is room for bars.
    """
    table = _table("call", numbers=("count", "total", "share", "errors"))
    if bars:
        table.add_column("", min_width=_BAR, no_wrap=True)
    for row in _tree_rows(roots, depth, limit):
        cells = [
            Text.assemble((row.guide, "dim"), (row.name, row.style), no_wrap=True, overflow="ellipsis"),
            _count(row.calls),
            _time(row.total),
            Text(share(row.total, row.whole)),
            _count(row.errors, "red"),
        ]
        table.add_row(*cells, *([_bar(row.total, row.whole)] if bars else []))
    return table


def plugins_table(provided: Sequence[Provided]) -> Table:
    """A line per writer or sink, in the order of their kinds and names; those that failed are not among them."""
    table = _table("name", "kind", "distribution", "version")
    sound = sorted((one for one in provided if not one.error), key=lambda one: (one.kind == "sink", one.name))
    clashes = [clash(one, provided) for one in sound]
    if any(clashes):
        table.add_column("", no_wrap=True)
    for one, problem in zip(sound, clashes, strict=True):
        cells = [_line(one.name, "cyan"), Text(one.kind), _line(one.distribution or one.plugin), _line(one.version)]
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


def run_line(run: RunInfo) -> Text:
    """A run in one line."""
    facts = [f"run {run.run_id}", run.program, local_time(run.started_at)]
    if len(run.processes) > 1:
        facts.append(f"{len(run.processes)} processes")
    facts.append(f"{run.spans:,} {'span' if run.spans == 1 else 'spans'}")
    return Text(" · ").join(Text(printable(fact, MAX_NAME)) for fact in facts if fact)


def ledger_line(run: RunInfo) -> Text:
    """Whether everything that the run recorded is there, and where the rest went."""
    ledgers = [process.ledger for process in run.processes if process.ledger]
    missing = sum(ledger.written for ledger in ledgers) - run.spans
    said = [*_lost(run.processes), *_unclean(run.processes)]
    if missing > 0 and not run.unclean:
        said.append((f"{missing:,} spans were written, but are not in this file", "red"))
    if not run.processes or (len(ledgers) < len(run.processes) and not run.unclean):
        said.append(("no ledger: nothing tells whether spans are missing", "yellow"))
    if not said:
        spans = "span" if run.spans == 1 else "spans"
        said.append((f"complete: {run.spans:,} {spans} recorded, none lost", "green"))
    return Text("; ").join(Text(printable(text), style=style) for text, style in said)


def _lost(processes: Sequence[ProcessInfo]) -> Iterator[tuple[str, str]]:
    ledgers = [process.ledger for process in processes if process.ledger]
    recorded = sum(ledger.recorded for ledger in ledgers)
    lost = sum(ledger.lost for ledger in ledgers)
    if not lost:
        return
    reasons: Counter[str] = Counter()
    for ledger in ledgers:
        for how, by in (("dropped", ledger.dropped_by), ("failed", ledger.failed_by)):
            reasons.update({f"{how} ({reason})": count for reason, count in by.items()})
    where = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    yield f"lost {lost:,} of {recorded:,} spans: {where or 'nothing tells why'}", "red"


def _unclean(processes: Sequence[ProcessInfo]) -> Iterator[tuple[str, str]]:
    open_ended = sum(process.ended_at is None for process in processes)
    if open_ended:
        who = "the program" if len(processes) == 1 else f"{open_ended} of {len(processes)} processes"
        were = "were" if open_ended > 1 else "was"
        runs = "run" if open_ended > 1 else "runs"
        yield f"unclean: {who} {were} killed or still {runs}", "yellow"


class _Row(NamedTuple):
    guide: str
    name: str
    style: str
    calls: int
    total: float
    whole: float
    errors: int


def _tree_rows(
    siblings: Sequence[PathNode], depth: int, limit: int | None, guide: str | None = None, whole: float = 0.0
) -> Iterator[_Row]:
    """The lines of a tree, with the guides that join them; `guide` is None for roots, which nothing joins."""
    shown, hidden = siblings[:limit], siblings[len(siblings[:limit]) :]
    if not depth:
        shown, hidden = [], siblings
    for index, node in enumerate(shown):
        last = index == len(shown) - 1 and not hidden
        here, below = ("", "") if guide is None else (guide + "├─ ", guide + "│  ")
        if last and guide is not None:
            here, below = guide + "└─ ", guide + "   "
        whole_here = node.total_duration if guide is None else whole
        name = printable(node.name, MAX_NAME)
        yield _Row(here, name, "cyan", node.count, node.total_duration, whole_here, node.error_count)
        yield from _tree_rows(node.children, depth - 1, limit, below, whole_here)
    if hidden:
        total = sum(node.total_duration for node in hidden)
        name = f"… {len(hidden):,} more" if depth else "… deeper"
        here = "" if guide is None else guide + "└─ "
        counts = sum(node.count for node in hidden), total, whole, sum(node.error_count for node in hidden)
        yield _Row(here, name, "dim", *counts)


def _table(*texts: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in texts:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _line(text: str, style: str = "") -> Text:
    """A stranger's text, kept to one line and free of markup; what does not fit ends in an ellipsis."""
    return Text(printable(text, MAX_NAME), style=style, no_wrap=True, overflow="ellipsis")


def _count(number: int, style: str = "") -> Text:
    return Text(f"{number:,}", style=style if number else "dim" if style else "")


def _time(seconds: float) -> Text:
    return Text(duration(seconds))


def _bar(part: float, whole: float) -> Text:
    return Text(bar(part, whole, _BAR), style="green")


def _telling_length(run_ids: Sequence[str]) -> int:
    """How many characters tell all the ids apart, as `--run` takes them."""
    ids = sorted(set(run_ids))
    common = [_common_length(one, other) for one, other in pairwise(ids)]
    return max([_SHORTEST_ID, *(length + 1 for length in common)])


def _common_length(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((index for index, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))
