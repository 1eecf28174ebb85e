"""Folded stacks: a line for each path, and their numbers add up."""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import given
from recorded import One, exported, runs

LINE = re.compile(r"(.+) (\d+)")


def read(spans: list[One]) -> Counter[tuple[str, ...]]:
    """As flamegraph.pl and speedscope read it."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in exported(spans, "folded").decode().splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        found[tuple(match[1].split(";"))] += int(match[2])
    return found


def shown(name: str) -> str:
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name.replace(";", ","))
    return escaped.strip() or "(no name)"


def self_times(spans: list[One]) -> dict[tuple[str, ...], int]:
    """By the definition, span by span."""
    by_id = {one.span_id: one for one in spans}
    own = {one.span_id: one.duration_ns - one.suspended_ns for one in spans}
    for one in spans:
        parent = by_id.get(one.parent_id)
        if parent is not None and parent.track == one.track:
            own[parent.span_id] -= one.duration_ns - one.suspended_ns
    found: dict[tuple[str, ...], int] = {}
    for one in spans:
        path: list[str] = []
        walk: One | None = one
        while walk is not None:
            path.insert(0, shown(walk.known_name))
            walk = by_id.get(walk.parent_id)
        spent = one.self_ns if one.self_ns >= 0 else max(own[one.span_id], 0)
        found[tuple(path)] = found.get(tuple(path), 0) + spent
    return found


@given(runs(circles=False))
def test_each_path_has_the_self_time_of_its_spans(spans: list[One]) -> None:
    assert dict(read(spans)) == self_times(spans)


@given(runs())
def test_circles_of_parents_end_and_no_name_breaks_a_line(spans: list[One]) -> None:
    text = exported(spans, "folded").decode()
    assert text.replace("\n", "").isprintable()
    assert all(LINE.fullmatch(line) for line in text.split("\n")[:-1])


def test_a_path_is_a_line() -> None:
    spans = [
        One(1, 0, "a", 0, 100), One(2, 1, "b", 10, 30), One(3, 1, "b", 50, 20), One(4, 2, "c;d\n", 12, 5),
        One(5, 1, "b", 10, 70, thread=1), One(6, 99, "a", 0, 7),
    ]  # fmt: skip
    assert exported(spans, "folded") == b"a 57\na;b 115\na;b;c,d\\n 5\n"


def test_stacks_may_be_deep() -> None:
    spans = [One(n, n - 1, "f", n, 10_000 - 2 * n) for n in range(1, 3001)]
    lines = exported(spans, "folded").splitlines()
    assert len(lines) == 3000
    assert lines[-1] == b";".join([b"f"] * 3000) + b" 4000"


def test_no_spans_no_lines() -> None:
    assert exported([], "folded") == b""
