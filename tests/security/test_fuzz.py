"""Whatever is in a file, or comes through a pipe: it is spans, or a `FerretError`; never another error, and never a hang.

A few hundred examples run with all tests. `make explore` runs others, as many as one likes.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import hostile_bytes as hostile
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ferret import FerretError, Report
from ferret.ledger import live
from ferret.ledger.fates import settle
from ferret.segment import Segment
from ferret.sinks.jsonl import JsonlSink
from ferret.writers import frames
from ferret.writers.frames import Kind

HEADER = hostile.header()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of each kind of file."""
    folder = tmp_path_factory.mktemp("sound")
    files = [hostile.database(folder), hostile.lines(folder, "a.jsonl"), hostile.lines(folder, "a.jsonl.gz")]
    return {path.suffix: path.read_bytes() for path in files}


class Held:
    """One segment, as a readable."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        yield self.segment

    def processes(self, run_id: str | None = None) -> Iterator[Any]:
        return iter(())


def read(source: Any, **options: Any) -> int | None:
    """Everything that a report makes of it, as far as it goes; how many spans, or None if it says that it cannot."""
    found = 0
    try:
        with Report(source, **options) as report:
            runs = report.runs()
            for run in runs:
                found = sum(1 for _ in report.spans(run.run_id))
                report.analyze_run(run.run_id)
                report.build_trees(run.run_id)
                report.merged_tree(run.run_id)
                report.slowest(2, run.run_id)
            return sum(run.spans for run in runs) + found
    except FerretError:
        return None


def read_segment(data: bytes) -> None:
    try:
        segment = Segment.from_bytes(data)
    except FerretError:
        return
    assert len(list(segment)) == len(segment)
    read(Held(segment))


def test_what_was_not_spoilt_is_read(sound: dict[str, bytes], tmp_path: Path) -> None:
    for suffix, data in sound.items():
        path = tmp_path / f"x{suffix}"
        path.write_bytes(data)
        assert read(path) == 24, suffix
    read_segment(hostile.packed(HEADER))


@given(changes=hostile.changes)
def test_the_bytes_of_a_segment(changes: Any) -> None:
    read_segment(hostile.spoilt(hostile.packed(HEADER), changes))


@given(changes=hostile.changes)
def test_a_segments_columns_and_tables_as_bytes(changes: Any) -> None:
    read_segment(hostile.packed(hostile.spoilt(msgspec.msgpack.encode(HEADER), changes)))


@given(
    changes=st.dictionaries(st.sampled_from(sorted(HEADER)), hostile.values | hostile.columns, min_size=1, max_size=4)
)
@example(changes={"count": 2**60})
@example(changes={"count": -1})
@example(changes={"count": 0})
def test_a_segments_columns_and_tables_as_values(changes: dict[str, Any]) -> None:
    read_segment(hostile.packed({**HEADER, **changes}))


@given(
    changes=st.fixed_dictionaries(
        dict.fromkeys(("span_id", "parent_id", "start_ns", "duration_ns", "suspended_ns", "self_ns"), hostile.columns)
    )
)
def test_a_segment_of_impossible_numbers(changes: dict[str, Any]) -> None:
    read_segment(hostile.packed({**HEADER, **changes}))


@given(changes=hostile.changes)
@pytest.mark.parametrize("suffix", [".db", ".jsonl", ".gz"])
def test_the_bytes_of_a_file(suffix: str, sound: dict[str, bytes], tmp_path: Path, changes: Any) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(hostile.spoilt(sound[suffix], changes))
    read(path)
    read(path, skip_damaged=True)


CELLS = hostile.values.filter(lambda one: not isinstance(one, list | dict | bool)) | st.sampled_from(
    ["{}", "[" * 100_000, '{"run_id":', "a run//", "x", "🦦", hostile.packed(HEADER), b"FRT", b"FRT\x01", b"FRT\xff"]
)


@given(
    table=st.sampled_from(["blobs", "dicts"]), column=st.sampled_from(["key", "data", "metadata", "value"]), value=CELLS,
    every=st.booleans(),
)  # fmt: skip
def test_the_cells_of_a_database(
    table: str, column: str, value: Any, every: bool, sound: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(sound[".db"])
    with closing(sqlite3.connect(path)) as connection:
        where = "" if every else "WHERE rowid = (SELECT min(rowid) FROM __beaver_{table}__)"
        try:
            connection.execute(
                f"UPDATE OR REPLACE __beaver_{table}__ SET {column} = ? {where.format(table=table)}", (value,)
            )
            connection.commit()
        except (sqlite3.Error, OverflowError):  # no such column, or one that will not have it
            return
    read(path)
    read(path, skip_damaged=True)


@given(
    number=st.integers(0, 15), field=st.sampled_from([*Segment.__slots__, "spans", "ledger", "started_at", "tags"]),
    value=hostile.values | st.sampled_from(hostile.BIG) | st.integers(-(10**30), 10**30),
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".jsonl", ".gz"])
def test_the_values_of_json_lines(
    suffix: str, number: int, field: str, value: Any, sound: dict[str, bytes], tmp_path: Path
) -> None:
    plain = gzip.decompress(sound[suffix]) if suffix == ".gz" else sound[suffix]
    lines = [json.loads(line) for line in plain.splitlines()]
    chosen = lines[number % len(lines)]
    chosen[sorted(chosen)[number % len(chosen)] if field not in chosen else field] = value
    text = "\n".join(json.dumps(line, default=repr) for line in lines).encode()
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(text) if suffix == ".gz" else text)
    read(path)


LEDGERS = st.dictionaries(
    st.sampled_from(["recorded", "written", "dropped", "failed", "pending", "batches", "void_batches", "uncertain", "gaps"]),
    st.sampled_from([*hostile.BIG, 10**400]) | hostile.values
    | st.just([{"since": 0, "until": -1, "count": 2**60, "reason": "x"}] * 500),
)  # fmt: skip


CHANGES = st.dictionaries(st.sampled_from(["started_at", "ended_at", "process_id", "argv"]), hostile.values)


@given(ledger=LEDGERS, changes=CHANGES)
def test_a_forged_ledger(
    ledger: dict[str, Any], changes: dict[str, Any], sound: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(sound[".db"])
    facts = {**hostile.facts().model_dump(mode="json"), **changes}
    facts["ledger"].update(ledger)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE __beaver_dicts__ SET value = ?", (json.dumps(facts, default=repr),))
        connection.commit()
    read(path)


@given(changes=hostile.changes)
def test_the_counts_that_survive_a_process(
    sound: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Any
) -> None:
    monkeypatch.setattr(live, "MEMORY", str(tmp_path))
    place = tmp_path / "x.jsonl"
    place.write_bytes(sound[".jsonl"])
    template = _live_file(place)
    folder = tmp_path / f"ferret-{os.getuid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    (folder / f"0123456789abcdef.{live.mark_of(str(place))}.live").write_bytes(hostile.spoilt(template, changes))
    live.look(str(place))
    live.sweep()
    assert read(place) is not None, "the spans are sound: what is said of their process cannot change that"
    with closing(JsonlSink(place)) as sink:
        settle(sink, str(place))  # what the next profiler does of it
    assert not live.look(str(place)), "it would come up again for ever"


def _live_file(place: Path) -> bytes:
    about = msgspec.json.encode(
        {
            "place": str(place), "device": place.stat().st_dev, "inode": place.stat().st_ino,
            "facts": {**hostile.facts().model_dump(mode="json"), "ended_at": None, "token": "0123456789abcdee"},
        }
    )  # fmt: skip
    head = live._MAGIC + live._LENGTH.pack(len(about))
    counts = live.COUNTS.pack(17, 3, 0, 12, 0, 3, 0, 0, 0)
    return (head.ljust(live.CELLS_AT, b"\0") + counts).ljust(live._ABOUT_AT, b"\0") + about


def sound_frames() -> bytes:
    one = hostile.sound_batches()[0]
    threads = {index: tuple(thread) for index, thread in enumerate(one.threads)}
    hello = frames.Hello([], [], "null", None, {}, {}, ("a run", "0" * 16, 1, 0), {"run_id": "a run"})
    sent = [
        (Kind.HELLO, hello), (Kind.BATCH, (0, 1, threads, one.records, {}, False)), (Kind.FLUSH, 6),
        (Kind.STORED, (0, "", None)),
        (Kind.LEDGER, hostile.facts().ledger.model_dump()), (Kind.BYE, {}), (Kind.READY, ("", "/x")),
    ]  # fmt: skip
    bodies = [(kind, frames.encode(payload)) for kind, payload in sent]
    return b"".join(frames._HEAD.pack(kind, len(body)) + body for kind, body in bodies)


def received(data: bytes) -> int:
    """How many frames could be read."""
    ours, theirs = os.pipe()
    try:
        os.write(theirs, data)
        os.close(theirs)
        count = 0
        try:
            for kind, payload in frames.receive(ours):
                decode: Any = {Kind.HELLO: frames.decode_hello, Kind.BATCH: frames.decode_batch}.get(
                    kind, frames.decode
                )
                decode(payload)
                count += 1
        except FerretError:
            pass
        return count
    finally:
        os.close(ours)


def test_sound_frames_are_read() -> None:
    assert received(sound_frames()) == 7


@given(changes=hostile.changes)
def test_the_frames_between_a_program_and_its_writing_process(changes: Any) -> None:
    received(hostile.spoilt(sound_frames(), changes))


@pytest.mark.parametrize("payload", [b"\x91" * 50_000, b"\xdd\xff\xff\xff\xff", b"\xc1", b"", b"\xa1\xff"])
def test_a_frame_that_is_none(payload: bytes) -> None:
    for kind in range(256):
        assert received(frames._HEAD.pack(kind, len(payload)) + payload) == 0
    assert received(b"\x02\xff\xff\xff\x7f" + payload) == 0


@pytest.mark.parametrize("kind", ["segment", "database", "lines", "frames"])
def test_a_pickle_is_never_unpickled_wherever_it_is(kind: str, tmp_path: Path, sound: dict[str, bytes]) -> None:
    canary = tmp_path / "canary"
    for data in hostile.pickles(canary):
        if kind == "segment":
            for one in (data, hostile.packed(data), hostile.packed({**HEADER, "tags": data, "span_id": data})):
                read_segment(one)
        elif kind == "database":
            path = tmp_path / "x.db"
            path.write_bytes(sound[".db"])
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("UPDATE __beaver_blobs__ SET data = ?, metadata = ?", (data, data))
                connection.execute("UPDATE __beaver_dicts__ SET value = ?", (data,))
                connection.commit()
            read(path)
            read(path, skip_damaged=True)
        elif kind == "lines":
            for content in (data, b'{"type":"run",' + data, b'{"type":"batch","run_id":"x"}\n' + data):
                (tmp_path / "x.jsonl").write_bytes(content)
                read(tmp_path / "x.jsonl")
        else:
            for number in (*Kind, 99):
                received(frames._HEAD.pack(number, len(data)) + data)
    assert not canary.exists()


def test_such_a_pickle_would_be_noticed(tmp_path: Path) -> None:
    for data in hostile.pickles(tmp_path / "canary"):
        pickle.loads(data)
        (tmp_path / "canary").unlink()
