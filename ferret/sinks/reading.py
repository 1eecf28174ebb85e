"""Opening a file of spans by what is in it, whatever it is called."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ferret.errors import StorageError

if TYPE_CHECKING:
    from ferret.sinks.base import Readable

_GZIP: Final = b"\x1f\x8b"


def open_readable(path: str | os.PathLike[str], namespace: str) -> Readable:
    """Open a file that ferret wrote, for reading only: nothing is created or changed.

    Args:
        path: a BeaverDB file, or JSON lines, plain or gzipped. The first bytes decide, not the name.
        namespace: the name under which a BeaverDB file keeps the spans.

    Raises:
        StorageError: it is missing, unreadable, empty, or of another kind; the message says which.
    """
    _check(Path(path))
    if not Path(path).stat().st_size:
        from ferret.sinks.jsonl_reader import JsonlReader  # noqa: PLC0415 - as below

        return JsonlReader(path)  # in which there is nothing, but for what the counts say that survived a kill
    if _is_database(path):
        from ferret.sinks.beaver_reader import BeaverReader  # noqa: PLC0415 - only this kind of file needs it

        return BeaverReader(os.fspath(path), namespace)
    start = _first_bytes(Path(path))
    if start.startswith((b"{", _GZIP)):
        from ferret.sinks.jsonl_reader import JsonlReader  # noqa: PLC0415 - as above

        return JsonlReader(path)
    raise StorageError(
        f"{path} is not a file of spans: it begins with {start[:8]!r}, where a BeaverDB file, JSON lines or "
        "gzipped JSON lines were expected"
    )


def _check(path: Path) -> None:
    try:
        if path.is_dir():
            raise StorageError(f"{path} is a directory: name the file in it that holds the spans")
        size = path.stat().st_size
        if not path.is_file():
            # opening a pipe waits for its other end, and what is read from it is gone
            raise StorageError(f"{path} is not a regular file: save its content to a file, and read that")
    except FileNotFoundError as error:
        raise StorageError(f"{path}: there is no such file{_hint(path)}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"{path} cannot be read: {reason}") from error
    if not size and not _was_recorded_into(path):
        raise StorageError(f"{path} is empty: nothing has been recorded into it yet")


def _was_recorded_into(path: Path) -> bool:
    """Whether processes that meant to write to this file were killed before they did."""
    from ferret.ledger import live  # noqa: PLC0415 - only for a file that is empty
    from ferret.ledger.fates import unheard_of  # noqa: PLC0415 - as above

    return bool(unheard_of(live.look(os.path.realpath(path)), []))


def _is_database(path: str | os.PathLike[str]) -> bool:
    """Whether it is an SQLite file. Only SQLite may look: see `ferret.sinks.sqlite_file.look_inside`."""
    from ferret.sinks.sqlite_file import look_inside  # noqa: PLC0415 - with the reader

    try:
        look_inside(os.fspath(path))
    except sqlite3.DatabaseError as error:
        return "not a database" not in str(error)
    return True


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error


def _hint(path: Path) -> str:
    if str(path) == ":memory:":
        return "; spans in memory are read from the Profiler itself, while it lives"
    return ""
