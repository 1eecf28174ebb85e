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

from ferret import ambient, forkgate  # noqa: F401 - what they do after a fork must come before what is done here

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

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
    for profiler in list(_open):
        try:
            profiler.close()
        except BaseException as error:  # noqa: BLE001 - somebody impatient, at Ctrl-C; the others are closed all the same
            raised.append(error)
    _close_abandoned()
    if raised:
        raise raised[0]


_masks: dict[int, set[int]] = {}
"""The signal mask of each thread that is forking, as it was."""


def _before_fork() -> None:
    """Let a SIGTERM wait until the fork is done.

    CPython forgets one that reaches a child before `PyOS_AfterFork_Child` (it calls `_clear_pending_signals`), and who
    terminated a child that had only just been started would wait for it for ever.
    """
    if _closes_ferret(signal.getsignal(signal.SIGTERM)):
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _after_fork() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    global _main_thread  # noqa: PLW0603 - whoever forks becomes the child's main thread
    _main_thread = threading.get_ident()
    uninterrupted.__init__()  # type: ignore[misc]
    _abandoned.clear()  # they are the parent's
    for profiler in list(_open):
        profiler._after_fork()
    _after_fork()
    _masks.clear()


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
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


class _Uninterrupted:
    """Marks code of the main thread that a SIGTERM must not interrupt, because closing would wait for its locks.

    A signal that comes meanwhile is answered when the main thread leaves, or, if it does not, by a timer.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._answer: Callable[[], None] | None = None

    @property
    def asked_to_end(self) -> bool:
        """Whether a signal waits for its answer: nothing that can take long should begin, or go on."""
        return self._answer is not None

    def __enter__(self) -> None:
        if threading.get_ident() == _main_thread:
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        if threading.get_ident() == _main_thread:
            self._depth -= 1
            if not self._depth and self._answer is not None:
                answer, self._answer = self._answer, None
                answer()

    def then(self, answer: Callable[[], None]) -> None:
        """Give the answer now, or when the main thread comes out. Called by a signal handler, in the main thread."""
        if not self._depth:
            answer()
            return
        self._answer = answer
        timer = threading.Timer(_patience, self._last_word)
        timer.daemon = True
        timer.start()

    def _last_word(self) -> None:
        if self._answer is not None:  # a sink hangs in the main thread; nothing but the end can be had
            signal.pthread_kill(_main_thread, signal.SIGKILL)


_patience = 0.0
"""How long a SIGTERM waits for a sink that hangs in the main thread, before it becomes a SIGKILL: the longest
`close_timeout` that was asked for."""

_main_thread = threading.main_thread().ident or 0
uninterrupted = _Uninterrupted()


def handle_sigterm(patience: float) -> None:
    """Close every profiler at SIGTERM, and then do what would have been done.

    Args:
        patience: seconds after which the process is killed if the main thread hangs in a sink.

    Raises:
        ValueError: called outside the main thread, where Python sets no signal handlers.
    """
    global _patience  # noqa: PLW0603 - one signal for the process, however many profilers
    _patience = max(_patience, patience)
    before = signal.getsignal(signal.SIGTERM)
    if _closes_ferret(before):
        return

    def close_then(signum: int, frame: FrameType | None) -> None:
        uninterrupted.then(lambda: _close_and_go_on(before, signum, frame))

    close_then.ferret_instead_of = before  # type: ignore[attr-defined]
    signal.signal(signal.SIGTERM, close_then)


def leave_sigterm() -> None:
    """Take back `handle_sigterm`, where nobody has put another handler over it. Main thread only."""
    handler = signal.getsignal(signal.SIGTERM)
    if _closes_ferret(handler):
        signal.signal(signal.SIGTERM, handler.ferret_instead_of)  # type: ignore[union-attr]


def _closes_ferret(handler: object) -> bool:
    return hasattr(handler, "ferret_instead_of")


def _close_and_go_on(before: Any, signum: int, frame: FrameType | None) -> None:
    _close_elsewhere()
    if callable(before):
        before(signum, frame)
    elif before == signal.SIG_DFL:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


def _close_elsewhere() -> None:
    """Close in another thread: this one may have been interrupted inside a sink of the program's own."""
    closer = threading.Thread(target=close_all, name="ferret-closer")
    try:
        closer.start()
    except RuntimeError:  # the interpreter is shutting down, and atexit is at it
        close_all()
    else:
        closer.join()
