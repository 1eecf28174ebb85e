"""Where spans go that a sink will not take: a text file beside the spans, a line each, with the reason."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import msgspec

from ferret.tags import plain_text

if TYPE_CHECKING:
    from ferret.batch import Batch

MOST_BYTES = 16 << 20
"""A file that is longer is not added to: the spans are counted, and that is all."""


def path_of(place: str) -> str:
    """The quarantine of the spans in a file."""
    return f"{place}-quarantine.jsonl"


def put(place: str, batch: Batch, why: str) -> bool:
    """Append the spans and what is wrong with them. Made for its owner only; whether that was possible.

    A span may be there twice, if the process that writes was killed over it.
    """
    head = {"at": time.time(), "batch": batch.id, "error": why}
    lines = msgspec.json.Encoder().encode_lines([{**head, "span": span} for span in _spans(batch)])
    try:
        file = os.open(path_of(place), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            size = os.fstat(file).st_size
            if size + len(lines) > MOST_BYTES:
                return False
            if size and os.pread(file, 1, size - 1) != b"\n":  # a full disk, or a kill, cut the last line short
                lines = b"\n" + lines
            return os.write(file, lines) == len(lines)
        finally:
            os.close(file)
    except OSError:
        return False


def _spans(batch: Batch) -> list[Any]:
    try:
        return list(batch)
    except Exception:  # noqa: BLE001 - it may be the very thing that is wrong with it
        return [plain_text(repr(record)) for record in batch.records]
