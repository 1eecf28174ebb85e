"""What every test gets: a clean environment, its own files, and a check that nothing is left running."""

from __future__ import annotations

import gc
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import psutil
import pytest
from support import EXAMPLES

import ferret.plugins
import ferret.shared
from ferret import lifecycle
from ferret.ledger import live

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAK_S = 30.0
"""How long what is ending may take, on a machine that is busy with other things."""

hypothesis.settings.register_profile(
    "explore", deadline=None, derandomize=False,  # where CI is set, too
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "1000")), stateful_step_count=30,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)  # fmt: skip
# The same examples each time: whether a change may land does not hang on what is drawn. `make explore` draws others.
hypothesis.settings.register_profile(
    "fast", hypothesis.settings.get_profile("explore"), max_examples=EXAMPLES, derandomize=True
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.hookimpl(tryfirst=True)  # before the marks decide what runs
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The kit's random sequences have properties too, though hypothesis cannot tell."""
    for item in items:
        if "keeps_the_laws" in item.name:
            item.add_marker(pytest.mark.hypothesis)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What killed programs leave there is kept for a day after pytest has removed the folders of their spans."""
    yield
    here = f"{os.path.realpath(tmp_path_factory.getbasetemp())}{os.sep}"
    for life in live._lives(live._files(), lambda place: place.startswith(here)):
        if not life.alive:
            live.remove(life.path)


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """A test that leaves a writer's thread, a writing process or an open profiler behind fails by its own name."""
    before = {
        *threading.enumerate(),
        *_children(),
        *lifecycle._open,
    }  # pytest's own session may be recorded, with --ferret
    yield
    leaks = _leaks(before)
    deadline = time.monotonic() + LEAK_S
    while leaks and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
        leaks = _leaks(before)
    assert not leaks, f"left running: {leaks}"


@pytest.fixture(autouse=True)
def clean_environment(nothing_left_running: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No option comes from outside, and neither the shared profiler nor a registered plugin outlives the test."""
    for variable in list(os.environ):
        if variable.startswith("FERRET_"):
            monkeypatch.delenv(variable)
    yield
    shared, ferret.shared._shared = ferret.shared._shared, None
    if shared is not None:
        shared.close()
    ferret.plugins._shared = None


def _children() -> list[psutil.Process]:
    """As psutil's, which looks at every process of the machine: twice in each test, that takes 10 s of a whole run."""
    found = []
    try:
        for task in Path("/proc/self/task").iterdir():
            for number in map(int, (task / "children").read_text().split()):
                with suppress(psutil.NoSuchProcess):
                    found.append(psutil.Process(number))
    except OSError:  # no such files here, or a thread that has just ended
        return psutil.Process().children()  # type: ignore[no-any-return]
    return found


def _leaks(before: set[object]) -> list[str]:
    threads = [
        thread.name
        for thread in threading.enumerate()
        if thread not in before and thread.name.startswith(("ferret", "BeaverDB"))
    ]
    children = []
    for child in _children():
        with suppress(psutil.NoSuchProcess):  # it ends while it is looked at
            if (
                child not in before
                and child.status() != psutil.STATUS_ZOMBIE
                and "ferret.writers.child" in child.cmdline()
            ):
                children.append(" ".join(child.cmdline()[-2:]))
    return threads + children + [repr(one) for one in lifecycle._open if one not in before]


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A path for a database that does not exist yet."""
    return str(tmp_path / "trace.db")
