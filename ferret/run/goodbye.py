"""Where the spans of a run can be read, and the line that says so at its end."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ferret.plugins import SinkSpec

_IN_FILES = ("beaver", "jsonl")
_NAMESPACE = "_ferret_trace"


class Readable(NamedTuple):
    """A file that `ferret analyze` reads, by its absolute path, and the sink that writes it."""

    sink: str
    file: str


def readable(sink: SinkSpec) -> Readable | None:
    """What a reader would read of a sink; of a `tee`, the first that is in a file."""
    if sink.name == "tee":
        return next((found for found in map(readable, sink.parts) if found is not None), None)
    if sink.name not in _IN_FILES or not sink.target or sink.target == ":memory:":
        return None
    return Readable(sink.name, os.path.abspath(sink.target))


def line(written: int | None, found: Readable | None, namespace: str) -> str:
    """What to say at a terminal, without control characters; empty if there is nothing to say.

    Args:
        written: how many spans there are, if that is known.
        found: where they are, if they can be read.
        namespace: where in a BeaverDB file they are.
    """
    spans = "spans" if written is None else f"{written:,} spans" if written != 1 else "1 span"
    if found is None:
        return "" if written is None else f"ferret: {spans}"
    file = found.file
    with suppress(OSError):  # the current folder may be gone
        file = os.path.relpath(file)
    words = ["ferret", "analyze", f"./{file}" if file.startswith("-") else file]
    if found.sink == "beaver" and namespace != _NAMESPACE:
        words += ["--namespace", namespace]
    text = f"ferret: {spans} in {file} · {shlex.join(words)}"
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
