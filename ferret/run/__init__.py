"""Recording a program's functions, without a change to them: `ferret run`, and the same for a part of a program."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ferret.core import Profiler

__all__ = ["recording"]


@contextmanager
def recording(
    profiler: Profiler,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    folders: Sequence[str] = (),
    everything: bool = False,
    min_duration: float = 0.0,
) -> Iterator[None]:
    """Record the functions that are called within the block, in this thread and those that begin meanwhile.

    One block at a time in a process. The functions around the block are not recorded, only what it calls.

    Args:
        profiler: takes the spans; it is not closed.
        include: record the modules that match one of these globs; `app` also stands for `app.views`.
        exclude: leave these modules out.
        folders: record functions whose file is in one of these folders.
        everything: record all Python functions.
        min_duration: seconds; leave out calls that took less.

    Raises:
        FerretError: functions are being recorded already, or other tools use `sys.monitoring` to the full.
    """
    from ferret.run.selection import Selection  # noqa: PLC0415 - `ferret run` starts its helpers through this package
    from ferret.run.tracer import FunctionTracer  # noqa: PLC0415

    selection = Selection(tuple(folders), tuple(include), tuple(exclude), everything)
    tracer = FunctionTracer(profiler, selection, min_duration_ns=round(min_duration * 1e9))
    tracer.start()
    try:
        yield
    finally:
        tracer.stop()
