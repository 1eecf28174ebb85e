"""A file that was cut off, or in which a byte was changed, at each of many places: whatever is sound is still read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ferret import Profiler, Report
from ferret.batch import SpanData
from ferret.cli import app
from ferret.errors import FerretError
from ferret.sinks.reading import open_readable

BATCHES, EACH = 6, 5
KINDS = ["beaver", "jsonl", "jsonl.gz"]
LONGEST_S = 30.0
BEGINNING = 2
COMMANDS = [["runs"], ["analyze"], ["analyze", "--tree"], ["export", "--output"]]

type Stored = dict[str, list[SpanData]]


@pytest.fixture(scope="module", params=KINDS)
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes, Stored]:
    """A small file, and what is in it."""
    path = tmp_path_factory.mktemp("sound") / f"trace.{request.param}"
    kind = request.param.removesuffix(".gz")
    with Profiler(sink=f"{kind}:{path}", writer="sync", batch_size=EACH, run_id="run") as profiler:
        for number in range(BATCHES * EACH):
            profiler.start(f"work {number % 3}", {"n": number}).end()
    found, told = read(path)
    assert (len(found), told) == (BATCHES, [])
    return kind, path.read_bytes(), found


def read(path: Path) -> tuple[Stored, list[str]]:
    """The batches that can be read, and what is said of the others."""
    told: list[str] = []
    found: Stored = {}
    try:
        reader = open_readable(path, "_ferret_trace")
        if hasattr(reader, "on_damage"):
            reader.on_damage = lambda what, why: told.append(f"{what}: {why}")
        for segment in reader.segments():
            assert segment.id not in found, "read twice"
            found[segment.id] = list(segment)
    except FerretError as error:
        told.append(str(error))
    assert all(told)
    return found, told


def places(size: int, count: int | None) -> Iterator[int]:
    """All offsets, or so many of them, spread and never quite even."""
    return iter(range(size)) if count is None else (size * one // count + one * 7 % 13 for one in range(count))


def whole_before(data: bytes, kind: str, stored: Stored, packed: bool) -> Callable[[int], int]:
    """How many batches end before an offset."""
    if kind == "beaver":
        return lambda _: 0  # where they are in the pages of SQLite nobody here knows
    marks = data.split(b"\x1f\x8b\x08\x04") if packed else data.split(b'{"type":"batch"')
    ends, at = [], 0
    for piece in marks:
        at += len(piece) + (0 if not at and not piece else (4 if packed else 15))
        ends.append(at)
    return lambda offset: max(0, sum(end <= offset for end in ends) - 2)


def harm_it(data: bytes, harm: str, offset: int, number: int) -> bytes:
    """The file, cut at an offset, or with another byte there."""
    if harm == "cut":
        return data[:offset]
    if offset >= len(data):
        return data
    changed = 0 if harm == "zero" else data[offset] ^ (1 << number % 8)
    return data[:offset] + bytes([changed]) + data[offset + 1 :]


def check_commands(path: Path, folder: Path) -> None:
    """None ends with a traceback, or hangs; if it cannot do its work, it says so."""
    for command in COMMANDS:
        began = time.monotonic()
        last = [str(folder / "out.json")] if command[0] == "export" else []
        done = CliRunner().invoke(app, [command[0], str(path), *command[1:], *last])
        assert time.monotonic() - began < LONGEST_S, f"{command} takes for ever"
        assert done.exception is None or isinstance(done.exception, SystemExit), f"{command}: {done.exception!r}"
        assert "Traceback" not in done.output
        assert done.exit_code == 0 or done.stderr.strip(), f"{command} fails and does not say why"


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("count", [12, pytest.param(None, marks=pytest.mark.soak)])
@pytest.mark.parametrize("harm", ["cut", "flip", "zero"])
def test_a_damaged_file_is_read_as_far_as_it_is_sound(
    tmp_path: Path, sound: tuple[str, bytes, Stored], harm: str, count: int | None
) -> None:
    kind, data, stored = sound
    packed = data.startswith(b"\x1f\x8b")
    owed = whole_before(data, kind, stored, packed)
    path, every = tmp_path / "trace", 3 if count else 40
    if count is None and kind == "beaver":
        count = len(data) // 61  # it is large, for its many tables
    for number, offset in enumerate(places(len(data), count)):
        where = f"{harm} at {offset}"
        harmed = harm_it(data, harm, offset, number)
        path.write_bytes(harmed)
        found, told = read(path)
        # a change in JSON lines can also spoil the line that tells one batch from the next
        expected = len(stored) - 2 if kind == "jsonl" and harm != "cut" and not packed else owed(offset)
        missing = 0 if told else len(stored) - len(found)
        if harm != "cut" and kind == "beaver" and missing:  # a changed key: the row is nobody's any more
            assert Report(path).runs()[0].missing_batches == missing, f"{where}: read without a word"
        unknown = told and offset < BEGINNING  # nobody can tell any more what kind of file it was
        assert len(found) >= expected or unknown or (told and kind == "beaver"), f"{where}: a sound batch is lost"
        if harm == "cut" or packed or kind == "beaver":
            changed = [key for key, spans in found.items() if spans != stored.get(key, spans)]
            assert not changed, f"{where}: read as something else"
        if number % every == 0:
            check_commands(path, tmp_path)
        assert path.read_bytes() == harmed, "reading changed the file"
    assert {one for one in os.listdir(tmp_path) if one.startswith("trace")} == {"trace"}


@pytest.mark.parametrize("count", [8, pytest.param(200, marks=pytest.mark.soak)])
def test_a_damaged_file_takes_new_spans_or_is_refused_by_name(
    tmp_path: Path, sound: tuple[str, bytes, Stored], count: int
) -> None:
    kind, data, _ = sound
    path = tmp_path / ("trace.jsonl.gz" if data.startswith(b"\x1f\x8b") else "trace")
    for offset in places(len(data), count):
        path.write_bytes(data[:offset])
        try:
            profiler = Profiler(sink=f"{kind}:{path}", writer="sync", close_timeout=1, run_id="new")
        except FerretError as error:
            refusal = str(error)
        else:
            refusal = ""
        if refusal:
            assert str(path) in refusal
            assert path.read_bytes() == data[:offset], "refused, and changed all the same"
            continue
        with profiler:
            profiler.start("new").end()
            stored = profiler.flush()
        assert bool(stored) == any(len(spans) for key, spans in read(path)[0].items() if spans[0].run_id == "new")
