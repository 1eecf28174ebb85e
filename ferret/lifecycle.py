"""What happens to open profilers when the process forks, ends, or is told to end.

Profilers are held weakly: one that nobody holds closes itself, and needs nothing from here.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import TYPE_CHECKING, Protocol

from ferret import ambient, forkgate, sigterm  # noqa: F401 - what `ambient` does after a fork comes before what is done here

if TYPE_CHECKING:
    from ferret.models import DeliveryReport


class Closes(Protocol):
    """What lifecycle needs of a profiler."""

    def close(self) -> DeliveryReport:
        """Store everything."""


class Restarts(Closes, Protocol):
    """What it needs of an open one."""

    def _after_fork(self) -> None: ...


_open: weakref.WeakSet[Restarts] = weakref.WeakSet()


_abandoned: list[Closes] = []
"""Writers whose profilers were collected before they were closed."""


def watch(profiler: Restarts) -> None:
    """Close the profiler at the end of the process, and restart it in forked children."""
    _open.add(profiler)
    _close_abandoned()


def close_later(writer: Closes) -> None:
    """Close the writer of a profiler that is gone, at the next good moment. Never waits."""
    _abandoned.append(writer)


def _close_abandoned() -> None:
    while _abandoned:
        _abandoned.pop().close()


def forget(profiler: Restarts) -> None:
    """Stop watching."""
    _open.discard(profiler)


def close_all() -> None:
    """Close every open profiler, as happens at the end of the process."""
    raised: list[BaseException] = []
    for profiler in forkgate.all_of(_open):
        try:
            profiler.close()
        except BaseException as error:  # noqa: BLE001 - somebody impatient, at Ctrl-C; the others are closed all the same
            raised.append(error)
    _close_abandoned()
    if raised:
        raise raised[0]


def handle_sigterm(patience: float) -> None:
    """Close every profiler at SIGTERM, and then do what would have been done.

    Args:
        patience: seconds after which the process is killed if the main thread hangs in a sink.

    Raises:
        ValueError: called outside the main thread, where Python sets no signal handlers.
    """
    sigterm.handle(close_all, patience)


def _after_fork_in_child() -> None:
    sigterm.renew()
    _abandoned.clear()  # they are the parent's
    raised: list[BaseException] = []
    for profiler in forkgate.all_of(_open):
        try:
            profiler._after_fork()
        except BaseException as error:  # noqa: BLE001 - a plugin's writer; the others are to begin anew all the same
            raised.append(error)
    sigterm.deliver()
    if raised:
        raise raised[0]


def arm_child_exit() -> None:
    """A forked child has its first span: from now on it handles SIGTERM, if its parent did.

    In a child of `multiprocessing`, which ends without `atexit`: close at its own kind of end.

    Finalizers that the parent armed are wiped in the child, so that this must be asked for there
    (CPython: `multiprocessing.process.BaseProcess._bootstrap`).
    """
    sigterm.come_back()
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None:
        return
    from multiprocessing import util  # noqa: PLC0415 - only in its children, where it is loaded already

    util.Finalize(None, close_all, exitpriority=100)
    sigterm.insist()


atexit.register(close_all)
os.register_at_fork(before=sigterm.withhold, after_in_parent=sigterm.deliver, after_in_child=_after_fork_in_child)
