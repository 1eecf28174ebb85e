"""What a sink raised, without the error itself."""

from __future__ import annotations

import operator
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
    cycle lasts until the garbage collector comes, and for ever in a program that has turned it off.
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
    def of(cls, error: BaseException) -> Failure:
        """What there is to know of an error, which loses its traceback: a sink may keep it, and raise it again and again."""
        BaseException.with_traceback(error, None)
        rejected = _named(error) if isinstance(error, RejectedError) else None
        return cls(type_name(type(error)), error_text(error), isinstance(error, _DATA_ERRORS), rejected)


def _named(error: RejectedError) -> tuple[int, ...]:
    """The places that it names; none if that is not what it says, as a sink's own kind of error may not."""
    try:
        return tuple(map(operator.index, error.indices))
    except Exception:  # noqa: BLE001 - there may be anything, or nothing
        return ()
