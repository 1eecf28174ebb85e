"""Where tags are cut, and what is kept beside the cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ferret.tags import CUT, MAX_DEPTH, MAX_ITEMS, MAX_TAGS_BYTES, MAX_TEXT, encode_tags, plain_text


def encoded(tags: dict[str, Any]) -> dict[str, Any]:
    data = encode_tags(tags)
    assert data is not None
    assert len(data) <= MAX_TAGS_BYTES
    found: dict[str, Any] = json.loads(data)
    return found


def test_a_value_that_is_too_deep_is_cut_where_it_is_and_the_other_tags_are_kept() -> None:
    value: Any = "bottom"
    for _ in range(20_000):  # more than an encoder written in C can follow
        value = [value]
    found = encoded({"before": 1, "deep": value, "after": 2})
    assert (found["before"], found["after"]) == (1, 2)
    depth, level = 0, found["deep"]
    while isinstance(level, list):
        (level,) = level
        depth += 1
    assert (depth, level) == (MAX_DEPTH, CUT)


def test_a_value_of_very_many_values_keeps_the_first_of_them() -> None:
    found = encoded({"cube": [[[7] * 100 for _ in range(100)] for _ in range(100)]})
    assert MAX_ITEMS / 2 < str(found["cube"]).count("7") < MAX_ITEMS


@pytest.mark.parametrize(
    "value", [list(range(100_000)), {str(number): number for number in range(100_000)}], ids=["list", "dict"]
)
def test_a_long_collection_keeps_its_beginning(value: Any) -> None:
    found = encoded({"long": value, "short": 1})["long"]
    assert len(found) == MAX_ITEMS
    assert (found[0] if isinstance(found, list) else found["0"]) == 0


def test_the_mark_of_what_was_left_out_has_room_wherever_the_limit_falls() -> None:
    full = {f"full {number}": "x" * MAX_TEXT for number in range(7)}
    for size in range(MAX_TEXT - 400, MAX_TEXT):
        found = encoded({**full, "filler": "x" * size, "one too many": "x" * MAX_TEXT})
        assert found[CUT].endswith("tags left out")


def test_tags_whose_own_mapping_fails_do_not_hurt_the_program() -> None:
    class Hostile(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("no")

    assert encoded(Hostile(a=object())) == {CUT: "tags could not be read"}


def test_a_text_that_lies_about_itself_becomes_a_plain_one() -> None:
    class Liar(str):
        __slots__ = ()

        def __len__(self) -> int:
            return 10**9

        def __str__(self) -> str:
            return self

        def encode(self, *_: Any) -> bytes:
            raise RuntimeError("no")

    class Sly:
        def __str__(self) -> str:
            return Liar("plain")

    for value in (Liar("plain"), Sly()):
        assert (plain_text(value), type(plain_text(value))) == ("plain", str)
