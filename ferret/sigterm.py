"""SIGTERM: close everything, then do what would have been done; and see to it that the signal is noticed at all."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ferret import forkgate

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class uninterrupted:  # noqa: N801 - reads as a statement: `with uninterrupted():`
    """Marks code of the main thread that a SIGTERM must not interrupt, because closing would wait for its locks.

    A signal that comes meanwhile is answered when the main thread leaves, or, if it does not, by a timer.

    Marks are held weakly: a block that was left is none any more, even if an exception of some signal handler's came before
    `__exit__` had begun.
    """

    __slots__ = ("__weakref__", "_mark")

    def __enter__(self) -> None:
        self._mark: weakref.ref[uninterrupted] | None = None
        if threading.get_ident() == _main_thread:
            self._mark = weakref.ref(self, _answer_for)
            _marks.append(self._mark)

    def __exit__(self, *_: object) -> None:
        if self.leave() and _answer is not None and not _is_uninterrupted():
            _give_answer()

    def leave(self) -> bool:
        """Take the mark away, and give no answer yet; whether there was one."""
        if self._mark is None:
            return False
        _marks[:] = [mark for mark in _marks if mark is not self._mark and mark() is not None]
        self._mark = None  # or its callback would be called
        return True


_marks: list[weakref.ref[uninterrupted]] = []
_answer: Callable[[], None] | None = None


def asked_to_end() -> bool:
    """Whether a signal waits for its answer: nothing that can take long should begin, or go on."""
    return _answer is not None


def _is_uninterrupted() -> bool:
    return any(mark() is not None for mark in _marks)


def _answer_for(_: object) -> None:
    """A block was left by an exception, before it could say so."""
    if _answer is not None and not _is_uninterrupted():
        _take_answer()
        signal.raise_signal(signal.SIGTERM)  # whose handler may raise, which it could not here


def _take_answer() -> Callable[[], None] | None:
    global _answer
    taken, _answer = _answer, None
    return taken


def _give_answer() -> None:
    answer = _take_answer()
    if answer is not None:
        answer()


def _then(answer: Callable[[], None]) -> None:
    """Give the answer now, or when the main thread comes out. Called by a signal handler, in the main thread."""
    global _answer  # noqa: PLW0603 - the process's only one
    if not _is_uninterrupted():
        answer()
        return
    _answer = answer
    timer = threading.Timer(_patience, _last_word)
    timer.daemon = True
    with suppress(RuntimeError):  # no thread starts any more: the interpreter ends, and so will the program
        timer.start()


def _last_word() -> None:
    if _answer is not None:  # a sink hangs in the main thread; nothing but the end can be had
        signal.pthread_kill(_main_thread, signal.SIGKILL)


_patience = 0.0
"""How long a SIGTERM waits for a sink that hangs in the main thread, before it becomes a SIGKILL: the longest
`close_timeout` that was asked for."""

_main_thread = threading.main_thread().ident or 0


def handle(close: Callable[[], None], patience: float) -> None:
    """At SIGTERM, close, and then do what would have been done.

    Args:
        close: called in a thread of its own.
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
        global _answered_at  # noqa: PLW0603 - see there
        _answered_at = time.monotonic()
        _then(lambda: _close_and_go_on(close, before, signum, frame))

    close_then.ferret_instead_of = before  # type: ignore[attr-defined]
    signal.signal(signal.SIGTERM, close_then)


def leave() -> None:
    """Take back `handle`, where nobody has put another handler over it. Main thread only."""
    handler = signal.getsignal(signal.SIGTERM)
    if _closes_ferret(handler):
        signal.signal(signal.SIGTERM, handler.ferret_instead_of)  # type: ignore[union-attr]


def _closes_ferret(handler: object) -> bool:
    return hasattr(handler, "ferret_instead_of")


def _close_and_go_on(close: Callable[[], None], before: Any, signum: int, frame: FrameType | None) -> None:
    _close_elsewhere(close)
    if callable(before):
        before(signum, frame)
    elif before == signal.SIG_DFL:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


def _close_elsewhere(close: Callable[[], None]) -> None:
    """Close in another thread: this one may have been interrupted inside a sink of the program's own."""
    closer = threading.Thread(target=close, name="ferret-closer")
    try:
        closer.start()
    except RuntimeError:  # the interpreter is shutting down, and atexit is at it
        close()
    else:
        closer.join()


# -- across a fork ---------------------------------------------------------------------------------

_forking: dict[int, tuple[uninterrupted, set[int] | None]] = {}
"""What each thread that is forking has done against signals: its mark, and its signal mask as it was."""

_left: Any = None
"""The handler that a forked child took off, until it has something to store."""


def withhold() -> None:
    """Let a SIGTERM wait until the fork is done.

    CPython forgets one that reaches a child before `PyOS_AfterFork_Child` (it calls `_clear_pending_signals`), and who
    terminated a child that had only just been started would wait for it for ever. In the parent, the fork holds the locks
    that closing would wait for; the kernel may give the signal to another thread, but its handler runs here.
    """
    block, mask = uninterrupted(), None
    block.__enter__()
    if _closes_ferret(signal.getsignal(signal.SIGTERM)):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    _forking[threading.get_ident()] = block, mask


def deliver() -> None:
    """The fork is done, in parent or child."""
    block, mask = _forking.pop(threading.get_ident(), (None, None))
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if block is None:
        return
    block.leave()
    if _answer is not None and not _is_uninterrupted():
        _take_answer()
        forkgate.send_once_out(signal.SIGTERM, sys._getframe(1))


def renew() -> None:
    """In a child, the thread that forked is the main thread, and was interrupted by nobody.

    It has nothing to store yet, and ends as it would have without ferret. Or else a child that waits for its work, such
    as one of a pool, could miss the signal for ever, as `insist` says.
    """
    global _main_thread, _left  # noqa: PLW0603 - there is one
    _main_thread = threading.get_ident()
    _take_answer()
    _marks.clear()
    for other in _forking.keys() - {_main_thread}:
        del _forking[other]
    handler = signal.getsignal(signal.SIGTERM)
    leave()
    if _closes_ferret(handler):
        _left = handler


def come_back() -> None:
    """In a forked child that has something to store: handle SIGTERM, if its parent did."""
    global _left
    if _left is None or threading.get_ident() != _main_thread:
        return
    handler, _left = _left, None
    if signal.getsignal(signal.SIGTERM) == handler.ferret_instead_of:
        signal.signal(signal.SIGTERM, handler)


# -- in children that are ended by SIGTERM as a rule -------------------------------------------------

_answered_at = 0.0
"""When the handler was last called, by `time.monotonic`."""

_wakeup_fd = -1
"""What Python's own C handler writes the number of each signal to."""

_PAUSE_S = 0.1


def insist() -> None:
    """See to it that the main thread notices a SIGTERM, also where CPython would let it wait.

    Python runs handlers between two instructions of the main thread. While that thread hands over the GIL, on its way into
    a call that blocks, a signal is only noted, and nobody looks before the call returns. `Pool.terminate()` often sends it
    just then. So a thread reads the notes, and sends the signal once more, to the main thread, where it interrupts the call.

    Only for the main thread of a child of `multiprocessing`: elsewhere the wake-up descriptor is the program's to use.
    """
    global _wakeup_fd  # noqa: PLW0603 - Python has one
    if threading.get_ident() != _main_thread or not _closes_ferret(signal.getsignal(signal.SIGTERM)):
        return
    notes, wakeup_fd = os.pipe()
    os.set_blocking(wakeup_fd, False)
    taken = signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
    try:
        if taken not in {-1, _wakeup_fd}:
            raise RuntimeError("an event loop has it")
        threading.Thread(target=_send_again, args=[notes], name="ferret-sigterm", daemon=True).start()
    except RuntimeError:  # or the interpreter is shutting down
        signal.set_wakeup_fd(taken)
        os.close(notes)
        os.close(wakeup_fd)
    else:
        _wakeup_fd = wakeup_fd


def _send_again(notes: int) -> None:
    while signals := os.read(notes, 512):
        noted_at = time.monotonic()
        if signal.SIGTERM in signals:
            time.sleep(_PAUSE_S)
            while _answered_at < noted_at - 1.0:  # the handler may have been faster than this thread
                signal.pthread_kill(_main_thread, signal.SIGTERM)
                time.sleep(_PAUSE_S)
