"""Coroutines cancelled anywhere, generators closed elsewhere, loops one after the other: every span once, its parent right.

Under asyncio, and under trio and gevent where they are installed.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from typing import Any

import pytest

from ferret import Profiler
from ferret.batch import SpanData
from ferret.sinks.memory import MemorySink


@pytest.fixture
def profiler() -> Iterator[Profiler]:
    with Profiler(sink=MemorySink(), batch_size=100) as profiler:
        yield profiler


def spans(profiler: Profiler) -> list[SpanData]:
    assert profiler.flush()
    assert isinstance(profiler.sink, MemorySink)
    return list(profiler.sink.spans)


def named(profiler: Profiler) -> dict[str, SpanData]:
    return {span.name: span for span in spans(profiler)}


# -- cancellation -----------------------------------------------------------------------------------


class Pause:
    """An await point that whoever drives the coroutine sees."""

    def __await__(self) -> Generator[str]:
        yield "paused"


def program(profiler: Profiler) -> Coroutine[Any, Any, None]:
    """Blocks, decorated coroutines and generators within each other, with an await point at every step."""

    @profiler.measure("numbers")
    async def numbers() -> AsyncIterator[int]:
        await Pause()
        for number in range(2):
            yield number
            await Pause()

    @profiler.measure("leaf")
    async def leaf() -> None:
        await Pause()

    @profiler.measure("cleaning")
    async def cleaning() -> None:
        try:
            await Pause()
        finally:
            with profiler.measure("clean-up"):
                await Pause()

    async def main() -> None:
        async with profiler.measure("outer"):
            await leaf()
            with profiler.measure("block"):
                await Pause()
                async for _ in numbers():
                    with profiler.measure("item"):
                        await Pause()
            await cleaning()
        with profiler.measure("after"):
            await Pause()

    return main()


PARENTS = {
    "outer": None, "leaf": "outer", "block": "outer", "numbers": "block", "item": "block", "cleaning": "outer",
    "clean-up": "cleaning", "after": None,
}  # fmt: skip


def drive(profiler: Profiler, cancel_at: int, error: type[BaseException]) -> tuple[int, bool]:
    """Run the program in a context of its own, and throw an error into its n-th await; how many there were."""

    def run() -> tuple[int, bool]:
        step, thrown = program(profiler), False
        count = 0
        try:
            step.send(None)
            while True:
                count += 1
                if count == cancel_at:
                    thrown = True
                    step.throw(error())
                else:
                    step.send(None)
        except (StopIteration, error):
            pass
        finally:
            step.close()
        assert profiler.current_span_id() is None
        return count, thrown

    return contextvars.copy_context().run(run)


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, RuntimeError])
def test_whichever_await_is_cancelled_every_span_ends_once_and_has_its_parent(error: type[BaseException]) -> None:
    awaits, _ = drive(Profiler(sink=MemorySink(), writer="sync"), 0, error)
    assert awaits == 10
    for cancel_at in range(1, awaits + 1):
        with Profiler(sink=MemorySink(), writer="sync") as profiler:
            assert drive(profiler, cancel_at, error)[1]
            gc.collect()  # the generator that the loop left behind
            found = spans(profiler)
            ids = {span.span_id: span.name for span in found}
            assert len(ids) == len(found)
            assert "outer" in ids.values()
            for span in found:
                parent = None if span.parent_id is None else ids[span.parent_id]
                assert parent == PARENTS[span.name], f"cancelled at {cancel_at}: {span.name} under {parent}"
            failed = {span.name for span in found if span.status == "error"}
            assert failed, f"cancelled at {cancel_at}"
            assert {span.error_type for span in found if span.status == "error"} == {error.__name__}


def test_a_cancelled_task_of_a_group_is_an_error_and_so_are_its_siblings(profiler: Profiler) -> None:
    async def work(number: int, begun: asyncio.Event) -> None:
        with profiler.measure(f"task {number}"):
            if number == 2:
                begun.set()
                raise ValueError("one of them")
            await asyncio.Event().wait()

    async def main() -> None:
        begun = asyncio.Event()
        with profiler.measure("group"):
            async with asyncio.TaskGroup() as group:
                for number in range(3):
                    group.create_task(work(number, begun))

    with pytest.raises(ExceptionGroup):
        asyncio.run(main())
    found = named(profiler)
    assert {found[f"task {n}"].error_type for n in (0, 1)} == {"CancelledError"}
    assert found["task 2"].error_type == "ValueError"
    assert {found[f"task {n}"].parent_id for n in range(3)} == {found["group"].span_id}


# -- generators, loops and contexts -----------------------------------------------------------------


def test_a_generator_that_is_closed_in_another_task_hurts_neither(profiler: Profiler) -> None:
    @profiler.measure("numbers")
    async def numbers() -> AsyncIterator[int]:
        with profiler.measure("inside"):
            yield 1
            yield 2

    async def close(generator: Any) -> None:
        with profiler.measure("closer"):
            await generator.aclose()
            with profiler.measure("after closing"):
                pass

    async def main() -> None:
        with profiler.measure("opener"):
            generator = numbers()
            assert await anext(generator) == 1
            await asyncio.create_task(close(generator))
            with profiler.measure("after"):
                pass
        assert profiler.current_span_id() is None

    asyncio.run(main())
    found = named(profiler)
    parents = {
        name: next((one.name for one in found.values() if one.span_id == span.parent_id), None)
        for name, span in found.items()
    }
    assert parents == {
        "numbers": "opener", "inside": "numbers", "opener": None, "closer": "opener", "after closing": "closer",
        "after": "opener",
    }  # fmt: skip
    assert found["numbers"].status == "ok"


def test_two_loops_one_after_the_other_know_nothing_of_each_other(profiler: Profiler) -> None:
    async def main(name: str) -> None:
        leaving = profiler.measure(f"left open by {name}")
        leaving.__enter__()
        with profiler.measure(name):
            await asyncio.sleep(0)

    for name in ("first", "second"):
        asyncio.run(main(name))
        assert profiler.current_span_id() is None
    found = named(profiler)
    assert set(found) == {"first", "second"}
    assert found["first"].parent_id != found["second"].parent_id


@pytest.mark.parametrize("eager", [False, True], ids=["as usual", "eager"])
def test_ten_thousand_tasks_each_have_their_own_parent(profiler: Profiler, eager: bool) -> None:
    async def request(number: int, gate: asyncio.Event) -> None:
        with profiler.measure("request", {"n": number}):
            await gate.wait()
            with profiler.measure("query", {"n": number}):
                if number % 2:
                    await asyncio.sleep(0)

    async def main() -> None:
        if eager:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        gate = asyncio.Event()
        with profiler.measure("all"):
            async with asyncio.TaskGroup() as group:
                for number in range(10_000):
                    group.create_task(request(number, gate), name=f"task {number}")
                with profiler.measure("beside"):
                    gate.set()

    asyncio.run(main())
    found = spans(profiler)
    assert len(found) == 20_002
    (whole,) = (span for span in found if span.name == "all")
    requests = {span.tags["n"]: span for span in found if span.name == "request"}
    queries = {span.tags["n"]: span for span in found if span.name == "query"}
    assert all(requests[number].parent_id == whole.span_id for number in range(10_000))
    assert all(queries[number].parent_id == requests[number].span_id for number in range(10_000))
    assert all(queries[number].task_name == f"task {number}" for number in range(10_000))
    assert next(span for span in found if span.name == "beside").parent_id == whole.span_id


def test_an_eager_task_that_never_waits_gives_its_parent_back(profiler: Profiler) -> None:
    async def work() -> None:
        with profiler.measure("eager"):
            pass

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        with profiler.measure("outer"):
            await asyncio.create_task(work())
            with profiler.measure("after"):
                pass

    asyncio.run(main())
    found = named(profiler)
    assert found["eager"].parent_id == found["after"].parent_id == found["outer"].span_id


def test_a_copied_context_takes_the_parent_along_and_changes_none(profiler: Profiler) -> None:
    async def main() -> None:
        with profiler.measure("outer"):
            copy = contextvars.copy_context()
        assert profiler.current_span_id() is None
        copy.run(lambda: profiler.start("in the copy").end())
        await asyncio.create_task(leaf(), context=copy)
        done = asyncio.Event()
        asyncio.get_running_loop().call_soon(lambda: (profiler.start("called").end(), done.set()), context=copy)
        await done.wait()
        assert profiler.current_span_id() is None

    async def leaf() -> None:
        with profiler.measure("task in the copy"):
            await asyncio.sleep(0)

    asyncio.run(main())
    found = named(profiler)
    assert {found[name].parent_id for name in ("in the copy", "task in the copy", "called")} == {found["outer"].span_id}
    assert found["called"].task_name is None


def test_a_task_factory_may_make_what_has_no_name(profiler: Profiler) -> None:
    class Nameless:
        pass

    async def main() -> None:
        loop, task, strange = asyncio.get_running_loop(), asyncio.current_task(), Nameless()
        assert task is not None
        asyncio.tasks._leave_task(loop, task)
        asyncio.tasks._enter_task(loop, strange)  # type: ignore[arg-type]
        try:
            profiler.start("x").end()
        finally:
            asyncio.tasks._leave_task(loop, strange)  # type: ignore[arg-type]
            asyncio.tasks._enter_task(loop, task)

    asyncio.run(main())
    assert named(profiler)["x"].task_name is None


# -- others than asyncio ----------------------------------------------------------------------------


def test_trio_tasks_have_the_parents_that_they_were_begun_in(profiler: Profiler) -> None:
    trio = pytest.importorskip("trio")

    async def request(number: int) -> None:
        async with profiler.measure(f"request {number}"):
            await trio.sleep(0)
            with profiler.measure(f"query {number}"):
                await trio.lowlevel.checkpoint()

    async def main() -> None:
        with profiler.measure("outer"):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(request, number)
            with trio.move_on_after(0), profiler.measure("cancelled"):
                await trio.sleep_forever()
        assert profiler.current_span_id() is None

    trio.run(main)
    found = named(profiler)
    assert len(found) == 102
    for number in range(50):
        assert found[f"query {number}"].parent_id == found[f"request {number}"].span_id
        assert found[f"request {number}"].parent_id == found["outer"].span_id
    assert (found["cancelled"].status, found["cancelled"].error_type) == ("error", "Cancelled")


GEVENT = """
import sys
from gevent import monkey
if sys.argv[1] == "patched":
    monkey.patch_all()
import gevent
from ferret import Profiler, Report

path = sys.argv[2]
with Profiler(path, writer=sys.argv[3]) as profiler:
    def request(number):
        with profiler.measure("request", {"n": number}):
            gevent.sleep(0)
            with profiler.measure("query", {"n": number}):
                gevent.sleep(0)
    gevent.joinall([gevent.spawn(request, number) for number in range(200)], raise_error=True)
    assert profiler.flush(10), profiler.stats()
spans = list(Report(path).spans())
requests = {span.tags["n"]: span for span in spans if span.name == "request"}
queries = {span.tags["n"]: span for span in spans if span.name == "query"}
assert len(spans) == 400, len(spans)
assert all(queries[n].parent_id == requests[n].span_id and requests[n].parent_id is None for n in range(200))
print("right")
"""


@pytest.mark.parametrize("patched", ["patched", "as it is"])
@pytest.mark.parametrize("writer", ["sync", "threaded"])
def test_greenlets_do_not_take_each_other_for_parents(patched: str, writer: str, db: str) -> None:
    pytest.importorskip("gevent")
    done = subprocess.run(
        [sys.executable, "-c", GEVENT, patched, db, writer], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "right\n"), done.stderr[-3000:]
