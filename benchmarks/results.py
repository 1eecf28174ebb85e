"""What was measured: every figure of every round, and what to make of several rounds. Kept as JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.kinds import Figures

HERE = Path(__file__).parent
LAST, BASELINE = HERE / "last.json", HERE / "baseline.json"
FORMAT = 1


@dataclass(frozen=True)
class Spread:
    """The middle of several rounds, and the quarters around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value. Of few, the quarters lie between the values."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass
class Row:
    """One row of a table: the figures of each round, or why there are none."""

    subject: str
    rounds: list[Figures] = field(default_factory=list)
    missing: str = ""

    def spread(self, figure: str) -> Spread | None:
        """None where no round has the figure."""
        values = [one[figure] for one in self.rounds if figure in one]
        return Spread.of(values) if values else None


type Tables = dict[str, dict[str, Row]]
"""The rows of each table, by their names."""


@dataclass
class Results:
    """One run of the suite."""

    taken: str
    """When it began: a date and time in UTC."""
    rounds: int
    quick: bool
    machine: dict[str, str]
    versions: dict[str, str]
    seconds: float = 0.0
    """How long all of it took."""
    kinds: dict[str, Tables] = field(default_factory=dict)

    def each_round(self, kind: str, table: str) -> list[dict[str, Figures]]:
        """The rows of a table as each round found them. A round that a row failed in lacks it."""
        rows = self.kinds.get(kind, {}).get(table, {})
        return [
            {name: row.rounds[number] for name, row in rows.items() if number < len(row.rounds)}
            for number in range(self.rounds)
        ]

    def save(self, path: Path) -> None:
        """Write it, with figures of five digits: more is noise."""
        rounded = json.loads(json.dumps(asdict(self)), parse_float=lambda text: float(f"{float(text):.5g}"))
        path.write_text(
            json.dumps({"format": FORMAT, **rounded}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read it back.

        Raises:
            ValueError: it is of another format.
            OSError: it cannot be read.
        """
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("format", None) != FORMAT:
            raise ValueError(f"{path.name} is of another format: measure anew")
        kinds: dict[str, Tables] = {
            kind: {
                table: {name: Row(**row) for name, row in rows.items()} for table, rows in tables.items()
            }
            for kind, tables in found.pop("kinds").items()
        }  # fmt: skip
        return cls(**found, kinds=kinds)


def in_digits(value: float) -> str:
    """With about three digits that count."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.1 or not size else f"{value:.3f}"
