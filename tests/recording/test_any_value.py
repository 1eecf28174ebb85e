"""Any object whatever may be a tag, a tag's key, the tags, a name, a status or an error: nothing is raised into the program,
what is stored is strict JSON, and ids, name and times are kept."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import time
import uuid
from collections import ChainMap, OrderedDict, UserDict, defaultdict, deque
from types import MappingProxyType, SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferret import Profiler, Report
from ferret.batch import SpanData
from ferret.models import SpanModel
from ferret.tags import CUT, MAX_TAGS_BYTES, MAX_TEXT, UNREADABLE, decode_tags, strict_tags


class ForeignError(BaseException):
    """Not even an `Exception`."""


def raises(*_: Any, **__: Any) -> Any:
    raise ForeignError("no")


class Hostile:
    """Raises whatever it is asked."""

    __str__ = __repr__ = __eq__ = __ne__ = __bool__ = __len__ = __iter__ = __getattr__ = __format__ = raises
    __index__ = __float__ = __int__ = __contains__ = __getitem__ = __call__ = __instancecheck__ = raises
    __hash__ = raises  # type: ignore[assignment]
    __class__ = property(raises)  # type: ignore[assignment]


class Unhashable(list):  # type: ignore[type-arg]
    pass


class LyingClass:
    """Says that it is a text, or a number."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # type: ignore[override]
        return self._kind


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise ForeignError("no name")


class Nameless(metaclass=Meta):
    __str__ = __repr__ = raises


class LyingText(str):
    __slots__ = ()
    __str__ = __repr__ = __len__ = encode = isprintable = __getitem__ = raises
    __eq__ = raises
    __hash__ = raises  # type: ignore[assignment]


class LyingNumber(int):
    __str__ = __repr__ = __index__ = __int__ = bit_length = raises
    __hash__ = raises  # type: ignore[assignment]
    __eq__ = raises


class LyingDict(dict):  # type: ignore[type-arg]
    items = keys = values = __iter__ = __len__ = __bool__ = __getitem__ = raises


class Colour(enum.Enum):
    RED = "red"
    ODD = object()


@dataclasses.dataclass
class Point:
    x: Any = 1


class Hurried(msgspec.Struct):
    x: Any = 1


class EqualToAll:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class BadError(Exception):
    __str__ = __repr__ = raises


def cycle() -> Any:
    loop: dict[str, Any] = {}
    loop["self"] = [loop]
    return loop


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = {"in": [value]}
    return value


RAWS = [
    b"no json",
    b'{"a":1',
    b'1},"x":{',
    b'"\xff"',
    b"[" * 100_000,
    b"NaN",
    b"",
    b"1e999",
    b"9" * 5_000,
    b'"\n"',
    b"1,2",
]

ANYTHING: dict[str, Any] = {
    "hostile": Hostile(), "unhashable": Unhashable([1]), "lies: str": LyingClass(str), "lies: int": LyingClass(int),
    "lies: dict": LyingClass(dict), "nameless": Nameless(), "text": LyingText("x"), "number": LyingNumber(7),
    "dict": LyingDict(a=1), "enum": Colour.RED, "odd enum": Colour.ODD, "point": Point(), "deep point": Point(Hostile()),
    "struct": Hurried(), "deep struct": Hurried(cycle()), "equal to all": EqualToAll(), "error": BadError("x"),
    "cycle": cycle(), "deep": deep(5_000), "surrogate": "\ud800", "surrogates": {"\udfff": ["\ud800"]}, "nan": math.nan,
    "infinite": [math.inf, -math.inf, np.float64("nan")], "2**200": 2**200, "2**20000": 2**20_000,
    "np int": np.int64(7), "np bool": np.bool_(True), "np array": np.arange(3), "np void": np.void(b"abc"),
    "np date": np.datetime64("2020-01-01"), "date": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    "duration": dt.timedelta(days=10**8), "bytes": b"\xff\0", "bytearray": bytearray(b"x"), "view": memoryview(b"x"),
    "set": {1, "a"}, "frozen": frozenset({2}), "tuple": (1, (2,)), "decimal": decimal.Decimal("NaN"),
    "uuid": uuid.UUID(int=1),
    "default": defaultdict(list, a=[1]), "ordered": OrderedDict(a=1), "chain": ChainMap({"a": 1}), "user": UserDict(a=1),
    "proxy": MappingProxyType({"a": 1}), "deque": deque([1]), "space": SimpleNamespace(a=1), "generator": (n for n in [1]),
    "class": int, "function": len, "ellipsis": ..., "complex": 1j, "range": range(3), "keys": {(1, 2): 3, None: 4, 5.5: 6},
    "hostile key": {EqualToAll(): 1, "a": 2}, "nul": "\0", "module": json,
    **{f"raw {number}": msgspec.Raw(raw) for number, raw in enumerate(RAWS)},
    "deep raw": {"a": [Point(msgspec.Raw(b"]"))]}, "sound raw": msgspec.Raw(b'{"a":[1]}'),
}  # fmt: skip

# by name: pytest asks its parameters a lot
each_value = pytest.mark.parametrize("which", ANYTHING)


def strictly(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse, parse_int=str)  # more digits than Python likes are JSON all the same


def each_place(profiler: Profiler, value: Any) -> int:
    """Record spans with the value in each place where a program can put one; how many those were."""
    with profiler.measure("a tag", {"before": 1, "value": value, "after": 2}):
        pass
    with profiler.measure("all tags", value):
        pass
    with profiler.measure("annotated", value) as span:
        span.annotate(value=value)
    profiler.start("started", value).end()
    with profiler.measure(value):
        pass
    with profiler.measure(lambda *_: value):
        pass
    profiler.measure(value, {"x": value})(lambda: None)()
    with profiler.measure("renamed") as span:
        span.name = value
    profiler.start("a status").end(value)
    with profiler.measure("an argument of an error") as span:
        span.model.error = value
        span.model.status = value
    with profiler.measure("a model") as span:
        span.model.tags = value
        span.annotate(more=1)
        span.model.name = value
    with profiler.measure("an impossible model") as span:
        span.model.start_time = value
    with profiler.measure("a model's tags", {"x": value}) as span:
        assert span.model.name == "a model's tags"
    try:
        with profiler.measure("failed"):
            raise ValueError(value)
    except ValueError:
        pass
    span = profiler.start("failed by hand")
    if issubclass(type(value), BaseException):
        span.fail(value)
    else:
        span.end()
    return 15


KEPT = {"a tag", "all tags", "annotated", "started", "a status", "an argument of an error", "failed", "failed by hand"}


def examined(spans: list[SpanData] | list[SpanModel], count: int) -> None:
    assert len(spans) == count
    assert {span.name for span in spans} >= KEPT
    for span in spans:
        assert len(span.span_id) == 16
        assert span.start_time > 1e9
        assert span.duration is not None
        assert 0 <= span.duration < 60
        assert len(span.name) <= MAX_TEXT
        assert len(json.dumps(span.tags, ensure_ascii=False, separators=(",", ":")).encode()) <= MAX_TAGS_BYTES


@pytest.mark.parametrize("sink", ["beaver", "jsonl"])
@each_value
def test_any_object_in_any_place_is_kept_as_strict_json_with_id_name_and_times(
    sink: str, which: str, tmp_path: Any
) -> None:
    path = tmp_path / sink
    with Profiler(sink=f"{sink}:{path}") as profiler:
        count = each_place(profiler, ANYTHING[which])
        assert profiler.flush()
    examined(list(Report(path).spans()), count)
    if sink == "jsonl":
        for line in path.read_text("utf-8").splitlines():
            strictly(line)
    else:
        for segment in Report(path).segments():
            for tags in segment.tags:
                assert isinstance(strictly(tags.decode() or "{}"), dict)
    first = next(span for span in Report(path).spans() if span.name == "a tag")
    if "raw" not in which:
        assert (first.tags["before"], first.tags["after"]) == (1, 2)


def test_the_process_writer_carries_any_object_too(tmp_path: Any) -> None:
    path = tmp_path / "trace.db"
    with Profiler(path, writer="process") as profiler:
        count = sum(each_place(profiler, value) for value in ANYTHING.values())
    examined(list(Report(path).spans()), count)


def test_a_raw_value_that_is_no_json_makes_a_text_of_its_spans_tags(db: str) -> None:
    with Profiler(db) as profiler:
        for name, value in ANYTHING.items():
            profiler.start(name, {"before": 1, "value": value, "after": 2}).end()
    found = {span.name: span.tags for span in Report(db).spans()}
    assert found["raw 0"] == {CUT: UNREADABLE + ': {"before":1,"value":no json,"after":2}'}
    assert found["sound raw"] == {"before": 1, "value": {"a": [1]}, "after": 2}
    assert {name for name, tags in found.items() if CUT in tags} <= {name for name in ANYTHING if "raw" in name}


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b'{"a":1}', b'{"\xc3\xa9":[]}', b"{}", *RAWS]), max_size=6))
def test_whatever_bytes_are_taken_for_tags_become_strict_json(tags: list[bytes]) -> None:
    found = strict_tags(tags)
    assert len(found) == len(tags)
    for before, after in zip(tags, found, strict=True):
        if after:
            strictly(after.decode())
        assert after == before or strictly(after.decode())[CUT].startswith(UNREADABLE)
        assert isinstance(decode_tags(before or b"{}"), dict)


def test_what_is_usual_in_python_takes_a_form_that_can_be_read(db: str) -> None:
    usual = {
        "enum": Colour.RED, "date": dt.date(2020, 1, 2), "point": Point(3), "set": {4}, "tuple": (5, (6,)),
        "2**200": 2**200,
        "uuid": uuid.UUID(int=7), "decimal": decimal.Decimal("8.5"), "bytes": b"abc", "np": np.int64(9),
        "default": defaultdict(int, a=1),
    }  # fmt: skip
    with Profiler(db) as profiler:
        profiler.start("x", usual).end()
    (span,) = Report(db).spans()
    assert span.tags == {
        "enum": "red", "date": "2020-01-02", "point": {"x": 3}, "set": [4], "tuple": [5, [6]], "2**200": 2**200,
        "uuid": str(uuid.UUID(int=7)), "decimal": "8.5", "bytes": "YWJj", "np": "9", "default": {"a": 1},
    }  # fmt: skip


def test_a_text_of_100_megabytes_is_cut_at_the_stated_limit_and_marked_wherever_it_is(db: str) -> None:
    huge = "x" * 100_000_000
    with Profiler(db) as profiler:
        span = profiler.start(huge, {huge: huge, "list": [huge], "bytes": huge.encode()})
        span.fail(ValueError(huge))
    (found,) = Report(db).spans()
    cut = "x" * (MAX_TEXT - len(CUT)) + CUT
    assert found.name == found.error == cut
    assert found.tags[cut] == cut
    assert found.tags["list"] == [cut]
    assert found.tags["bytes"].endswith(CUT)


def test_what_the_program_does_to_its_objects_after_the_end_changes_nothing(db: str) -> None:
    inner, tags = [1], {"a": {"b": 2}}
    with Profiler(db, flush_interval=60) as profiler:
        span = profiler.start("x", {"inner": inner, **tags})
        span.end()
        inner.append(2)
        tags["a"]["b"] = 3
        span.annotate(late=True)
        span.name = "late"
        span.model.tags["late"] = True
    (found,) = Report(db).spans()
    assert (found.name, found.tags) == ("x", {"inner": [1], "a": {"b": 2}})


def test_a_wall_clock_that_is_stepped_back_moves_no_span(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.time()
    with Profiler(db) as profiler:
        with profiler.measure("outer"):
            for name in ("first", "second"):
                monkeypatch.setattr(time, "time", lambda: 0.0)
                monkeypatch.setattr(time, "time_ns", lambda: 0)
                profiler.start(name).end()
    monkeypatch.undo()
    spans = {span.name: span for span in Report(db).spans()}
    assert min(span.start_time for span in spans.values()) > began - 5
    assert all(span.duration is not None and span.duration >= 0 for span in spans.values())
    assert spans["outer"].start_time <= spans["first"].start_time <= spans["second"].start_time


def test_ctrl_c_within_a_str_is_the_programs(db: str) -> None:
    class Slow:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with Profiler(db) as profiler, pytest.raises(KeyboardInterrupt):
        profiler.start("x", {"slow": Slow()}).end()


def test_what_enters_again_while_it_is_encoded_is_recorded_too(db: str) -> None:
    with Profiler(db) as profiler:

        class Recording:
            def __str__(self) -> str:
                with profiler.measure("within a str"):
                    return "text"

        with profiler.measure("outer", {"tag": Recording()}):
            pass
    assert {span.name for span in Report(db).spans()} == {"outer", "within a str"}
