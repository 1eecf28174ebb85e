"""The promises and the ways to break them keep up with each other: `make break` tries them, which takes minutes."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import breaking
from mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
TABLES = re.findall(r"^\| promise \| held by \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
PROMISES = [row[2 : row.index(" | `")] for table in TABLES for row in table.splitlines()]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: f"{one.file}-{one.promise}")
def test_a_way_to_break_a_promise_still_fits_the_source(mutation: Mutation) -> None:
    before = (ROOT / mutation.file).read_text(encoding="utf-8")
    assert before.count(mutation.old) == 1, "the text to change must be there once: adapt it to the new source"
    after = before.replace(mutation.old, mutation.new)
    assert ast.dump(ast.parse(after)) != ast.dump(ast.parse(before))


def test_there_are_promises() -> None:
    assert len(PROMISES) >= 40


@pytest.mark.parametrize("promise", PROMISES)
def test_each_promise_of_the_table_is_broken_by_something(promise: str) -> None:
    assert any(promise.startswith(one.promise) for one in MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: f"{one.file}-{one.promise}")
def test_what_is_broken_is_one_promise_of_the_table(mutation: Mutation) -> None:
    assert len([one for one in PROMISES if one.startswith(mutation.promise)]) == 1
    assert mutation.tests


def test_the_last_result_is_of_these_and_each_was_noticed() -> None:
    result = (ROOT / "docs" / "break-result.txt").read_text(encoding="utf-8").splitlines()
    assert result[1].endswith(f"{len(MUTATIONS)} ways: {len(MUTATIONS)} noticed, 0 not")
    assert {one.promise for one in MUTATIONS} <= set(result)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one module and its tests."""
    root = tmp_path / "project"
    (root / "tests").mkdir(parents=True)
    (root / "answer.py").write_text("ANSWER = 42\n")
    (root / "tests" / "test_answer.py").write_text(
        "from answer import ANSWER\n\ndef test_it(): assert ANSWER == 42\n\ndef test_nothing(): pass\n"
        "\ndef test_wrong(): assert ANSWER == 43\n"
    )
    monkeypatch.setattr(breaking, "ROOT", root)
    monkeypatch.setattr(breaking, "COPIED", ["answer.py", "tests"])
    return tmp_path


@pytest.mark.parametrize(
    ("new", "found"),
    [("ANSWER = 41", "survived test_nothing"), ("ANSWER = ", "could not be tried: an error outside the tests")],
)
def test_only_a_test_that_fails_has_noticed(small: Path, new: str, found: str) -> None:
    """A module that cannot be imported fails every test, and shows nothing."""
    tests = ("tests/test_answer.py::test_it", "tests/test_answer.py::test_nothing")
    assert breaking.break_one(Mutation("p", "answer.py", "ANSWER = 42", new, tests), small).found == found


def test_a_test_that_fails_anyway_is_worth_nothing(small: Path) -> None:
    tests = tuple(f"tests/test_answer.py::{name}" for name in ("test_it", "test_wrong"))
    failing, _ = breaking.unbroken([Mutation("p", "answer.py", "42", "41", tests)], small)
    assert failing == [tests[1]]
