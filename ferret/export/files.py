"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from ferret.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def replacing(path: str, source: str | None = None) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place at the end, and is gone if anything raises.

    A device or a pipe is written to as it is.

    Args:
        path: what to write; a link stays a link, to what is new.
        source: a file that must not be replaced, nor what SQLite keeps beside it.

    Raises:
        ExportError: `path` is that source.
        OSError: it cannot be written.
    """
    if source is not None and any(_same(path, source + suffix) for suffix in ("", "-wal", "-shm", "-journal")):
        raise ExportError(f"{path} is what the spans are read from: write to another file")
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        with _told(path, path), open(path, "wb") as file:
            yield file
        return
    target = os.path.realpath(path)
    if os.path.isdir(target):
        raise IsADirectoryError(f"{path} is a directory: name a file in it")
    temporary = os.path.join(os.path.dirname(target), f".{os.path.basename(target)[:100]}.{secrets.token_hex(4)}.part")
    try:
        with _told(path, temporary), open(temporary, "xb") as file:
            yield file
        with suppress(OSError):  # of what was there before: who may read it
            os.chmod(temporary, os.stat(target).st_mode & 0o7777)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


@contextmanager
def _told(path: str, opened: str) -> Iterator[None]:
    """What the system says when a file is opened and written, said of the file that was asked for.

    What it says of another file goes on as it is, as do errors with a text of their own.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.strerror is None or error.filename not in (None, opened):
            raise
        raise OSError(f"{path} cannot be written: {error.strerror}") from error


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.abspath(one) == os.path.abspath(other)
