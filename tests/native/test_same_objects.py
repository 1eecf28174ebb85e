"""To everybody who looks at them, spans and decorated functions are what they are without the native twin."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import pydoc
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest

from ferret import Profiler, Span
from ferret.decorate import Measure
from ferret.span import Record

profiler: Any = None


def double(number: int, *, by: int = 2) -> int:
    """Twice as much."""
    return number * by


@pytest.fixture(autouse=True)
def queue() -> Iterator[Any]:
    """The queue of `profiler`, which has measured `double`."""
    this = sys.modules[__name__]
    made = Profiler(sink="null", writer="bounded", batch_size=10**6, max_queue=10**6, flush_interval=3600)
    with made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(this, "profiler", made)
        patch.setattr(this, "double", made.measure("double")(double))
        made.start("first").end()  # the worker's thread is there before the test
        made.flush()
        yield made.writer.queue  # type: ignore[attr-defined]


def test_a_decorated_function_is_a_function() -> None:
    assert type(double) is FunctionType
    assert inspect.isfunction(double)
    assert not inspect.iscoroutinefunction(double)
    assert str(inspect.signature(double)) == "(number: 'int', *, by: 'int' = 2) -> 'int'"
    assert double.__wrapped__(3) == 6  # type: ignore[attr-defined]
    assert "Twice as much." in pydoc.render_doc(double)
    assert pickle.loads(pickle.dumps(double)) is double
    assert copy.deepcopy(double) is double
    assert weakref.ref(double)() is double
    assert (double(2), double(2, by=5), double(number=4)) == (4, 10, 8)


def test_in_a_class_it_binds_as_a_function_does() -> None:
    class Shop:
        @profiler.measure("new")
        def __new__(cls, *_: Any) -> Any:
            return super().__new__(cls)

        @profiler.measure("init")
        def __init__(self, price: int) -> None:
            self.price = price

        @profiler.measure("method")
        def method(self, more: int) -> int:
            return self.price + more

        @classmethod
        @profiler.measure("class method")
        def of_class(cls) -> type:
            return cls

        @property
        @profiler.measure("property")
        def double(self) -> int:
            return 2 * self.price

        @profiler.measure("item")
        def __getitem__(self, key: int) -> int:
            return key

    shop = Shop(5)
    for _ in range(50):  # beyond the point at which Python specialises the calls
        assert (shop.method(1), shop.method(more=2), Shop.method(shop, 3)) == (6, 7, 8)
        assert (Shop.of_class(), shop.double, shop[3], Shop(1).price) == (Shop, 10, 3, 1)
    assert shop.method.__self__ is shop


def test_a_traceback_shows_the_program_alone() -> None:
    @profiler.measure("fails")
    def fails() -> None:
        raise ValueError("no such user")

    with pytest.raises(ValueError, match="no such user") as caught:
        fails()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names == [test_a_traceback_shows_the_program_alone.__name__, "fails"]
    assert caught.value.__context__ is None


def test_a_function_that_calls_itself_very_deep_needs_no_more_of_the_stack_than_in_python(queue: Any) -> None:
    limit, deep = sys.getrecursionlimit(), []

    @profiler.measure("down")
    def down(count: int) -> int:
        return 0 if count == 0 else 1 + down(count - 1)

    def go_deep() -> None:
        deep.append(down(20_000))

    sys.setrecursionlimit(100_000)
    threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=go_deep)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(0)
        sys.setrecursionlimit(limit)
    assert deep == [20_000]
    assert len(queue) == 20_001


def test_a_span_can_be_copied_and_compared_as_ever() -> None:
    span = profiler.measure("x", {"a": 1})
    twin = copy.copy(span)
    assert (twin.name, twin._tags, twin.end_ns) == ("x", {"a": 1}, 0)
    with pytest.raises(TypeError):
        weakref.ref(span)
    assert not hasattr(span, "__dict__")
    assert repr(span) == "<Span 'x'>"
    assert gc.is_tracked(span)


@pytest.mark.parametrize("name", ["span_id", "parent_id", "start_ns", "name"])
def test_an_attribute_that_is_not_set_is_an_attribute_error(name: str) -> None:
    span = Span.__new__(Span)
    with pytest.raises(AttributeError, match=name):
        getattr(span, name)
    with pytest.raises(AttributeError):
        span.__enter__()
    with pytest.raises(AttributeError):
        span.__exit__(None, None, None)


def test_wrong_arguments_are_type_errors_as_ever() -> None:
    with pytest.raises(TypeError, match="missing"):
        Span()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword"):
        Measure(profiler, "x", colour="red")  # type: ignore[call-arg]
    assert Measure(recorder=profiler, name="x", tags=None).name == "x"
    with pytest.raises(TypeError):
        Span.__enter__(object())  # type: ignore[arg-type]
    span = profiler.measure("x")
    span.__enter__()
    span.__exit__(kind=None, error=None, traceback=None)
    with pytest.raises(TypeError):
        span.__exit__(None)  # type: ignore[call-arg]


def test_a_subclass_that_stores_in_its_own_way_is_asked() -> None:
    stored = []

    class Curious(Span):
        __slots__ = ()

        def __setattr__(self, name: str, value: object) -> None:
            stored.append(name)
            super().__setattr__(name, value)

    with Curious(profiler, "x"):
        pass
    assert stored[:5] == ["_recorder", "name", "_tags", "_details", "end_ns"]
    assert stored[5:] == ["parent_id", "span_id", "_token", "start_ns", "end_ns"]


def test_a_subclass_with_a_name_of_its_own_kind_is_asked(queue: Any) -> None:
    class Fixed(Span):
        __slots__ = ()
        name = property(lambda _: "fixed", lambda *_: None)  # type: ignore[assignment]

    with Fixed(profiler, "x"):
        pass
    assert queue[-1][2] == "fixed"


def test_what_is_patched_into_the_class_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(Span, "__init__", lambda self, *args: made.append(args))
    profiler.measure("x")
    assert made == [(profiler, "x", None)]
    monkeypatch.undo()
    assert profiler.measure("y").name == "y"
    assert len(made) == 1


def test_a_record_costs_the_collector_nothing(queue: Any) -> None:
    with profiler.measure("x", {"a": 1}):
        double(1)
    records: list[Record] = list(queue)
    assert [len(one) for one in records] == [11, 11]
    assert not any(map(gc.is_tracked, records))
    with profiler.measure("x") as span:
        span.parent_id = []  # type: ignore[assignment]
    assert gc.is_tracked(queue[-1])
