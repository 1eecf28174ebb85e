"""`make bench-compare`: the last result beside the baseline that was kept. A slow-down beyond the spread exits with 1.

Compared are ferret's figures that do not depend on the machine: ratios to a floor of the same run, and bytes. A figure is
worse when its quarters do not touch the baseline's, and its median is more than a tenth worse. `--keep` makes the last
result the baseline, and writes docs/benchmarks.md from it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.kinds import Column, kind
from benchmarks.peers.ferret import PURE, WRITERS
from benchmarks.results import BASELINE, LAST, Results, Spread, in_digits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOLERANCE = 0.1
"""What may be worse by chance of how two programs are laid out in memory, whatever the spread."""


@dataclass(frozen=True)
class Change:
    """A figure, then and now."""

    where: str
    column: Column
    then: Spread
    now: Spread

    @property
    def times(self) -> float:
        """How much worse: 1 is as it was, 2 is twice as bad."""
        new, old = self.now.median, self.then.median
        if self.column.better == "more":
            new, old = old, new
        return new / old if old else 1.0

    @property
    def apart(self) -> bool:
        """Whether the spreads do not touch."""
        return self.now.low > self.then.high or self.now.high < self.then.low

    @property
    def worse(self) -> bool:
        return self.apart and self.times > 1 + TOLERANCE

    @property
    def better(self) -> bool:
        return self.apart and self.times < 1 - TOLERANCE


def changes(then: Results, now: Results) -> Iterator[Change]:
    """What both have measured of ferret."""
    for name, tables in now.kinds.items():
        for table, rows in tables.items():
            known = then.kinds.get(name, {}).get(table, {})
            for label, row in rows.items():
                if row.subject not in {*WRITERS, PURE} or label not in known:
                    continue
                for column in kind(name).COLUMNS:
                    old, new = known[label].spread(column.figure), row.spread(column.figure)
                    if column.ratio and column.better and old and new:
                        yield Change(f"{name}: {table}, {label}", column, old, new)


def show(found: list[Change], console: Console) -> None:
    """What is worse or better, the worst first."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for heading in ("where", "figure", "then", "now", ""):
        table.add_column(heading, justify="right" if heading in {"then", "now"} else "left")
    moved = sorted((one for one in found if one.worse or one.better), key=lambda one: -one.times)
    for one in moved:
        word = Text("worse", style="red") if one.worse else Text("better", style="green")
        figure = one.column.figure.replace("`", "")
        table.add_row(one.where, figure, _spoken(one.then), _spoken(one.now), word.append(f", {one.times:.2f} ×"))
    if moved:
        console.print(table)
    console.print(
        f"{len(found)} figures compared: {sum(one.worse for one in found)} worse, {sum(one.better for one in found)} better."
    )


def _spoken(spread: Spread) -> str:
    return f"{in_digits(spread.median)} ({in_digits(spread.low)}–{in_digits(spread.high)})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, or keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--last", type=Path, default=LAST, help="the result to look at (default: last.json)")
    parser.add_argument(
        "--baseline", type=Path, default=BASELINE, help="what to put beside it (default: baseline.json)"
    )
    parser.add_argument("--keep", action="store_true", help="make the last result the baseline, and write the page")
    given = parser.parse_args(arguments)
    now = _read(given.last, "run `make bench` first")
    if given.keep:
        from benchmarks.page import write

        now.save(given.baseline)
        write(now)
        return
    then = _read(given.baseline, "run `make bench-keep` first")
    if now.quick or then.quick:
        sys.exit("measured with --quick: such figures cannot be compared")
    found = list(changes(then, now))
    show(found, Console())
    sys.exit(any(one.worse for one in found))


def _read(path: Path, advice: str) -> Results:
    try:
        return Results.load(path)
    except FileNotFoundError:
        sys.exit(f"there is no {path}: {advice}")
    except (ValueError, TypeError, KeyError) as error:
        sys.exit(f"{path} cannot be read ({error}): {advice}")


if __name__ == "__main__":
    main()
