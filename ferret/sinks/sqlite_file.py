"""Looking at a file that may be an SQLite database, without a change to it, and without what reading spans needs."""

from __future__ import annotations

import os
import sqlite3
from urllib.parse import quote


def sqlite_url(path: str) -> str:
    """An SQLite URL that opens the file for reading only, and leaves no file beside it."""
    # A file without a -wal is complete, and nobody has it open: taken as immutable, SQLite makes no -wal and -shm either.
    alone = "" if os.path.exists(f"{path}-wal") else "&immutable=1"
    return f"file:{quote(os.path.abspath(path))}?mode=ro{alone}"


def look_inside(path: str) -> tuple[set[str], int]:
    """The tables of an SQLite file, and its `user_version`; changes nothing.

    Nothing else may open a file that might be a database: POSIX takes all of a process's locks on a file away when any
    descriptor of it closes, and a profiler of this process may have it open (sqlite.org/howtocorrupt.html, 2.2).

    Raises:
        sqlite3.Error: it cannot be read, or is not a database.
    """
    connection = sqlite3.connect(sqlite_url(path), uri=True)
    try:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    finally:
        connection.close()
    return tables, version
