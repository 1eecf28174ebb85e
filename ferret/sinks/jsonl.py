"""`jsonl`: one JSON object per line, for anything that reads text; gzipped if the file's name ends in `.gz`.

A batch is a line that announces it, and its spans:

    {"type":"batch","run_id":"…","token":"…","sequence":0,"spans":2}
    {"type":"span","span_id":"…","parent_id":null,"run_id":"…","name":"checkout", …}
    {"type":"span", …}

It counts once all the spans that were announced follow; so a write that was cut short, wherever that was,
leaves nothing that a reader would take for a batch. The next write cuts such a rest off, which keeps the file
fit for programs that look at nothing but spans. The facts of a run are a line
`{"type":"run","run_id":"…","token":"…", …}`, of which the last one counts.

In a `.gz` file each write is a gzip member, which `zcat` and Python's `gzip` read one after the other. Its
header says how long the member is, in an extra field (`Ft`, 4 bytes, little-endian): one that was cut short is
found without unpacking the file.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from ferret.batch import SpanData
from ferret.errors import StorageError
from ferret.segment import Segment

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from ferret.batch import Batch
    from ferret.models import ProcessInfo

MAX_LINE_BYTES: Final = 4 << 20
"""A longer line is neither written nor read; a span of the longest texts that are kept takes a tenth of it."""
MAX_BATCH_BYTES: Final = 1 << 30
"""A longer batch is neither written nor read: a hostile file must not fill the memory."""

_BLOCK = 1 << 18
_REMEMBERED = 1024  # a batch comes again soon, or from another process that remembers nothing anyway

_BATCH, _RUN, _SPAN = (b'{"type":"%s",' % kind for kind in (b"batch", b"run", b"span"))

_MAGIC = b"\x1f\x8b"
# deflate, no name, no time, unknown system; 8 bytes of extra field, of which 4 are the length of the member
_MEMBER = _MAGIC + b"\x08\x04\0\0\0\0\0\xff\x08\0Ft\x04\0"
_MEMBER_HEAD, _MEMBER_END = len(_MEMBER) + 4, 8


class _BatchLine(msgspec.Struct, frozen=True, tag_field="type", tag="batch"):
    run_id: str
    token: str
    sequence: int
    spans: int

    @property
    def id(self) -> str:
        return f"{self.token}-{self.sequence}"


class _SpanLine(SpanData, frozen=True, tag_field="type", tag="span"):
    pass


class _RunLine(msgspec.Struct, frozen=True, tag_field="type", tag="run"):
    run_id: str
    token: str


type _Line = _BatchLine | _SpanLine | _RunLine

_encode_lines = msgspec.json.Encoder().encode_lines
_decoder: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_BatchLine | _SpanLine | _RunLine)


class JsonlSink:
    """Appends to a file of JSON lines, which several processes and profilers may share.

    One thread at a time may write; any thread and process may read meanwhile. Every write is one append under
    `fcntl.flock`, and waits for those of others; where there is no `fcntl`, let only one process write. When
    `write` returns, the operating system has the batch, but has not yet forced it to the disk.

    Args:
        target: the file, made with mode 0600 if there is none. One that exists stays gzip or plain, as it is.

    Raises:
        StorageError: there is no target, it cannot be appended to, or it holds something else; from `write` and
            `write_run`, that nothing was stored.
    """

    def __init__(self, target: str | os.PathLike[str] | None) -> None:
        if not target:
            raise StorageError("jsonl needs a file: jsonl:spans.jsonl")
        self.path = Path(target).absolute()
        self._file = _open(self.path, "a+")
        self._process_id = os.getpid()
        self._recent: deque[str] = deque(maxlen=_REMEMBERED)
        self._sound_until = 0
        try:
            self._packed = _recognise(self._file, self.path)
        except BaseException:
            self._file.close()
            raise

    def write(self, batch: Batch) -> None:
        """Append the batch, whole or not at all, and once."""
        if not len(batch) or batch.id in self._recent:
            return
        origin = batch.origin
        head = _BatchLine(origin.run_id, origin.token, batch.sequence, len(batch))
        lines = _encode_lines([head, *(_SpanLine(*msgspec.structs.astuple(span)) for span in batch)])
        self._append(lines, unless_stored=batch.id if batch.attempt > 1 else None)
        self._recent.append(batch.id)

    def write_run(self, process: ProcessInfo) -> None:
        """Append the facts; the last ones count."""
        self._append(b'{"type":"run",' + process.model_dump_json().encode()[1:] + b"\n")

    def flush(self) -> None:
        """Do nothing: what was written can be read."""

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        self._file.close()

    def reopen(self) -> JsonlSink:
        """A new sink on the same file, for a forked child."""
        if os.getpid() != self._process_id:
            # All copies of a descriptor hold its lock: were the parent killed in a write, this one would go on.
            self._file.close()
        return JsonlSink(self.path)

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        """As `JsonlReader.segments`."""
        return JsonlReader(self.path).segments(run_id)

    def processes(self, run_id: str | None = None) -> Iterator[ProcessInfo]:
        """As `JsonlReader.processes`."""
        return JsonlReader(self.path).processes(run_id)

    def _append(self, lines: bytes, unless_stored: str | None = None) -> None:
        try:
            _check_size(lines)
            data = _as_member(lines) if self._packed else lines
            with _locked(self._file):
                end = self._mend()
                if unless_stored is not None and self._holds(unless_stored):
                    return
                if not self._packed and end and _read_at(self._file, end - 1, 1) != b"\n":
                    data = b"\n" + data  # an editor may leave the last line without its end
                _put(self._file.fileno(), data, end)
                self._sound_until = end + len(data)
        except (OSError, ValueError) as error:  # ValueError: too long, or the sink is closed
            raise StorageError(f"{self.path}: nothing was appended: {_reason(error)}") from error

    def _mend(self) -> int:
        """Cut off what a killed process left of its last write; where the file then ends."""
        size = os.fstat(self._file.fileno()).st_size
        if size == self._sound_until:  # our own write was the last one
            return size
        end = (_sound_members if self._packed else _sound_lines)(self._file, size)
        if end < size:
            os.ftruncate(self._file.fileno(), end)
        return end

    def _holds(self, batch_id: str) -> bool:
        stored = _stored(_lines(_text(self._file, self._packed)), lambda batch: batch.id == batch_id)
        return any(True for _ in stored)


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
        with _open(self.path, "r") as file:
            self._packed = _recognise(file, self.path)

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        """The batches of one run, or of all, as they were written; one is held at a time."""
        for batch, spans in _stored(self._lines(), lambda batch: run_id in (None, batch.run_id)):
            try:
                segment = Segment.from_spans(spans, batch.token, batch.sequence)
            except (ValueError, OverflowError):  # an id that is no number, a time beyond all calendars
                continue
            yield segment

    def processes(self, run_id: str | None = None) -> Iterator[ProcessInfo]:
        """The last facts of each process, of one run or of all."""
        from ferret.models import ProcessInfo  # noqa: PLC0415 - it imports pydantic, which only reading needs

        found: dict[tuple[str, str], ProcessInfo] = {}
        for line in self._lines():
            item = None if line.startswith(_SPAN) else _decode(line)
            if isinstance(item, _RunLine) and run_id in (None, item.run_id):
                with suppress(ValueError):
                    found[item.run_id, item.token] = ProcessInfo.model_validate_json(line)
        yield from found.values()

    def _lines(self) -> Iterator[bytes]:
        with _open(self.path, "r") as file:
            try:
                yield from _lines(_text(file, self._packed))
            except OSError as error:
                raise StorageError(f"{self.path} cannot be read: {_reason(error)}") from error


def _open(path: Path, mode: str) -> io.FileIO:
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
        raise StorageError(f"{path} cannot be {wanted}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _recognise(file: io.FileIO, path: Path) -> bool:
    """Whether the file is gzip; raises if it is somebody else's."""
    start = _read_at(file, 0, len(_MEMBER))
    if not start:
        return path.suffix == ".gz"
    packed = _MAGIC.startswith(start[:2])
    if packed and _MEMBER.startswith(start):
        return True
    first = next(_lines(_text(file, packed)), b"")
    torn = _begins(first) and len(first) == os.fstat(file.fileno()).st_size
    if not torn and _decode(first) is None:
        raise StorageError(f"{path} does not hold ferret's JSON lines, and is left as it is: name another file")
    return packed


def _begins(line: bytes) -> bool:
    """Whether the line may be the beginning of what one write appends."""
    return any(line.startswith(kind) or kind.startswith(line) for kind in (_BATCH, _RUN))


@contextmanager
def _locked(file: io.FileIO) -> Generator[None]:
    """Keep all others from writing; those in this process too, as each has opened the file for itself."""
    if fcntl is None:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _put(descriptor: int, data: bytes, end: int) -> None:
    """Append all of the data; if that fails, none."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BaseException:
        with suppress(OSError):  # the next write will cut it off
            os.ftruncate(descriptor, end)
        raise


def _check_size(lines: bytes) -> None:
    longest = len(lines) if len(lines) <= MAX_LINE_BYTES else max(map(len, lines.split(b"\n")))
    if longest > MAX_LINE_BYTES or len(lines) > MAX_BATCH_BYTES:
        raise ValueError(
            f"{len(lines)} bytes with a line of {longest} are more than could be read back: "
            f"{MAX_BATCH_BYTES} with lines of {MAX_LINE_BYTES}"
        )


def _as_member(lines: bytes) -> bytes:
    body = zlib.compress(lines, 1, wbits=-15)  # raw: header and end are ours; level 1 as for segments
    length = _MEMBER_HEAD + len(body) + _MEMBER_END
    return _MEMBER + struct.pack("<I", length) + body + struct.pack("<II", zlib.crc32(lines), len(lines))


def _sound_members(file: io.FileIO, size: int) -> int:
    """Where the last whole member ends; whatever is not ours counts as whole."""
    start = _find_last(file, _MEMBER, size)
    end = 0
    if start >= 0:
        head = _read_at(file, start, _MEMBER_HEAD)
        end = start + int.from_bytes(head[len(_MEMBER) :], "little")
        if len(head) < _MEMBER_HEAD or end > size:
            return start
    rest = _read_at(file, end, len(_MEMBER))
    return end if _MEMBER.startswith(rest) else size


def _sound_lines(file: io.FileIO, size: int) -> int:
    """Where the last batch begins if some of its spans are missing, or the last line if it is cut short."""
    start = _find_last(file, b"\n" + _BATCH, size) + 1
    missing, line, item = 0, b"", None
    for line in _lines(_blocks(file, start)):
        item = _decode(line)
        if isinstance(item, _BatchLine):
            missing = item.spans
        elif isinstance(item, _SpanLine):
            missing -= 1
        elif isinstance(item, _RunLine):
            missing = 0  # somebody has written since
    if missing > 0:
        return start
    torn = item is None and _begins(line) and _read_at(file, size - 1, 1) != b"\n"
    return _find_last(file, b"\n", size) + 1 if torn else size


def _stored(
    lines: Iterator[bytes], wanted: Callable[[_BatchLine], bool]
) -> Iterator[tuple[_BatchLine, Sequence[SpanData]]]:
    """Every batch that is whole and wanted, once."""
    seen: set[str] = set()
    batch: _BatchLine | None = None
    spans: list[SpanData] = []
    room = 0
    for line in lines:
        if batch is None and line.startswith(_SPAN):
            continue  # nobody wants it: not worth decoding
        item = _decode(line)
        if isinstance(item, _BatchLine):
            batch = item if item.id not in seen and wanted(item) else None
            spans, room = [], MAX_BATCH_BYTES
        elif batch is not None and isinstance(item, _SpanLine) and len(line) <= room:
            spans.append(item)
            room -= len(line)
            if len(spans) == batch.spans:
                seen.add(batch.id)
                yield batch, spans
                batch = None
        else:
            batch = None


def _decode(line: bytes) -> _Line | None:
    try:
        return _decoder.decode(line) if len(line) <= MAX_LINE_BYTES else None
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        return None


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of a text that comes in pieces. One that is too long comes in pieces too, which do not decode."""
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
        if len(rest) > MAX_LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def _text(file: io.FileIO, packed: bool) -> Iterator[bytes]:
    return _unpacked(file) if packed else _blocks(file, 0)


def _blocks(file: io.FileIO, start: int) -> Iterator[bytes]:
    file.seek(start)
    while block := file.read(_BLOCK):
        yield block


def _unpacked(file: io.FileIO) -> Iterator[bytes]:
    """The text of all whole members. After a damaged one it goes on at the next that ferret wrote."""
    start = 0
    while head := _read_at(file, start, len(_MEMBER)):
        if head == _MEMBER:
            yield b"\n"  # what others put before it may not end its line
        try:
            start = yield from _member(file, start)
        except zlib.error:
            yield b"\0\n"  # spoils the line that the member ended in, however whole it may look
            start = _find_next(file, _MEMBER, start + 1)


def _member(file: io.FileIO, start: int) -> Generator[bytes, None, int]:
    """A member's text, and where the next begins. The last piece waits until the checksum was right."""
    unpacker = zlib.decompressobj(wbits=31)
    file.seek(start)
    held = b""
    while not unpacker.eof:
        packed = unpacker.unconsumed_tail or file.read(_BLOCK)
        piece = unpacker.decompress(packed, _BLOCK)
        if not packed and not piece:
            raise zlib.error("the file ends within a member")
        if piece:
            yield held
            held = piece
    yield held
    return file.tell() - len(unpacker.unused_data)


def _read_at(file: io.FileIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)


def _find_next(file: io.FileIO, what: bytes, start: int) -> int:
    """Where `what` is next found from `start` on, or where the file ends."""
    while len(block := _read_at(file, start, _BLOCK)) >= len(what):
        if (found := block.find(what)) >= 0:
            return start + found
        start += len(block) - len(what) + 1
    return start + len(block)


def _find_last(file: io.FileIO, what: bytes, end: int) -> int:
    """Where `what` is last found, or -1. Read from the end: in a long file that is where it will be."""
    while end > 0:
        start = max(0, end - _BLOCK)
        if (found := _read_at(file, start, end - start + len(what) - 1).rfind(what)) >= 0:
            return start + found
        end = start
    return -1
