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


class FrameTooLargeError(FerretError):
    """A frame that is larger than the other side takes."""


class BatchFrame(msgspec.Struct, array_like=True):
    """A batch, with the threads and the sources that its records name."""

    sequence: int
    attempt: int
    threads: dict[int, tuple[int, str]]
    records: list[tuple[int, int, str, int, int, int, str | None, bytes | None, bytes | None, int, int]]
    sources: dict[str, tuple[str, int]] = {}
    part: bool = False


def _decoder[T](of: type[T] | Any) -> Callable[[bytes], T]:
    """A decoder that raises a `FerretError` for whatever is no such payload."""
    decode = msgspec.msgpack.Decoder(of).decode

    def checked(payload: bytes) -> T:
        try:
            found: T = decode(payload)
        except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
            raise FerretError(f"a frame that cannot be read: {error}") from error
        return found

    return checked


encode = msgspec.msgpack.Encoder().encode
decode_batch: Callable[[bytes], BatchFrame] = _decoder(BatchFrame)
decode_hello: Callable[[bytes], Hello] = _decoder(Hello)
decode: Callable[[bytes], Any] = _decoder(Any)


def send(fd: int, kind: Kind, payload: object) -> None:
    """Write one frame, whole; blocks while the pipe is full.

    Raises:
        OSError: the other side is gone.
        FrameTooLargeError: the other side would refuse it. Nothing was written.
    """
    body = encode(payload)
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
