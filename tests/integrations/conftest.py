"""A profiler whose spans can be looked at once they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ferret import Profiler

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def profiler() -> Iterator[Profiler]:
    with Profiler(sink="memory", writer="sync", batch_size=1) as profiler:
        yield profiler
