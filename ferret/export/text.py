"""Names and other texts that nobody vouches for, made harmless for where they go: a page, a terminal, a line."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_UNUSUAL = re.compile(r"[^ -~]")
_encode = msgspec.json.Encoder().encode


def json_bytes(value: Any) -> bytes:
    r"""The value as JSON on one line, that also holds in the middle of an HTML page and on a terminal.

    `<`, `>`, `&` and all that does not print (control and format characters, line separators) are escaped as `\u003c`
    is, which changes nothing for who reads the JSON.
    """
    return harmless(_encode(value))


def harmless(data: bytes) -> bytes:
    """The same of what is JSON already, without spaces between its parts."""
    data = data.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    if data.isascii() and b"\x7f" not in data:
        return data
    text = data.decode()
    return data if text.isprintable() else _UNUSUAL.sub(_escaped, text).encode()


def _escaped(found: re.Match[str]) -> str:
    one = found[0]
    return one if one.isprintable() else json.dumps(one)[1:-1] if one != "\x7f" else "\\u007f"


def frame_name(name: str) -> str:
    """The name as a frame of a folded stack, on its own in one line: without `;`, and all that does not print escaped."""
    name = name.replace(";", ",")
    if not name.isprintable():
        name = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)
    return name.strip() or "(no name)"
