"""Text for terminals: numbers for people, names that nobody vouches for, and a sign of life when it takes long."""

from __future__ import annotations

import math
import os
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from ferret.models import ProcessInfo
    from ferret.segment import Segment
    from ferret.sinks.base import Readable
    from ferret.sinks.summary import SegmentSummary

MAX_NAME = 160
"""Characters of a name that are shown where no terminal's width decides, as in a pipe."""

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
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "?"


def bar(part: float, whole: float, width: int) -> str:
    """A bar of at most `width` characters, in steps of an eighth of one."""
    eighths = round(8 * width * min(max(part / whole, 0), 1)) if whole > 0 else 0
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]


def output() -> Console:
    """Where tables go. What its encoding lacks comes out escaped, rather than as an error."""
    from rich.console import Console  # noqa: PLC0415 - `--help` and `--json` do without

    return Console(highlight=False, emoji=False, markup=False)


def show(console: Console, table: Table) -> None:
    """Print a table: within the terminal's width (or `COLUMNS`), or as wide as it likes where there is no terminal."""
    console.print(table, width=fitting_width(console, table), crop=False)


def fitting_width(console: Console, table: Table) -> int:
    """The width that `show` gives a table."""
    from rich.measure import Measurement  # noqa: PLC0415

    if console.is_terminal or os.environ.get("COLUMNS"):
        return console.width
    return Measurement.get(console, console.options.update(max_width=100_000), table).maximum


class Watched:
    """A readable whose reading shows on stderr, once it has taken a second and where stderr is a terminal.

    A context manager: what it shows is gone at its end. `expect` gives the bar an end to move towards.
    """

    def __init__(self, readable: Readable) -> None:
        self._readable = readable
        self._due = time.monotonic() + 1.0 if sys.stderr.isatty() else math.inf
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._expected: int | None = None
        self._done = 0

    def expect(self, spans: int) -> None:
        """Begin a new count, towards so many spans."""
        self._expected, self._done = spans, 0
        self._step(0)

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        """The readable's segments."""
        for segment in self._readable.segments(run_id):
            self._step(len(segment))
            yield segment

    def summaries(self, run_id: str | None = None) -> Iterator[SegmentSummary]:
        """The readable's segments in brief."""
        from ferret.sinks.summary import summaries  # noqa: PLC0415

        for summary in summaries(self._readable, run_id):
            self._step(summary.spans)
            yield summary

    def processes(self, run_id: str | None = None) -> Iterator[ProcessInfo]:
        """The readable's processes."""
        return self._readable.processes(run_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._due = math.inf

    def _step(self, spans: int) -> None:
        self._done += spans
        if self._progress is None and time.monotonic() > self._due:
            self._start()
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done, total=self._expected)

    def _start(self) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        self._progress = Progress(
            TextColumn("reading"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} spans"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", total=self._expected)
        self._progress.start()
