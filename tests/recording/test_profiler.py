"""What programs do with a profiler, and what they find recorded."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import wait_until

import ferret
from ferret import Profiler, SpanModel
from ferret.batch import SpanData
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


def test_a_block_is_a_span_with_all_its_facts(profiler: Profiler) -> None:
    before = time.time()
    with profiler.measure("work", tags={"user": 7}) as span:
        span.annotate(items=3)
        time.sleep(0.002)
    found = spans(profiler)["work"]
    assert found.tags == {"user": 7, "items": 3}
    assert (found.status, found.error, found.error_type, found.parent_id) == ("ok", None, None, None)
    assert found.run_id == profiler.run_id
    assert found.duration >= 0.002
    assert found.end_time == pytest.approx(found.start_time + found.duration)
    assert before - 1 < found.start_time < time.time() + 1
    assert found.thread_id == threading.get_ident()
    assert found.thread_name == threading.current_thread().name
    assert (len(found.span_id), int(found.span_id, 16) > 0) == (16, True)


def test_nested_blocks_are_parents_and_children(profiler: Profiler) -> None:
    with profiler.measure("a"):
        with profiler.measure("b"):
            with profiler.measure("c"):
                pass
        with profiler.measure("d"):
            pass
    found = spans(profiler)
    assert found["b"].parent_id == found["a"].span_id == found["d"].parent_id
    assert found["c"].parent_id == found["b"].span_id
    assert profiler.current.get() == 0


def test_two_profilers_do_not_mix_their_parents(profiler: Profiler) -> None:
    with Profiler(sink=MemorySink(), writer="sync") as other:
        with profiler.measure("a"), other.measure("b"), profiler.measure("c"):
            pass
        assert spans(other)["b"].parent_id is None
    assert spans(profiler)["c"].parent_id == spans(profiler)["a"].span_id


def test_an_exception_is_recorded_and_passes_on(profiler: Profiler) -> None:
    with pytest.raises(ValueError, match="seven"), profiler.measure("bad"):
        raise ValueError("seven")
    found = spans(profiler)["bad"]
    assert (found.status, found.error, found.error_type) == ("error", "seven", "ValueError")


def test_an_exception_whose_text_fails_is_recorded_all_the_same(profiler: Profiler) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(MuteError), profiler.measure("bad"):
        raise MuteError
    assert spans(profiler)["bad"].error == "<MuteError without a str()>"


def test_a_span_ended_by_hand_is_a_child_but_nobodys_parent(profiler: Profiler) -> None:
    with profiler.measure("outer"):
        span = profiler.start("by hand", {"x": 1})
        with profiler.measure("inner"):
            pass
        span.end("late")
        span.end()
    found = spans(profiler)
    assert found["by hand"].parent_id == found["inner"].parent_id == found["outer"].span_id
    assert found["by hand"].status == "late"
    assert profiler.stats().recorded == 3


def test_a_parent_can_be_named_by_its_id(profiler: Profiler) -> None:
    with profiler.measure("here"):
        sent = profiler.current_span_id()
    assert profiler.current_span_id() is None
    profiler.start("there", parent=sent).end()
    profiler.start("too", parent=profiler.start("x")).end()
    assert spans(profiler)["there"].parent_id == sent == spans(profiler)["here"].span_id
    with pytest.raises(ValueError, match="16 hex digits"):
        profiler.start("there", parent="7")


def test_what_comes_from_another_process_can_have_its_parent_there(profiler: Profiler) -> None:
    with profiler.attached("00000000000000ab"), profiler.measure("handled here"):
        profiler.start("deeper").end()
    assert profiler.current_span_id() is None
    found = spans(profiler)
    assert found["handled here"].parent_id == "00000000000000ab"
    assert found["deeper"].parent_id == found["handled here"].span_id
    with pytest.raises(ValueError, match="16 hex digits"), profiler.attached("not hexadecimal!"):
        pass


def test_ending_inside_the_block_records_once(profiler: Profiler) -> None:
    with profiler.measure("once") as span:
        span.end()
    assert profiler.stats().recorded == 1
    assert profiler.current.get() == 0


def test_a_block_can_be_entered_again_and_is_another_span(profiler: Profiler) -> None:
    block = profiler.measure("again", tags={"fixed": 1})
    with block as first:
        first.annotate(only="first")
        first_id = first.span_id
    with block as second:
        assert second.span_id != first_id
    profiler.flush()
    assert isinstance(profiler.sink, MemorySink)
    assert [span.tags for span in profiler.sink.spans] == [{"fixed": 1, "only": "first"}, {"fixed": 1}]


def test_tags_are_as_they_were_at_the_end(profiler: Profiler) -> None:
    tags = {"list": [1]}
    with profiler.measure("snapshot", tags) as span:
        tags["list"].append(2)
    tags["list"].append(3)
    span.annotate(late=True)
    assert spans(profiler)["snapshot"].tags == {"list": [1, 2]}
    assert tags == {"list": [1, 2, 3]}


def test_what_is_set_on_the_model_is_recorded(profiler: Profiler) -> None:
    with profiler.measure("search") as span:
        assert isinstance(span.model, SpanModel)
        assert (span.model.name, span.model.end_time, span.model.duration) == ("search", None, None)
        span.model.status = "warning"
        span.model.tags["from"] = "model"
        span.annotate(more=1)
    found = spans(profiler)["search"]
    assert (found.status, found.tags) == ("warning", {"from": "model", "more": 1})
    assert span.model.duration == found.duration
    assert span.model.end_time == pytest.approx(found.end_time)
    assert span.model.span_id == found.span_id


# -- decorators -----------------------------------------------------------------------------------


def test_a_decorated_function_keeps_its_face_and_records_each_call(profiler: Profiler) -> None:
    @profiler.measure("double")
    def double(number: int, *, times: int = 2) -> int:
        """Docs."""
        return number * times

    assert [double(2), double(2, times=3)] == [4, 6]
    assert (double.__name__, double.__doc__) == ("double", "Docs.")
    assert profiler.stats().recorded == 2


def test_a_decorated_function_that_raises_is_recorded_as_an_error(profiler: Profiler) -> None:
    @profiler.measure("inner")
    def inner() -> None:
        raise KeyError("x")

    @profiler.measure("outer")
    def outer() -> None:
        inner()

    with pytest.raises(KeyError):
        outer()
    found = spans(profiler)
    assert found["inner"].error_type == found["outer"].error_type == "KeyError"
    assert found["inner"].parent_id == found["outer"].span_id
    assert profiler.current.get() == 0


def test_recursion_nests(profiler: Profiler) -> None:
    @profiler.measure(lambda args: f"down {args[0]}")
    def down(levels: int) -> None:
        if levels:
            down(levels - 1)

    down(3)
    found = spans(profiler)
    assert [found[f"down {level}"].parent_id for level in (2, 1, 0)] == [
        found[f"down {level}"].span_id for level in (3, 2, 1)
    ]


@pytest.mark.parametrize(
    "name",
    [
        lambda args: f"user {args[0]}",
        lambda args, kwargs: f"user {args[0] if args else kwargs['uid']}",
        lambda *both: f"user {both[0][0]}",
    ],
)
def test_a_name_can_be_computed_from_the_arguments(profiler: Profiler, name: Callable[..., str]) -> None:
    @profiler.measure(name, tags={"kept": 1})
    def load(uid: int) -> int:
        return uid

    assert load(42) == 42
    assert spans(profiler)["user 42"].tags == {"kept": 1}


def test_a_name_that_cannot_be_computed_does_not_hurt_the_program(profiler: Profiler) -> None:
    @profiler.measure(lambda args: args[7])
    def load() -> str:
        return "fine"

    assert load() == "fine"
    with profiler.measure(lambda: 1 / 0):
        pass
    assert profiler.stats().recorded == 2
    assert set(spans(profiler)) == {"unknown_dynamic_span"}


@pytest.mark.parametrize(
    "name", [None, 7, b"x", "\ud800", "x" * 100_000, object()], ids=lambda name: type(name).__name__
)
def test_any_object_can_be_a_name(profiler: Profiler, name: Any) -> None:
    with profiler.measure(name):
        pass
    profiler.start(name).end()
    profiler.measure(name)(lambda: None)()
    assert profiler.stats().written == 3


def test_a_decorated_coroutine_is_one(profiler: Profiler) -> None:
    @profiler.measure("leaf")
    async def leaf() -> int:
        await asyncio.sleep(0)
        return 1

    @profiler.measure("root")
    async def root() -> int:
        async with profiler.measure("block"):
            return sum(await asyncio.gather(leaf(), leaf()))

    assert inspect.iscoroutinefunction(root)
    assert asyncio.run(root()) == 2
    found = spans(profiler)
    assert found["leaf"].parent_id == found["block"].span_id
    assert found["block"].parent_id == found["root"].span_id
    assert found["leaf"].task_name != found["root"].task_name
    assert (found["root"].task_name or "").startswith("Task-")


def test_tasks_do_not_take_each_other_for_parents(profiler: Profiler) -> None:
    async def request(number: int) -> None:
        with profiler.measure(f"request {number}"):
            await asyncio.sleep(0.001 * (number % 3))
            with profiler.measure(f"query {number}"):
                await asyncio.sleep(0)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(request(number), name=f"handler {number}")

    asyncio.run(main())
    found = spans(profiler)
    for number in range(20):
        assert found[f"query {number}"].parent_id == found[f"request {number}"].span_id
        assert found[f"query {number}"].task_name == f"handler {number}"
        assert found[f"request {number}"].parent_id is None


def test_a_cancelled_coroutine_is_an_error(profiler: Profiler) -> None:
    @profiler.measure("sleeper")
    async def sleeper() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(sleeper())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert spans(profiler)["sleeper"].error_type == "CancelledError"


def test_a_generator_is_one_span_and_a_parent_only_while_its_body_runs(profiler: Profiler) -> None:
    @profiler.measure("numbers")
    def numbers() -> Iterator[int]:
        with profiler.measure("inside"):
            pass
        received = yield 1
        assert received == "sent"
        yield 2
        return "result"

    assert inspect.isgeneratorfunction(numbers)

    def delegate() -> Iterator[int]:
        assert (yield from numbers()) == "result"

    with profiler.measure("outer"):
        generator: Any = delegate()
        assert next(generator) == 1
        with profiler.measure("between"):
            pass
        assert generator.send("sent") == 2
        assert list(generator) == []
    found = spans(profiler)
    assert found["numbers"].parent_id == found["between"].parent_id == found["outer"].span_id
    assert found["inside"].parent_id == found["numbers"].span_id
    assert profiler.stats().recorded == 4


def test_the_time_in_which_nobody_asks_a_generator_is_kept_apart(profiler: Profiler) -> None:
    @profiler.measure("numbers")
    def numbers() -> Iterator[int]:
        yield from range(3)

    @profiler.measure("numbers, slowly")
    async def numbers_slowly() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def consume() -> None:
        async for _ in numbers_slowly():
            busy()

    waited = 0

    def busy() -> None:
        nonlocal waited
        started = time.perf_counter_ns()
        while time.perf_counter_ns() - started < 1_000_000:
            pass
        waited += time.perf_counter_ns() - started

    for _ in numbers():
        busy()
    asyncio.run(consume())
    found = spans(profiler)
    suspended = found["numbers"].suspended + found["numbers, slowly"].suspended
    assert waited / 1e9 <= suspended <= found["numbers"].duration + found["numbers, slowly"].duration


def test_a_generator_handles_what_is_thrown_into_it(profiler: Profiler) -> None:
    @profiler.measure("patient")
    def patient() -> Iterator[str]:
        try:
            yield "waiting"
        except KeyError:
            yield "caught"
        raise RuntimeError("at last")

    generator: Any = patient()
    assert next(generator) == "waiting"
    assert generator.throw(KeyError()) == "caught"
    with pytest.raises(RuntimeError, match="at last"):
        next(generator)
    assert spans(profiler)["patient"].error_type == "RuntimeError"


def test_a_generator_that_is_left_early_is_closed_and_ok(profiler: Profiler) -> None:
    cleaned = []

    @profiler.measure("early")
    def early() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            cleaned.append(True)

    for _ in early():
        break
    assert cleaned == [True]
    assert spans(profiler)["early"].status == "ok"


def test_an_async_generator_is_one_span(profiler: Profiler) -> None:
    @profiler.measure("ticks")
    async def ticks() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0)
            with profiler.measure("tick"):
                yield number

    async def main() -> list[int]:
        assert inspect.isasyncgenfunction(ticks)
        found = []
        async with profiler.measure("outer"):
            async for number in ticks():
                found.append(number)
        generator = ticks()
        await anext(generator)
        await generator.aclose()
        return found

    assert asyncio.run(main()) == [0, 1, 2]
    assert profiler.current.get() == 0
    assert isinstance(profiler.sink, MemorySink)
    profiler.flush()
    names = [span.name for span in profiler.sink.spans]
    assert (names.count("ticks"), names.count("tick")) == (2, 4)


def test_a_generator_closed_in_another_context_does_not_hurt_the_program(profiler: Profiler) -> None:
    def body() -> Iterator[int]:
        with profiler.measure("wanderer"):
            yield 1

    generator = contextvars.copy_context().run(lambda: (one := body(), next(one))[0])
    generator.close()  # type: ignore[attr-defined]
    assert spans(profiler)["wanderer"].status == "error"


# -- threads --------------------------------------------------------------------------------------


def test_a_thread_pools_work_keeps_its_parent_when_asked_to(profiler: Profiler) -> None:
    def work(number: int) -> str:
        with profiler.measure(f"work {number}"):
            return threading.current_thread().name

    with ThreadPoolExecutor(2, "pool") as pool, profiler.measure("request"):
        kept = profiler.in_context(work)
        names = list(pool.map(kept, range(4)))
        pool.submit(work, 4).result()
    found = spans(profiler)
    assert {found[f"work {number}"].parent_id for number in range(4)} == {found["request"].span_id}
    assert found["work 4"].parent_id is None
    assert [found[f"work {number}"].thread_name for number in range(4)] == names


# -- the process's own profiler -------------------------------------------------------------------


def test_decorations_at_import_find_the_profiler_that_is_configured_later() -> None:
    @ferret.measure("early bird", tags={"x": 1})
    def work() -> None:
        with ferret.measure("within"):
            pass

    first = ferret.configure(sink=MemorySink(), writer="sync")
    assert ferret.get_profiler() is first
    work()
    second = ferret.configure(sink=MemorySink(), writer="sync")
    work()
    work()
    assert first.stats().written == 2, "the first was closed"
    assert second.stats().recorded == 4
    found = spans(second)
    assert found["within"].parent_id == found["early bird"].span_id
    assert found["early bird"].tags == {"x": 1}


def test_without_configure_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRET_SINK", "memory")
    monkeypatch.setenv("FERRET_WRITER", "sync")
    with ferret.measure("x"):
        assert ferret.in_context(lambda: 1)() == 1
    assert "x" in spans(ferret.get_profiler())


# -- closing --------------------------------------------------------------------------------------


def test_closing_tells_what_became_of_everything(profiler: Profiler) -> None:
    with profiler.measure("x"):
        pass
    report = profiler.close()
    assert (report.recorded, report.written, report.dropped, report.failed, report.pending) == (1, 1, 0, 0, 0)
    assert profiler.close() == report
    with profiler.measure("too late"):
        pass
    assert profiler.stats().dropped_by == {"closed": 1}
    assert profiler.close() == report


def test_async_with_closes_without_holding_up_the_loop() -> None:
    async def main() -> Profiler:
        async with Profiler(sink=MemorySink()) as profiler:
            async with profiler.measure("x"):
                pass
        return profiler

    profiler = asyncio.run(main())
    assert profiler.stats().written == 1
    assert profiler.sink is not None
    assert profiler.sink.closed  # type: ignore[attr-defined]


def test_a_profiler_that_nobody_holds_stores_what_it_has() -> None:
    sink = MemorySink()
    Profiler(sink=sink).start("orphan").end()
    import gc

    gc.collect()
    wait_until(lambda: sink.spans)  # nobody waits for the worker, least of all the garbage collector
    assert [span.name for span in sink.spans] == ["orphan"]
