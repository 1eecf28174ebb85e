"""The span: what the traced program touches. Everything here is on the caller's time.

A finished span leaves as a `Record`, a plain tuple of atoms: it is an immutable snapshot, it costs one
allocation, and the garbage collector stops tracking it (a million queued spans must not slow a collection).
`docs/architecture.md` says what each choice below bought.

This module knows nothing of writers: a span hands its record to whatever its `Recorder` holds.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol

from ferret import ambient, tags, twin
from ferret.ambient import clock, format_id, ids, local, running_loop, task_name, thread_index
from ferret.tags import Tags, encode_outcome, encode_tags, merged_tags, plain_text, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sized
    from contextvars import ContextVar
    from types import TracebackType

    from ferret.models import SpanModel

type Record = tuple[int, int, str, int, int, int, str | None, bytes | None, bytes | None, int, int]
"""span id, parent id (0: none), name, start ns, end ns, thread (an index into `ferret.ambient.threads`), asyncio task name,
tags as JSON (None: none), outcome as JSON (None: ended "ok"), nanoseconds in which it was suspended, nanoseconds of self time
(-1: not measured). Times are of `time.perf_counter_ns`."""

type SpanName = str | Callable[..., str]

UNNAMED = "unknown_dynamic_span"  # the name that ferret-io gave when a naming function failed


class Gauge(Protocol):
    """Says when a queue wants looking after."""

    alarm: int

    def rouse(self) -> None:
        """See to the queue."""


class Recorder(Protocol):
    """What a span needs of the profiler that made it. `put`, then a look at the gauge, records a span.

    Spans take `put` apart, which saves them a call: `draw`, and `claim` where that is exhausted, then `append`. First the
    count, so that nothing can be stored that was not counted.
    """

    run_id: str

    @property
    def current(self) -> ContextVar[int]:
        """The current span's id; 0 for none."""

    @property
    def put(self) -> Callable[[Record], None]:
        """Counts a finished span and takes it."""

    @property
    def append(self) -> Callable[[Record], None]:
        """Takes a finished span that was counted."""

    @property
    def draw(self) -> Callable[[], object]:
        """Counts a span against the spans that are claimed in memory that survives the process (`ferret.ledger.live`).

        Raises:
            StopIteration: none is left.
        """

    @property
    def claim(self) -> Callable[[], None]:
        """Claims more, and counts one."""

    @property
    def queue(self) -> Sized:
        """What `put` fills."""

    @property
    def gauge(self) -> Gauge:
        """To be roused when the queue is as long as its `alarm`."""

    def suppressed(self) -> bool:
        """Whether this thread is at the moment inside the profiler's own sink; counts the span if so."""


class Lane:
    """A base for recorders that spans are to reach quickly. C reads these slots where they are, and Python finds them too."""

    __slots__ = ("append", "claim", "current", "draw", "gauge", "put", "queue")

    append: Callable[[Record], None]
    claim: Callable[[], None]
    current: ContextVar[int]
    draw: Callable[[], object]
    gauge: Gauge
    put: Callable[[Record], None]
    queue: Sized


class Alarmed:
    """A base for gauges, with the alarm where C reads it."""

    __slots__ = ("alarm",)

    alarm: int


class _Details:
    """What most spans never need: kept apart, so that making a span stays cheap."""

    __slots__ = ("given_tags", "model", "outcome", "suspended_ns")

    def __init__(self, given_tags: Tags | None) -> None:
        self.given_tags = given_tags
        self.model: SpanModel | None = None
        self.outcome: tuple[Any, Any, Any] | None = None
        self.suspended_ns = 0


class Span:
    """One measured piece of work: a context manager, an async context manager, or ended by hand.

    A span belongs to the code that entered it; `annotate` and `end` may be called from any thread, but not by two
    at once. Entering again after the end measures again, with a new id and the tags that `measure` was given.
    Nothing here raises into the program, takes a lock or does I/O (unless the writer is `sync`).

    Attributes:
        name: the span's name.
        span_id: a number; `model.span_id` is the same as 16 hex digits. Unset before the start.
        parent_id: the parent's number, 0 for none. Unset before the start.
        start_ns: the start, of `time.perf_counter_ns`. Unset before the start.
        end_ns: the end; 0 before it.
    """

    # Five stores make a span, and nothing is on the class: an attribute that a slot or the class must be searched for
    # costs 20 to 40 ns, each time. Together with `_Details` this took a `with` from 5 to 3.5 times an empty one.
    __slots__ = (
        "_details", "_recorder", "_tags", "_token", "end_ns", "name", "parent_id", "span_id", "start_ns",
    )  # fmt: skip

    name: str
    span_id: int
    parent_id: int
    start_ns: int

    def __init__(self, recorder: Recorder, name: SpanName, tags: Tags | None = None) -> None:
        self._recorder = recorder
        self.name = name  # type: ignore[assignment]  # it may be a function, until the span starts
        self._tags = tags
        self._details: _Details | None = None
        self.end_ns = 0

    # The two methods below are plain and unrolled on purpose: each function call that they do not make is 40 to
    # 60 ns of about 900 (benchmarks/kinds/cost.py).

    def __enter__(self) -> Span:
        if self.end_ns:
            self._begin_again()
        if type(self.name) is not str:
            self.name = resolve_name(self.name, (), {})
        current = self._recorder.current
        self.parent_id = current.get()
        self.span_id = span_id = ids.next_id()
        self._token = current.set(span_id)
        self.start_ns = perf_counter_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end_ns = perf_counter_ns()
        recorder = self._recorder
        try:
            recorder.current.reset(self._token)
        except (ValueError, RuntimeError):  # a generator closed in another task; a span entered twice at once
            recorder.current.set(self.parent_id)
        if self.end_ns:  # end() was called inside the block
            return
        self.end_ns = end_ns
        outcome = None
        if error is not None or self._details is not None:
            outcome = self._settle(error)
        tags = self._tags
        name = self.name
        if type(name) is not str:  # the program has set it
            name = plain_text(name)
        try:
            thread = local.index
        except AttributeError:
            index = thread_index(recorder.suppressed)
            if index is None:
                return
            thread = index
        loop = running_loop()
        record = (
            self.span_id, self.parent_id, name, self.start_ns, end_ns, thread,
            None if loop is None else task_name(loop),
            None if tags is None else encode_tags(tags),
            outcome, 0, -1,
        )  # fmt: skip
        try:
            recorder.draw()
        except StopIteration:
            recorder.claim()
        recorder.append(record)
        if len(recorder.queue) >= recorder.gauge.alarm:
            recorder.gauge.rouse()

    async def __aenter__(self) -> Span:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def begin(self, parent_id: int | None = None) -> Span:
        """Start without becoming the current span, as `Profiler.start` does.

        Args:
            parent_id: the parent; without it, the current span.
        """
        self.name = resolve_name(self.name, (), {})
        self.parent_id = self._recorder.current.get() if parent_id is None else parent_id
        self.span_id = ids.next_id()
        self.start_ns = perf_counter_ns()
        return self

    def end(self, status: str = "ok") -> None:
        """End a span that was started by hand. A second call does nothing, nor does one before the start.

        Args:
            status: `"ok"`, `"error"`, or a word of your own.
        """
        if (type(status) is not str or status != "ok") and not self.end_ns:
            self._more().outcome = (status, None, None)
        self._finish(None)

    def fail(self, error: BaseException) -> None:
        """End a span that was started by hand with status `"error"` and what went wrong."""
        self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        if self.end_ns or not hasattr(self, "start_ns"):
            return
        self.end_ns = end_ns = perf_counter_ns()
        suspended_ns = 0 if self._details is None else self._details.suspended_ns
        outcome = self._settle(error)
        name = self.name if type(self.name) is str else plain_text(self.name)
        recorder = self._recorder
        thread: int | None = getattr(local, "index", None)
        if thread is None:
            thread = thread_index(recorder.suppressed)
        if thread is None:
            return
        loop = running_loop()
        record = (
            self.span_id, self.parent_id, name, self.start_ns, end_ns, thread,
            None if loop is None else task_name(loop),
            None if self._tags is None else encode_tags(self._tags),
            outcome, suspended_ns, -1,
        )  # fmt: skip
        try:
            recorder.draw()
        except StopIteration:
            recorder.claim()
        recorder.append(record)
        if len(recorder.queue) >= recorder.gauge.alarm:
            recorder.gauge.rouse()

    def annotate(self, **tags: Any) -> None:
        """Add tags. After the end, what is recorded stays as it was."""
        details = self._more()
        self._tags = merged_tags(self._tags, tags)
        if details.model is not None:
            shown = details.model.tags
            if type(shown) is dict:
                shown.update(tags)
            else:
                details.model.tags = merged_tags(shown, tags)

    @property
    def model(self) -> SpanModel:
        """The span as a `SpanModel`, built when first looked at.

        While the span is open, what is set on the model (`status`, `name`, `tags`, …) is what gets recorded.
        """
        details = self._more()
        if details.model is None:
            details.model = self._as_model(details.outcome)
        return details.model

    def was_suspended(self, nanoseconds: int) -> None:
        """Note that the span, of a generator, did not run for so long."""
        self._more().suspended_ns += nanoseconds

    def _more(self) -> _Details:
        if self._details is None:
            self._details = _Details(self._tags)
        return self._details

    def _begin_again(self) -> None:
        self.end_ns = 0
        if self._details is not None:
            self._tags = self._details.given_tags
            self._details = None

    def _settle(self, error: BaseException | None) -> bytes | None:
        """How the span ended, as it is recorded; and let what the program wrote on `model` count."""
        if error is None and self._details is None:
            return None
        details = self._more()
        if error is not None:
            details.outcome = ("error", plain_text(error), type_name(type(error)))
        model = details.model
        if model is not None:
            try:
                self._take_over(model, details)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # noqa: BLE001, S110 - it is the program's: any of it may be gone, or be anything
                pass
        return None if details.outcome is None else encode_outcome(details.outcome)

    def _take_over(self, model: SpanModel, details: _Details) -> None:
        self._tags = model.tags
        self.name = plain_text(model.name)
        status, error, error_type = (
            None if one is None else plain_text(one) for one in (model.status, model.error, model.error_type)
        )
        if details.outcome is None and (status != "ok" or error or error_type):
            details.outcome = (status, error, error_type)
        model.status, model.error, model.error_type = details.outcome or ("ok", None, None)
        model.duration = (self.end_ns - self.start_ns) / 1e9
        model.end_time = model.start_time + model.duration

    def _as_model(self, outcome: tuple[Any, Any, Any] | None) -> SpanModel:
        from ferret.models import SpanModel  # noqa: PLC0415 - a model is built when somebody looks

        status, error, error_type = outcome or ("ok", None, None)
        start_time = (clock.anchor_ns + self.start_ns) / 1e9
        duration = (self.end_ns - self.start_ns) / 1e9 if self.end_ns else None
        loop = running_loop()
        return SpanModel.model_construct(  # without validation: tags may be anything, and nothing is raised into the program
            span_id=format_id(self.span_id),
            parent_id=format_id(self.parent_id) if self.parent_id else None,
            run_id=self._recorder.run_id,
            name=self.name,
            start_time=start_time,
            end_time=None if duration is None else start_time + duration,
            duration=duration,
            tags=merged_tags(self._tags, {}),
            status=status,
            error=error,
            error_type=error_type,
            process_id=os.getpid(),
            thread_id=threading.get_ident(),
            thread_name=threading.current_thread().name,
            task_name=None if loop is None else task_name(loop),
        )

    def __repr__(self) -> str:
        if self.end_ns:
            return f"<Span {self.name!r} ended after {(self.end_ns - self.start_ns) / 1e6:.3f} ms>"
        return f"<Span {self.name!r}>"


def resolve_name(name: SpanName, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The name as text: called with `(args, kwargs)`, or with `(args)`, where it is a function that takes so many."""
    if type(name) is str:
        return name
    if not callable(name):
        return plain_text(name)
    return naming(name)(args, kwargs)


def naming(name: Callable[..., str]) -> Callable[[tuple[Any, ...], dict[str, Any]], str]:
    """A naming function as one of `(args, kwargs)` that always gives a name: `UNNAMED` where it raises."""
    try:
        inspect.signature(name).bind((), {})
        takes_kwargs = True
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - no such function, or none that can be asked
        takes_kwargs = False

    def name_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        try:
            return plain_text(name(args, kwargs) if takes_kwargs else name(args))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - the program must not fail because its name does
            return UNNAMED

    return name_of


native: bool = twin.hasten_spans(Span, Lane, Alarmed, globals(), vars(ambient), vars(tags), vars(asyncio))
"""Whether spans are recorded by the native twin, in C."""
twin.hasten_class(Span)
