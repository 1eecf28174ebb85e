"""No fork in the middle of a sink's work.

A fork copies every lock of the process as it is, also those of C libraries: a child that is born while a thread is inside
SQLite can find SQLite's own mutexes locked for ever, and hang in its first `open`. So a fork waits for sinks that are at
work, as Python's `logging` lets it wait for its handlers; but no longer than `PATIENCE_S`, since a sink may hang.
"""

from __future__ import annotations

import os
import threading
import time
import weakref

PATIENCE_S = 2.0

_gates: weakref.WeakSet[ForkGate] = weakref.WeakSet()
_forking = threading.RLock()
_held: list[ForkGate] = []


class ForkGate:
    """`with gate:` around work that a fork must not interrupt. May be entered again by the thread that is inside."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _gates.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def hold(self, seconds: float) -> bool:
        """Keep others out; False if somebody is still inside after so many seconds."""
        return self._lock.acquire(timeout=seconds)

    def release(self) -> None:
        """Let others in again."""
        self._lock.release()

    def renew(self) -> None:
        """Forget, in a child, who was inside in the parent."""
        self._lock = threading.RLock()


def _before() -> None:
    _forking.acquire()
    deadline = time.monotonic() + PATIENCE_S
    _held.extend(gate for gate in list(_gates) if gate.hold(max(0.0, deadline - time.monotonic())))


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()
    _forking.release()


def _after_in_child() -> None:
    global _forking  # noqa: PLW0603 - another thread of the parent may have waited for it
    _forking = threading.RLock()
    _held.clear()
    for gate in list(_gates):
        gate.renew()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
