"""Recorded runs as files for other tools.

    from ferret import export

    export.write("trace.db", "perfetto", "trace.pftrace")

`FORMATS` lists what there is. An export holds the run's spans as columns, some 50 bytes a span and its tags, and up to
twice as much while it sorts them; never an object per span.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from ferret.errors import ExportError
from ferret.export.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ferret.models import RunInfo
    from ferret.report import Report, Source
    from ferret.segment import Segment

    type Write = Callable[[RunInfo, Iterable[Segment], BinaryIO], int | None]

__all__ = ["FORMATS", "ExportError", "Format", "format_of", "named", "write"]


class Format(NamedTuple):
    """A kind of file that a run can be written as."""

    name: str
    summary: str
    """What it is, in a few words."""
    opened_by: str
    """Where to look at it."""
    suffixes: tuple[str, ...]
    """Endings of a file's name that say that it is of this format."""
    function: str
    """The module and the function that writes it."""

    @property
    def write(self) -> Write:
        """Writes a run's spans to a binary file, and returns how many those are, or None."""
        module, name = self.function.split(":")
        function: Write = getattr(import_module(module), name)
        return function


FORMATS: Final = {
    one.name: one
    for one in (
        Format(
            "speedscope", "a flame graph and timeline of each thread and task", "https://www.speedscope.app",
            (".speedscope.json", ".speedscope"), "ferret.export.speedscope:write",
        ),
        Format(
            "perfetto", "a timeline of all processes, threads and tasks, with tags", "https://ui.perfetto.dev",
            (".pftrace", ".perfetto-trace", ".perfetto"), "ferret.export.perfetto:write",
        ),
        Format(
            "folded", "self time by path, a line each", "flamegraph.pl, inferno or https://www.speedscope.app",
            (".folded", ".collapsed"), "ferret.export.folded:write",
        ),
        Format(
            "html", "a page with timeline, flame graph and table", "any browser",
            (".html", ".htm"), "ferret.view.page:write_page",
        ),
        Format(
            "otlp-json", "spans for OpenTelemetry's tools, as JSON lines", "an OpenTelemetry collector (otlpjsonfile)",
            (".otlp.jsonl", ".otlp.json", ".otlp"), "ferret.export.otlp:write",
        ),
    )
}  # fmt: skip
"""By name."""


def named(name: str) -> Format:
    """The format of this name.

    Raises:
        ExportError: there is none; the message lists those there are.
    """
    if name not in FORMATS:
        raise ExportError(f"there is no format {name!r}; there is {_listed()}")
    return FORMATS[name]


def format_of(path: str | os.PathLike[str]) -> Format:
    """The format that the ending of a file's name stands for.

    Raises:
        ExportError: it stands for none, or might for several.
    """
    name = os.path.basename(os.fspath(path)).lower()
    for one in FORMATS.values():
        if name.endswith(one.suffixes):
            return one
    endings = [one.suffixes[0] for one in FORMATS.values()]
    raise ExportError(
        f"{os.fspath(path)}: its name does not tell the format: end it in {_listed(endings)}, or choose {_listed()}"
    )


def write(
    source: Report | Source,
    format: str | None,  # noqa: A002 - the word for it
    out: str | os.PathLike[str] | BinaryIO,
    run_id: str | None = None,
    namespace: str = "_ferret_trace",
) -> int:
    """Write a run in another format.

    A file is there whole or not at all: what it held before stays until all is written.

    Args:
        source: a report, or what a report reads: a path, a `Profiler`, a readable sink, …
        format: a name in `FORMATS`; None to tell it from the name of `out`.
        out: a path, or a binary file that is open for writing, and stays open.
        run_id: a run's id, or its beginning; the latest run unless given.
        namespace: where in a BeaverDB the spans are.

    Returns:
        How many spans were written.

    Raises:
        ExportError: there is no such format, or the file would take the place of what it is made from.
        RunNotFoundError: there is no such run.
        StorageError: the source cannot be read.
        OSError: the file cannot be written.
    """
    from ferret.report import Report  # noqa: PLC0415 - `ferret --help` lists the formats

    path = os.fspath(out) if isinstance(out, str | os.PathLike) else None
    if format is None and path is None:
        raise ExportError(f"an open file does not tell the format: choose {_listed()}")
    chosen = format_of(path) if format is None and path is not None else named(str(format))
    with ExitStack() as stack:
        report = source if isinstance(source, Report) else stack.enter_context(Report(source, namespace))
        info = report.run(run_id)
        read_from = os.fspath(source) if isinstance(source, str | os.PathLike) else None
        file = out if path is None else stack.enter_context(replacing(path, read_from))
        written = chosen.write(info, report.segments(info.run_id), file)  # type: ignore[arg-type]
    return info.spans if written is None else written


def _listed(names: Sequence[str] = tuple(FORMATS)) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
