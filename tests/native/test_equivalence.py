"""The native twin does what the Python code does: the same programs, run by both, leave the same behind."""

from __future__ import annotations

import gc
from time import perf_counter_ns
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Node, Run, programs, tags

from ferret import _native, span
from ferret.tags import encode_tags


def in_python(program: list[Node]) -> Any:
    def clock() -> int:
        return perf_counter_ns()

    with pytest.MonkeyPatch.context() as patch:
        for module in ("span", "decorate"):
            patch.setattr(f"ferret.{module}.perf_counter_ns", clock)
        return Run().of(program)


@given(programs)
def test_a_program_leaves_the_same_behind(program: list[Node]) -> None:
    assert Run().of(program) == in_python(program)


@settings(max_examples=max(10, settings.default.max_examples // 10))
@given(programs)
def test_so_it_does_while_the_collector_is_at_work_all_the_time(program: list[Node]) -> None:
    before = gc.get_threshold()
    gc.set_threshold(1, 5, 5)
    try:
        found = Run().of(program)
    finally:
        gc.set_threshold(*before)
    assert found == in_python(program)


@given(tags)
def test_tags_become_the_same_json(given_tags: Any) -> None:
    assert _native.encode_tags(given_tags) == (None if given_tags is None else encode_tags(given_tags))


@given(
    st.dictionaries(
        st.text(st.characters(max_codepoint=140), max_size=140),
        st.one_of(st.integers(-(2**66), 2**66), st.text(max_size=140)), max_size=5,
    )
)  # fmt: skip
def test_tags_near_the_limit_of_the_short_way_become_the_same_json(given_tags: Any) -> None:
    assert _native.encode_tags(given_tags) == encode_tags(given_tags)


def test_the_python_side_of_these_tests_runs_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or they would compare C with itself."""
    asked = []

    def clock() -> int:
        asked.append(1)
        return perf_counter_ns()

    program = [Node("with", "a", None, []), Node("call", "b", None, [])]
    Run().of(program)
    monkeypatch.setattr("ferret.span.perf_counter_ns", clock)
    monkeypatch.setattr("ferret.decorate.perf_counter_ns", clock)
    Run().of(program)
    assert len(asked) == 4
    assert span.native
