"""Waiting for what must happen, and saying so when it does not: no test of the kit hangs."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

WAIT_S: Final = 20.0
_POLL_S: Final = 0.002


def wait_until(condition: Callable[[], object], what: str, seconds: float = WAIT_S) -> None:
    """Poll until the condition holds; after so many seconds, fail and say what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"within {seconds:g} s, {what}", pytrace=False)
        time.sleep(_POLL_S)


def in_time[T](call: Callable[[], T], what: str, seconds: float = WAIT_S) -> T:
    """Call it in a thread of its own, and return what it returns or raise what it raises; fail if it hangs."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="contract", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        pytest.fail(f"{what} did not return within {seconds:g} s", pytrace=False)
    if errors:
        raise errors[0]
    return results[0]


class Flag:
    """An event that processes share: a file, which is there or not."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self) -> None:
        """Raise it."""
        self._path.touch()

    def wait(self, seconds: float = WAIT_S) -> bool:
        """Wait for it; whether it was raised in time."""
        deadline = time.monotonic() + seconds
        while not self._path.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True


def in_child(work: Callable[[], None], seconds: float = WAIT_S) -> None:
    """Do the work in a forked child, and fail if it raises there or hangs."""
    with in_background(work, seconds):
        pass


@contextmanager
def in_background(work: Callable[[], None], seconds: float = WAIT_S) -> Generator[None]:
    """Do the work in a forked child while the block runs, and fail if it raises there or hangs afterwards."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork() here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tried
        child = os.fork()
    if not child:  # pragma: no cover - coverage is not measured there
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as a second pytest
            traceback.print_exc()
        finally:
            os._exit(status)
    statuses: list[int] = []

    def ended() -> bool:
        done, status = os.waitpid(child, os.WNOHANG)
        statuses[:] = [status] * bool(done)
        return bool(done)

    try:
        yield
        wait_until(ended, "the forked child did not end", seconds)
    finally:
        if not statuses:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert statuses == [0], "it failed in the forked child; the traceback is on stderr"
