"""SIGTERM: close everything, then do what would have been done; and see to it that the signal is noticed at all."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


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
        uninterrupted.then(lambda: _close_and_go_on(close, before, signum, frame))

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

_masks: dict[int, set[int]] = {}
"""The signal mask of each thread that is forking, as it was."""


def withhold() -> None:
    """Let a SIGTERM wait until the fork is done.

    CPython forgets one that reaches a child before `PyOS_AfterFork_Child` (it calls `_clear_pending_signals`), and who
    terminated a child that had only just been started would wait for it for ever.
    """
    if _closes_ferret(signal.getsignal(signal.SIGTERM)):
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def deliver() -> None:
    """The fork is done, in parent or child."""
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def renew() -> None:
    """In a child, the thread that forked is the main thread, and was interrupted by nobody."""
    global _main_thread  # noqa: PLW0603 - there is one
    _main_thread = threading.get_ident()
    uninterrupted.__init__()  # type: ignore[misc]
    for other in _masks.keys() - {_main_thread}:
        del _masks[other]


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
