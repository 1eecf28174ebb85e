"""Recording a program's functions, without a change to them: `ferret run`, and the same for a part of a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferret.core import Profiler

__all__ = ["recording"]


class recording:  # noqa: N801 - reads as a statement: `with recording(profiler):`
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
        FerretError: from entering it: functions are being recorded already, or other tools use `sys.monitoring` to the full.
    """

    def __init__(
        self,
        profiler: Profiler,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        folders: Sequence[str] = (),
        everything: bool = False,
        min_duration: float = 0.0,
    ) -> None:
        from ferret.run.selection import Selection  # noqa: PLC0415 - `ferret run` starts its helpers by this package
        from ferret.run.tracer import FunctionTracer  # noqa: PLC0415 - as above

        selection = Selection(tuple(folders), tuple(include), tuple(exclude), everything)
        self._tracer = FunctionTracer(profiler, selection, min_duration_ns=round(min_duration * 1e9))

    def __enter__(self) -> None:
        self._tracer.start()

    def __exit__(self, *_: object) -> None:
        self._tracer.stop()
