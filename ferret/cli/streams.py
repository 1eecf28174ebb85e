"""Standard output as it may be: closed, on a full disk, or with a reader that is gone."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Output(io.FileIO):
    """Says once that it cannot be written to; what comes then, or after its reader is gone (`| head`), goes nowhere."""

    _over = False
    reader_gone = False

    def write(self, data: Any, /) -> int:
        """As much as the file takes."""
        if self._over:
            return len(data)
        try:
            return super().write(data)
        except BrokenPipeError:
            self._over = self.reader_gone = True
            return len(data)
        except OSError as error:
            self._over = True
            raise OSError(f"standard output cannot be written: {error.strerror}") from None


@contextmanager
def forgiving_output() -> Iterator[None]:
    """Meanwhile, `sys.stdout` is one of these, unless somebody has put something else in its place.

    Raises:
        OSError: it could not be written.
    """
    before = sys.stdout
    if before is not sys.__stdout__:
        yield
        return
    if before is None:  # the command was started without
        raw, encoding = _Output(os.open(os.devnull, os.O_RDONLY), "w"), "utf-8"
    else:
        before.flush()
        raw, encoding = _Output(before.fileno(), "w", closefd=False), before.encoding
    # what the terminal's encoding lacks is escaped, and not an error
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=raw.isatty())
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        finally:
            sys.stdout = before


def reader_gone() -> bool:
    """Whether nobody reads standard output any more, as far as was noticed: what is flushed is noticed at once."""
    return getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "reader_gone", False)


class Group(TyperGroup):
    """The command, which ends with one line and status 1 if its output cannot be written, be it only its `--help`."""

    def main(self, *args: Any, **options: Any) -> Any:
        """As in the base."""
        try:
            with forgiving_output():
                return super().main(*args, **options)
        except OSError as error:
            print(f"ferret: {error}", file=sys.stderr)
            sys.exit(1)
