"""What pytest loads at every start: options that try an installed sink or writer, and fixtures for tests of one's own.

So it imports nothing but pytest; all else is imported when it is asked for. PYTEST_DONT_REWRITE: there is no assert here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferret.core import Profiler
    from ferret.testing.clock import ManualClock
    from ferret.testing.gated import GatedSink


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what tries an installed sink or writer."""
    group = parser.getgroup("ferret-testing", "ferret: try what a sink or a writer promises")
    group.addoption(
        "--ferret-sink",
        metavar="NAME:TARGET",
        help="Try every promise of an installed sink, such as jsonl:spans.jsonl. A relative path is taken in a folder of "
        "its own for each test; {unique} in the target is replaced by a word of its own. Runs no other tests, unless "
        "some are named.",
    )
    group.addoption("--ferret-writer-contract", metavar="NAME", help="Try every promise of an installed writer.")
    group.addoption(
        "--ferret-contract",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help='An attribute of SinkContract or WriterContract, such as persistent=false, options={"max_queue":5000} or '
        "stored=my_package.reading:spans_of, which is called with the sink. May be given several times.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Try what was named; and unless tests are named too, nothing else."""
    asked = config.getoption("ferret_sink") or config.getoption("ferret_writer_contract")
    if not asked:
        if config.getoption("ferret_contract"):
            raise pytest.UsageError("--ferret-contract needs --ferret-sink or --ferret-writer-contract")
        return
    from ferret.testing.installed import Installed  # noqa: PLC0415 - only who tries one pays

    config.pluginmanager.register(Installed(config), "ferret-installed")


@pytest.fixture
def ferret_memory() -> Iterator[Profiler]:
    """A profiler of the test's own, whose spans are in `ferret_memory.sink.spans` as soon as they end."""
    from ferret.core import Profiler  # noqa: PLC0415 - only who asks for it pays

    with Profiler(sink="memory", writer="sync", batch_size=1) as profiler:
        yield profiler


@pytest.fixture
def ferret_shared() -> Iterator[Profiler]:
    """The same as the process's own profiler: what `ferret.measure` records during the test is in its sink."""
    import ferret  # noqa: PLC0415 - only who asks for it pays

    with ferret.configure(sink="memory", writer="sync", batch_size=1) as profiler:
        yield profiler


@pytest.fixture
def ferret_gate() -> Iterator[GatedSink]:
    """A `GatedSink`: a memory sink to hold and to make fail. Let go of at the end, so that no writer waits for it."""
    from ferret.testing import GatedSink  # noqa: PLC0415 - only who asks for it pays

    gate = GatedSink()
    yield gate
    gate.release()


@pytest.fixture
def ferret_clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """A clock that stands still unless the test moves it: spans have exactly the durations that it says."""
    from ferret.testing import ManualClock  # noqa: PLC0415 - only who asks for it pays

    clock = ManualClock()
    clock.install(monkeypatch)
    return clock


@pytest.fixture
def ferret_no_leaks() -> Iterator[None]:
    """Fails the test if it leaves a thread, a child process or an open file behind."""
    from ferret.testing import no_leaks  # noqa: PLC0415 - only who asks for it pays

    with no_leaks():
        yield
