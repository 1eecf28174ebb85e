"""The native twin does what the Python code does: the same programs, run by both, leave the same behind."""

from __future__ import annotations

import asyncio
import gc
from time import perf_counter_ns
from typing import Any

import pytest
from both_ways import Hostile, Node, Run, Text, programs, tags
from hypothesis import given, settings
from hypothesis import strategies as st
from support import in_proportion

from ferret import _native, span
from ferret.tags import encode_tags


def in_plain_python(patch: pytest.MonkeyPatch) -> None:
    """Until the patch is undone: what looks like another clock is none of C's business."""

    def clock() -> int:
        return perf_counter_ns()

    for module in ("span", "decorate"):
        patch.setattr(f"ferret.{module}.perf_counter_ns", clock)


def in_python(program: list[Node]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        in_plain_python(patch)
        return Run().of(program)


@given(programs)
def test_a_program_leaves_the_same_behind(program: list[Node]) -> None:
    assert Run().of(program) == in_python(program)


@settings(max_examples=in_proportion(10))
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


@pytest.mark.parametrize("name", ["usual", 7, None, Text("a text"), Hostile()])
def test_a_task_of_a_factorys_own_kind_is_named_the_same(name: Any) -> None:
    class Odd(asyncio.Task[Any]):
        def get_name(self) -> Any:
            return name

    class Nameless(asyncio.Task[Any]):
        get_name = property(lambda self: self.no_such_thing)  # type: ignore[assignment]

    async def main(run: Run, kind: Any) -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coroutine, **_: kind(coroutine, loop=loop))
        await loop.create_task(run.one(Node("with", "a", None, [])))

    for kind in (Odd, Nameless):
        found = []
        for patched in (False, True):
            with pytest.MonkeyPatch.context() as patch:
                if patched:
                    in_plain_python(patch)
                run = Run()
                asyncio.run(main(run, kind))
                found.append(run.of([]))
        assert found[0] == found[1]
        assert len(found[0][0]) == 2
