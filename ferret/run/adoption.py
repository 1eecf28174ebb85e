"""Who a call belongs to when it runs elsewhere: the thread that was started, the task, the work handed to a pool.

A handful of functions of the standard library hand work over. Their calls are noticed like any others, nothing is patched:
at their beginning, the object that stands for the work is noted beside the call that handed it over.
"""

from __future__ import annotations

import threading
from asyncio.base_events import BaseEventLoop
from concurrent.futures.thread import _WorkItem
from typing import TYPE_CHECKING

from ferret.run.calls import Adopted, Call, Calls, Stack, code_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    type Hook = Callable[[FrameType, Stack], Adopted | None]

THREAD_BEGINS = code_of(threading.Thread._bootstrap)  # type: ignore[attr-defined]


class Adoption:
    """Remembers what was handed over, from the call that did it to the one that takes it up.

    Objects are known by their id, and held no longer than by the program. One that is never taken up leaves an entry of
    two numbers.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._threads: dict[int, int] = {}
        self._work: dict[int, int] = {}
        self._coroutines: dict[int, int] = {}
        self.hooks: dict[CodeType, Hook] = {
            code_of(threading.Thread.start): self._thread_starts,
            THREAD_BEGINS: _nothing,
            code_of(BaseEventLoop.create_task): self._task_is_made,
            code_of(_WorkItem.__init__): self._work_is_made,
            code_of(_WorkItem.run): self._work_runs,
        }

    def enter_thread(self, frame: FrameType) -> Stack | None:
        """A thread begins. One that was started unseen, as by ferret itself, is left out."""
        thread = frame.f_locals["self"]
        parent_id = self._threads.pop(id(thread), None)
        if parent_id is None:
            return self._calls.enter_thread(recorded=False)
        return self._calls.enter_thread(name=thread.name, parent_id=parent_id)

    def parent_of(self, key: int, stack: Stack) -> int:
        """The parent of a coroutine or generator that begins, by the id of its frame."""
        if self._coroutines:
            adopted = self._coroutines.pop(key, None)
            if adopted is not None:
                return adopted
        parent_id: int = stack[-1][0]
        return parent_id

    def _thread_starts(self, frame: FrameType, stack: Stack) -> None:
        self._threads[id(frame.f_locals["self"])] = stack[-1][0]

    def _task_is_made(self, frame: FrameType, stack: Stack) -> None:
        coroutine = frame.f_locals.get("coro")
        inner = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if inner is not None:
            self._coroutines[id(inner)] = stack[-1][0]

    def _work_is_made(self, frame: FrameType, stack: Stack) -> None:
        self._work[id(frame.f_locals["self"])] = stack[-1][0]

    def _work_runs(self, frame: FrameType, stack: Stack) -> Adopted:
        return Adopted(self._work.pop(id(frame.f_locals["self"]), stack[-1][0]))


def _nothing(_frame: FrameType, _stack: Stack) -> None: ...


__all__ = ["THREAD_BEGINS", "Adoption", "Call"]
