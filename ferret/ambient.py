"""What a span finds around itself: the process with its clock and its ids, the thread, and the asyncio task.

All of it is on the caller's time, and may be asked from a signal handler: nothing here takes a lock.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import threading
import time
import weakref
from time import perf_counter_ns
from typing import TYPE_CHECKING, NamedTuple

from ferret import twin
from ferret.tags import plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ID_BITS = 59
"""Ids stay below 2**60, where a Python int is 32 bytes rather than 48; 16 hex digits hold them all the same.
Two processes of ten million spans each meet with a probability of about 3e-11."""


class ThreadInfo(NamedTuple):
    """A thread that recorded, as it was named at its first span."""

    thread_id: int
    thread_name: str


class Clock(NamedTuple):
    """The wall time at which `time.perf_counter_ns` read zero, taken once: the wall clock may be stepped."""

    anchor_ns: int

    @classmethod
    def now(cls) -> Clock:
        """Take the anchor."""
        return cls(time.time_ns() - perf_counter_ns())


threads: dict[int, ThreadInfo] = {}
"""Every thread that ever recorded in this process; a record names its thread by index. Only ever added to."""

type Source = tuple[str, int]
"""A file, and the line in it at which a function begins."""

sources: dict[str, Source] = {}
"""Where the function is that a span's name stands for, for names that a function recorder gave. Only ever added to."""

clock = Clock.now()

local = threading.local()
"""`local.index` is the calling thread's index in `threads`, once it has one."""

_next_thread = itertools.count().__next__


class _SpanIds:
    """This process's span ids: a counter over a random base, so that no span pays for a UUID.

    `next_id` is atomic under the GIL and may be called from a signal handler. A forked child takes a new base.
    """

    __slots__ = ("base", "next_id")

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Start again from a new random base."""
        self.base = (1 << (_ID_BITS - 1)) | random.SystemRandom().getrandbits(_ID_BITS - 1)
        self.next_id = itertools.count(self.base).__next__

    def owns(self, span_id: int) -> bool:
        """Whether this process gave the id (up to 2**40 ids after its base)."""
        return self.base <= span_id < self.base + (1 << 40)


ids = _SpanIds()


def register_thread(name: str | None = None) -> int:
    """Give the calling thread its index in `threads`; once per thread, and again after a fork.

    Without a lock: a signal handler may record while the code that it interrupted is in here.
    """
    index = _next_thread()
    threads[index] = ThreadInfo(threading.get_ident(), plain_text(name or threading.current_thread().name))
    local.own_index = index
    if not _marks():  # or else it is hidden, as long as the thread delivers
        local.index = index
        twin.forget_threads()
    return index


def thread_index(suppressed: Callable[[], bool]) -> int | None:
    """The slow path of `local.index`: the thread is new, or it delivers for a sink.

    Args:
        suppressed: says whether it delivers for the profiler that asks; then there is no index.
    """
    if suppressed():
        return None
    index: int | None = getattr(local, "own_index", None)
    if index is None:
        return register_thread()
    if not _marks():  # an interruption kept the last delivery from showing it again
        local.index = index
    return index


class delivering:  # noqa: N801 - reads as a statement: `with delivering(writer):`
    """Mark this thread as being inside a writer's sink, whose own spans must not feed back into its queue.

    The mark costs a recording thread nothing: it hides the index that every span looks up, so that only a thread
    that is delivering takes the slow path, where it is found out.

    A thread holds its marks weakly: one whose block was left is gone, even if a Ctrl-C came before `__exit__` had begun.
    """

    __slots__ = ("__weakref__", "_outer", "owner")

    def __init__(self, owner: object) -> None:
        self.owner = owner

    def __enter__(self) -> None:
        self._outer = _marks()
        index: int | None = getattr(local, "index", None)
        if index is not None:
            local.own_index = index
        local.marks = (*self._outer, weakref.ref(self))  # first, or a signal handler's span would show the index again
        local.__dict__.pop("index", None)
        twin.forget_threads()

    def __exit__(self, *_: object) -> None:
        local.marks = self._outer
        index = getattr(local, "own_index", None)
        if index is not None and not self._outer:
            local.index = index


def _marks() -> tuple[weakref.ref[delivering], ...]:
    """The blocks of `delivering` that the calling thread is in."""
    return tuple(mark for mark in getattr(local, "marks", ()) if mark() is not None)


def is_delivering(owner: object) -> bool:
    """Whether the calling thread is inside `with delivering(owner)`."""
    return any((one := mark()) is not None and one.owner is owner for mark in getattr(local, "marks", ()))


def _reset_after_fork() -> None:
    ids.renew()
    local.__dict__.clear()
    twin.forget_threads()


os.register_at_fork(after_in_child=_reset_after_fork)

running_loop = asyncio._get_running_loop
"""The thread's event loop, or None. (The documented `get_running_loop` raises where there is none: ten times slower.)"""


def task_name(loop: asyncio.AbstractEventLoop) -> str | None:
    """The current task's name; None in a callback, outside all tasks."""
    task = asyncio.current_task(loop)
    if task is None:
        return None
    try:
        name = task.get_name()
    except AttributeError:  # a task factory may make other things
        return None
    return name if type(name) is str else plain_text(name)


def format_id(span_id: int) -> str:
    """The id as 16 hex digits, a legal W3C and OTLP span id."""
    return f"{span_id:016x}"


def parse_ids(span_ids: Iterable[str]) -> list[int]:
    """The ids behind 16 hex digits each."""
    return [int(span_id, 16) for span_id in span_ids]
