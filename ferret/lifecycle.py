"""What happens to open profilers when the process forks, ends, or is told to end.

Profilers are held weakly: one that nobody holds closes itself, and needs nothing from here.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from types import FrameType

    from ferret.models import DeliveryReport


class Closes(Protocol):
    """What lifecycle needs of a profiler."""

    def close(self) -> DeliveryReport:
        """Store everything."""

    def _after_fork(self) -> None: ...


_open: weakref.WeakSet[Closes] = weakref.WeakSet()


def watch(profiler: Closes) -> None:
    """Close the profiler at the end of the process, and restart it in forked children."""
    _open.add(profiler)


def forget(profiler: Closes) -> None:
    """Stop watching."""
    _open.discard(profiler)


def close_all() -> None:
    """Close every open profiler, as happens at the end of the process."""
    for profiler in list(_open):
        profiler.close()


def _after_fork_in_child() -> None:
    for profiler in list(_open):
        profiler._after_fork()


def arm_child_exit() -> None:
    """In a child of `multiprocessing`, which ends without `atexit`: close at its own kind of end.

    Finalizers that the parent armed are wiped in the child, so that this must be asked for there
    (CPython: `multiprocessing.process.BaseProcess._bootstrap`).
    """
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None:
        return
    from multiprocessing import util  # noqa: PLC0415 - only in its children, where it is loaded already

    util.Finalize(None, close_all, exitpriority=100)


atexit.register(close_all)
os.register_at_fork(after_in_child=_after_fork_in_child)


def handle_sigterm() -> None:
    """Close every profiler at SIGTERM, and then do what would have been done.

    Raises:
        ValueError: called outside the main thread, where Python sets no signal handlers.
    """
    before = signal.getsignal(signal.SIGTERM)
    if getattr(before, "closes_ferret", False):
        return

    def close_then(signum: int, frame: FrameType | None) -> Any:
        _close_elsewhere()
        if callable(before):
            return before(signum, frame)
        if before == signal.SIG_DFL:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        return None

    close_then.closes_ferret = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGTERM, close_then)


def _close_elsewhere() -> None:
    """Close in another thread: this one may have been interrupted inside the very code that closing waits for."""
    closer = threading.Thread(target=close_all, name="ferret-closer")
    try:
        closer.start()
    except RuntimeError:  # the interpreter is shutting down, and atexit is at it
        close_all()
    else:
        closer.join()
