"""An exception at the k-th line that a thread runs of ferret's own code, as SQLite's tests fail the k-th allocation."""

from __future__ import annotations

import ast
import dis
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType

import ferret

HOME = str(Path(ferret.__file__).parent)


class Death(BaseException):
    """What a thread dies of. No `Exception`, so that nobody takes it for an error of the sink."""


class Lines:
    """Counts the lines that threads of one name run, and raises at one of them.

    Args:
        at: the line that raises, counted from 1; 0 for none.
        thread: the name that the threads have; "" is whichever thread there is.
    """

    def __init__(self, at: int, thread: str) -> None:
        self.at, self.thread = at, thread
        self.count = 0
        self.where = ""

    def __call__(self, code: CodeType, line: int) -> object:
        if not code.co_filename.startswith(HOME):
            return sys.monitoring.DISABLE
        if self.thread and threading.current_thread().name != self.thread:
            return None
        if _cannot_raise(code, line, sys._getframe(1).f_lasti):
            return None
        self.count += 1
        if self.count == self.at:
            self.where = f"{code.co_filename.removeprefix(HOME)}:{line}"
            raise Death(self.where)
        return None


@contextmanager
def dying_at(at: int, thread: str) -> Iterator[Lines]:
    """Let threads of that name raise `Death` at one line."""
    lines = Lines(at, thread)
    events = sys.monitoring
    tool = events.DEBUGGER_ID
    events.use_tool_id(tool, "ferret-faults")
    events.register_callback(tool, events.events.LINE, lines)
    events.set_events(tool, events.events.LINE)
    events.restart_events()
    try:
        yield lines
    finally:
        events.set_events(tool, 0)
        events.register_callback(tool, events.events.LINE, None)
        events.free_tool_id(tool)


def _cannot_raise(code: CodeType, line: int, offset: int) -> bool:
    """Whether no exception can come from there, so that Python's own tables leave it out of `try` and `with`.

    That is where nothing is done (the line of a `try:`), and where a `with` block is left: signals are looked for only
    once `__exit__` was called.
    """
    first, idle = _places(code)
    return offset in idle or (line in _with_lines(code.co_filename) and offset > first[line])


@functools.cache
def _places(code: CodeType) -> tuple[dict[int, int], frozenset[int]]:
    """Where each line begins, and where nothing is done."""
    first: dict[int, int] = {}
    for start, _, line in code.co_lines():
        if line is not None:
            first.setdefault(line, start)
    return first, frozenset(one.offset for one in dis.get_instructions(code) if one.opname == "NOP")


@functools.cache
def _with_lines(path: str) -> frozenset[int]:
    tree = ast.parse(Path(path).read_text())
    return frozenset(node.lineno for node in ast.walk(tree) if isinstance(node, ast.With))


def each_line(run: Callable[[int], Lines], step: int = 1) -> Iterator[Lines]:
    """Run with a fault at line 1, 1 + step, … until a run comes to its end without one."""
    at = 1
    while True:
        lines = run(at)
        if not lines.where:
            return
        yield lines
        at += step
