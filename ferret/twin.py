"""The native twin: `ferret/_native.c` runs the straight line through a span in C, where it could be built.

What is in Python is the specification, and what runs without it, or with `FERRET_PURE=1` in the environment.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

EDITION = 3
"""To be raised here and in the C file whenever the two cease to fit: a build of an older one may still lie about."""

_native: ModuleType | None = None
if os.environ.get("FERRET_PURE") != "1":
    try:
        from ferret import _native
    except ImportError:  # not built: there was no compiler, or this is another Python than it was built for
        _native = None
    if getattr(_native, "EDITION", None) != EDITION:
        _native = None
_loaded = _native


class Queue(Protocol):
    """What a writer needs of a queue; each method is one atomic step."""

    def append(self, item: Any, /) -> None:
        """Add an item at the end."""

    def pop(self) -> Any:
        """Take the item that came last. IndexError if there is none."""

    def popleft(self) -> Any:
        """Take the item that came first. IndexError if there is none."""

    def clear(self) -> None:
        """Take all items away."""

    def __len__(self) -> int:
        """How many there are."""


def make_queue() -> Queue:
    """An empty queue, of a kind that the garbage collector does not look into, if there is one."""
    return deque() if _native is None else _native.Queue()


def unseen_list(items: list[Any]) -> list[Any]:
    """The list, which the garbage collector does not look into any more, if that can be. Only for what is in no cycle."""
    return items if _native is None else _native.untrack(items)


def turn(records: tuple[tuple[Any, ...], ...], first: int, columns: list[list[Any]]) -> None:
    """Set `columns[i][first + n]` to `records[n][i]`.

    Raises:
        ValueError: a record has not as many fields as there are columns.
    """
    if _native is not None:
        _native.turn(records, first, columns)
        return
    for column, part in zip(columns, zip(*records, strict=True), strict=True):
        column[first : first + len(part)] = part


def hasten_spans(span: type, lane: type, gauge: type, *modules: dict[str, Any]) -> bool:
    """Have spans entered and left in C; whether they are.

    Args:
        span: the class.
        lane: the class that has what spans need of a recorder in its slots.
        gauge: the class that has a gauge's alarm in a slot.
        modules: the globals that the Python code looks into.
    """
    global _native  # noqa: PLW0603 - the process's only one
    try:
        if _native is not None and not _native.hasten_spans(span, lane, gauge, modules):
            _native = None  # a second copy of ferret in one process
    except Exception:  # noqa: BLE001 - such as: all watchers of dictionaries are taken
        _native = None
    return _native is not None


def hasten_class[T: type](cls: T) -> T:
    """Have the spans of a class made in C: a decorator."""
    return cls if _native is None else _native.hasten_class(cls)


def hasten_calls(module: dict[str, Any]) -> None:
    """Prepare for `hasten_function`; `module` is the globals of its Python code."""
    if _native is not None:
        _native.hasten_calls(module)


def hasten_function[F: Callable[..., Any]](wrapper: F) -> F:
    """Have a plain wrapper's calls done in C. It stays the function that it is."""
    return wrapper if _native is None else _native.hasten_function(wrapper)


def forget_threads() -> None:
    """Say that a thread's `local.index` (in `ferret.ambient`) went away, or is another. To be called after that."""
    if _loaded is not None:  # also where what is new runs in Python: what is old may not
        _loaded.forget_threads()
