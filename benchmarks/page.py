"""Writes docs/benchmarks.md and its charts from the baseline: `python -m benchmarks.page`. Nobody edits them by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bounds import bound_of
from benchmarks.charts import bars
from benchmarks.kinds import kind
from benchmarks.peers import ALL, STRANGERS, peer
from benchmarks.peers.ferret import NON_BLOCKING
from benchmarks.report import shown
from benchmarks.results import BASELINE, Results, in_digits
from benchmarks.targets import Verdict, by_writer, judged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.kinds import Kind
    from benchmarks.results import Row, Spread, Tables

DOCS = Path(__file__).parent.parent / "docs"
PAGE, CHARTS = "benchmarks.md", "_static/benchmarks"

HEAD = """\
# Measured

What recording costs, ferret beside its peers. This page is written from the results of the suite in
`benchmarks/`, each kind measured in one go, which anyone can repeat:

```console
$ make bench
$ KINDS="cost lag" make bench
$ make bench-compare
```

The first measures everything, in turns, and takes some tens of minutes. The second measures two of the kinds below.
The third puts the last result beside the one on this page, and fails where ferret has become slower by more than
the spread.

How to read it: each measurement is a process of its own, and the processes of a table take turns, {rounds}. A
figure is the median of the rounds, with the quarters around it in brackets. A ratio is one of figures of the same
round. Ratios travel from machine to machine; milliseconds do not. Every peer is in a virtual environment of its
own, with its own defaults. The exporters of the peers drop what they get, so that *their encoding, sending and
storing is left out*; ferret's is in its figures, down to the file.
"""

QUICK = """
```{{warning}}
These figures come from `make bench BENCH=--quick`. They show that the suite works, and nothing of how fast anything is.
```
"""


def write(results: Results, docs: Path = DOCS) -> None:
    """The page and its charts; charts that the results do not have are removed."""
    charts = dict(all_charts(results))
    folder = docs / CHARTS
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        if old.name not in charts:
            old.unlink()
    for name, drawing in charts.items():
        (folder / name).write_text(drawing, encoding="utf-8")
    (docs / PAGE).write_text(page(results), encoding="utf-8")


def all_charts(results: Results) -> Iterator[tuple[str, str]]:
    """Each chart's file name, and the chart."""
    for name, tables in results.kinds.items():
        for chart in kind(name).CHARTS:
            if drawing := bars(chart, tables.get(chart.table, {})):
                yield chart_name(name, chart.table, chart.figure), drawing


def chart_name(*parts: str) -> str:
    """A file name of letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-") + ".svg"


def page(results: Results) -> str:
    """The whole page."""
    rounds = "once" if results.rounds == 1 else f"{results.rounds} rounds"
    parts = [HEAD.format(rounds=rounds)]
    if results.quick:
        parts.append(QUICK.format())
    parts += ["\n## Where and when\n", *_facts(results), "\n## What ferret wants to reach\n", *_targets(results)]
    parts += _bounds(results)
    for name, tables in results.kinds.items():
        parts += _kind(name, kind(name), tables)
    parts += [
        "\n## What the others do, and ferret does not\n",
        *_notes(),
        "\n## What is measured, in each one's words\n",
    ]
    parts += [*_words(), ""]
    return "\n".join(parts)


def _facts(results: Results) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    yield f"| taken | {results.taken}, in {results.seconds / 60:.0f} minutes |"
    for name, value in results.machine.items():
        yield f"| {name} | {value} |"
    yield f"| versions | {', '.join(f'{name} {version}' for name, version in results.versions.items())} |"


def _targets(results: Results) -> Iterator[str]:
    yield (
        "Each a ratio to a floor of the same run, or bytes: what was measured, of what is allowed. Whether it is met is "
        "computed from the figures below.\n"
    )
    yield f"| | target | {' | '.join(f'`{writer}`' for writer in NON_BLOCKING)} |"
    yield "|---|---|" + "---|" * len(NON_BLOCKING)
    for (what, limit), found in by_writer(judged(results)).items():
        yield f"| {what} | {limit} | {' | '.join(_verdict(found.get(writer)) for writer in NON_BLOCKING)} |"


def _bounds(results: Results) -> Iterator[str]:
    missed = dict.fromkeys(verdict.target.what for verdict in judged(results) if not verdict.met)
    known = dict.fromkeys(text for what in missed if (text := bound_of(what)))
    if known:
        yield "\n### What bounds those that are missed\n"
        yield from (f"- {text.replace('\n', '\n  ')}" for text in known)


def _verdict(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    word = "met" if verdict.met else "**missed**"
    return f"{in_digits(verdict.measured)} of {in_digits(verdict.allowed)}, {word}"


def _kind(name: str, module: Kind, tables: Tables) -> Iterator[str]:
    yield f"\n## {module.TITLE}\n"
    yield module.ABOUT
    for chart in module.CHARTS:
        if any(row.spread(chart.figure) for row in tables.get(chart.table, {}).values()):
            yield f"![{chart.title}]({CHARTS}/{chart_name(name, chart.table, chart.figure)})\n"
    for table, rows in tables.items():
        if len(tables) > 1:
            yield f"### {table[0].upper()}{table[1:]}\n"
        yield from _table(module, rows)
        yield ""


def _table(module: Kind, rows: dict[str, Row]) -> Iterator[str]:
    columns = shown(list(module.COLUMNS), rows)
    yield "| | " + " | ".join(column.heading for column in columns) + " |"
    yield "|---|" + "--:|" * len(columns)
    missing = []
    for name, row in rows.items():
        if row.missing:
            missing.append(f"{name}: {row.missing}")
        if row.rounds:
            yield f"| {name} | " + " | ".join(_cell(row.spread(column.figure)) for column in columns) + " |"
    if missing:
        yield "\nNot measured: " + "; ".join(missing) + "."


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return ""
    middle, low, high = in_digits(spread.median), in_digits(spread.low), in_digits(spread.high)
    return middle if low == high else f"{middle} ({low}–{high})"


def _notes() -> Iterator[str]:
    yield "A figure says nothing of what it buys. Who needs what stands in the second column should use that peer.\n"
    yield "| | it does, and ferret does not | ferret does, and it does not | as it was set up here |"
    yield "|---|---|---|---|"
    for name in STRANGERS:
        one = peer(name)
        yield f"| {one.title} | {one.does_more} | {one.does_less} | {one.measured_as} |"


def _words() -> Iterator[str]:
    yield "`NAME` is the span's name, and `n` a number that differs from span to span. Loops are made of these texts.\n"
    yield "| | a span | with two tags | a function |"
    yield "|---|---|---|---|"
    for name in ALL:
        one = peer(name)
        if name.startswith(("bounded", "process", "sync")):
            continue
        tagged = f"`with {one.tagged.expression}:`" if one.tagged else ""
        if one.tagged and one.tagged.body:
            tagged = f"`with {one.tagged.expression} as span_:` `{one.tagged.body}`"
        decorated = f"`@{one.decorator}`" if one.decorator else ""
        title = "ferret" if name == "threaded" else one.title
        yield f"| {title} | `with {one.plain.expression}:` | {tagged} | {decorated} |"


if __name__ == "__main__":
    write(Results.load(BASELINE))
