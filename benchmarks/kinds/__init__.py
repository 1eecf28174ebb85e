"""What is measured. A module each, which offers what `Kind` lists; `run.py` finds it by its name here.

A module of a kind is imported in every peer's environment too: at its top it imports only the standard library.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.peers.base import Peer

type Figures = dict[str, float]
"""What one measurement found: a number for each name."""

NAMES = ("cost", "lag", "http", "ending", "hanging", "drain", "growth", "analyze", "functions", "imports")
"""The kinds, in the order in which they run and are shown."""


@dataclass(frozen=True)
class Scale:
    """How much to measure."""

    quick: bool = False
    """Little: to see that it works."""
    largest: int = 10_000_000
    """The most spans that `growth` records and `analyze` reads."""
    ours: bool = False
    """Ferret and its floor alone."""


@dataclass(frozen=True)
class Case:
    """One row of one table: a measurement that is a process of its own."""

    table: str
    subject: str
    seconds: float
    """About how long it takes, for the estimate."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keywords of the kind's `probe`."""
    row: str = ""
    """What the row is called, where it is not the subject's title."""


@dataclass(frozen=True)
class Column:
    """One figure as it is shown."""

    figure: str
    heading: str
    better: str = "less"
    """`less` or `more`; empty where neither is better."""
    ratio: bool = False
    """Whether it does not depend on the machine, so that it may be compared with a baseline of another day."""


@dataclass(frozen=True)
class Chart:
    """A bar chart of one figure of one table."""

    table: str
    figure: str
    title: str
    unit: str
    rows: Sequence[str] = ()
    """Which rows, by title; all of them where empty."""


class Kind(Protocol):
    """What a module of a kind offers."""

    TITLE: str
    ABOUT: str
    """A paragraph for the page: what is measured, how, and how to read it. Markdown."""
    COLUMNS: Sequence[Column]
    CHARTS: Sequence[Chart]

    def cases(self, scale: Scale) -> list[Case]:
        """What to measure. Cases of one table are measured in turns, and share a floor."""

    def probe(self, peer: Peer, folder: Path, **options: Any) -> Figures:
        """Measure once, in this process, which does nothing else."""

    def derive(self, rows: dict[str, Figures]) -> None:
        """Add to the figures of one table in one round those that need several rows, such as ratios to the floor."""


def kind(name: str) -> Kind:
    """The module of that name."""
    return cast("Kind", importlib.import_module(f"benchmarks.kinds.{name}"))


def no_more(rows: dict[str, Figures]) -> None:
    """`derive` of a kind whose processes measure their own floor."""
    del rows


def quantile(ordered: Sequence[float], share: float) -> float:
    """The sample below which that share of the others is."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
