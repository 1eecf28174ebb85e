"""The profiler: what programs hold. It makes spans, and hands what they record to a writer."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import string
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from ferret import lifecycle
from ferret.ambient import format_id, is_delivering
from ferret.config import Options, Settings, load_settings
from ferret.decorate import Measure
from ferret.errors import ConfigError, StorageError
from ferret.forkgate import ForkGate
from ferret.plugins import SinkSpec, plugins
from ferret.sinks.base import Readable, Sink
from ferret.span import Lane, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from beaver import BeaverDB

    from ferret.models import DeliveryReport, FlushResult, Ledger
    from ferret.span import SpanName
    from ferret.tags import Tags
    from ferret.writers.base import Writer

__all__ = ["Profiler", "Span"]


_making = ForkGate()  # making one imports modules; a child that is born meanwhile would find them locked


class _Silent:
    """The gauge of a writer that is not to be looked after: the empty queue beside it never reaches the alarm."""

    alarm = 1

    def rouse(self) -> None: ...


class Profiler(Lane):
    """Records spans through a writer into a sink.

    Safe to use from any thread, task, signal handler or `__del__`, and at any time: after `close`, spans are counted as
    dropped. In a forked child it goes on by itself, with an empty queue and a sink of its own.

    Args:
        db_path: the BeaverDB file, made where it is missing, or an open BeaverDB. `:memory:` unless given.
        buffer_size: another name of `batch_size`, as ferret-io had it.
        namespace: the name that the spans have in a BeaverDB file.
        run_id: the run; a new one unless given.
        sink: where spans rest instead: a `Sink`, or a sink's name, or `name:target` such as `"jsonl:spans.jsonl"`.
        options: see `ferret.config.Settings`. Each may also come from the environment, as `FERRET_` and its name.

    Raises:
        ConfigError: an option is unknown or impossible.
        PluginError: no such writer or sink.
        StorageError: the file cannot be used; nothing was changed.
    """

    def __init__(
        self,
        db_path: str | Path | BeaverDB | None = None,
        buffer_size: int | None = None,
        namespace: str | None = None,
        run_id: str | None = None,
        *,
        sink: Sink | str | None = None,
        **options: Unpack[Options],
    ) -> None:
        given: dict[str, Any] = {"namespace": namespace, "run_id": run_id, **options}
        if buffer_size is not None:
            if "batch_size" in options:
                raise ConfigError("options 'buffer_size' and 'batch_size' are two names of one thing: give one")
            given["batch_size"] = buffer_size
        if isinstance(db_path, str | Path):
            given["db_path"] = str(db_path)
        if isinstance(sink, str):
            given["sink"] = sink
        if db_path is not None and sink is not None:
            raise ConfigError("option 'sink' says where spans rest, and so does the database path: give one of them")
        self.settings: Settings = _settled(load_settings(given))
        self.run_id: str = self.settings.run_id
        self.current = ContextVar("ferret_current_span", default=0)
        self._shown_db: BeaverDB | None = None
        with _making:
            self._sink: Sink | SinkSpec = self._choose_sink(db_path, sink)
            self.writer: Writer = self._make_writer()
        self._wire()
        if self.settings.handle_sigterm:
            self._handle_sigterm()
        lifecycle.watch(self)
        lifecycle.arm_child_exit()

    def _choose_sink(self, db_path: object, sink: Sink | str | None) -> Sink | SinkSpec:
        settings = self.settings
        if sink is not None and not isinstance(sink, str):
            if not isinstance(sink, Sink):
                raise ConfigError(
                    f"option 'sink' is {sink!r}: a sink has the methods write(batch), flush() and close()"
                )
            return sink
        if db_path is not None and not isinstance(db_path, str | Path):
            from ferret.sinks.beaver import BeaverSink  # noqa: PLC0415 - it imports beaver, which takes its time

            return BeaverSink.of(db_path, namespace=settings.namespace)
        if settings.sink is None or isinstance(db_path, str | Path):
            spec = SinkSpec("beaver", settings.db_path, settings.sink_options)
        else:
            spec = SinkSpec.parse(settings.sink, settings.sink_options)
        if spec.name in {"beaver", "tee"}:
            spec = SinkSpec(spec.name, spec.target, {"namespace": settings.namespace, **spec.options})
        return spec.absolute()

    def _make_writer(self) -> Writer:
        factory = plugins().find("writer", self.settings.writer)
        if (
            self.settings.fallback_sink is not None
        ):  # it is opened when it is needed: too late to learn of a misspelt name
            plugins().find("sink", SinkSpec.parse(self.settings.fallback_sink).name)
        opened = None
        opens_sink = getattr(factory, "opens_sink", False)
        if opens_sink:
            _check_folder()
        if isinstance(self._sink, SinkSpec) and not opens_sink:
            self._sink = opened = self._sink.open()
        try:
            writer: Writer = factory(self._sink, self.settings)
        except BaseException:
            if opened is not None:
                opened.close()
            raise
        return writer

    def _wire(self) -> None:
        """Give spans the shortest way to the writer (see `ferret.span.Recorder`)."""
        from ferret.writers.queueing import QueueWriter  # noqa: PLC0415 - ours have imported it by now

        writer = self.writer
        self.put = self.append = writer.record
        self.draw = self.claim = itertools.repeat(None).__next__
        self.queue = ()
        self.gauge = _Silent()
        if isinstance(writer, QueueWriter) and type(writer).record is QueueWriter.record:
            self.put, self.append = writer.put, writer.queue.append
            self.queue, self.gauge = writer.queue, writer
            self.claim = writer.counts.claim
            writer.counts.keep_told(self)

    def _handle_sigterm(self) -> None:
        try:
            lifecycle.handle_sigterm(self.settings.close_timeout)
        except ValueError as error:
            self.close()
            raise ConfigError(
                "option 'handle_sigterm' is True: make the Profiler in the main thread, where Python sets signal handlers"
            ) from error

    # -- recording ---------------------------------------------------------------------------------

    def measure(self, name: SpanName, tags: Tags | None = None) -> Measure:
        """A span for a `with` or `async with` block, or for each call of what it decorates.

        Args:
            name: the span's name, or a function of a decorated call's `(args)` or `(args, kwargs)` that gives it.
            tags: facts to keep with it; JSON-like values are kept as they are, others as text.

        A function under `@measure` without a name raises a TypeError when it is called, a method when its class is made.
        """
        return Measure(self, name, tags)

    def start(self, name: SpanName, tags: Tags | None = None, *, parent: Span | str | None = None) -> Span:
        """A span that is ended by hand, with `end()`. It does not become the parent of other spans.

        Args:
            name: the span's name.
            tags: facts to keep with it.
            parent: its parent: a span, or a span id such as another process sent; the current span unless given.

        Raises:
            ValueError: `parent` is a text but no span id (16 hex digits).
            TypeError: `parent` is neither a text nor a span.
        """
        return Span(self, name, tags).begin(None if parent is None else _span_id(parent))

    def current_span_id(self) -> str | None:
        """The id of the span that the calling code is in; None outside all. Send it along to name a parent elsewhere."""
        span_id = self.current.get()
        return format_id(span_id) if span_id else None

    def in_context[**P, R](self, func: Callable[P, R]) -> Callable[P, R]:
        """`func`, such that what it records has the span that is current now as its parent.

        For work that is handed to a thread pool: `pool.submit(profiler.in_context(work), item)`. The result may be
        called any number of times, in any thread.
        """
        parent_id = self.current.get()

        @functools.wraps(func)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            token = self.current.set(parent_id)
            try:
                return func(*args, **kwargs)
            finally:
                self.current.reset(token)

        return call

    @contextmanager
    def attached(self, parent: Span | str) -> Iterator[None]:
        """Make a span that was not entered here the parent of what the block records.

        For work that comes from another process, with the id of the span that sent it (`current_span_id`).

        Args:
            parent: a span, or a span id.

        Raises:
            ValueError: `parent` is a text but no span id (16 hex digits).
            TypeError: `parent` is neither a text nor a span.
        """
        token = self.current.set(_span_id(parent))
        try:
            yield
        finally:
            self.current.reset(token)

    def suppressed(self) -> bool:
        """Whether this thread is inside this profiler's own sink, whose spans are left out, and counted so."""
        if not is_delivering(self.writer):
            return False
        self.writer.suppress()
        return True

    # -- delivering --------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Wait until all that was recorded before the call is in the sink.

        Args:
            timeout: seconds; None waits as long as the sink takes.

        Returns:
            Whether all of it is there. False after a timeout, and from the moment on that anything was dropped or failed;
            its `reason` says what, in words, and its `ledger` in numbers.
        """
        from ferret.models import FlushResult  # noqa: PLC0415 - the writer has imported it by now

        return FlushResult(self.writer.flush(timeout), self.writer.stats())

    def stats(self) -> Ledger:
        """Where every recorded span is now: `recorded == written + dropped + failed + pending`. Never waits."""
        return self.writer.stats()

    def close(self, timeout: float | None = None) -> DeliveryReport:
        """Stop the writer and wait for it: when this returns, everything recorded is in the sink, or counted.

        May be called again, and by several threads at once: all get the same report.

        Args:
            timeout: seconds to wait for the sink, `close_timeout` unless given.
        """
        report = self.writer.close(timeout)
        if self._shown_db is not None:
            from ferret.sinks.beaver import close_db  # noqa: PLC0415 - it is imported already

            close_db(self._shown_db)
            self._shown_db = None
        lifecycle.forget(self)
        return report

    async def aclose(self, timeout: float | None = None) -> DeliveryReport:  # noqa: ASYNC109 - as in `close`
        """`close`, without holding up the event loop."""
        return await asyncio.to_thread(self.close, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # at the end of the process `lifecycle` has closed it, and the modules that closing needs are gone
        writer = getattr(self, "writer", None)
        if writer is not None and not _is_finalizing():
            getattr(writer, "abandon", writer.close)()

    def _after_fork(self) -> None:
        self._shown_db = None
        self.writer.after_fork()

    # -- reading -----------------------------------------------------------------------------------

    @property
    def sink(self) -> Sink | None:
        """The open sink; None where another process holds it."""
        if isinstance(self._sink, SinkSpec):
            return None
        # in a forked child the writer has opened another
        sink: Sink = getattr(self.writer, "sink", self._sink)
        return sink

    @property
    def db(self) -> BeaverDB:
        """The BeaverDB that the spans are in.

        Raises:
            ConfigError: they rest elsewhere.
        """
        from ferret.sinks.beaver import BeaverSink, open_db  # noqa: PLC0415 - it imports beaver

        sink = self.sink
        if isinstance(sink, BeaverSink):
            return sink.db
        if isinstance(self._sink, SinkSpec) and self._sink.name == "beaver":
            if self._shown_db is None:
                self._shown_db = open_db(str(self._sink.target))
            return self._shown_db
        raise ConfigError(f"there is no BeaverDB: the spans go to {self._sink!r}")

    def readable(self) -> Readable:
        """What to read the spans from that were delivered so far.

        Raises:
            ConfigError: the sink cannot be read.
        """
        if isinstance(self._sink, SinkSpec):
            return _open_stored(self._sink, self.settings.namespace)
        sink = self.sink
        if isinstance(sink, Readable):
            return sink
        raise ConfigError(f"the sink {self._sink!r} cannot be read back: it has no segments() and processes()")

    def __repr__(self) -> str:
        return f"<Profiler run {self.run_id!r}, writer {self.settings.writer!r}>"


def _settled(settings: Settings) -> Settings:
    """The settings, with a fallback sink that the program can change its folder under: it is opened when it is needed."""
    if settings.fallback_sink is None:
        return settings
    return settings.model_copy(update={"fallback_sink": SinkSpec.parse(settings.fallback_sink).absolute().text})


def _check_folder() -> None:
    """Whether there is a folder to start a process in."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise StorageError(
            "the current folder is gone: change to another, where the writing process can begin"
        ) from error


def _open_stored(spec: SinkSpec, namespace: str) -> Readable:
    """What another process stores there."""
    from ferret.sinks.reading import open_readable  # noqa: PLC0415 - only who reads pays

    read = spec.parts[0] if spec.name == "tee" else spec
    if read.name not in {"beaver", "jsonl"}:
        raise ConfigError(f"the sink {read.name!r} is open in another process, and cannot be read from this one")
    return open_readable(read.target or "", namespace)


def _span_id(span: Span | str) -> int:
    if isinstance(span, Span):
        return span.span_id
    if not isinstance(span, str):
        raise TypeError(f"parent is {span!r}: give a span, or a span id such as current_span_id() tells inside a span")
    if len(span) != 16 or not set(span) <= set(string.hexdigits):
        raise ValueError(f"parent is {span!r}: a span id has 16 hex digits")
    return int(span, 16)
