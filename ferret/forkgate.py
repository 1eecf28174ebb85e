"""No fork in the middle of a sink's work.

A fork copies every lock of the process as it is, also those of C libraries: a child that is born while a thread is inside
SQLite can find SQLite's own mutexes locked for ever, and hang in its first `open`. So a fork waits for sinks that are at
work, as Python's `logging` lets it wait for its handlers; but no longer than `PATIENCE_S`, since a sink may hang.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
import weakref
from itertools import compress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

PATIENCE_S = 2.0

_gates: weakref.WeakSet[ForkGate] = weakref.WeakSet()
_forking = threading.RLock()
_held: dict[int, list[threading.RLock]] = {}
"""The locks that each thread which is forking has got."""
_interrupted = False
"""Whether a Ctrl-C came while a fork waited."""


class ForkGate:
    """`with gate:` around work that a fork must not interrupt. May be entered again by the thread that is inside."""

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        _gates.add(self)

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def renew(self) -> None:
        """Forget, in a child, who was inside in the parent."""
        self.lock = threading.RLock()


def _before() -> None:
    held = _held.setdefault(threading.get_ident(), [])
    _hold(_forking, held)
    deadline = time.monotonic() + PATIENCE_S
    for gate in all_of(_gates):
        _hold(gate.lock, held, deadline)


def _hold(lock: threading.RLock, held: list[threading.RLock], deadline: float | None = None) -> None:
    """Get the lock, and list it; or give it up when it is time. A Ctrl-C meanwhile is kept for later.

    CPython would only print that, and fork in the middle of a sink's work.
    """
    global _interrupted  # noqa: PLW0603 - told after the fork
    while True:
        seconds = -1 if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            # no line of Python is between the lock and the list: no interruption leaves a lock held and not listed
            held.extend(compress((lock,), map(lock.acquire, (True,), (seconds,))))
        except KeyboardInterrupt:
            _interrupted = True
        else:
            return


def _after_in_parent() -> None:
    global _interrupted
    interrupted, _interrupted = _interrupted, False
    for lock in reversed(_held.pop(threading.get_ident(), [])):  # the last lets the next thread fork
        lock.release()
    if interrupted:
        send_once_out(signal.SIGINT, sys._getframe(1))


def send_once_out(signum: int, forker: FrameType) -> None:
    """Have this thread get a signal that came while it forked, once it is out of `os.fork`.

    What its handler raises in a hook of the fork is only printed. So it comes from another thread, later.

    Args:
        signum: which.
        forker: the frame that called `os.fork`.
    """
    _thread.start_new_thread(_send, (signum, threading.get_ident(), forker, forker.f_lasti))


def _send(signum: int, thread: int, forker: FrameType, at: int) -> None:
    """A signal, and not `interrupt_main`, so that it also ends what waits by then."""
    deadline = time.monotonic() + PATIENCE_S
    while forker.f_lasti == at and time.monotonic() < deadline:
        time.sleep(0.001)
    # Whoever waits for the GIL gets it just when the other thread is about to block, and a signal in that very moment does
    # not wake it (CPython): so not now, but when it sleeps.
    time.sleep(0.02)
    signal.pthread_kill(thread, signum)


def all_of[T](weakly_held: weakref.WeakSet[T]) -> list[T]:
    """What is in the set, while other threads add to it."""
    while True:
        try:
            return list(weakly_held)
        except RuntimeError:  # "Set changed size during iteration"
            continue


def _after_in_child() -> None:
    global _forking, _interrupted  # noqa: PLW0603 - another thread of the parent may have waited for it
    _forking = threading.RLock()
    _interrupted = False
    _held.clear()
    for gate in all_of(_gates):
        gate.renew()


def _take_the_blow() -> None:
    """Be the first to run after the fork: what a signal's handler raises then is raised here, and ends no other hook."""


os.register_at_fork(after_in_parent=_take_the_blow, after_in_child=_take_the_blow)
os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
