"""Text for terminals: numbers for people, names that nobody vouches for, and a sign of life when it takes long."""

from __future__ import annotations

import math
import os
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from ferret.models import ProcessInfo
    from ferret.segment import Segment
    from ferret.sinks.base import Readable
    from ferret.sinks.summary import SegmentSummary

MAX_NAME = 160
"""Characters of a name that are shown where no terminal's width decides, as in a pipe."""

PATIENCE = 1.0
"""Seconds that a reading may take before it shows."""

_UNITS = ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (math.inf, 1.0, "s"))


def printable(text: str, longest: int | None = None) -> str:
    """The text on one line, with everything that could steer a terminal or hide itself escaped.

    Control and format characters, line breaks, unassigned code points and lone surrogates become Python escapes.

    Args:
        text: anything.
        longest: cut what is longer, and end it with an ellipsis.
    """
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def duration(seconds: float) -> str:
    """Three digits and a unit: `1.23 ms`, `45.6 µs`, `789 ns`, `1,234 s`."""
    for below, factor, unit in _UNITS:
        value = seconds * factor
        digits = 0 if unit == "ns" or value >= 99.95 else 1 if value >= 9.995 else 2
        if unit == "s" or (seconds < below and round(value, digits) < 1000):
            return f"{value:,.{digits}f} {unit}"
    raise AssertionError  # the last unit takes everything


def share(part: float, whole: float) -> str:
    """A percentage with one decimal; nothing where there is no whole."""
    return f"{part / whole:.1%}" if whole > 0 else ""


def local_time(seconds: float) -> str:
    """Seconds since the epoch as local date and time; `?` for what no calendar holds."""
    try:
        return str(datetime.fromtimestamp(int(seconds)).astimezone().replace(tzinfo=None))
    except (ValueError, OverflowError, OSError):
        return "?"


def bar(part: float, whole: float, width: int) -> str:
    """A bar of at most `width` characters, in steps of an eighth of one."""
    filled = min(max(part / whole, 0.0), 1.0) if whole > 0 else 0.0
    full, eighths = divmod(round(8 * width * filled), 8)
    return "█" * full + " ▏▎▍▌▋▊▉"[eighths].strip()


def output() -> Console:
    """Where tables go. What its encoding lacks comes out escaped, rather than as an error."""
    from rich.console import Console  # `--help` and `--json` do without

    # rich takes COLUMNS=0 at its word
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS" or _columns()}
    return Console(highlight=False, emoji=False, markup=False, _environ=environ)


def has_width(console: Console) -> bool:
    """Whether the output has a width to keep to: that of a terminal, or `COLUMNS`."""
    return console.is_terminal or bool(_columns())


def _columns() -> int:
    """What `COLUMNS` says; 0 where it says nothing that could be a width."""
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isdecimal() else 0


def width_of(console: Console) -> int | None:
    """The characters that a line may have; None where it may have as many as it needs."""
    return console.width if has_width(console) else None


def show(console: Console, table: Table) -> None:
    """Print a table in the width that there is, or else with nothing cut; never with numbers cut."""
    from rich.measure import Measurement

    endless = console.options.update(max_width=100_000)
    needed, there_is = Measurement.get(console, endless, table).maximum, console.width
    console.width = max(needed, there_is) if has_width(console) else needed
    console.print(table)
    if has_width(console):
        console.width = there_is


class Watched:
    """A readable whose reading shows on stderr, once it has taken `PATIENCE` and where stderr is a terminal.

    What it shows is gone when the reading ends. `expect` gives the bar an end to move towards.
    """

    def __init__(self, readable: Readable) -> None:
        self._readable = readable
        self._due = time.monotonic() + PATIENCE if sys.stderr.isatty() else math.inf
        self._expected: int | None = None
        self._on_damage: Callable[[str, str], None] | None = None

    @property
    def on_damage(self) -> Callable[[str, str], None] | None:
        """Called with what the readable cannot read, if it can go on after that."""
        return self._on_damage

    @on_damage.setter
    def on_damage(self, called: Callable[[str, str], None] | None) -> None:
        self._on_damage = called
        if hasattr(self._readable, "on_damage"):
            self._readable.on_damage = called

    def expect(self, spans: int) -> None:
        """So many spans will be read next."""
        self._expected = spans

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        """The readable's segments."""
        return self._counted(self._readable.segments(run_id), len)

    def newest_first(self, run_id: str | None = None) -> Iterator[Segment]:
        """The readable's segments, those that were stored last before the others."""
        from ferret.sinks.backwards import newest_first

        return self._counted(newest_first(self._readable, run_id), len)

    def summaries(self, run_id: str | None = None) -> Iterator[SegmentSummary]:
        """The readable's segments in brief."""
        from ferret.sinks.summary import summaries

        return self._counted(summaries(self._readable, run_id), lambda summary: summary.spans)

    def processes(self, run_id: str | None = None) -> Iterator[ProcessInfo]:
        """The readable's processes."""
        return self._readable.processes(run_id)

    def namespaces(self) -> list[str]:
        """Under which names the readable has runs, if it has such."""
        names: list[str] = getattr(self._readable, "namespaces", list)()
        return names

    @property
    def place(self) -> str | None:
        """The readable's file, if it has one."""
        place: str | None = getattr(self._readable, "place", None)
        return place

    def close(self) -> None:
        """Close the readable, if it can be."""
        close = getattr(self._readable, "close", None)
        if close is not None:
            close()

    def _counted[T](self, parts: Iterable[T], spans_of: Callable[[T], int]) -> Iterator[T]:
        done = 0
        progress: Progress | None = None
        try:
            for part in parts:
                yield part
                done += spans_of(part)
                if progress is None and time.monotonic() > self._due:
                    progress = self._started()
                if progress is not None:
                    progress.update(progress.task_ids[0], completed=done)
        finally:
            if progress is not None:
                progress.stop()

    def _started(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        progress = Progress(
            TextColumn("reading"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} spans"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        progress.add_task("", total=self._expected)
        progress.start()
        return progress
