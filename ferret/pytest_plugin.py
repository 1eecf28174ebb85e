"""`pytest --ferret=trace.db`: each test and fixture as a span. pytest imports this module whenever it starts.

So it imports nothing but pytest; the rest is in `ferret.integrations.pytest`, and imported when it is asked for. There is
no assert in it for pytest to rewrite: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferret.core import Profiler

RECORDER = "ferret-recorder"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--ferret` and `--ferret-writer`."""
    group = parser.getgroup("ferret", "ferret: record tests and fixtures as spans")
    group.addoption(
        "--ferret",
        metavar="FILE",
        help="Record a span for each test and fixture into FILE: a BeaverDB file, made where it is missing, or a sink "
        "such as jsonl:spans.jsonl.",
    )
    group.addoption(
        "--ferret-writer",
        metavar="NAME",
        help="How spans leave the tests: sync, threaded, bounded or process (default: FERRET_WRITER, or threaded).",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Record, if `--ferret` was given."""
    if config.getoption("ferret") is not None:
        from ferret.integrations.pytest import Recorder  # noqa: PLC0415 - only who records pays

        config.pluginmanager.register(Recorder(config), RECORDER)
    elif config.getoption("ferret_writer") is not None:
        raise pytest.UsageError("--ferret-writer needs --ferret=FILE, which says where the spans go")


@pytest.fixture(scope="session")
def ferret_profiler(request: pytest.FixtureRequest) -> Iterator[Profiler]:
    """The session's Profiler, for spans of your own below a test's; without `--ferret`, one that keeps nothing."""
    recorder = request.config.pluginmanager.get_plugin(RECORDER)
    if recorder is not None:
        yield recorder.profiler
        return
    from ferret.core import Profiler  # noqa: PLC0415 - only who asks for it pays

    with Profiler(sink="null", writer="sync") as profiler:
        yield profiler
