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

Reading is in `ferret.sinks.jsonl_reader`.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from ferret.errors import RejectedError, StorageError
from ferret.sinks.jsonl_reader import (
    BATCH,
    BLOCK,
    MAX_BATCH_BYTES,
    MAX_LINE_BYTES,
    MEMBER,
    MEMBER_END,
    MEMBER_HEAD,
    BatchLine,
    JsonlReader,
    RunLine,
    SpanLine,
    begins,
    decode,
    lines_of,
    open_file,
    read_at,
    reason,
    recognise,
    stored,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import io
    from collections.abc import Generator, Iterator

    from ferret.batch import Batch
    from ferret.models import ProcessInfo
    from ferret.segment import Segment
    from ferret.sinks.summary import SegmentSummary

__all__ = ["MAX_BATCH_BYTES", "MAX_LINE_BYTES", "JsonlReader", "JsonlSink"]

_REMEMBERED: Final = 1024  # a batch comes again soon, or from another process that remembers nothing anyway

_encode_lines = msgspec.json.Encoder().encode_lines


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
        self._file = open_file(self.path, "a+")
        self._process_id = os.getpid()
        self._recent: deque[str] = deque(maxlen=_REMEMBERED)
        self._sound_until = 0
        try:
            self._packed = recognise(self._file, self.path)
        except BaseException:
            self._file.close()
            raise

    def write(self, batch: Batch) -> None:
        """Append the batch, whole or not at all, and once."""
        if not len(batch) or batch.id in self._recent:
            return
        origin = batch.origin
        head = BatchLine(origin.run_id, origin.token, batch.sequence, len(batch))
        lines = _encode_lines([head, *(SpanLine(*msgspec.structs.astuple(span)) for span in batch)])
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

    @property
    def place(self) -> str:
        """The file."""
        return str(self.path)

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        """As `JsonlReader.segments`."""
        return JsonlReader(self.path).segments(run_id)

    def summaries(self, run_id: str | None = None) -> Iterator[SegmentSummary]:
        """As `JsonlReader.summaries`."""
        return JsonlReader(self.path).summaries(run_id)

    def processes(self, run_id: str | None = None) -> Iterator[ProcessInfo]:
        """As `JsonlReader.processes`."""
        return JsonlReader(self.path).processes(run_id)

    def _append(self, lines: bytes, unless_stored: str | None = None) -> None:
        _check_size(self.path, lines)
        try:
            data = _as_member(lines) if self._packed else lines
            with _locked(self._file):
                end = self._mend()
                if unless_stored is not None and self._holds(unless_stored):
                    return
                if not self._packed and end and read_at(self._file, end - 1, 1) != b"\n":
                    data = b"\n" + data  # an editor may leave the last line without its end
                _put(self._file.fileno(), data, end)
                self._sound_until = end + len(data)
        except (OSError, ValueError) as error:  # ValueError: the sink is closed
            raise StorageError(f"{self.path}: nothing was appended: {reason(error)}") from error

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
        found = stored(lines_of(self._file, self._packed), lambda batch: batch.id == batch_id)
        return any(True for _ in found)


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


def _check_size(path: Path, lines: bytes) -> None:
    longest = len(lines) if len(lines) <= MAX_LINE_BYTES else max(map(len, lines.split(b"\n")))
    if longest > MAX_LINE_BYTES or len(lines) > MAX_BATCH_BYTES:
        raise RejectedError(
            f"{path}: {len(lines)} bytes with a line of {longest} are more than could be read back: "
            f"{MAX_BATCH_BYTES} with lines of {MAX_LINE_BYTES}"
        )


def _as_member(lines: bytes) -> bytes:
    body = zlib.compress(lines, 1, wbits=-15)  # raw: header and end are ours; level 1 as for segments
    length = MEMBER_HEAD + len(body) + MEMBER_END
    return MEMBER + struct.pack("<I", length) + body + struct.pack("<II", zlib.crc32(lines), len(lines))


def _sound_members(file: io.FileIO, size: int) -> int:
    """Where the last whole member ends; whatever is not ours counts as whole."""
    start = _find_last(file, MEMBER, size)
    end = 0
    if start >= 0:
        head = read_at(file, start, MEMBER_HEAD)
        end = start + int.from_bytes(head[len(MEMBER) :], "little")
        if len(head) < MEMBER_HEAD or end > size:
            return start
    rest = read_at(file, end, len(MEMBER))
    return end if MEMBER.startswith(rest) else size


def _sound_lines(file: io.FileIO, size: int) -> int:
    """Where the last batch begins if some of its spans are missing, or the last line if it is cut short."""
    start = _find_last(file, b"\n" + BATCH, size) + 1
    missing, line, item = 0, b"", None
    for line in lines_of(file, packed=False, start=start):
        item = decode(line)
        if isinstance(item, BatchLine):
            missing = item.spans
        elif isinstance(item, SpanLine):
            missing -= 1
        elif isinstance(item, RunLine):
            missing = 0  # somebody has written since
    if missing > 0:
        return start
    torn = item is None and begins(line) and read_at(file, size - 1, 1) != b"\n"
    return _find_last(file, b"\n", size) + 1 if torn else size


def _find_last(file: io.FileIO, what: bytes, end: int) -> int:
    """Where `what` is last found, or -1. Read from the end: in a long file that is where it will be."""
    while end > 0:
        start = max(0, end - BLOCK)
        if (found := read_at(file, start, end - start + len(what) - 1).rfind(what)) >= 0:
            return start + found
        end = start
    return -1
