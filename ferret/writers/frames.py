"""What goes through the pipes between a program and its writing child: frames, and nothing that is ever executed.

A frame is a kind (one byte), the payload's length (four bytes, little-endian) and the payload, msgpack. A frame that was
cut off by a kill is recognised by its length, and ignored.
"""

from __future__ import annotations

import os
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import msgspec

from ferret.errors import FerretError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HEAD = struct.Struct("<BI")
MAX_FRAME_BYTES = 1 << 30
_READ_BYTES = 1 << 18


class Kind(IntEnum):
    """The frames, first those from parent to child, then those back."""

    HELLO = 1
    """What to open: a `Hello`."""
    BATCH = 2
    """Spans: a `BatchFrame`."""
    FLUSH = 3
    """Flush the sink; answered by FLUSHED."""
    BYE = 4
    """The final ledger: a map. The child stores it, closes the sink and ends, answering DONE."""
    LEDGER = 5
    """The ledger at this moment, to be stored: a map."""
    READY = 17
    """The answer to HELLO: an error's name and text, or an empty text and the file that the sink writes to, if any."""
    STORED = 18
    """The verdict on a batch: its sequence; why it failed, or an empty text; and the spans that are to blame if it is to be
    taken apart, or else nil."""
    FLUSHED = 19
    """The answer to FLUSH: what it held."""
    WARNING = 20
    """Something that the program is to be told, once."""
    DONE = 21
    """The answer to BYE: whether the end of the run was stored."""


_KINDS = {int(kind): kind for kind in Kind}


class Hello(msgspec.Struct, array_like=True):
    """What the child needs to know, to be the parent's writer."""

    sys_path: list[str]
    plugins: list[str]
    sink: str
    target: str | None
    options: dict[str, Any]
    settings: dict[str, Any]
    origin: tuple[str, str, int, int]
    info: dict[str, Any]


class FrameTooLargeError(Exception):
    """A frame that is larger than the other side takes."""


class BatchFrame(msgspec.Struct, array_like=True):
    """A batch, with the threads and the sources that its records name."""

    sequence: int
    attempt: int
    threads: dict[int, tuple[int, str]]
    records: list[tuple[int, int, str, int, int, int, str | None, bytes | None, bytes | None, int, int]]
    sources: dict[str, tuple[str, int]] = {}
    part: bool = False


_ODD_TEXT = 1
"""The msgpack extension for a text that is no Unicode, as `os.fsdecode` gives for names that are not UTF-8: UTF-8 with
surrogates."""


def _decoder[T](decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """A decoder that raises a `FerretError` for whatever is no such payload."""

    def checked(payload: bytes) -> T:
        try:
            found: T = decode(payload)
        except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
            raise FerretError(f"a frame that cannot be read: {error}") from error
        return found

    return checked


def _odd_text(code: int, data: memoryview) -> str:
    if code != _ODD_TEXT:
        raise ValueError(f"no text: extension {code}")
    return str(data, "utf-8", "surrogatepass")


def _whole(value: Any) -> Any:
    """The same, with texts that msgpack does not take made such as it does."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return msgspec.msgpack.Ext(_ODD_TEXT, value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items()}
    elif isinstance(value, list | tuple):
        return [_whole(one) for one in value]
    elif isinstance(value, msgspec.Struct):
        return _whole(msgspec.structs.astuple(value))
    return value


encode = msgspec.msgpack.Encoder().encode
_decode_any = msgspec.msgpack.Decoder(ext_hook=_odd_text).decode
decode: Callable[[bytes], Any] = _decoder(_decode_any)
decode_batch: Callable[[bytes], BatchFrame] = _decoder(msgspec.msgpack.Decoder(BatchFrame).decode)
decode_hello: Callable[[bytes], Hello] = _decoder(lambda payload: msgspec.convert(_decode_any(payload), Hello))


def send(fd: int, kind: Kind, payload: object) -> None:
    """Write one frame, whole; blocks while the pipe is full.

    Paths arrive as they are, whatever bytes they have.

    Raises:
        OSError: the other side is gone.
        FrameTooLargeError: the other side would refuse it. Nothing was written.
        UnicodeEncodeError: a span's text is no Unicode.
    """
    try:
        body = encode(payload)
    except UnicodeEncodeError:
        if kind is Kind.BATCH:
            raise
        body = encode(_whole(payload))
    if len(body) > MAX_FRAME_BYTES:
        raise FrameTooLargeError(
            f"a frame of {len(body)} bytes; the limit is {MAX_FRAME_BYTES}: use a smaller batch_size"
        )
    view = memoryview(_HEAD.pack(kind, len(body)) + body)
    while view:
        view = view[os.write(fd, view) :]


def receive(fd: int) -> Iterator[tuple[Kind, bytes]]:
    """The frames that come, until the other side closes; a torn last one is left out."""
    buffer = bytearray()
    while True:
        data = os.read(fd, _READ_BYTES)
        if not data:
            return
        buffer += data
        start = 0
        while len(buffer) - start >= _HEAD.size:
            kind, length = _HEAD.unpack_from(buffer, start)
            if length > MAX_FRAME_BYTES or kind not in _KINDS:
                raise FerretError(
                    f"a frame of kind {kind} and {length} bytes: the two sides of the pipe are out of step"
                )
            end = start + _HEAD.size + length
            if len(buffer) < end:
                break
            yield _KINDS[kind], bytes(buffer[start + _HEAD.size : end])
            start = end
        del buffer[:start]
