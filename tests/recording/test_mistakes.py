"""Mistakes with `measure` and `start`: each says at once what would be right."""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ferret
from ferret import Profiler
from ferret.sinks.memory import MemorySink
from ferret.tags import CUT


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


# -- over what is no function ------------------------------------------------------------------------


def test_a_class_is_refused_and_its_methods_are_named_instead(measure: Callable[..., Any]) -> None:
    with pytest.raises(
        TypeError, match=r"@measure\('K'\) is for functions, and Shop is a class: put it above its methods"
    ):

        @measure("K")
        class Shop: ...


@pytest.mark.parametrize("kind", [property, functools.cached_property, functools.singledispatchmethod])
def test_a_descriptor_that_is_no_function_is_refused_and_the_right_order_is_told(
    measure: Callable[..., Any], kind: type
) -> None:
    def price(self: object) -> int:
        return 7

    with pytest.raises(TypeError, match=f"put it below @{kind.__name__}, next to the `def`"):
        measure("price")(kind(price))


def test_static_and_class_methods_stay_what_they_are_in_either_order(profiler: Profiler) -> None:
    class Shop:
        @profiler.measure("above static")
        @staticmethod
        def above_static(number: int) -> int:
            return number

        @staticmethod
        @profiler.measure("below static")
        def below_static(number: int) -> int:
            return number

        @profiler.measure("above class")
        @classmethod
        def above_class(cls, number: int) -> tuple[type, int]:
            return cls, number

        @profiler.measure("of a coroutine")
        @staticmethod
        async def coroutine(number: int) -> int:
            return number

    for shop in (Shop, Shop()):
        assert (shop.above_static(1), shop.below_static(2), shop.above_class(3)) == (1, 2, (Shop, 3))
        assert asyncio.run(shop.coroutine(4)) == 4
    assert type(vars(Shop)["above_static"]) is staticmethod
    assert type(vars(Shop)["above_class"]) is classmethod
    assert inspect.iscoroutinefunction(Shop.coroutine)
    assert isinstance(profiler.sink, MemorySink)
    names = ["above static", "below static", "above class", "of a coroutine"]
    assert [span.name for span in profiler.sink.spans] == 2 * names


def test_whatever_can_be_called_can_be_measured(profiler: Profiler) -> None:
    class Caller:
        def __call__(self, number: int) -> int:
            return number

    for function in (abs, functools.partial(pow, 2), functools.cache(abs), Caller(), [3].count):
        assert profiler.measure("it")(function)(3) in {3, 8, 1}
    assert profiler.stats().recorded == 5


# -- tags and parents --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tags", [[1], "x", 5, [("a", 1)], (), {1}, dict, dict.fromkeys, object()], ids=lambda tags: type(tags).__name__
)
def test_tags_that_are_no_dict_say_so_where_they_are_read(profiler: Profiler, tags: Any) -> None:
    why = {CUT: f"tags must be a dict, not {type(tags).__name__}"}
    with profiler.measure("given", tags):
        pass
    profiler.start("started", tags).end()
    with profiler.measure("annotated", tags) as span:
        span.annotate(more=1)
    with profiler.measure("shown", tags) as span:
        assert span.model.tags == (why if tags else {})
    profiler.measure("decorated", tags)(lambda: None)()
    assert isinstance(profiler.sink, MemorySink)
    found = {span.name: span.tags for span in profiler.sink.spans}
    assert found["given"] == found["started"] == why
    assert found["annotated"] == ({**why, "more": 1} if tags else {"more": 1})
    assert found["decorated"] == (why if tags else {})


@pytest.mark.parametrize("parent", [5, None, b"0123456789abcdef", ["0123456789abcdef"]])
def test_a_parent_that_is_neither_a_span_nor_an_id_is_named(profiler: Profiler, parent: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(f"parent is {parent!r}: give a span, or a span id")):
        profiler.attached(parent).__enter__()
    if parent is not None:
        with pytest.raises(TypeError, match=re.escape(f"parent is {parent!r}: give a span, or a span id")):
            profiler.start("x", parent=parent)
    assert profiler.stats().recorded == 0
