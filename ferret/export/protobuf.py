"""As much of the protobuf wire format as writing a trace takes: https://protobuf.dev/programming-guides/encoding."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ferret.packing import Int64

TIME_BYTES = 9
"""How long each of `times` is."""


@lru_cache(4096)
def varint(value: int) -> bytes:
    """An integer of 64 bits; a negative one as its two's complement."""
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def number(field: int, value: int) -> bytes:
    """A field with an integer, a boolean or an enumeration's value."""
    return varint(field << 3) + varint(value)


def double(field: int, value: float) -> bytes:
    """A field with a floating-point number."""
    return varint(field << 3 | 1) + struct.pack("<d", value)


def fixed64(field: int, value: int) -> bytes:
    """A field with an unsigned integer of 8 bytes."""
    return varint(field << 3 | 1) + struct.pack("<Q", value)


def message(field: int, *parts: bytes) -> bytes:
    """A field with a message, made of its fields."""
    data = b"".join(parts)
    return varint(field << 3 | 2) + varint(len(data)) + data


def text(field: int, value: str) -> bytes:
    """A field with a text."""
    return message(field, value.encode())


def times(values: Int64) -> bytes:
    """Integers from 0 as varints of `TIME_BYTES` each, encoded in one go; small ones are longer than they need be."""
    groups = (values[:, None] >> np.arange(0, 7 * TIME_BYTES, 7)) & 0x7F
    groups[:, :-1] |= 0x80
    return groups.astype(np.uint8).tobytes()
