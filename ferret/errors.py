"""Every exception that ferret raises on purpose, and its one warning."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class FerretError(Exception):
    """Base of all errors raised by ferret."""


class ConfigError(FerretError, ValueError):
    """An option has a value that cannot work; the message says where it came from and what would be right."""


class PluginError(FerretError, LookupError):
    """A writer or sink was asked for by a name that no sound plugin gives, or that two give."""


class StorageError(FerretError):
    """A file or database cannot be used: it is missing, unwritable, of another kind, or damaged."""


class RejectedError(StorageError):
    """Raised by a sink: it will never take this batch as it is. Nothing of the batch was stored, under any id.

    The batch does not come again. The spans that are named are set aside; the rest comes as another batch. Where none is
    named, the batch comes again in parts, until those are found that the sink rejects alone.

    Args:
        message: why.
        indices: the spans that are to blame, by their place in the batch, if the sink knows.
    """

    def __init__(self, message: str = "", indices: Iterable[int] = ()) -> None:
        super().__init__(message)
        self.indices = tuple(indices)


class FormatError(StorageError):
    """Stored bytes are not a segment that this version can read."""


class NewerFormatError(FormatError):
    """Stored bytes are of a version that only a newer ferret reads."""


class RunNotFoundError(FerretError, LookupError):
    """There is no run of this id, or more than one that begins like it; the message names those there are."""


class WriterProcessError(FerretError):
    """The process writer's child ended, again and again, before it had stored what it was given."""


class LostSpansWarning(RuntimeWarning):
    """Spans were not stored. Given once per profiler; the exact numbers are in `Profiler.stats()`."""


class ExportError(FerretError, ValueError):
    """An export was asked for that cannot be: of an unknown format, or onto the file that it reads."""
