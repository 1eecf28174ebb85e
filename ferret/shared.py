"""The process's own profiler: `ferret.configure(...)`, `ferret.get_profiler()`, `@ferret.measure("x")`."""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING, Any, Unpack

from ferret import twin
from ferret.core import Profiler
from ferret.decorate import Measure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from beaver import BeaverDB

    from ferret.config import Options
    from ferret.sinks.base import Sink
    from ferret.span import Span, SpanName
    from ferret.tags import Tags

_shared: Profiler | None = None
_shared_lock = threading.RLock()
_making = threading.local()


def configure(
    db_path: str | Path | BeaverDB | None = None,
    *,
    run_id: str | None = None,
    namespace: str | None = None,
    sink: Sink | str | None = None,
    **options: Unpack[Options],
) -> Profiler:
    """Make the process's own profiler, in place of an earlier one, which is closed. Arguments as of `Profiler`."""
    global _shared
    profiler = Profiler(db_path, None, namespace, run_id, sink=sink, **options)
    with _shared_lock:
        before, _shared = _shared, profiler
    if before is not None:
        before.close()
    return profiler


def get_profiler() -> Profiler:
    """The process's own profiler; made from the environment and the defaults, if `configure` was not called."""
    return _shared if _shared is not None else _make()


def _make() -> Profiler:
    global _shared  # noqa: PLW0603 - the process's only one
    if getattr(_making, "now", False):  # a plugin that is measured itself, or a signal handler
        return _nowhere()
    with _shared_lock:
        if _shared is None:
            _making.now = True
            try:
                _shared = Profiler()
            finally:
                _making.now = False
        return _shared


@functools.cache
def _nowhere() -> Profiler:
    """Takes what is recorded while the process's own profiler is being made."""
    return Profiler(sink="null", writer="sync")


def _after_fork() -> None:
    global _shared_lock  # noqa: PLW0603 - another thread of the parent may have been making a profiler
    _shared_lock = threading.RLock()
    _making.__dict__.clear()


os.register_at_fork(after_in_child=_after_fork)


@twin.hasten_class
class _SharedMeasure(Measure):
    """A span of whichever profiler is the process's own when it starts: `configure` may come after the import."""

    __slots__ = ()

    def __enter__(self) -> Span:
        self._recorder = get_profiler()
        return super().__enter__()

    def _where(self) -> Callable[[], Profiler]:
        return get_profiler  # what is decorated may be imported before there is a profiler


class _NotYet:
    """Holds the place of the profiler in a `_SharedMeasure` that has not started."""

    run_id = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(get_profiler(), name)


def measure(name: SpanName, tags: Tags | None = None) -> Measure:
    """`Profiler.measure` of the process's own profiler: as a decorator, of whichever it is at each call."""
    return _SharedMeasure(_not_yet, name, tags)


def in_context[**P, R](func: Callable[P, R]) -> Callable[P, R]:
    """`Profiler.in_context` of the process's own profiler."""
    return get_profiler().in_context(func)


_not_yet = _NotYet()
