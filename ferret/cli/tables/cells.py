"""What tables are made of: cells, and columns of which those go first that matter least where the width is small."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rich import box
from rich.table import Table
from rich.text import Text

from ferret.cli.terminal import MAX_NAME, bar, duration, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import JustifyMethod

BAR: Final = 12
_NAME: Final = 24
"""Characters that a name gets before a column beside it does."""
_GAP: Final = 2


@dataclass
class Column:
    """A column of a table.

    Attributes:
        heading: what stands above it.
        drop: the larger, the sooner it goes when there is no room; 0 is kept in any case.
        text: whether it holds text, which may be cut to fit.
        left: whether its cells begin at the left, as those of texts do, rather than end at the right.
        width: what it needs, if not what its cells have.
    """

    heading: str
    drop: int = 0
    text: bool = False
    left: bool = False
    width: int | None = None
    cells: list[Text] = field(default_factory=list)

    @property
    def natural(self) -> int:
        """Characters that it would take."""
        return self.width or max([len(self.heading), *(cell.cell_len for cell in self.cells)])

    @property
    def needs(self) -> int:
        """Characters that it must have."""
        return min(self.natural, _NAME) if self.text else self.natural


def fitted(columns: Sequence[Column], width: int | None) -> Table:
    """The columns as a table, without those for which there is no room.

    Args:
        columns: from left to right, each with as many cells.
        width: characters that there are; None for as many as it takes.
    """
    kept = list(columns)
    while width is not None and sum(one.needs + _GAP for one in kept) - _GAP > width and any(one.drop for one in kept):
        kept.remove(max(kept, key=lambda one: one.drop))
    table = empty_table()
    # what is left over goes to texts, from left to right
    spare = None if width is None else width + _GAP - sum(one.needs + _GAP for one in kept)
    for one in kept:
        wide = one.natural if spare is None else min(one.natural, one.needs + max(spare, 0))
        spare = None if spare is None else spare - (wide - one.needs)
        justify: JustifyMethod = "left" if one.text or one.left else "right"
        table.add_column(one.heading, justify=justify, overflow="ellipsis", no_wrap=True, width=wide)
    for row in zip(*(one.cells for one in kept), strict=True):
        table.add_row(*row)
    return table


def empty_table() -> Table:
    """A table as all of the command's look."""
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def line(text: str, style: str = "") -> Text:
    """A stranger's text, kept to one line and free of markup; what does not fit ends in an ellipsis."""
    return Text(printable(text, MAX_NAME), style=style, no_wrap=True, overflow="ellipsis")


def count(number: int, style: str = "") -> Text:
    """A number; with a style, one that is remarkable unless it is 0."""
    return Text(f"{number:,}", style=style if number else "dim" if style else "")


def time(seconds: float) -> Text:
    """A duration."""
    return Text(duration(seconds))


def filled(part: float, whole: float) -> Text:
    """A bar."""
    return Text(bar(part, whole, BAR), style="green")
