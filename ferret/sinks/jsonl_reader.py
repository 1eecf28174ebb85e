"""Reading what the `jsonl` sink wrote: lines, the members of a `.gz` file, and which batches are whole.

Nothing here writes. `ferret.sinks.jsonl` tells what is in such a file.
"""

from __future__ import annotations

import io
import itertools
import os
import zlib
from array import array
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from ferret.ambient import parse_ids
from ferret.batch import SpanData
from ferret.errors import StorageError
from ferret.segment import Segment
from ferret.sinks.summary import SegmentSummary
from ferret.tags import encode_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from numpy.typing import NDArray

    from ferret.models import ProcessInfo

MAX_LINE_BYTES: Final = 4 << 20
"""A longer line is neither written nor read; a span of the longest texts that are kept takes a tenth of it."""
MAX_BATCH_BYTES: Final = 1 << 28
"""A longer batch is neither written nor read: a hostile file must not fill the memory."""

LINES_TRIED: Final = 8
"""How many lines tell whether a file is ours: the first may be damaged."""

BLOCK: Final = 1 << 18
"""Bytes read at a time."""

BATCH, _RUN, _SPAN = (b'{"type":"%s",' % kind for kind in (b"batch", b"run", b"span"))

_MAGIC = b"\x1f\x8b"
# deflate, no name, no time, unknown system; 8 bytes of extra field, of which 4 are the length of the member
MEMBER = _MAGIC + b"\x08\x04\0\0\0\0\0\xff\x08\0Ft\x04\0"
MEMBER_HEAD, MEMBER_END = len(MEMBER) + 4, 8


class BatchLine(msgspec.Struct, frozen=True, tag_field="type", tag="batch"):
    """Announces a batch; as many span lines follow as it says."""

    run_id: str
    token: str
    sequence: int
    spans: int

    @property
    def id(self) -> str:
        """The batch's id."""
        return f"{self.token}-{self.sequence}"


# JSON holds no cycles; and the garbage collector going through all spans of a batch takes a tenth of the reading
class SpanLine(SpanData, frozen=True, tag_field="type", tag="span", gc=False):
    """A span of the batch that was announced last; its tags are JSON, as a few bytes of it may become many objects."""

    tags: msgspec.Raw = msgspec.Raw(b"{}")  # type: ignore[assignment]


class RunLine(msgspec.Struct, frozen=True, tag_field="type", tag="run"):
    """The facts of a process, as far as they tell whose they are."""

    run_id: str
    token: str


type Line = BatchLine | SpanLine | RunLine

_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(BatchLine | SpanLine | RunLine)
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class JsonlReader:
    """Reads what `JsonlSink` wrote, or still writes, and never changes it. Safe from any thread.

    Lines that are damaged, too long or unknown are passed over, with the batch that they are in; so is a gzip
    member that does not unpack.

    Args:
        path: the file, plain or gzip.

    Raises:
        StorageError: the file is missing, cannot be read, or is of another kind.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        with open_file(self.path, "r") as file:
            self._packed = recognise(file, self.path)

    @property
    def place(self) -> str:
        """The file."""
        return str(self.path)

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        """The batches of one run, or of all, as they were written; one is held at a time."""
        return self._batches(run_id, _as_segment)

    def summaries(self, run_id: str | None = None) -> Iterator[SegmentSummary]:
        """The same batches in brief, in about half the time."""
        return self._batches(run_id, _in_brief)

    def processes(self, run_id: str | None = None) -> Iterator[ProcessInfo]:
        """The last facts of each process, of one run or of all."""
        from ferret.models import ProcessInfo  # noqa: PLC0415 - it imports pydantic, which only reading needs

        found: dict[tuple[str, str], ProcessInfo] = {}
        for line in self._lines():
            item = None if line.startswith(_SPAN) else decode(line)
            if isinstance(item, RunLine) and run_id in (None, item.run_id):
                with suppress(ValueError):
                    found[item.run_id, item.token] = ProcessInfo.model_validate_json(line)
        yield from found.values()

    def _batches[T](self, run_id: str | None, made: Callable[[BatchLine, Sequence[SpanLine]], T]) -> Iterator[T]:
        for batch, spans in stored(self._lines(), lambda batch: run_id in (None, batch.run_id)):
            try:
                one = made(batch, spans)
            except (ValueError, OverflowError, RecursionError):  # an id that is no number, a time beyond all calendars
                continue
            yield one

    def _lines(self) -> Iterator[bytes]:
        with open_file(self.path, "r") as file:
            try:
                yield from lines_of(file, self._packed)
            except OSError as error:
                raise StorageError(f"{self.path} cannot be read: {reason(error)}") from error


def _as_segment(batch: BatchLine, spans: Sequence[SpanLine]) -> Segment:
    return Segment.from_spans(
        spans, batch.token, batch.sequence, [encode_tags(_tags_of(span)) or b"" for span in spans]
    )


def _tags_of(span: SpanLine) -> dict[str, Any]:
    return _decode_object(span.tags)


def _in_brief(batch: BatchLine, spans: Sequence[SpanLine]) -> SegmentSummary:
    """The segment's summary; raises whatever `Segment.from_spans` would, so that both take the same batches."""
    for span in spans:
        _tags_of(span)
    for ids in ([span.span_id for span in spans], [span.parent_id or "0" for span in spans]):
        array("Q", parse_ids(ids))
    start_ns = _nanoseconds([span.start_time for span in spans])
    end_ns = start_ns + _nanoseconds([span.duration for span in spans])
    errors = sum(span.status != "ok" for span in spans)
    run_id, process_id = spans[0].run_id, spans[0].process_id
    return SegmentSummary(
        run_id, batch.token, process_id, batch.sequence, len(spans), errors, int(start_ns.min()), int(end_ns.max())
    )


def _nanoseconds(seconds: list[float]) -> NDArray[np.int64]:
    """Each as `Segment.from_spans` rounds it, but all in one go: a seventh of the time."""
    given = np.array(seconds)
    if not (np.abs(given) < 2**63 / 1e9).all():
        raise OverflowError("beyond 64 bits of nanoseconds")
    whole = np.trunc(given)
    return whole.astype(np.int64) * 1_000_000_000 + np.rint((given - whole) * 1e9).astype(np.int64)


def open_file(path: Path, mode: str) -> io.FileIO:
    """Open a regular file, made for its owner alone if the mode makes it; a `StorageError` says why it cannot be."""
    try:
        if path.exists() and not path.is_file():
            kind = "a directory" if path.is_dir() else "not a regular file"
            raise StorageError(f"{path} is {kind}: name a file, as in jsonl:spans.jsonl")
        return io.FileIO(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))
    except FileNotFoundError as error:
        missing = "there is no such file" if mode == "r" else f"there is no directory {path.parent}: make it first"
        raise StorageError(f"{path}: {missing}") from error
    except (OSError, ValueError) as error:
        wanted = "read" if mode == "r" else "read and appended to"
        raise StorageError(f"{path} cannot be {wanted}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Why, without the number and the path that an `OSError` adds."""
    return getattr(error, "strerror", None) or str(error)


def recognise(file: io.FileIO, path: Path) -> bool:
    """Whether the file is gzip; raises if it is somebody else's."""
    start = read_at(file, 0, len(MEMBER))
    if not start:
        return path.suffix == ".gz"
    packed = _MAGIC.startswith(start[:2])
    if packed and MEMBER.startswith(start):
        return True
    first = [*itertools.islice(lines_of(file, packed), LINES_TRIED)] or [b""]
    torn = begins(first[0]) and len(first[0]) == os.fstat(file.fileno()).st_size
    if not torn and all(decode(line) is None for line in first):
        raise StorageError(f"{path} does not hold ferret's JSON lines, and is left as it is: name another file")
    return packed


def begins(line: bytes) -> bool:
    """Whether the line may be the beginning of what one write appends."""
    return any(line.startswith(kind) or kind.startswith(line) for kind in (BATCH, _RUN))


def stored(
    lines: Iterator[bytes], wanted: Callable[[BatchLine], bool]
) -> Iterator[tuple[BatchLine, Sequence[SpanLine]]]:
    """Every batch that is whole and wanted, once."""
    seen: set[str] = set()
    batch: BatchLine | None = None
    spans: list[SpanLine] = []
    room = 0
    for line in lines:
        if batch is None and line.startswith(_SPAN):
            continue  # nobody wants it: not worth decoding
        item = decode(line)
        if isinstance(item, SpanLine) and batch is not None and len(line) <= room:
            spans.append(item)
            room -= len(line)
            if len(spans) == batch.spans:
                seen.add(batch.id)
                yield batch, spans
                batch = None
        elif isinstance(item, BatchLine):
            batch = item if item.id not in seen and wanted(item) else None
            spans, room = [], MAX_BATCH_BYTES
        else:
            batch = None


def decode(line: bytes) -> Line | None:
    """What the line says; None if it is damaged, too long or unknown."""
    try:
        return _decoder.decode(line) if len(line) <= MAX_LINE_BYTES else None
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        return None


def lines_of(file: io.FileIO, packed: bool, start: int = 0) -> Iterator[bytes]:
    """The file's lines, those of a plain one from `start` on. One that is too long comes in pieces: they do not decode."""
    rest = b""
    for block in _unpacked(file) if packed else _blocks(file, start):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
        if len(rest) > MAX_LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def _blocks(file: io.FileIO, start: int) -> Iterator[bytes]:
    file.seek(start)
    while block := file.read(BLOCK):
        yield block


def _unpacked(file: io.FileIO) -> Iterator[bytes]:
    """The text of all whole members. After a damaged one it goes on at the next that ferret wrote."""
    start = 0
    while head := read_at(file, start, len(MEMBER)):
        if head == MEMBER:
            yield b"\n"  # what others put before it may not end its line
        try:
            start = yield from _member(file, start)
        except zlib.error:
            yield b"\0\n"  # spoils the line that the member ended in, however whole it may look
            start = _find_next(file, MEMBER, start + 1)


def _member(file: io.FileIO, start: int) -> Generator[bytes, None, int]:
    """A member's text, and where the next begins. The last piece waits until the checksum was right."""
    unpacker = zlib.decompressobj(wbits=31)
    file.seek(start)
    held = b""
    while not unpacker.eof:
        packed = unpacker.unconsumed_tail or file.read(BLOCK)
        piece = unpacker.decompress(packed, BLOCK)
        if not packed and not piece:
            raise zlib.error("the file ends within a member")
        if piece:
            yield held
            held = piece
    yield held
    return file.tell() - len(unpacker.unused_data)


def read_at(file: io.FileIO, offset: int, count: int) -> bytes:
    """At most so many bytes from `offset` on."""
    file.seek(offset)
    return file.read(count)


def _find_next(file: io.FileIO, what: bytes, start: int) -> int:
    """Where `what` is next found from `start` on, or where the file ends."""
    while len(block := read_at(file, start, BLOCK)) >= len(what):
        if (found := block.find(what)) >= 0:
            return start + found
        start += len(block) - len(what) + 1
    return start + len(block)
