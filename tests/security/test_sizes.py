"""However much a file claims to hold, reading it takes a bounded amount of memory, and ends with spans or a clear error."""

from __future__ import annotations

import gzip
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import hostile_bytes as hostile
import msgspec
import pytest
from support import batch, record

from ferret import Profiler, Report
from ferret import segment as segments
from ferret.errors import FormatError, RejectedError
from ferret.segment import MAX_SEGMENT_BYTES, MAX_SPANS, Segment
from ferret.sinks import jsonl
from ferret.sinks.jsonl import JsonlSink

MOST_BYTES = 2 << 30
"""What reading may take at most, whatever the file says."""

READER = """
import resource, sys
from ferret import FerretError, Report
import ferret.report, ferret.sinks.beaver_reader, ferret.sinks.jsonl_reader, ferret.analysis.names, numpy
with open("/proc/self/statm") as file:
    room = int(file.read().split()[0]) * resource.getpagesize() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try:
    with Report(sys.argv[1]) as report:
        for run in report.runs():
            report.analyze_run(run.run_id)
            print(sum(1 for _ in report.segments(run.run_id)), "segments")
except FerretError as error:
    print(type(error).__name__, str(error)[:300])
"""


def read_within_the_limit(path: Path, most: int = MOST_BYTES) -> str:
    """What a process says that reads the file in so much memory; any error but ferret's own is a failure."""
    done = subprocess.run(
        [sys.executable, "-c", READER, str(path), str(most)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def stored(folder: Path, *blobs: Any) -> Path:
    """A database whose segments are these."""
    path = hostile.database(folder)
    with closing(sqlite3.connect(path)) as connection:
        (key, facts) = connection.execute("SELECT key, metadata FROM __beaver_blobs__").fetchone()
        connection.execute("DELETE FROM __beaver_blobs__")
        for number, blob in enumerate(blobs):
            row = ("_ferret_trace", f"{key[:-10]}{number:010d}", blob, facts)
            connection.execute(
                "INSERT INTO __beaver_blobs__ (store_name, key, data, metadata) VALUES (?, ?, ?, ?)", row
            )
        connection.commit()
    return path


def array_of(count: int, item: bytes) -> bytes:
    """A msgpack array of equal items."""
    return b"\xdd" + count.to_bytes(4, "big") + item * count


def with_table(name: str, table: bytes) -> bytes:
    """A segment with a table given as msgpack."""
    return hostile.packed({**hostile.header(), name: msgspec.Raw(table)})


BOMBS = {
    "a gigabyte of nothing": lambda: hostile.packed(b"\0" * (MAX_SEGMENT_BYTES + 1)),
    "2**60 spans": lambda: hostile.packed({**hostile.header(), "count": 2**60}),
    "a column of 4 GB that is not there": lambda: hostile.packed(b"\x81\xa7span_id\xc6\xff\xff\xff\xff"),
    "a table of 4,294,967,295 that are not there": lambda: with_table("names", b"\xdd\xff\xff\xff\xff"),
    "a table of 50 million": lambda: with_table("threads", array_of(50_000_000, b"\x92\1\xa0")),
    "as many as there may be": lambda: with_table("outcomes", array_of(MAX_SPANS, b"\x93\xa0\xc0\xc0")),
    "a deep table": lambda: with_table("names", b"\x91" * 10_000_000 + b"\xa0"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_segment_that_claims_too_much_is_refused_in_bounded_memory(bomb: str, tmp_path: Path) -> None:
    said = read_within_the_limit(stored(tmp_path, BOMBS[bomb]()))
    assert "FormatError" in said or bomb == "as many as there may be"


def test_a_database_of_huge_values_is_read_a_few_at_a_time(tmp_path: Path) -> None:
    sound = hostile.packed(hostile.header())
    path = stored(tmp_path, *[b"FRT\x01" + b"\0" * (16 << 20)] * 12)
    assert "FormatError" in read_within_the_limit(path, 150 << 20)
    path.unlink()
    assert "3 segments" in read_within_the_limit(stored(tmp_path, sound, sound, sound))


def test_a_column_that_is_computed_is_not_computed_without_limit(tmp_path: Path) -> None:
    path = stored(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP TABLE __beaver_blobs__; CREATE TABLE __beaver_blobs__ (store_name TEXT, key TEXT, metadata TEXT AS (data), "
            "data BLOB AS (zeroblob(900000000))); "
            "INSERT INTO __beaver_blobs__ (store_name, key) VALUES ('_ferret_trace', 'a/b/1')"
        )
    assert "StorageError" in read_within_the_limit(path)


LINE = b'{"type":"span","span_id":"1","parent_id":null,"run_id":"r","name":"n","start_time":1,"end_time":1,"duration":0'
FILES = {
    "zeros, zipped": lambda: gzip.compress(b"\0" * (300 << 20), 1),
    "one line, zipped": lambda: gzip.compress(b'{"type":"run","run_id":"' + b"x" * (300 << 20), 1),
    "a deep line": lambda: b'{"type":"batch","run_id":' + b"[" * 3_000_000,
    "a batch of 2**60": lambda: b'{"type":"batch","run_id":"r","token":"t","sequence":0,"spans":1152921504606846976}\n',
    "a batch that does not end, with tags that unfold": lambda: gzip.compress(
        b'{"type":"batch","run_id":"r","token":"t","sequence":0,"spans":1152921504606846976}\n'
        + (LINE + b',"tags":{"a":[' + b"[]," * 600_000 + b"[]]}}\n") * 100,
        1,
    ),
}


@pytest.mark.parametrize("file", FILES)
def test_json_lines_that_claim_too_much_are_passed_over_in_bounded_memory(file: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(FILES[file]())
    said = read_within_the_limit(path, MOST_BYTES if "unfold" in file else 200 << 20)
    assert "segments" not in said


def test_what_could_not_be_read_back_is_not_written_but_taken_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MAX_SEGMENT_BYTES", 10_000)
    monkeypatch.setattr(jsonl, "MAX_BATCH_BYTES", 10_000)
    for sink in ("beaver", "jsonl"):
        path = tmp_path / sink
        with Profiler(sink=f"{sink}:{path}", batch_size=500, flush_interval=60) as profiler:
            for number in range(500):
                profiler.start("x", {"n": number}).end()
        assert profiler.stats().written == 500, sink
        assert sorted(span.tags["n"] for span in Report(path).spans()) == list(range(500))


def test_the_limits_are_those_of_the_writer_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sound = hostile.packed(hostile.header())
    monkeypatch.setattr(segments, "MAX_SPANS", 3)
    one = batch(*(record(number) for number in range(4)))
    with pytest.raises(RejectedError, match="a batch of 4 spans"):
        Segment.from_batch(one).to_bytes()
    monkeypatch.setattr(jsonl, "MAX_BATCH_BYTES", 100)
    sink = JsonlSink(tmp_path / "x.jsonl")
    with pytest.raises(RejectedError, match="more than could be read back"):
        sink.write(one)
    sink.close()
    with pytest.raises(FormatError, match="spans, of 3 at most"):
        Segment.from_bytes(sound)
