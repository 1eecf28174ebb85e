"""Looking at a file that may be an SQLite database, without a change to it, and without what reading spans needs."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator


def sqlite_url(path: str) -> str:
    """An SQLite URL that opens the file for reading only, and leaves no file beside it."""
    # A file without a -wal is complete, and nobody has it open: taken as immutable, SQLite makes no -wal and -shm either.
    alone = "" if os.path.exists(f"{path}-wal") else "&immutable=1"
    return f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode=ro{alone}"


@contextmanager
def opened(path: str) -> Iterator[sqlite3.Connection]:
    """A connection that only reads, for as long as the block lasts.

    Raises:
        sqlite3.Error: it cannot be read, or is not a database.
    """
    try:
        with closing(sqlite3.connect(sqlite_url(path), uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")  # a file's columns may be computed, by what it says
            yield connection
    except UnicodeDecodeError as error:  # SQLite quotes what it finds in a damaged file
        raise sqlite3.DatabaseError(str(error.object, "utf-8", "replace")) from error


def look_inside(path: str) -> tuple[set[str], int]:
    """The tables of an SQLite file, and its `user_version`; changes nothing.

    Nothing else may open a file that might be a database: POSIX takes all of a process's locks on a file away when any
    descriptor of it closes, and a profiler of this process may have it open (sqlite.org/howtocorrupt.html, 2.2).

    Raises:
        sqlite3.Error: it cannot be read, or is not a database.
    """
    with opened(path) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return tables, version
