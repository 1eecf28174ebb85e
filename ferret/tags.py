"""Tags and errors become JSON when a span ends: a snapshot that nobody can change, whatever they hold.

The usual tags are encoded in one C call. Only what that call refuses, or would lose, goes the careful way.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

type Tags = dict[str, Any]

MAX_TAGS_BYTES = 64 * 1024
"""A span's tags as JSON; what is longer is cut, and marked. Jaeger and OTLP collectors refuse at about this size."""
MAX_TEXT = 8 * 1024
"""Characters of one text once the tags as a whole are too long, and of any name or error message."""
MAX_DEPTH = 32
MAX_ITEMS = 1_000
"""Values kept of tags that are too long, too deep or go round in a circle."""

CUT = "…[cut]"
"""The mark at the end of a text, or in place of a value, that was cut."""

UNREADABLE = "tags could not be read"
"""Under the key `CUT`, where there is nothing else to keep, and no plainer reason."""

type_name: Callable[[type], str] = type.__dict__["__name__"].__get__
"""A class's own name, also where its metaclass has another idea of what `__name__` is."""

# Below, foreign code may raise whatever it likes. Two exceptions are let through, as they may come from outside at any
# moment, and mean the program: Ctrl-C, and the SystemExit of a signal handler.


def plain_text(value: object) -> str:
    """Any object as text that encodes as UTF-8, at most `MAX_TEXT` characters. Never raises."""
    try:
        text = value if type(value) is str else str(value)
        text = str.__str__(text)  # a subclass of str may lie about everything else
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a hostile __str__
        text = f"<{type_name(type(value))} without a str()>"
    if len(text) > MAX_TEXT:
        text = text[: MAX_TEXT - len(CUT)] + CUT
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
    return text


def error_text(error: BaseException) -> str:
    """The kind of an error and what it says. Never raises, whatever its `__str__` does."""
    return f"{type_name(type(error))}: {plain_text(error)}"


# Without an enc_hook: it would run Python code, and let another thread change the very list that msgspec is reading,
# which msgspec 0.21 does not survive. What it does not know goes the careful way, which copies first.
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_any = msgspec.json.Decoder().decode
_check = msgspec.json.Decoder(msgspec.Raw).decode


def encode_tags(tags: Tags) -> bytes | None:
    """Tags as strict JSON (UTF-8), at most `MAX_TAGS_BYTES` long; None if there are none. Never raises.

    What JSON has no form for becomes text: an object its `str()`, a NaN or infinity its name, a lone surrogate
    U+FFFD. Dates, UUIDs, decimals, dataclasses, sets and bytes take the form that msgspec gives them.
    """
    if type(tags) is not dict:  # `__class__`, truth and length of anything else may lie, or raise
        return _encode_carefully(tags)
    if not tags:
        return None
    try:
        data = _encode(tags)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - any object may be a tag, and none may hurt the program
        return _encode_carefully(tags)
    # msgspec writes a NaN as null without a word: look closer whenever there is one (`b"null" in data` takes 490 ns
    # here, and find 60)
    if len(data) > MAX_TAGS_BYTES or data.find(b"null") >= 0:
        return _encode_carefully(tags)
    return data


def encode_outcome(outcome: tuple[object, object, object]) -> bytes:
    """Status, error and error type as a JSON array of three; error and error type may be None. Never raises."""
    status, *told = outcome
    return _encode((plain_text(status), *(None if one is None else plain_text(one) for one in told)))


def merged_tags(tags: Tags | None, more: Tags) -> Tags:
    """Both, as a new dictionary; what cannot be read of the first is left out, and said so. Never raises."""
    try:
        return {**tags, **more} if tags else more
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - no mapping, or a hostile one
        return {CUT: _unreadable(tags), **more}


def _unreadable(tags: object) -> str:
    """Why nothing, or no more, can be kept of something that was given as tags."""
    kind = type(tags)
    if any(base is dict for base in type.__dict__["__mro__"].__get__(kind)):
        return UNREADABLE
    return f"tags must be a dict, not {plain_text(type_name(kind))}"


def decode_tags(data: bytes) -> dict[str, Any]:
    """Tags that were stored. Never raises: what is no JSON object is said in words."""
    try:
        return _decode(data)
    except (ValueError, RecursionError):
        return {CUT: plain_text(f"{UNREADABLE}: {data.decode(errors='replace')}")}


def strict_tags(tags: Iterable[bytes | None]) -> list[bytes]:
    """Spans' tags as strict JSON, `b""` for none; what is none becomes a word that says so.

    `encode_tags` gives nothing else, but for a `msgspec.Raw`: it is taken over as it is, and to look for one would be on
    the caller's time.
    """
    known = [one or b"" for one in tags]
    try:
        for one in known:
            if one:
                _check(one)
        b"".join(known).decode()  # the check passes over texts
    except (ValueError, RecursionError):
        return [one and _if_object(one) for one in known]
    return known


def _if_object(tags: bytes) -> bytes:
    found = decode_tags(tags)
    return msgspec.json.encode(found) if CUT in found else tags


def _encode_carefully(tags: Any) -> bytes | None:
    plain: dict[str, Any] = {}
    budget = _Budget()
    try:
        for key, value in list(tags.items()):
            plain[plain_text(key)] = _plain(value, 1, budget)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - no mapping, or one whose items() raises
        plain[CUT] = _unreadable(tags)
    if not plain:
        return None
    data = msgspec.json.encode(plain)
    if len(data) <= MAX_TAGS_BYTES:
        return data
    kept: dict[str, Any] = {}
    room = MAX_TAGS_BYTES - 64
    for key, value in plain.items():
        size = len(msgspec.json.encode({key: value}))
        if size > room:
            kept[CUT] = f"{len(plain) - len(kept)} tags left out"
            break
        kept[key] = value
        room -= size
    return msgspec.json.encode(kept)


class _Budget:
    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items = MAX_ITEMS


def _plain(value: Any, depth: int, budget: _Budget) -> Any:
    """The value as JSON has it; a cycle ends at `MAX_DEPTH` or when the budget is spent."""
    budget.items -= 1
    if budget.items < 0 or depth > MAX_DEPTH:
        return CUT
    kind = type(value)
    if value is None or kind is bool or kind is int:
        return value if kind is not int or value.bit_length() <= 4096 else CUT
    if kind is float:
        return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if kind is dict:
        return {plain_text(key): _plain(item, depth + 1, budget) for key, item in list(value.items())[:MAX_ITEMS]}
    if kind in (list, tuple, set, frozenset):
        return [_plain(item, depth + 1, budget) for item in list(value)[:MAX_ITEMS]]
    return plain_text(value) if kind is str else _plain_object(value, depth, budget)


def _plain_object(value: Any, depth: int, budget: _Budget) -> Any:
    try:
        builtin = msgspec.to_builtins(value)
        if type(value) is msgspec.Raw:
            builtin = _decode_any(bytes(value))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - not one of the types that msgspec knows
        return plain_text(value)
    return plain_text(value) if builtin is value else _plain(builtin, depth + 1, budget)
