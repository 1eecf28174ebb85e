"""The calls that a program is in, thread by thread: what a function recorder knows at any moment."""

from __future__ import annotations

import threading
import weakref
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from ferret.ambient import register_thread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType

type Call = list[Any]
"""A call that has begun: span id, start ns, ns spent in recorded calls of its own, code, name, and more: None for a plain
call, `Suspendable` or `Adopted`. One without a name is not recorded. A list, as making one takes a third of the time of an
object with slots."""

NAME = 4
MORE = 5


class Stack(list[Call]):
    """The recorded calls that a thread is in, above one that stands for whoever started the thread.

    Attributes:
        thread: the thread's index in `ferret.ambient.threads`.
    """

    __slots__ = ("__weakref__", "thread")

    def __init__(self, thread: int, parent_id: int = 0) -> None:
        super().__init__([[parent_id, 0, 0, None, None, None]])
        self.thread = thread


class Suspendable:
    """What a generator or coroutine needs beyond its call, which leaves the stack and comes back. Times in ns.

    Attributes:
        through: those that wait for this one, while it runs with an error that was thrown into the outermost of them. The
            interpreter resumes them later, but they are not suspended.
    """

    __slots__ = ("key", "parent_id", "resumed", "stopped", "suspended", "thread", "through")

    def __init__(self, key: int, parent_id: int, thread: int) -> None:
        self.key = key
        self.parent_id = parent_id
        self.thread = thread
        self.suspended = 0
        self.through: Sequence[Call] = ()
        self.resumed = self.stopped = perf_counter_ns()


class Adopted:
    """A call whose parent is not what is below it on the stack, but whoever handed the work over."""

    __slots__ = ("parent_id",)

    def __init__(self, parent_id: int) -> None:
        self.parent_id = parent_id


class Calls:
    """All that is known of the program's calls.

    Attributes:
        local: `local.stack` is the calling thread's `Stack`, or None where its calls are not recorded.
        suspendable: the generators and coroutines that have begun, by the id of their frame. The frame itself is not held:
            it would keep the program's objects alive. One that is dropped without a word leaves its entry behind, until
            the id comes again or the recording ends.
        left_out: the threads, by ident, whose calls are not recorded.
    """

    def __init__(self) -> None:
        self.local = threading.local()
        self.suspendable: dict[int, Call] = {}
        self.left_out: set[int] = set()
        self._stacks: dict[
            int, weakref.ref[Stack]
        ] = {}  # no WeakValueDictionary: its callback would be Python code that runs

    def stack(self) -> Stack | None:
        """That of the calling thread; None if its calls are not recorded."""
        try:
            stack: Stack | None = self.local.stack
        except AttributeError:
            stack = self.enter_thread()
        return stack

    def enter_thread(self, *, name: str | None = None, parent_id: int = 0, recorded: bool = True) -> Stack | None:
        """Begin with the calling thread, or begin with it anew."""
        ident = threading.get_ident()
        if not recorded or ident in self.left_out:
            self.local.stack = None
            return None
        if name is None:  # `current_thread()` would give a thread that is not Python's an object that it did not have
            known = threading._active.get(ident)  # type: ignore[attr-defined]
            name = f"Thread-{ident}" if known is None else known.name
        stack = Stack(register_thread(name), parent_id)
        self.local.stack = stack
        self._stacks[ident] = weakref.ref(stack)
        return stack

    def disown(self) -> None:
        """In a forked child: what is going on now belongs to the parent. It is not recorded here, but may have children."""
        stack = self.stack()
        self._stacks.clear()
        if stack is not None:
            self._stacks[threading.get_ident()] = weakref.ref(stack)
            for call in stack[1:]:
                call[NAME] = None
                call[MORE] = call[MORE] or Adopted(call[0])
        for call in self.suspendable.values():
            call[NAME] = None

    def stacks(self) -> list[Stack]:
        """Those of all threads that are alive."""
        return [stack for reference in list(self._stacks.values()) if (stack := reference()) is not None]

    def leave_out_other_threads(self) -> None:
        """Do not record what already runs, but for the calling thread."""
        self.left_out = set(threading._active) - {threading.get_ident()}  # type: ignore[attr-defined]


def code_of(function: object) -> CodeType:
    """The code of a Python function."""
    code: CodeType = function.__code__  # type: ignore[attr-defined]
    return code
