"""Mistakes with `measure` and `start`: each says at once what would be right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ferret
from ferret import Profiler
from ferret.sinks.memory import MemorySink


@pytest.fixture
def profiler() -> Iterator[Profiler]:
    with Profiler(sink=MemorySink(), writer="sync", batch_size=1) as profiler:
        yield profiler


@pytest.fixture(params=["of a profiler", "of the module"])
def measure(request: pytest.FixtureRequest, profiler: Profiler) -> Callable[..., Any]:
    return profiler.measure if request.param == "of a profiler" else ferret.measure


# -- no name -----------------------------------------------------------------------------------------

NAME_FIRST = r"measure takes a name first: @measure\('load'\)"


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((21,), {}), ((1, 2), {}), ((), {"x": 1}), ((print,), {"file": None}), ((dict, 1), {})],
)
def test_a_function_that_was_measured_without_a_name_says_so_when_it_is_called(
    measure: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    @measure
    def load(*args: Any, **kwargs: Any) -> None:
        raise AssertionError

    with pytest.raises(TypeError, match=NAME_FIRST):
        load(*args, **kwargs)


def test_a_coroutine_or_generator_function_without_a_name_says_so_whatever_it_is_called_with(
    measure: Callable[..., Any],
) -> None:
    async def coroutine(_: object) -> None: ...

    def generator(_: object) -> Iterator[int]:
        yield 1

    async def both(_: object) -> Any:
        yield 1

    for function in (coroutine, generator, both):
        with pytest.raises(TypeError, match=f"takes a name first: @measure.'{function.__name__}'"):
            measure(function)(print)
    with pytest.raises(TypeError, match="takes a name first"):
        asyncio.run(measure(coroutine)())


def test_a_method_that_is_measured_without_a_name_says_so_when_its_class_is_made(measure: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=NAME_FIRST):

        class Shop:
            @measure
            def load(self) -> None: ...


def test_a_decorator_without_a_name_under_one_with_a_name_says_so(measure: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=NAME_FIRST):

        @measure("outer")
        @measure
        def load() -> None: ...


def test_a_function_may_still_give_the_name_wherever_the_decorator_is_kept(profiler: Profiler) -> None:
    def name_of(args: tuple[Any, ...]) -> str:
        return f"load {args[0]}"

    class Kept:
        traced = profiler.measure(name_of)
        others = profiler.measure(str)

    assert Kept.traced(abs)(-3) == 3
    assert Kept.others(abs)(-4) == 4
    assert isinstance(profiler.sink, MemorySink)
    assert [span.name for span in profiler.sink.spans] == ["load -3", "(-4,)"]


def test_a_measure_with_a_name_that_is_called_with_no_function_says_so(measure: Callable[..., Any]) -> None:
    for args in [(), (1,), (print, print)]:
        with pytest.raises(TypeError, match=r"@measure\('load'\) is for a function"):
            measure("load")(*args)
