"""What is left behind: threads, child processes, open files."""

from __future__ import annotations

import gc
import os
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator

_SHORTEST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 0.25
_DESCRIPTORS: Final = next((folder for folder in ("/proc/self/fd", "/dev/fd") if Path(folder).is_dir()), None)


@contextmanager
def no_leaks(seconds: float = 5.0) -> Generator[None]:
    """Fail if the block leaves a thread, a child process or an open file behind. For one thread at a time.

    What others open meanwhile, in this process, counts as well. Children and files are only seen where the system shows
    them in /proc or /dev/fd.

    Args:
        seconds: how long what is ending may take to end.

    Raises:
        AssertionError: something is left; it is named.
    """
    before = _running()
    yield
    deadline, pause = time.monotonic() + seconds, _SHORTEST_PAUSE_S
    while left := _left(before):
        if time.monotonic() > deadline:
            raise AssertionError("\n".join(["left behind:", *(f"  {one}" for one in left)]))
        gc.collect()
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)  # a look takes time that others need to come to an end


def _left(before: dict[object, str]) -> list[str]:
    return [name for what, name in _running().items() if what not in before]


def _running() -> dict[object, str]:
    """Everything that can be left, and how to name it."""
    found: dict[object, str] = {thread: f"thread {thread.name!r}" for thread in threading.enumerate()}
    found |= {("child", number): f"child process {number}: {_command(number)}" for number in _children()}
    found |= {("file", *file): f"open file {file[1]}" for file in _files()}
    return found


def _children() -> list[int]:
    """The children that have not ended."""
    own = os.getpid()
    return [
        number for number in _processes() if (fields := _status(number)) and fields[1] == own and fields[0] not in "ZX"
    ]


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except FileNotFoundError:
        return []


def _status(number: int) -> tuple[str, int] | None:
    """State and parent of a process; None if it is gone."""
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, parent, *_ = text.rpartition(")")[2].split()
    return state, int(parent)


def _command(number: int) -> str:
    try:
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "gone"
    return b" ".join(words).decode(errors="replace").strip()[:200]


def _files() -> list[tuple[int, str]]:
    """The open descriptors, and what they are of."""
    found: list[tuple[int, str]] = []
    if _DESCRIPTORS is None:
        return found
    for name in os.listdir(_DESCRIPTORS):
        with suppress(OSError, ValueError):  # the one that listed them is closed by now
            os.fstat(int(name))
            try:
                found.append((int(name), os.readlink(f"{_DESCRIPTORS}/{name}")))
            except OSError:
                found.append((int(name), f"descriptor {name}"))
    return found
