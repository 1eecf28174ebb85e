"""What `sys.monitoring` calls: the function recorder's hot path, on the program's time at the beginning and end of each call.

Closures, plain and unrolled: a name that is a closure's own is found in 2 ns, an attribute in 10 to 20. Against methods with
attributes that took a recorded call from 1.4 to 1.0 µs (benchmarks/functions.py). CPython calls none of them while
another is running in the same thread, so that what they call themselves is not recorded.
"""

from __future__ import annotations

import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from ferret.ambient import ids, running_loop, task_name
from ferret.run.calls import MORE, Suspendable
from ferret.tags import encode_outcome, plain_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    from ferret.run.calls import Call, Calls, Stack
    from ferret.span import Recorder

    type Callback = Callable[..., Any]
    type Begin = Callable[[CodeType], object]
    type NewThread = Callable[[], Stack | None]

_events = sys.monitoring.events

ENDS_WELL = (GeneratorExit, StopIteration, StopAsyncIteration)
"""How iterators end, and generators that are closed: no errors, as is `sys.exit()`."""

_UNFINISHED = encode_outcome(("unfinished", None, None))


class Callbacks(NamedTuple):
    """The callbacks, and what the recorder itself needs of them."""

    by_event: dict[int, Callback]
    cut: Callable[[Stack], None]
    """End the innermost call of a thread now, as it goes on when the recording stops."""
    drop: Callable[[Call], None]
    """End the call of a generator or coroutine that was dropped, or will run no more, when it last ran."""


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

    def on_start(code: CodeType, _offset: int) -> object:
        try:
            name = plain[id(code)]
        except KeyError:
            return begin(code)
        if name is None:
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
            try:
                recorder.draw()
            except StopIteration:
                recorder.claim()
            append((span_id, below[0], name, start, end, stack.thread, task, None, None, 0, took - nested))
            if len(queue) >= gauge.alarm:
                gauge.rouse()

    def on_unwind(code: CodeType, _offset: int, error: BaseException) -> None:
        end = perf_counter_ns()
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
        outcome = None
        if not (isinstance(error, ENDS_WELL) or (isinstance(error, SystemExit) and not error.code)):
            outcome = encode_outcome(("error", plain_text(error), type(error).__name__))
        end_with_care(stack, call, end, outcome)

    def end_with_care(stack: Stack, call: Call, end: int, outcome: bytes | None) -> None:
        span_id, start, nested, _, name, more = call
        below = stack[-1]
        parent_id, suspended, took = below[0], 0, end - start
        if more.__class__ is Suspendable:
            suspendable.pop(more.key, None)
            parent_id, suspended = more.parent_id, more.suspended
            below[2] += end - more.resumed
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
                gauge.rouse()

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

    def on_resume(code: CodeType, _offset: int, _error: object = None) -> None:
        try:
            call = suspendable[id(frame_at(1))]
        except KeyError:
            return
        if call[3] is not code:
            return
        try:
            stack = local.stack
        except AttributeError:
            stack = new_thread()
        if not stack:
            return
        stack.append(call)
        more = call[5]
        more.resumed = now = perf_counter_ns()
        more.suspended += now - more.stopped

    def cut(stack: Stack) -> None:
        end_with_care(stack, stack.pop(), perf_counter_ns(), _UNFINISHED)

    def drop(call: Call) -> None:
        span_id, start, nested, _, name, more = call
        took = more.stopped - start
        if took >= least_ns:
            own = max(took - more.suspended - nested, 0)
            put(
                (span_id, more.parent_id, name, start, more.stopped, more.thread, None, None, None, more.suspended, own)
            )
            if len(queue) >= gauge.alarm:
                gauge.rouse()

    by_event: dict[int, Callback] = {
        _events.PY_START: on_start,
        _events.PY_RETURN: on_return,
        _events.PY_UNWIND: on_unwind,
        _events.PY_YIELD: on_yield,
        _events.PY_RESUME: on_resume,
        _events.PY_THROW: on_resume,
    }
    return Callbacks(by_event, cut, drop)
