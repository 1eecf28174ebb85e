"""`@profiler.measure(...)`: one span for each call of a function, coroutine, generator or async generator."""

from __future__ import annotations

import functools
import inspect
import sys
from time import perf_counter_ns
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

from ferret import twin
from ferret.ambient import ids, local, running_loop, task_name, thread_index
from ferret.span import UNNAMED, Recorder, Span, SpanName, naming
from ferret.tags import plain_text

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

    from ferret.tags import Tags


@twin.hasten_class
class Measure(Span):
    """What `measure` gives: a span for a block, or for each call of what it decorates."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __call__[**P, R](self, func: Callable[P, R]) -> Callable[P, R]:
            """Decorate."""

    else:  # a function under `@measure` without a name is called like this, with whatever it takes

        def __call__(self, /, *args, **kwargs):
            """Decorate a function, coroutine function, generator or async generator: a span for each call.

            Raises:
                TypeError: there is nothing to decorate; the message says what would be right.
            """
            return measured(_what_to_measure(self.name, args, kwargs), self._where(), self.name, self._tags)

    def _where(self) -> Recorder | Callable[[], Recorder]:
        return self._recorder

    def __set_name__(self, owner: type, attribute: str) -> None:
        # `@measure` without a name over a method: here it shows at once, and without a cost to blocks
        meant: object = self.name
        if isinstance(meant, FunctionType | type) and meant.__name__ == attribute:
            raise _no_name(meant)


_GIVES_NO_TEXT = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
"""Functions of these kinds are not meant to give a name."""


def _what_to_measure(name: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a `Measure` is called with, if it is called as a decorator.

    Under `@measure` without a name, the function has become the name, as a function may; and a call of it comes here.

    Raises:
        TypeError: there is nothing to measure.
    """
    if type(name) is FunctionType and name.__code__.co_flags & _GIVES_NO_TEXT:
        raise _no_name(name)
    func = args[0] if len(args) == 1 and not kwargs else None
    if isinstance(func, staticmethod | classmethod) or (callable(func) and not isinstance(func, Measure | type)):
        return func
    for one in (name, func.name if isinstance(func, Measure) else None):
        if callable(one):
            raise _no_name(one)
    raise TypeError(f"@measure({plain_text(name)!r}) {_instead(func)}")


def _instead(func: object) -> str:
    """What to do about something that is no function, as the rest of a sentence."""
    if isinstance(func, type):
        return f"is for functions, and {func.__name__} is a class: put it above its methods, such as __init__"
    if isinstance(
        func, property | functools.cached_property | functools.singledispatchmethod | functools.partialmethod
    ):
        return f"is for functions: put it below @{type(func).__name__}, next to the `def`"
    return "is for a function: there is none in this call of it"


def _no_name(meant: object) -> TypeError:
    name = meant.__name__ if isinstance(meant, FunctionType | type) else "load"
    return TypeError(f"measure takes a name first: @measure({name!r})")


def measured[**P, R](
    func: Callable[P, R], recorder: Recorder | Callable[[], Recorder], name: SpanName, tags: Tags | None
) -> Callable[P, R]:
    """`func` with a span around each call; of the same kind (`inspect.iscoroutinefunction` and so on) as it was.

    A static or class method stays one.

    Args:
        func: what to measure.
        recorder: where its spans go, or a function that tells at each call.
        name: the name of each span, or a function of the call's arguments.
        tags: the tags of each span.
    """
    if isinstance(func, staticmethod | classmethod):
        return cast("Callable[P, R]", type(func)(measured(func.__func__, recorder, name, tags)))
    inner = cast("Callable[..., Any]", func)
    name_of = naming(name) if callable(name) else None
    fixed = UNNAMED if callable(name) else plain_text(name)

    def new_span(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Span:
        target = recorder() if callable(recorder) else recorder
        return Span(target, fixed if name_of is None else name_of(args, kwargs), tags)

    wrapper: Callable[..., Any]
    if inspect.isasyncgenfunction(inner):
        wrapper = _measured_async_generator(inner, new_span)
    elif inspect.iscoroutinefunction(inner):
        wrapper = _measured_coroutine(inner, new_span)
    elif inspect.isgeneratorfunction(inner):
        wrapper = _measured_generator(inner, new_span)
    elif name_of is None and not tags and not callable(recorder):
        wrapper = _measured_plainly(inner, recorder, fixed)
    else:
        wrapper = _measured_function(inner, new_span)
    return cast("Callable[P, R]", functools.wraps(inner)(wrapper))


type _NewSpan = Callable[[tuple[Any, ...], dict[str, Any]], Span]


def _measured_plainly(func: Callable[..., Any], recorder: Recorder, name: str) -> Callable[..., Any]:
    # The commonest decoration, unrolled: without a Span object and its three method calls a decorated call
    # records in about two thirds of the time of a `with` (benchmarks/kinds/cost.py).
    current = recorder.current

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        parent_id = current.get()
        span_id = ids.next_id()
        token = current.set(span_id)
        start_ns = perf_counter_ns()
        try:
            result = func(*args, **kwargs)
        except BaseException as error:
            _hand_over_failed(recorder, name, span_id, parent_id, start_ns, error, token)
            raise
        end_ns = perf_counter_ns()
        current.reset(token)
        try:
            thread = local.index
        except AttributeError:
            index = thread_index(recorder.suppressed)
            if index is None:
                return result
            thread = index
        loop = running_loop()
        task = None if loop is None else task_name(loop)
        try:
            recorder.draw()
        except StopIteration:
            recorder.claim()
        recorder.append((span_id, parent_id, name, start_ns, end_ns, thread, task, None, None, 0, -1))
        if len(recorder.queue) >= recorder.gauge.alarm:
            recorder.gauge.rouse()
        return result

    return twin.hasten_function(wrapper)


def _hand_over_failed(
    recorder: Recorder,
    name: str,
    span_id: int,
    parent_id: int,
    start_ns: int,
    error: BaseException,
    token: Any,
) -> None:
    span = Span(recorder, name)
    span.span_id, span.parent_id, span.start_ns = span_id, parent_id, start_ns
    recorder.current.reset(token)
    span.fail(error)


def _measured_function(func: Callable[..., Any], new_span: _NewSpan) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with new_span(args, kwargs):
            return func(*args, **kwargs)

    return wrapper


def _measured_coroutine(
    func: Callable[..., Coroutine[Any, Any, Any]], new_span: _NewSpan
) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with new_span(args, kwargs):
            return await func(*args, **kwargs)

    return wrapper


class _Resumed:
    """The generator's span is the current one while its body runs, and only then; between, it is suspended."""

    __slots__ = ("_span", "_stopped_ns", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._stopped_ns = 0

    def __enter__(self) -> None:
        if self._stopped_ns:
            self._span.was_suspended(perf_counter_ns() - self._stopped_ns)
        self._token = self._span._recorder.current.set(self._span.span_id)

    def __exit__(self, *_: object) -> None:
        self._stopped_ns = perf_counter_ns()
        current = self._span._recorder.current
        try:
            current.reset(self._token)
        except (ValueError, RuntimeError):  # the body ran in another task's context
            current.set(self._span.parent_id)


def _measured_generator(
    func: Callable[..., Generator[Any, Any, Any]], new_span: _NewSpan
) -> Callable[..., Generator[Any, Any, Any]]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = func(*args, **kwargs)
        span = new_span(args, kwargs).begin()
        resumed = _Resumed(span)
        resume: Callable[[Any], Any] = generator.send
        given: list[Any] = [None]  # taken out: an error that holds this frame by its traceback must not be held by it
        try:
            while True:
                with resumed:
                    item = resume(given.pop())
                try:
                    given.append((yield item))
                    resume = generator.send
                except BaseException as error:  # noqa: BLE001 - thrown in, or closed: for the body to handle
                    given.append(error)
                    resume = generator.throw
        except StopIteration as stop:
            span.end()
            return stop.value
        except GeneratorExit:
            span.end()
            raise
        except BaseException as error:
            span.fail(error)
            raise

    return wrapper


def _measured_async_generator(
    func: Callable[..., AsyncGenerator[Any, Any]], new_span: _NewSpan
) -> Callable[..., AsyncGenerator[Any, Any]]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = func(*args, **kwargs)
        span = new_span(args, kwargs).begin()
        resumed = _Resumed(span)
        resume: Callable[[Any], Any] = functools.partial(_first_step, generator, span)
        given: list[Any] = [None]  # as above
        try:
            while True:
                with resumed:
                    item = await resume(given.pop())
                try:
                    given.append((yield item))
                    resume = generator.asend
                except BaseException as error:  # thrown in, or closed: for the body to handle
                    if inspect.getasyncgenstate(generator) == inspect.AGEN_CLOSED:
                        raise  # the garbage collector was there first: `athrow` would answer with None
                    given.append(error)
                    resume = generator.athrow
        except StopAsyncIteration:
            span.end()
        except GeneratorExit:
            span.end()
            raise
        except BaseException as error:
            span.fail(error)
            raise

    return wrapper


def _first_step(generator: AsyncGenerator[Any, Any], span: Span, value: Any) -> Any:
    """`asend`, hidden from the event loop, which would close this generator at its end while the wrapper closes it too."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, hooks.finalizer and functools.partial(_found_by_collector, span, hooks.finalizer))
    try:
        return generator.asend(value)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _found_by_collector(
    span: Span, finalizer: Callable[[AsyncGenerator[Any, Any]], None], generator: AsyncGenerator[Any, Any]
) -> None:
    """Where the collector finds wrapper and body together, the event loop closes the wrapper, and that the body."""
    if span.end_ns:  # the wrapper has ended, and left it open
        finalizer(generator)


twin.hasten_calls(globals())
