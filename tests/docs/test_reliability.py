"""Each promise on the reliability page names tests, and these exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NODES = sorted(set(re.findall(r"`((?:tests|ferret)/[\w/]+\.py(?:::\w+)*)`", PAGE)))


def names_in(node: ast.Module | ast.ClassDef) -> dict[str, ast.AST]:
    return {
        one.name: one for one in node.body if isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("node", NODES)
def test_a_test_that_the_page_names_exists(node: str) -> None:
    file, *names = node.split("::")
    found: ast.AST = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    for name in names:
        assert isinstance(found, ast.Module | ast.ClassDef)
        assert name in names_in(found), f"{node}: there is no {name}"
        found = names_in(found)[name]
    if names:
        assert names[-1].startswith("test_")


def test_every_promise_of_the_table_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.endswith("| held by |")]
    assert len(rows) >= 40
    for row in rows:
        assert "::test_" in row, row


def test_the_last_result_found_nothing() -> None:
    """The page does not show a violation; and it shows something that was tried."""
    result = (ROOT / "docs" / "soak-result.txt").read_text(encoding="utf-8")
    assert result.rstrip().endswith("violations: none")
    assert int(re.search(r"^([\d,]+) programs", result, re.MULTILINE)[1].replace(",", "")) >= 10  # type: ignore[index]
