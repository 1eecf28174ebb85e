"""A place for a program."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.running.programs")

from tests.running.programs import Place  # noqa: E402 - its asserts are rewritten only from here on


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty folder to run programs in, and a file for what is recorded."""
    return Place(tmp_path)
