"""What `sys.monitoring` calls: the function recorder's hot path, on the program's time at the beginning and end of each call.

Closures, plain and unrolled: a name that is a closure's own is found in 2 ns, an attribute in 10 to 20. Against methods with
attributes that took a recorded call from 1.4 to 1.0 µs (benchmarks/kinds/functions.py). CPython calls none of them while
another is running in the same thread, so that what they call themselves is not recorded.
"""

from __future__ import annotations

import dis
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from ferret.ambient import ids, running_loop, task_name
from ferret.run.calls import MORE, Suspendable
from ferret.run.selection import OWN_FOLDER
from ferret.tags import encode_outcome, plain_text, type_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, TracebackType

    from ferret.run.calls import Call, Calls, Stack
    from ferret.span import Record, Recorder

    type Callback = Callable[..., Any]
    type Begin = Callable[[CodeType], object]
    type NewThread = Callable[[], Stack | None]

_events = sys.monitoring.events

ENDS_WELL = (GeneratorExit, StopIteration, StopAsyncIteration)
"""How iterators end, and generators that are closed: no errors, as is `sys.exit()`."""

_UNFINISHED = encode_outcome(("unfinished", None, None))
_TOO_DEEP = encode_outcome(("error", "maximum recursion depth exceeded", "RecursionError"))
_NOT_BEGUN = (dis.opmap["RETURN_GENERATOR"], dis.opmap["POP_TOP"])
"""Where a generator stands that something is thrown into before it has begun (Python 3.12, and 3.13)."""
_ROOM = 80
"""Frames that a writer needs to start its worker."""


class Callbacks(NamedTuple):
    """The callbacks, and what the recorder itself needs of them."""

    by_event: dict[int, Callback]
    cut: Callable[[Stack], None]
    """End the innermost call of a thread now, as it goes on when the recording stops."""
    cut_suspended: Callable[[Call], None]
    """End the call of a generator or coroutine now, which could go on when the recording stops."""
    drop: Callable[[Call], None]
    """End the call of a generator or coroutine that was dropped, when it last ran."""
    put_later: Callable[[], None]
    """Record what could not be recorded at once, near the recursion limit."""


def leave_out_of(error: BaseException, trace: TracebackType) -> None:
    """Take ferret's frames out of a traceback: a signal's handler may raise while a callback is running.

    It calls no function of Python: near the recursion limit there is no room for one.
    """
    context = error.__context__
    while context is not None:
        at = context.__traceback__
        if at is None or not at.tb_frame.f_code.co_filename.startswith(OWN_FOLDER):
            break
        error.__context__ = context = context.__context__  # a callback was about to handle that by itself
    inner = trace.tb_next
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(OWN_FOLDER):
        inner = inner.tb_next
    trace.tb_next = inner


def make_callbacks(  # noqa: C901, PLR0915 - closures that share what they hold: the reason stands above
    calls: Calls,
    recorder: Recorder,
    plain: dict[int, str | None],
    begin: Begin,
    new_thread: NewThread,
    least_ns: int,
) -> Callbacks:
    """Make them, for this process: a forked child has ids of its own, and so needs its own.

    Args:
        calls: the state that they share.
        recorder: takes the spans.
        plain: the span names of the functions that need no more care, by the id of their code; None for others.
        begin: asked at the beginning of those, and of functions that are new; what it returns goes to `sys.monitoring`.
        new_thread: asked when a thread calls a recorded function for the first time.
        least_ns: calls that took less are not recorded.
    """
    local, suspendable = calls.local, calls.suspendable
    put, append, queue, gauge = recorder.put, recorder.append, recorder.queue, recorder.gauge
    next_id = ids.next_id
    frame_at = sys._getframe
    own_globals = globals()
    later: list[Record] = []  # spans that ended so near the recursion limit that nothing could be called for them

    def on_start(code: CodeType, _offset: int) -> object:
        try:
            name = plain[id(code)]
        except KeyError:
            name = None
        if name is None:  # not inside the except: an error of the recursion limit must have no context of ferret's
            return begin(code)
        try:
            stack = local.stack
        except AttributeError:
            stack = new_thread()
        if stack is not None:
            stack.append([next_id(), perf_counter_ns(), 0, code, name, None])
        return None

    def on_return(code: CodeType, _offset: int, _result: object) -> None:
        end = perf_counter_ns()
        try:
            stack = local.stack
            call = stack.pop()
        except AttributeError:  # nothing was recorded in this thread, or its calls are left out
            return
        span_id, start, nested, own_code, name, more = call
        if own_code is not code:  # a hook that is not recorded, or a call that began before the recording
            stack.append(call)
            return
        if more is not None:
            end_with_care(stack, call, end, None)
            return
        below = stack[-1]
        took = end - start
        below[2] += took
        if took >= least_ns:
            loop = running_loop()
            task = None if loop is None else task_name(loop)
            record = (span_id, below[0], name, start, end, stack.thread, task, None, None, 0, took - nested)
            try:
                recorder.draw()
            except StopIteration:
                try:
                    recorder.claim()
                except RecursionError:
                    later.append(record)
                    return
                if later:
                    put_later()
            append(record)
            if len(queue) >= gauge.alarm:
                rouse()

    def on_unwind(code: CodeType, _offset: int, error: BaseException) -> None:
        end = perf_counter_ns()
        trace = error.__traceback__
        if trace is not None and (inner := trace.tb_next) is not None and inner.tb_frame.f_globals is own_globals:
            leave_out_of(error, trace)
        stack = getattr(local, "stack", None)
        if not stack:
            return
        call = stack[-1]
        if call[3] is not code:
            return
        more = call[MORE]
        if more.__class__ is Suspendable and more.key != id(frame_at(1)):  # a generator that was closed before it began
            return
        stack.pop()
        before = stack[-1][2]
        try:
            outcome = None
            if not (isinstance(error, ENDS_WELL) or (isinstance(error, SystemExit) and not error.code)):
                outcome = encode_outcome(("error", plain_text(error), type_name(type(error))))
            end_with_care(stack, call, end, outcome)
        except RecursionError:  # there is no room above the program for more than this callback
            span_id, start, nested, _, name, _ = call
            below, suspended, ran = stack[-1], 0, end - start
            if more.__class__ is Suspendable:
                suspendable.pop(more.key, None)
                suspended, ran = more.suspended, end - more.resumed
            below[2] = before + ran
            if name is not None:
                parent_id = below[0] if more is None else more.parent_id
                own = max(end - start - suspended - nested, 0)
                later.append(
                    (span_id, parent_id, name, start, end, stack.thread, None, None, _TOO_DEEP, suspended, own)
                )

    def put_later() -> None:
        while later:
            record = later.pop()
            try:
                put(record)
            except RecursionError:
                later.append(record)
                return

    def end_with_care(stack: Stack, call: Call, end: int, outcome: bytes | None) -> None:
        span_id, start, nested, _, name, more = call
        below = stack[-1]
        parent_id, suspended, took = below[0], 0, end - start
        if more.__class__ is Suspendable:
            suspendable.pop(more.key, None)
            parent_id, suspended = more.parent_id, more.suspended
            below[2] += end - more.resumed
            if more.through:
                for waiting in more.through:
                    waiting[MORE].suspended -= end - more.resumed
                    waiting[2] += end - more.resumed
                more.through = ()
        else:
            below[2] += took
            if more is not None:
                parent_id = more.parent_id
        if name is not None and took >= least_ns:
            loop = running_loop()
            task = None if loop is None else task_name(loop)
            own = max(took - suspended - nested, 0)
            put((span_id, parent_id, name, start, end, stack.thread, task, None, outcome, suspended, own))
            if len(queue) >= gauge.alarm:
                rouse()

    def on_yield(code: CodeType, _offset: int, _value: object) -> None:
        now = perf_counter_ns()
        try:
            stack = local.stack
            call = stack.pop()
        except AttributeError:
            return
        if call[3] is not code:
            stack.append(call)
            return
        more = call[5]
        more.stopped = now
        stack[-1][2] += now - more.resumed
        if more.through:  # as in `end_with_care`, and no call: near the recursion limit there is no room for one
            for waiting in more.through:
                waiting[MORE].suspended -= now - more.resumed
                waiting[2] += now - more.resumed
            more.through = ()

    def on_resume(code: CodeType, offset: int, error: object = None) -> None:
        frame = frame_at(1)
        try:
            call = suspendable[id(frame)]
        except KeyError:
            return
        if call[3] is not code:
            return
        if error is not None and code.co_code[offset] in _NOT_BEGUN:  # it has the frame id of one that was dropped
            drop(suspendable.pop(call[MORE].key))
            return
        try:
            stack = local.stack
        except AttributeError:
            stack = new_thread()
        if not stack:
            return
        more = call[5]
        if error is not None:
            below, through, outer = stack[-1], [], frame.f_back
            while outer is not None:
                waiting = suspendable.get(id(outer))
                known = waiting is not None and waiting[3] is outer.f_code
                if waiting is below or (outer.f_code is below[3] and not known):
                    break
                if known:
                    through.append(waiting)
                outer = outer.f_back
            more.through = through
        stack.append(call)
        more.resumed = now = perf_counter_ns()
        more.suspended += now - more.stopped

    def rouse() -> None:
        """Unless there is no room for it near the recursion limit; then the next one will."""
        try:
            frame_at(sys.getrecursionlimit() - _ROOM)
        except ValueError:  # the stack is not that deep
            pass
        else:
            return
        gauge.rouse()  # not inside the except: a Ctrl-C in it must have no context of ferret's

    def cut(stack: Stack) -> None:
        end_with_care(stack, stack.pop(), perf_counter_ns(), _UNFINISHED)

    def cut_suspended(call: Call) -> None:
        more = call[MORE]
        now = perf_counter_ns()
        took, suspended = now - call[1], more.suspended + now - more.stopped
        if call[4] is not None and took >= least_ns:
            own = max(took - suspended - call[2], 0)
            put((call[0], more.parent_id, call[4], call[1], now, more.thread, None, None, _UNFINISHED, suspended, own))

    def drop(call: Call) -> None:
        span_id, start, nested, _, name, more = call
        took = more.stopped - start
        if name is not None and took >= least_ns:
            own = max(took - more.suspended - nested, 0)
            put(
                (span_id, more.parent_id, name, start, more.stopped, more.thread, None, None, None, more.suspended, own)
            )
            if len(queue) >= gauge.alarm:
                rouse()

    by_event: dict[int, Callback] = {
        _events.PY_START: on_start,
        _events.PY_RETURN: on_return,
        _events.PY_UNWIND: on_unwind,
        _events.PY_YIELD: on_yield,
        _events.PY_RESUME: on_resume,
        _events.PY_THROW: on_resume,
    }
    return Callbacks(by_event, cut, cut_suspended, drop, put_later)
