"""Whether a path can be a BeaverDB file, asked without importing BeaverDB where that is not needed; and making one."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from ferret.errors import StorageError
from ferret.filenames import check_name
from ferret.sinks.sqlite_file import look_inside

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = 1
"""The `user_version` of a file whose tables are as ferret knows them; what BeaverDB makes of others is its own affair."""

TRIES = 3
"""How many files are made before one is."""


def check_target(path: str) -> bool:
    """Check that a path is a BeaverDB file, or can become one; whether it is there. Nothing is made or changed.

    Raises:
        StorageError: the path cannot be used; the message says why, and what would be right.
    """
    check_name(path)
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise StorageError(f"{path!r} cannot be made: there is no directory {folder!r}; make it first")
    if os.path.isdir(path):
        raise StorageError(f"{path!r} is a directory: name a file in it, such as {os.path.join(path, 'trace.db')!r}")
    try:
        os.lstat(path)
    except FileNotFoundError:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(
                f"{path!r} cannot be made: {folder!r} cannot be written; choose another folder"
            ) from None
        return False
    except OSError as error:
        raise StorageError(f"{path!r} cannot be made: {error.strerror}") from error
    _check_file(path)
    return True


def make_file(path: str, make_tables: Callable[[str], None]) -> None:
    """Make a file that is not there, readable for its owner only, in a way that nobody ever sees a part of it.

    Several processes may begin at once. Each makes a file under a name of its own, and who comes first with the name that
    all want has made it. Were it made in its place, one that failed would have to take it away from under the others; and
    SQLite does fail, without waiting, while two turn on the write-ahead log of one file.

    Raises:
        StorageError: it cannot be made. Nothing was changed.
    """
    try:
        if not any(_make_once(path, make_tables) for _ in range(TRIES)):
            raise StorageError(f"{path!r} cannot be made: what was made is still open in this process; try again")
    except OSError as error:
        raise StorageError(f"{path!r} cannot be made: {error.strerror}") from error


def _make_once(path: str, make_tables: Callable[[str], None]) -> bool:
    """Make the file, unless somebody still has open what was made.

    SQLite removes the write-ahead log when the last connection closes. A connection that was closed stays open as long as
    anybody holds a cursor of it, be it a traceback that some other code keeps: it would go on with a log that has lost its
    name, and share its locks with every other connection of this process to that file. Another file has nothing of that.
    """
    file, new = tempfile.mkstemp(prefix=".ferret-", dir=os.path.dirname(path) or ".")
    os.close(file)  # it is for its owner only: spans tell what a program does
    try:
        make_tables(new)
        if os.path.exists(f"{new}-wal"):
            return False
        _give_name(new, path)
    finally:
        for ending in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):
                os.unlink(new + ending)
    return True


def _give_name(new: str, path: str) -> None:
    with suppress(FileExistsError):
        try:
            os.link(new, path)
        except FileExistsError:
            raise
        except OSError:  # no hard links here: then it is empty at first, and the tables are made in its place
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


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
    from beaver.core import BEAVER_DB_VERSION, LEGACY_1X_TABLES  # noqa: PLC0415 - see above

    if tables & LEGACY_1X_TABLES:
        raise StorageError(
            f"{path!r} was written by beaver 1.x, which ferret cannot read, and was left as it is: choose another file, "
            "or migrate it as beaver-db 2 describes"
        )
    if tables and tables == strange:
        raise StorageError(f"{path!r} is another program's SQLite database, and was left as it is: choose another file")
    if version > BEAVER_DB_VERSION:
        raise StorageError(f"{path!r} was written by a newer beaver-db (schema {version}): update beaver-db")
