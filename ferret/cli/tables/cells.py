"""What tables are made of: cells, and columns of which those go first that matter least where the width is small."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from ferret.cli.terminal import MAX_NAME, bar, duration, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import JustifyMethod

BAR: Final = 12
_LITTLE: Final = 10
"""From here on, a column goes before names are cut to less than `_WIDE`."""
_WIDE: Final = 40
_NAME: Final = 24
"""Characters that a text gets before any column goes that may go."""
_LEAST: Final = 8
"""Characters that a text has when nothing else may go: numbers are never cut."""
_GAP: Final = 2
_GUIDES: Final = "│├└─ "


@dataclass
class Column:
    """A column of a table.

    Attributes:
        heading: what stands above it.
        drop: the larger, the sooner it goes when there is no room, from `_LITTLE` on also to make room for whole names; 0 is
            kept in any case.
        text: whether it holds text, which may be cut to fit.
        names: whether the text is names, which are told apart by their ends: they are cut in the middle.
        left: whether its cells begin at the left, as those of texts do, rather than end at the right.
        width: what it needs, if not what its cells have.
    """

    heading: str
    drop: int = 0
    text: bool = False
    names: bool = False
    left: bool = False
    width: int | None = None
    cells: list[Text] = field(default_factory=list)

    @property
    def natural(self) -> int:
        """Characters that it would take."""
        return self.width or max([len(self.heading), *(cell.cell_len for cell in self.cells)])

    def needs(self, text: int) -> int:
        """Characters that it must have, if a text is content with so many."""
        return min(self.natural, text) if self.text else self.natural


def fitted(columns: Sequence[Column], width: int | None) -> Table:
    """The columns as a table, without those for which there is no room. Numbers are shown whole or not at all.

    Args:
        columns: from left to right, each with as many cells.
        width: characters that there are; None for as many as it takes. Where even what is left of texts and one number has no
            room, the table is wider.
    """
    kept = list(columns)
    if width is not None:
        _leave_out(kept, width, _WIDE, _LITTLE)
        _leave_out(kept, width, _NAME, 1)
    table = empty_table()
    for one, wide in zip(kept, _widths(kept, width), strict=True):
        justify: JustifyMethod = "left" if one.text or one.left else "right"
        table.add_column(one.heading, justify=justify, overflow="ellipsis", no_wrap=True, width=wide, min_width=wide)
        if one.names:
            one.cells = [_shortened(cell, wide) for cell in one.cells]
    for row in zip(*(one.cells for one in kept), strict=True):
        table.add_row(*row)
    return table


def _whole(columns: Sequence[Column], text: int) -> int:
    return sum(one.needs(text) + _GAP for one in columns) - _GAP


def _leave_out(columns: list[Column], width: int, text: int, least: int) -> None:
    """Take columns away until the rest has room beside texts of that length, or none is left that may go."""
    while _whole(columns, text) > width:
        goes = max(columns, key=lambda one: one.drop)
        if goes.drop < least:
            return
        columns.remove(goes)


def _widths(columns: Sequence[Column], width: int | None) -> list[int]:
    """What each column gets: what is left over goes to texts, from left to right."""
    if width is None:
        return [one.natural for one in columns]
    text = next((size for size in (_NAME, 2 * _LEAST, _LEAST) if _whole(columns, size) <= width), _LEAST)
    spare = max(width - _whole(columns, text), 0)
    widths = []
    for one in columns:
        wide = min(one.natural, one.needs(text) + spare)
        spare -= wide - one.needs(text)
        widths.append(wide)
    return widths


def _shortened(cell: Text, width: int) -> Text:
    """A name, behind the guides of a tree, in so many characters."""
    if cell.cell_len <= width:
        return cell
    depth = len(cell.plain) - len(cell.plain.lstrip(_GUIDES))
    guide, name = cell[:depth], cell[depth:]
    room = max(width - depth, min(name.cell_len, 2 * width // 3))
    if depth + room > width:
        guide = Text.assemble("…", guide[depth + room + 1 - width :])
    return Text.assemble(guide, _without_middle(name, room), no_wrap=True, overflow="ellipsis")


def _without_middle(name: Text, width: int) -> Text:
    """Its beginning and twice as much of its end."""
    if name.cell_len <= width:
        return name
    begins = name.copy()
    begins.truncate((width - 1) // 3, overflow="crop")
    start = len(name)
    while start and cell_len(name.plain[start - 1 :]) <= width - 1 - begins.cell_len:
        start -= 1
    return Text.assemble(begins, ("…", name.style), name[start:])


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
