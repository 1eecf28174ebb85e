"""Names of files, as programs give them."""

from __future__ import annotations

import os

from ferret.errors import StorageError


def check_name(path: str) -> None:
    """See that a file can have this name.

    Raises:
        StorageError: none can.
    """
    try:
        possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise StorageError(f"{path!r} cannot be made: no file can have such a name; choose another")


def absolute(path: str) -> str:
    """The same file, also once the program has changed its folder.

    Raises:
        StorageError: no file can have such a name, or there is no folder any more to take it from.
    """
    check_name(path)
    try:
        return os.path.abspath(path)
    except FileNotFoundError as error:
        raise StorageError(f"{path!r} cannot be made: the current folder is gone; give an absolute path") from error
