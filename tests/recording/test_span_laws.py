"""Smaller promises of a span: what it leaves behind in its thread, what its model shows, and how generators are driven."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from support import WAIT_S, ScriptedSink

from ferret import ConfigError, LostSpansWarning, Profiler, Report, plugins
from ferret.batch import SpanData
from ferret.hookspecs import hookimpl
from ferret.sinks.memory import MemorySink


@pytest.fixture
def profiler() -> Iterator[Profiler]:
    with Profiler(sink=MemorySink(), writer="sync", batch_size=1) as profiler:
        yield profiler


def spans(profiler: Profiler) -> dict[str, SpanData]:
    """The recorded spans by name."""
    profiler.flush()
    assert isinstance(profiler.sink, MemorySink)
    return {span.name: span for span in profiler.sink.spans}


# -- spans ended by hand, and blocks ----------------------------------------------------------------


def test_ending_a_span_that_was_never_started_does_nothing(profiler: Profiler) -> None:
    span = profiler.measure("never started")
    span.end()
    span.fail(ValueError())
    assert profiler.stats().recorded == 0
    with span:
        pass
    assert profiler.stats().recorded == 1


def test_a_block_that_is_entered_twice_at_once_does_not_hurt_the_program(profiler: Profiler) -> None:
    block = profiler.measure("twice")
    with block, block:
        pass
    assert profiler.stats().recorded == 1


def test_a_block_that_is_left_in_a_copy_of_its_context_gives_the_parent_back_there(profiler: Profiler) -> None:
    block = profiler.measure("begun here")
    block.__enter__()
    copy = contextvars.copy_context()
    copy.run(block.__exit__, None, None, None)
    assert copy.run(profiler.current_span_id) is None


def test_the_type_of_an_error_is_the_bare_name_of_its_class(profiler: Profiler) -> None:
    class InnerError(Exception):
        pass

    with pytest.raises(InnerError), profiler.measure("bad"):
        raise InnerError
    assert spans(profiler)["bad"].error_type == "InnerError"


def test_a_second_end_does_not_change_how_the_span_ended(profiler: Profiler) -> None:
    span = profiler.start("x")
    span.end()
    span.end("late")
    assert (span.model.status, spans(profiler)["x"].status) == ("ok", "ok")


def test_a_name_that_is_set_on_the_model_is_recorded(profiler: Profiler) -> None:
    with profiler.measure("before") as span:
        span.model.name = "after"
    assert set(spans(profiler)) == {"after"}


def test_the_model_shows_how_the_span_ended(profiler: Profiler) -> None:
    with pytest.raises(ValueError, match="seven"), profiler.measure("bad") as span:
        assert span.model.status == "ok"
        raise ValueError("seven")
    assert (span.model.status, span.model.error, span.model.error_type) == ("error", "seven", "ValueError")


def test_a_threads_name_that_does_not_encode_costs_no_span(db: str) -> None:
    with Profiler(db) as profiler:
        thread = threading.Thread(target=lambda: profiler.start("x").end(), name="caf\udce9")
        thread.start()
        thread.join()
    assert [span.thread_name for span in Report(db).spans()] == ["caf?"]


# -- decorated functions ----------------------------------------------------------------------------


def test_a_plainly_decorated_call_gives_its_parent_back_to_its_caller(profiler: Profiler) -> None:
    @profiler.measure("plain")
    def plain() -> None:
        pass

    with profiler.measure("outer"):
        plain()
        with profiler.measure("sibling"):
            pass
    plain()
    assert profiler.current_span_id() is None
    found = spans(profiler)
    assert found["sibling"].parent_id == found["outer"].span_id


def test_a_plain_decoration_keeps_its_tags(profiler: Profiler) -> None:
    @profiler.measure("plain", tags={"kept": 1})
    def plain() -> None:
        pass

    plain()
    assert spans(profiler)["plain"].tags == {"kept": 1}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_even_what_is_no_exception_ends_a_decorated_call_as_an_error(
    profiler: Profiler, error: type[BaseException]
) -> None:
    @profiler.measure("stopped")
    def stopped() -> None:
        raise error

    with pytest.raises(error):
        stopped()
    assert spans(profiler)["stopped"].error_type == error.__name__
    assert profiler.current_span_id() is None


def test_a_sinks_own_decorated_function_keeps_its_result() -> None:
    class Measured(MemorySink):
        def write(self, batch: Any) -> None:
            assert half(8) == 4
            super().write(batch)

    profiler = Profiler(sink=(sink := Measured()), writer="sync", batch_size=1)

    @profiler.measure("half")
    def half(number: int) -> int:
        return number // 2

    profiler.start("x").end()
    with pytest.warns(LostSpansWarning, match="1 suppressed"):
        assert profiler.close().written == 1
    assert [span.name for span in sink.spans] == ["x"]


def test_a_thread_that_first_records_inside_a_sink_is_still_known_to_be_inside() -> None:
    class Measured(MemorySink):
        def write(self, batch: Any) -> None:
            other.start("somebody else's").end()
            profiler.start("my own").end()
            super().write(batch)

    other = Profiler(sink=MemorySink(), writer="sync", batch_size=1000)
    profiler = Profiler(sink=(sink := Measured()), batch_size=1)
    profiler.start("x").end()
    with pytest.warns(LostSpansWarning, match="1 suppressed"):
        report = profiler.close()
    assert (report.written, [span.name for span in sink.spans]) == (1, ["x"])
    assert other.close().written == 1


# -- generators -------------------------------------------------------------------------------------


def test_a_generator_goes_on_as_usual_after_it_handled_what_was_thrown_in(profiler: Profiler) -> None:
    received = []

    @profiler.measure("patient")
    def patient() -> Any:
        try:
            yield "waiting"
        except KeyError:
            received.append((yield "caught"))
        received.append((yield "next"))
        return "result"

    generator = patient()
    assert next(generator) == "waiting"
    assert generator.throw(KeyError()) == "caught"
    assert generator.send("a") == "next"
    with pytest.raises(StopIteration) as stop:
        generator.send("b")
    assert (received, stop.value.value) == (["a", "b"], "result")
    assert spans(profiler)["patient"].status == "ok"


async def drive_to_the_end(profiler: Profiler, received: list[Any]) -> None:
    @profiler.measure("patient")
    async def patient() -> Any:
        try:
            received.append((yield "waiting"))
            with profiler.measure("inside"):
                await asyncio.sleep(0)
            yield "inside"
        except KeyError:
            received.append((yield "caught"))
        yield "last"

    with profiler.measure("outer"):
        generator = patient()
        assert await anext(generator) == "waiting"
        with profiler.measure("between"):
            pass
        assert await generator.asend("sent") == "inside"
        assert await generator.athrow(KeyError()) == "caught"
        assert await generator.asend("again") == "last"
        with pytest.raises(StopAsyncIteration):
            await anext(generator)


def test_an_async_generator_hears_what_is_sent_and_thrown_into_it(profiler: Profiler) -> None:
    received: list[Any] = []
    asyncio.run(drive_to_the_end(profiler, received))
    assert received == ["sent", "again"]
    found = spans(profiler)
    assert found["patient"].status == "ok"
    assert found["patient"].parent_id == found["between"].parent_id == found["outer"].span_id
    assert found["inside"].parent_id == found["patient"].span_id


def test_an_async_generator_that_fails_is_an_error(profiler: Profiler) -> None:
    @profiler.measure("failing")
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("at last")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="at last"):
            async for _ in failing():
                pass

    asyncio.run(main())
    found = spans(profiler)["failing"]
    assert (found.status, found.error, found.error_type) == ("error", "at last", "RuntimeError")


def test_an_async_generator_that_is_left_early_is_closed_and_ok(profiler: Profiler) -> None:
    cleaned = []

    @profiler.measure("early")
    async def early() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    async def main() -> list[bool]:
        generator: Any = early()
        assert await anext(generator) == 1
        await generator.aclose()
        return list(cleaned)

    assert asyncio.run(main()) == [True], "closing did not wait for the body"
    assert spans(profiler)["early"].status == "ok"


@pytest.mark.parametrize("copied", [False, True])
def test_an_async_generator_whose_body_is_driven_from_two_contexts_does_not_hurt_the_program(
    profiler: Profiler, copied: bool
) -> None:
    class Pause:
        def __await__(self) -> Iterator[str]:
            yield "paused"

    @profiler.measure("wanderer")
    async def wanderer() -> AsyncIterator[int]:
        await Pause()
        yield 1

    step: Any = wanderer().__anext__()
    first = contextvars.copy_context()
    assert first.run(step.send, None) == "paused"
    second = first.copy() if copied else contextvars.copy_context()
    with pytest.raises(StopIteration) as stop:
        second.run(step.send, None)
    assert stop.value.value == 1
    assert second.run(profiler.current_span_id) is None


# -- profilers --------------------------------------------------------------------------------------


def test_aclose_lets_the_event_loop_go_on_while_the_sink_is_slow() -> None:
    sink = ScriptedSink()
    sink.gate.clear()

    async def main() -> Any:
        profiler = Profiler(sink=sink)
        profiler.start("x").end()
        closing = asyncio.create_task(profiler.aclose())
        while not sink.writes:
            await asyncio.sleep(0.001)
        assert not closing.done()
        sink.gate.set()
        return await closing

    assert asyncio.run(asyncio.wait_for(main(), WAIT_S)).written == 1


@pytest.mark.parametrize("close", [Profiler.close, lambda profiler, seconds: asyncio.run(profiler.aclose(seconds))])
def test_the_time_given_to_close_goes_before_the_option(close: Any) -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    profiler = Profiler(sink=sink, close_timeout=3600)
    profiler.start("x").end()
    reports: list[Any] = []
    with pytest.warns(LostSpansWarning, match="close_timeout"):
        closer = threading.Thread(target=lambda: reports.append(close(profiler, 0.05)))
        closer.start()
        closer.join(WAIT_S / 2)
        sink.gate.set()
        closer.join()
    assert reports[0].timed_out


def test_buffer_size_is_another_name_of_batch_size() -> None:
    with Profiler(sink="null", buffer_size=3) as profiler:
        assert profiler.settings.batch_size == 3


def test_options_of_the_default_sink_reach_it(db: str) -> None:
    with Profiler(db, sink_options={"namespace": "mine"}) as profiler:
        profiler.start("x").end()
    assert [span.name for span in Report(db, namespace="mine").spans()] == ["x"]


def test_a_sink_is_closed_again_if_its_writer_cannot_be_made() -> None:
    opened: list[MemorySink] = []

    def open_sink(target: str | None = None) -> MemorySink:
        opened.append(MemorySink(target))
        return opened[-1]

    def make_writer(sink: Any, settings: Any) -> Any:
        raise RuntimeError("no writer today")

    class Plugin:
        @hookimpl
        def ferret_sinks(self) -> dict[str, Any]:
            return {"noted": open_sink}

        @hookimpl
        def ferret_writers(self) -> dict[str, Any]:
            return {"failing": make_writer}

    plugins.register(Plugin())
    with pytest.raises(RuntimeError, match="no writer today"):
        Profiler(sink="noted", writer="failing")
    assert [sink.closed for sink in opened] == [True]


def test_a_profiler_that_cannot_handle_sigterm_closes_its_sink() -> None:
    sink, refused = MemorySink(), []

    def work() -> None:
        try:
            Profiler(sink=sink, handle_sigterm=True)
        except ConfigError as error:
            refused.append((error, sink.closed))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [closed for _, closed in refused] == [True]
