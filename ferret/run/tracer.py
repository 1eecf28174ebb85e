"""Records the calls of Python functions as spans, by `sys.monitoring` (PEP 669), without touching the functions."""

from __future__ import annotations

import gc
import inspect
import sys
import threading
import weakref
from time import perf_counter_ns
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from ferret.ambient import ids, sources
from ferret.errors import FerretError
from ferret.run.adoption import THREAD_BEGINS, Adoption
from ferret.run.callbacks import make_callbacks
from ferret.run.calls import Calls, Suspendable
from ferret.run.selection import span_name
from ferret.tags import plain_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from ferret.run.callbacks import Callbacks
    from ferret.run.selection import Selection
    from ferret.span import Recorder

_monitoring = sys.monitoring
_events = _monitoring.events
_DISABLE = _monitoring.DISABLE

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_EVERYWHERE = _events.PY_START | _events.PY_UNWIND | _events.PY_THROW
"""What is asked for in all code: unwinding and throwing cannot be had for single functions (Python 3.12 and 3.13)."""
_IN_FUNCTIONS = _events.PY_RETURN
_IN_GENERATORS = _events.PY_RETURN | _events.PY_YIELD | _events.PY_RESUME

_FRAME_OF = {
    GeneratorType: ("gi_code", "gi_frame"),
    CoroutineType: ("cr_code", "cr_frame"),
    AsyncGeneratorType: ("ag_code", "ag_frame"),
}

_PATIENCE_S = 5.0
"""For a profiler that another thread is making."""
_TOOLS = (4, 3)
"""Tool ids that have no name: a debugger, coverage and cProfile, which take theirs by name, work in the program as ever."""


class FunctionTracer:
    """Records each call of the selected functions, in the calling thread and all threads that begin later.

    `start` and `stop` may be called from any thread, once. In a forked child it goes on, unless it is stopped there.

    Args:
        recorder: a profiler, or a function that makes one when a selected function is called for the first time, or None
            if nothing can be recorded.
        selection: which functions.
        min_duration_ns: leave out calls that took less.

    Raises:
        FerretError: from `start`: other tools use every place that `sys.monitoring` has for one like this.
    """

    def __init__(
        self, recorder: Recorder | Callable[[], Recorder | None], selection: Selection, *, min_duration_ns: int = 0
    ) -> None:
        self._recorder = recorder
        self._selection = selection
        self._least_ns = min_duration_ns
        self._calls = Calls()
        self._adoption = Adoption(self._calls)
        self._hooks = {id(code): hook for code, hook in self._adoption.hooks.items()}
        self._plain: dict[int, str | None] = {}
        self._careful: dict[int, tuple[str | None, bool]] = {}
        self._codes: dict[int, weakref.ref[CodeType]] = {}
        self._callbacks: Callbacks | None = None
        self._making = threading.Lock()
        self._tool: int | None = None

    def start(self) -> None:
        """Begin to record."""
        self._tool = _take_tool()
        self._calls.leave_out_other_threads()
        self._calls.enter_thread()
        if callable(self._recorder):
            self._listen({_events.PY_START: self._wait_for_first}, _events.PY_START)
        else:
            self._record()

    def stop(self) -> None:
        """End the recording. Calls that go on become spans that end now, with status `"unfinished"`."""
        tool, self._tool = self._tool, None
        if tool is None:
            return
        _monitoring.set_events(tool, 0)
        for code in [reference() for reference in list(self._codes.values())]:
            if code is not None:
                _monitoring.set_local_events(tool, code, 0)
        for event in (1 << bit for bit in range(_EVERYWHERE.bit_length())):
            if event & (_EVERYWHERE | _IN_GENERATORS):
                _monitoring.register_callback(tool, event, None)
        _monitoring.free_tool_id(tool)
        if self._callbacks is not None:
            self._end_what_goes_on(self._callbacks)

    def leave(self) -> None:
        """Record nothing more, in a forked child: what goes on belongs to the parent."""
        if self._tool is not None:
            _monitoring.set_events(self._tool, 0)
            self._tool = None

    def after_fork(self) -> None:
        """Go on in a forked child: its spans take ids of its own."""
        if self._tool is not None and not callable(self._recorder):
            self._calls.disown()
            self._record()

    def _record(self) -> None:
        assert not callable(self._recorder)
        self._callbacks = make_callbacks(
            self._calls, self._recorder, self._plain, self._begin, self._calls.enter_thread, self._least_ns
        )
        self._listen(self._callbacks.by_event, _EVERYWHERE)

    def _listen(self, callbacks: dict[int, Callable[..., Any]], events: int) -> None:
        assert self._tool is not None
        for event, callback in callbacks.items():
            _monitoring.register_callback(self._tool, event, callback)
        _monitoring.set_events(self._tool, events)

    def _wait_for_first(self, code: CodeType, offset: int) -> object:
        """Before there is a profiler: only look out for a function that is to be recorded."""
        if id(code) in self._hooks:
            return None
        if not self._selection.wants(code, sys._getframe(1).f_globals):
            return _DISABLE
        # another thread may be making it, and wait for a module that this one is importing
        if self._making.acquire(timeout=_PATIENCE_S):
            try:
                if callable(self._recorder) and self._tool is not None:
                    recorder = self._recorder()
                    if recorder is None:
                        self.leave()
                        return None
                    self._recorder = recorder
                    self._record()
            finally:
                self._making.release()
        return None if self._callbacks is None else self._callbacks.by_event[_events.PY_START](code, offset)

    # -- on the program's time, but not for every call -----------------------------------------------

    def _begin(self, code: CodeType) -> object:
        """A call begins of a function that is new, hands work over, or can be suspended."""
        key = id(code)
        careful = self._careful.get(key)
        frame: Any = sys._getframe(2)
        while frame.f_code is not code:  # `_wait_for_first` is between
            frame = frame.f_back
        if careful is None:
            if not self._meet(code, frame):
                return _DISABLE
            careful = self._careful.get(key)
        stack = self._adoption.enter_thread(frame) if code is THREAD_BEGINS else self._calls.stack()
        if stack is None:
            return None
        if careful is None:
            stack.append([ids.next_id(), perf_counter_ns(), 0, code, self._plain[key], None])
            return None
        name, suspends = careful
        hook = self._hooks.get(key)
        more: Any = None if hook is None else hook(frame, stack)
        if suspends:
            self._forget_dropped(id(frame))
            more = Suspendable(id(frame), self._adoption.parent_of(id(frame), stack), stack.thread)
        if name is not None:
            start = more.resumed if suspends else perf_counter_ns()  # one moment: or the times of a track do not add up
            call = [ids.next_id(), start, 0, code, name, more]
            if suspends:
                self._calls.suspendable[more.key] = call
            stack.append(call)
        elif more is not None:  # not recorded, but what it calls belongs to whoever handed the work over
            stack.append([more.parent_id, perf_counter_ns(), 0, code, None, more])
        return None

    def _meet(self, code: CodeType, frame: FrameType) -> bool:
        """The first call of a function: whether it is of any interest."""
        wanted = self._selection.wants(code, frame.f_globals)
        key = id(code)
        hooked = key in self._hooks
        if not (wanted or hooked):
            return False
        assert self._tool is not None
        name = span_name(code, frame.f_globals) if wanted else None
        suspends = bool(code.co_flags & _GENERATOR)
        if name is not None:
            sources.setdefault(name, (plain_text(code.co_filename), code.co_firstlineno))
        self._codes[key] = weakref.ref(code, lambda _: self._forget(key))
        _monitoring.set_local_events(self._tool, code, _IN_GENERATORS if suspends else _IN_FUNCTIONS)
        if suspends or hooked:
            self._careful[key] = (name, suspends)
            self._plain[key] = None
        elif name is not None:
            self._plain[key] = name
        return True

    def _forget(self, key: int) -> None:
        """The code is gone, and its id may come again."""
        for table in (self._plain, self._careful, self._codes):
            table.pop(key, None)

    def _forget_dropped(self, key: int) -> None:
        """A generator that had this frame id was dropped without a word: its span ended when it last ran."""
        call = self._calls.suspendable.pop(key, None)
        if call is not None and self._callbacks is not None:
            self._callbacks.drop(call)

    def _end_what_goes_on(self, callbacks: Callbacks) -> None:
        for stack in self._calls.stacks():
            while len(stack) > 1:
                callbacks.cut(stack)
        if self._calls.suspendable:
            for key in self._suspended():
                call = self._calls.suspendable.pop(key, None)
                if call is not None:
                    callbacks.cut_suspended(call)
        for key in list(self._calls.suspendable):
            self._forget_dropped(key)
        callbacks.put_later()

    def _suspended(self) -> list[int]:
        """The keys of the generators and coroutines that are still there, and could go on."""
        found = []
        for thing in gc.get_objects():
            kind = type(thing)
            if kind in _FRAME_OF:
                code, frame = _FRAME_OF[kind]
                if id(getattr(thing, code)) in self._careful:
                    found.append(id(getattr(thing, frame)))
        return found


def _take_tool() -> int:
    for tool in _TOOLS:
        if _monitoring.get_tool(tool) is None:
            _monitoring.use_tool_id(tool, "ferret")
            return tool
    users = " and ".join(str(_monitoring.get_tool(tool)) for tool in _TOOLS)
    raise FerretError(f"functions cannot be recorded: {users} use the places of sys.monitoring that ferret needs")
