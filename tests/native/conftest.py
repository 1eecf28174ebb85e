"""These tests need the native twin; `test_choice.py` sees to it that it is there where it can be built."""

from __future__ import annotations

import pytest

import ferret


@pytest.fixture(autouse=True)
def native_twin(request: pytest.FixtureRequest) -> None:
    if not ferret.native and request.module.__name__ != "test_choice":
        pytest.skip("the native twin is not built")
