"""`ferret export`: a run as a file for another tool."""

from __future__ import annotations

import io
import math
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, cast

import typer

from ferret.cli.common import File, Namespace, Run, reading
from ferret.cli.streams import reader_gone
from ferret.cli.terminal import printable
from ferret.export import FORMATS, ExportError, format_of, named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from ferret.export import Format

_ENDINGS = ", ".join(one.suffixes[0] for one in FORMATS.values())


def export(
    file: File,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format", "-f", metavar="FORMAT", show_default=False,
            help=f"One of {', '.join(FORMATS)}. Told from how OUT ends if not given, as in {_ENDINGS}.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="OUT", show_default=False,
            help="The file to write, whole or not at all. Standard output if not given, or if it is -.",
        ),
    ] = None,
    run: Run = None,
    namespace: Namespace = "_ferret_trace",
) -> None:  # fmt: skip
    """Write a run in FILE for another tool to open.

    [bold]speedscope[/bold]  a flame graph and timeline of each thread and task
    [bold]perfetto[/bold]    a timeline of all processes, threads and tasks, with tags
    [bold]folded[/bold]      self time by path, for flamegraph.pl and its like
    [bold]html[/bold]        a page with timeline, flame graph and table, that works offline
    [bold]otlp-json[/bold]   spans for OpenTelemetry's tools, as JSON lines
    """
    output = None if output == "-" else output
    with reading(file, namespace) as (report, watched):
        chosen = _chosen(format_name, output)
        info = report.run(run)
        watched.expect(info.spans)
        with _writing(output, file) as out:
            written = chosen.write(info, report.segments(info.run_id), cast("BinaryIO", out))
            size = out.size
    _tell(chosen, output, info.spans if written is None else written, size)


def _chosen(format_name: str | None, output: str | None) -> Format:
    if format_name is not None:
        return named(format_name)
    if output is None:
        raise ExportError(f"which format? --format {' | '.join(FORMATS)}")
    return format_of(output)


@contextmanager
def _writing(output: str | None, source: str) -> Iterator[_Out]:
    from ferret.export.files import replacing

    if output is not None:
        with replacing(output, source) as file, _Out(file) as out:
            yield out
    elif sys.stdout.isatty():
        raise ExportError("the output is a terminal, and this is for programs: name a file with -o, or redirect it")
    else:
        with _Out(sys.stdout.buffer) as out:
            yield out
        sys.stdout.buffer.flush()
        _stop_if_unread()


def _stop_if_unread() -> None:
    if reader_gone():
        raise typer.Exit


class _Out(io.RawIOBase):
    """Counts what goes into a file, and shows it on a terminal once it has taken `PATIENCE`.

    Attributes:
        size: bytes so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        from ferret.cli.terminal import PATIENCE

        super().__init__()
        self.size = 0
        self._file = file
        self._due = time.monotonic() + PATIENCE if sys.stderr.isatty() else math.inf
        self._progress: Progress | None = None

    def writable(self) -> bool:
        """That is all it is for."""
        return True

    def write(self, data: Any) -> int:
        """Write all of it."""
        self._file.write(data)
        _stop_if_unread()
        self.size += len(data)
        if self._progress is None and time.monotonic() > self._due:
            self._progress = _started()
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], description=f"writing {amount(self.size)}")
        return len(data)

    def close(self) -> None:
        """Take away what is shown. The file stays open."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        super().close()


def _started() -> Progress:
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), TimeElapsedColumn()
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    progress.add_task("")
    progress.start()
    return progress


def amount(size: int) -> str:
    """Bytes for people: `789 B`, `1.2 kB`, `34.5 MB`."""
    value, units = float(size), iter(("kB", "MB", "GB"))
    if size < 1000:
        return f"{size} B"
    while True:
        value, unit = value / 1000, next(units)
        if value < 999.95 or unit == "GB":
            return f"{value:,.1f} {unit}"


def _tell(chosen: Format, output: str | None, spans: int, size: int) -> None:
    where = "" if output is None else f"{printable(output)}: "
    count = f"{spans:,} span{'' if spans == 1 else 's'}"
    print(f"{where}{count} as {chosen.name}, {amount(size)}; open it in {chosen.opened_by}", file=sys.stderr)
