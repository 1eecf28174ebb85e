"""Tags: any object may be one, and what JSON has a form for comes back as it was."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import tags_strategy

from ferret.tags import CUT, MAX_TAGS_BYTES, MAX_TEXT, encode_outcome, encode_tags, plain_text


def strictly(data: bytes | None) -> Any:
    """Decode as a strict reader would: no NaN, no invalid UTF-8."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return {} if data is None else json.loads(data.decode(), parse_constant=refuse)


@given(tags_strategy)
def test_json_like_tags_come_back_as_they_were(tags: dict[str, Any]) -> None:
    assert strictly(encode_tags(tags)) == tags
    assert msgspec.json.decode(encode_tags(tags) or b"{}") == tags


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")


class HostileMapping(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise RuntimeError("no")


class Loud(str):  # noqa: SLOT000 - as users write it
    def __str__(self) -> str:
        raise RuntimeError("no")


def endless() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


ANYTHING = [
    Hostile(), HostileMapping(a=1), Loud("x"), endless(), deep(5000), "\ud800", "x" * 200_000, b"\xff" * 10, 2**20_000,
    math.nan, math.inf, {math.nan: 1}, {("a", 1): 2}, object(), type, len, {1, 2}, range(3), ..., NotImplemented,
    {"\udfff": "\udfff"}, [math.nan, None], Exception("x"), memoryview(b"abc"), 1j,
]  # fmt: skip


@pytest.mark.parametrize("value", ANYTHING, ids=lambda value: type(value).__name__)
def test_any_object_can_be_a_tag_and_the_result_is_strict_json_within_the_limit(value: Any) -> None:
    data = encode_tags({"before": 1, "value": value})
    assert strictly(data)["before"] == 1
    assert len(data or b"") <= MAX_TAGS_BYTES


weird = st.recursive(
    st.none()
    | st.floats()
    | st.text()
    | st.binary()
    | st.integers()
    | st.integers(0, len(ANYTHING) - 1).map(lambda index: ANYTHING[index])
    | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers() | st.floats(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), weird, max_size=5))
@example({"no JSON has a number for it": 2**200})
@example({"no UTF-8 has bytes for it": "\udce9"})
def test_no_tags_whatever_raise(tags: dict[str, Any]) -> None:
    data = encode_tags(tags)
    strictly(data)
    assert len(data or b"") <= MAX_TAGS_BYTES


def test_what_json_cannot_say_is_said_in_words() -> None:
    tags = {"nan": math.nan, "inf": [math.inf, -math.inf], "none": None, "path": type}
    assert strictly(encode_tags(tags)) == {
        "nan": "NaN", "inf": ["Infinity", "-Infinity"], "none": None, "path": "<class 'type'>",
    }  # fmt: skip


def test_a_text_that_is_too_long_is_cut_and_marked() -> None:
    found = strictly(encode_tags({"long": "x" * 10**6, "short": "y"}))
    assert found["short"] == "y"
    assert len(found["long"]) == MAX_TEXT
    assert found["long"].endswith(CUT)


def test_tags_that_are_too_many_are_cut_and_counted() -> None:
    found = strictly(encode_tags({f"tag {number}": "x" * 1000 for number in range(500)}))
    assert found[CUT] == f"{500 - (len(found) - 1)} tags left out"


def test_no_tags_take_no_room() -> None:
    assert encode_tags({}) is None


def test_an_outcome_keeps_its_words() -> None:
    assert strictly(encode_outcome(("error", "it \ud800 broke", "ValueError"))) == ["error", "it ? broke", "ValueError"]


@given(st.text())
def test_a_text_is_itself_unless_it_cannot_be_encoded(text: str) -> None:
    plain = plain_text(text)
    plain.encode()
    assert plain == text or any("\ud800" <= character <= "\udfff" for character in text)
