"""What a span's arguments are, in all formats that have any: its tags, and what ferret knows besides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from ferret.tags import CUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ferret.export.columns import Spans

MAX_DEPTH: Final = 24
"""How deep a tag's value may go. Readers of protobuf give up at a hundred levels, and in OTLP each list takes three."""

_REMEMBERED: Final = 4096


def special(spans: Spans) -> NDArray[np.bool_]:
    """Which spans have a fact of their own, or tags."""
    failed = np.array([outcome[0] != "ok" for outcome in spans.outcomes], dtype=np.bool_)
    mask: NDArray[np.bool_] = spans.tags.present | (spans.suspended_ns != 0) | (spans.self_ns >= 0)
    return mask | failed[spans.outcome] if len(spans) else mask


def own_facts(spans: Spans, span: int) -> dict[str, Any]:
    """Failure and times of one span, as far as they are not what they are for most."""
    facts: dict[str, Any] = {}
    status, error, error_type = spans.outcomes[spans.outcome[span]]
    if status != "ok":
        facts["ferret.status"] = status
    if error is not None:
        facts["ferret.error"] = error
    if error_type is not None:
        facts["ferret.error_type"] = error_type
    if suspended_ns := int(spans.suspended_ns[span]):
        facts["ferret.suspended_ns"] = suspended_ns
    if (self_ns := int(spans.self_ns[span])) >= 0:
        facts["ferret.self_ns"] = self_ns
    return facts


def beyond_depth(value: Any) -> str:
    """What stands for a value that is too deep: its JSON, as text."""
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:
        return CUT


class TagEncoder[T]:
    """Encodes the tags of spans, and remembers the latest few: many spans have the same.

    Args:
        spans: with their tags.
        encode: makes of tags what the format has for them.
    """

    def __init__(self, spans: Spans, encode: Callable[[dict[str, Any]], T]) -> None:
        self._spans = spans
        self._encode = encode
        self._known: dict[bytes, tuple[T, frozenset[str]]] = {}

    def of(self, span: int) -> tuple[T, frozenset[str]]:
        """The encoded tags of one span, and their keys.

        Raises:
            FormatError: they are no JSON object.
        """
        data = self._spans.tags[span]
        known = self._known.get(data)
        if known is None:
            tags = self._spans.tags_of(span)
            known = self._encode(tags), frozenset(tags)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[data] = known
        return known
