"""Whether a path can be a BeaverDB file, asked without importing BeaverDB where that is not needed."""

from __future__ import annotations

import os
import sqlite3

from ferret.errors import StorageError
from ferret.sinks.sqlite_file import look_inside

VERSION = 1
"""The `user_version` of a file whose tables are as ferret knows them; what BeaverDB makes of others is its own affair."""


def prepare_file(path: str) -> bool:
    """Check that the path can be written, and make the file if it is missing; whether it was.

    Raises:
        StorageError: the path cannot be used; the message says why, and what would be right. Nothing was changed.
    """
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise StorageError(f"{path!r} cannot be made: there is no directory {folder!r}; make it first")
    if os.path.isdir(path):
        raise StorageError(f"{path!r} is a directory: name a file in it, such as {os.path.join(path, 'trace.db')!r}")
    try:
        # for its owner only: spans tell what a program does, and with what
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        _check_file(path)
        return False
    except OSError as error:
        raise StorageError(f"{path!r} cannot be made: {error.strerror}") from error
    return True


def has_tables(path: str) -> bool:
    """Whether BeaverDB has made its tables in the file, such that it would change nothing if it opened it."""
    tables, version = look_inside(path)
    return version == VERSION and {"__beaver_blobs__", "__beaver_dicts__"} <= tables


def _check_file(path: str) -> None:
    """Refuse an existing file that BeaverDB 2 could not use, or would spoil, without touching it."""
    if not os.access(path, os.R_OK | os.W_OK):
        raise StorageError(f"{path!r} cannot be written: choose another file, or change its permissions")
    try:
        tables, version = look_inside(path)
    except sqlite3.Error as error:
        if "not a database" in str(error):
            raise StorageError(f"{path!r} is not a database, and was left as it is: choose another file") from error
        raise StorageError(f"{path!r} cannot be read as a database, and was left as it is: {error}") from error
    strange = {table for table in tables if not table.startswith(("__beaver_", "sqlite_"))}
    if not strange and version <= VERSION:
        return  # importing BeaverDB takes 0.2 s
    from beaver.core import BEAVER_DB_VERSION, LEGACY_1X_TABLES  # noqa: PLC0415

    if tables & LEGACY_1X_TABLES:
        raise StorageError(
            f"{path!r} was written by beaver 1.x, which ferret cannot read, and was left as it is: choose another file, "
            "or migrate it as beaver-db 2 describes"
        )
    if tables and tables == strange:
        raise StorageError(f"{path!r} is another program's SQLite database, and was left as it is: choose another file")
    if version > BEAVER_DB_VERSION:
        raise StorageError(f"{path!r} was written by a newer beaver-db (schema {version}): update beaver-db")
