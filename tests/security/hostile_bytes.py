"""Sound bytes of everything that ferret reads, and how they are spoilt."""

from __future__ import annotations

import pickle
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st
from support import batch, record

from ferret import models
from ferret.segment import MAGIC, VERSION, Segment
from ferret.sinks.beaver import BeaverSink
from ferret.sinks.jsonl import JsonlSink

NAMES = ["work", "GET /π/{user}", "a\nb\t\0\x1b[31m"]
BIG = [-1, 0, 1, 3, 255, 2**31, 2**53, 2**60, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)]


class Bomb:
    """Unpickled, it would leave a file behind."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


def pickles(canary: Path) -> list[bytes]:
    """The same in each protocol."""
    return [pickle.dumps(Bomb(canary), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]


def sound_batches() -> list[Any]:
    """Batches with everything in them that a batch may have."""
    outcome = b'["error","boom","ValueError"]'
    return [
        batch(
            *(
                record(
                    10 * sequence + number, name=NAMES[number % 3], parent_id=1000 if number else 0, thread=number % 2,
                    task="Task-1" if number == 2 else None, outcome=outcome if number == 1 else None, suspended_ns=number,
                    self_ns=number,
                )
                for number in range(4)
            ),
            sequence=sequence,
        )
        for sequence in range(3)
    ]  # fmt: skip


def facts() -> models.ProcessInfo:
    """The facts of their process, with a ledger and a gap."""
    gap = models.Gap(since=1.0, until=2.0, count=3, reason="overflow")
    ledger = models.Ledger(recorded=15, written=12, dropped=3, dropped_by={"overflow": 3}, gaps=[gap], batches=3)
    return models.ProcessInfo(
        run_id="a run", token="0123456789abcdef", process_id=4242, program="x.py", argv=["x.py", "-v"], started_at=1.7e9,
        ended_at=1.7e9 + 5, ledger=ledger,
    )  # fmt: skip


def fill(sink: Any) -> None:
    """Write all of it."""
    for one in sound_batches():
        sink.write(one)
    sink.write_run(facts())
    sink.close()


def database(folder: Path) -> Path:
    """A BeaverDB file, in one piece."""
    path = folder / "sound.db"
    fill(BeaverSink(str(path)))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    return path


def lines(folder: Path, name: str) -> Path:
    """A file of JSON lines."""
    path = folder / name
    fill(JsonlSink(path))
    return path


def header() -> dict[str, Any]:
    """What a segment packs."""
    stored = Segment.from_batch(sound_batches()[0]).to_bytes()
    found: dict[str, Any] = msgspec.msgpack.decode(zlib.decompress(stored[4:]))
    return found


def packed(plain: object) -> bytes:
    """A segment of any header."""
    data = plain if isinstance(plain, bytes) else msgspec.msgpack.encode(plain)
    return MAGIC + bytes([VERSION]) + zlib.compress(data, 1)


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.sampled_from(BIG[:-2]) | st.floats() | st.binary(max_size=40)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5, alphabet="abc"), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip
"""What msgpack and JSON can say."""

columns = st.lists(st.sampled_from([n for n in BIG if -(2**63) <= n < 2**63]), min_size=4, max_size=4).map(
    lambda numbers: b"".join(
        bytes((number >> shift) & 255 for number in numbers) for shift in range(0, 64, 8)
    )
)  # fmt: skip
"""A column of four extreme values, packed."""


changes = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "cut out", "cut off", "put in", "copy", "number"]), st.integers(0, 1 << 20),
        st.integers(1, 64), st.integers(0, 1 << 20), st.binary(min_size=1, max_size=16), st.sampled_from(BIG[:-1]),
    ),
    min_size=1, max_size=6,
)  # fmt: skip
"""What may happen to bytes: bits, bytes, pieces cut out, cut off, put in or copied, and numbers that are impossible."""


def spoilt(data: bytes, changes: list[tuple[str, int, int, int, bytes, int]]) -> bytes:
    """The bytes after these changes."""
    found = bytearray(data)
    for what, anywhere, length, elsewhere, piece, number in changes:
        place, other = (one % max(1, len(found)) for one in (anywhere, elsewhere))
        match what:
            case "flip":
                found[place : place + 1] = bytes(one ^ (1 << length % 8) for one in found[place : place + 1])
            case "set":
                found[place : place + 1] = piece[:1]
            case "cut out":
                del found[place : place + length]
            case "cut off":
                del found[place:]
            case "put in":
                found[place:place] = piece
            case "copy":
                found[place:place] = found[other : other + length]
            case _:
                found[place : place + 8] = number.to_bytes(9, "little", signed=True)[:8]
    return bytes(found)
