"""What a sink raised, without the error itself."""

from __future__ import annotations

import operator
from contextlib import suppress
from typing import NamedTuple

import msgspec

from ferret.errors import RejectedError
from ferret.tags import error_text, type_name

_DATA_ERRORS = (
    ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError, msgspec.MsgspecError,
)  # fmt: skip
"""What a sink raises when a span is at fault rather than the storage."""


class Failure(NamedTuple):
    """An error in words.

    The error itself is not kept: its traceback holds frames, and their variables would hold the error and the batch. Such a
    cycle lasts until the garbage collector comes, and for ever in a program that has turned it off. Errors that it came from
    have tracebacks too, and are cycles by themselves where a function of `contextlib.contextmanager` has caught them.
    """

    kind: str
    """The name of the error's type."""
    text: str
    """The kind, and what the error says."""
    of_the_data: bool
    """Whether spans seem to be at fault rather than the storage."""
    rejected: tuple[int, ...] | None
    """What a `RejectedError` names; None for other errors."""

    @classmethod
    def of(cls, error: BaseException, handled: BaseException | None) -> Failure:
        """What there is to know of an error. It and those that it came from lose their tracebacks: a sink may keep them.

        Args:
            error: what was raised.
            handled: `sys.exception()` of before. It is the program's, and keeps its traceback.
        """
        _drop_tracebacks(error, handled)
        rejected = _named(error) if isinstance(error, RejectedError) else None
        return cls(type_name(type(error)), error_text(error), isinstance(error, _DATA_ERRORS), rejected)


def _drop_tracebacks(error: BaseException, handled: BaseException | None) -> None:
    found: list[BaseException | None] = [error]
    seen = {id(handled)}
    while found:
        one = found.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        BaseException.with_traceback(one, None)
        with suppress(Exception):  # a sink's own kind of error may say anything here
            found += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]


def _named(error: RejectedError) -> tuple[int, ...]:
    """The places that it names; none if that is not what it says, as a sink's own kind of error may not."""
    try:
        return tuple(map(operator.index, error.indices))
    except Exception:  # noqa: BLE001 - there may be anything, or nothing
        return ()
