"""The jsonl sink: whole batches or none, once, whoever is killed, and only ever in files of its own."""

from __future__ import annotations

import fcntl
import gzip
import json
import math
import os
import resource
import signal
import stat
import tempfile
import threading
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferret.ambient import ThreadInfo
from ferret.batch import Batch, Origin
from ferret.errors import StorageError
from ferret.models import Ledger, ProcessInfo, SpanModel
from ferret.plugins import SinkSpec
from ferret.report import Report
from ferret.segment import Segment
from ferret.sinks import jsonl, jsonl_reader
from ferret.sinks.base import KeepsRuns, Readable, Reopens, Sink
from ferret.sinks.jsonl import MAX_LINE_BYTES, JsonlReader, JsonlSink
from ferret.sinks.summary import SegmentSummary
from ferret.sinks.tee import TeeSink
from ferret.tags import encode_outcome, encode_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "ab" * 8
ANCHOR = 1_700_000_000_000_000_000

FORMS = ["spans.jsonl", "spans.jsonl.gz"]
both_forms = pytest.mark.parametrize("form", FORMS)


def batch(
    sequence: int = 0,
    spans: int = 3,
    *,
    token: str = TOKEN,
    run_id: str = "run",
    attempt: int = 1,
    tags: dict[str, Any] | None = None,
) -> Batch:
    encoded = encode_tags({"n": sequence} if tags is None else tags)
    records = [
        (sequence * 10_000 + i + 1, 0, f"span {i}", 10 * i, 10 * i + 5, 0, None, encoded, None, 0, -1)
        for i in range(spans)
    ]
    return Batch(Origin(run_id, token, 123, ANCHOR), sequence, records, [ThreadInfo(1, "MainThread")], attempt)


def info(run_id: str = "run", token: str = TOKEN, **facts: Any) -> ProcessInfo:
    return ProcessInfo(run_id=run_id, token=token, process_id=123, **facts)


def store(path: Path, *batches: Batch) -> None:
    """Write the batches through a sink of their own."""
    sink = JsonlSink(path)
    try:
        for one in batches:
            sink.write(one)
    finally:
        sink.close()


def stored(path: Path) -> list[str]:
    """The ids of the stored batches, each with as many spans as it has in these tests unless they say otherwise."""
    return [segment.id for segment in JsonlReader(path).segments()]


def text_of(path: Path) -> bytes:
    """The file as programs other than ferret see it."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Every line as strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = text_of(path)
    assert not text or text.endswith(b"\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def spans_seen(path: Path) -> Counter[str]:
    """How often each span is in the file, for a program that looks at nothing but spans."""
    return Counter(line["span_id"] for line in lines_of(path) if line["type"] == "span")


def child(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ended(pid: int) -> int:
    """How the child ended: its status, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_after(count: int) -> None:
    """Let this process be killed, by a real SIGKILL, once it has written so many bytes more."""
    write, left = os.write, [count]

    def mortal(descriptor: int, data: Any) -> int:
        done = write(descriptor, bytes(data)[: left[0]])
        left[0] -= done
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    os.write = mortal


def write_little_by_little(count: int) -> None:
    """Let every `os.write` of this process take no more than so many bytes, as the system may at any time."""
    write = os.write
    os.write = lambda descriptor, data: write(descriptor, bytes(data)[:count])


# What is written


def test_it_has_all_that_a_sink_may_have(tmp_path: Path) -> None:
    sink = SinkSpec.parse(f"jsonl:{tmp_path / 'spans.jsonl'}").open()
    assert isinstance(sink, JsonlSink)
    for protocol in (Sink, KeepsRuns, Reopens, Readable):
        assert isinstance(sink, protocol)
    assert isinstance(JsonlReader(sink.path), Readable)
    sink.close()


@both_forms
def test_each_span_is_one_line_with_the_attributes_of_a_span_model(tmp_path: Path, form: str) -> None:
    store(tmp_path / form, batch(spans=2))
    head, *spans = lines_of(tmp_path / form)
    assert head == {"type": "batch", "run_id": "run", "token": TOKEN, "sequence": 0, "spans": 2}
    assert [list(span) for span in spans] == [["type", *SpanModel.model_fields]] * 2
    for span, data in zip(spans, batch(spans=2), strict=True):
        assert span.pop("type") == "span"
        assert SpanModel(**span) == SpanModel(**{name: getattr(data, name) for name in span})


def test_a_gz_file_has_one_gzip_member_for_each_batch(tmp_path: Path) -> None:
    path, members = tmp_path / "spans.jsonl.gz", []
    sink = JsonlSink(path)
    for sequence in range(3):
        before = path.stat().st_size
        sink.write(batch(sequence))
        members.append(path.read_bytes()[before:])
    sink.close()
    for sequence, member in enumerate(members):
        head, *spans = map(json.loads, gzip.decompress(member).splitlines())
        assert (head["sequence"], len(spans)) == (sequence, 3)


texts = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just("null\n\r\u2028"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
records = st.tuples(
    st.integers(1, 2**60 - 1),
    st.integers(0, 2**60 - 1),
    texts,
    st.integers(0, 10**12),
    st.integers(0, 10**12),
    st.integers(0, 1),
    st.none() | texts,
    st.dictionaries(texts, json_values, max_size=4).map(encode_tags),
    st.none() | st.tuples(texts, st.none() | texts, st.none() | texts).map(encode_outcome),
    st.integers(0, 10**12),
    st.integers(-1, 10**12),
).map(lambda record: (*record[:4], record[3] + record[4], *record[5:]))


@both_forms
@given(spans=st.lists(records, min_size=1, max_size=5))
def test_what_is_read_is_what_was_written_whatever_it_was(form: str, spans: list[Any]) -> None:
    threads = [ThreadInfo(1, "MainThread"), ThreadInfo(2, "ένα νήμα\n")]
    written = Batch(Origin("run", TOKEN, 123, ANCHOR), 7, spans, threads)
    with tempfile.TemporaryDirectory() as directory:
        store(Path(directory, form), written)
        (segment,) = JsonlReader(Path(directory, form)).segments()
        assert len(lines_of(Path(directory, form))) == 1 + len(spans)
    # an empty task name reads as none, in every segment
    assert [span for span in segment if span.task_name] == [span for span in written if span.task_name]
    assert [(s.span_id, s.tags, s.status) for s in segment] == [(s.span_id, s.tags, s.status) for s in written]
    assert (segment.run_id, segment.token, segment.sequence, segment.process_id) == ("run", TOKEN, 7, 123)


@both_forms
def test_a_batch_can_be_read_as_soon_as_it_was_written(tmp_path: Path, form: str) -> None:
    sink = JsonlSink(tmp_path / form)
    for sequence in range(3):
        sink.write(batch(sequence))
        assert stored(tmp_path / form) == [f"{TOKEN}-{i}" for i in range(sequence + 1)]
    sink.close()


def test_an_empty_batch_leaves_no_trace(tmp_path: Path) -> None:
    store(tmp_path / "spans.jsonl", batch(spans=0))
    assert text_of(tmp_path / "spans.jsonl") == b""
    assert stored(tmp_path / "spans.jsonl") == []


@both_forms
def test_a_new_sink_goes_on_where_the_last_one_ended(tmp_path: Path, form: str) -> None:
    store(tmp_path / form, batch(0))
    store(tmp_path / form, batch(1))
    assert stored(tmp_path / form) == [f"{TOKEN}-0", f"{TOKEN}-1"]


def test_an_existing_file_stays_gzip_or_plain_whatever_its_name(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.gz", tmp_path / "packed.jsonl"
    store(tmp_path / "a.jsonl", batch(0))
    store(tmp_path / "b.gz", batch(0))
    (tmp_path / "a.jsonl").rename(plain)
    (tmp_path / "b.gz").rename(packed)
    store(plain, batch(1))
    store(packed, batch(1))
    assert len(plain.read_bytes().splitlines()) == len(gzip.decompress(packed.read_bytes()).splitlines()) == 8
    assert len(stored(plain)) == len(stored(packed)) == 2


def test_a_new_file_is_only_for_its_owner(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        store(tmp_path / "spans.jsonl", batch())
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "spans.jsonl").stat().st_mode) == 0o600


def test_the_file_stays_the_same_when_the_program_changes_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sink = JsonlSink("spans.jsonl")
    monkeypatch.chdir("/")
    again = sink.reopen()
    again.write(batch())
    assert [segment.id for segment in sink.segments()] == stored(tmp_path / "spans.jsonl") == [f"{TOKEN}-0"]
    sink.close()
    again.close()


# Once


@both_forms
@pytest.mark.parametrize("attempt", [1, 2])
def test_a_batch_that_comes_again_to_the_same_sink_is_stored_once(tmp_path: Path, form: str, attempt: int) -> None:
    store(tmp_path / form, batch(), batch(attempt=attempt))
    assert set(spans_seen(tmp_path / form).values()) == {1}
    assert stored(tmp_path / form) == [f"{TOKEN}-0"]


@both_forms
def test_a_batch_that_comes_again_in_another_process_is_stored_once(tmp_path: Path, form: str) -> None:
    assert ended(child(lambda: store(tmp_path / form, batch(0), batch(1)))) == 0
    store(tmp_path / form, batch(1, attempt=2), batch(2, attempt=2))
    assert stored(tmp_path / form) == [f"{TOKEN}-{i}" for i in range(3)]
    assert set(spans_seen(tmp_path / form).values()) == {1}


@both_forms
def test_a_batch_that_is_in_the_file_twice_is_read_once(tmp_path: Path, form: str) -> None:
    store(tmp_path / form, batch(0), batch(1))
    (tmp_path / form).write_bytes((tmp_path / form).read_bytes() * 2)
    assert stored(tmp_path / form) == [f"{TOKEN}-0", f"{TOKEN}-1"]


# Reading


@both_forms
def test_one_run_can_be_read_without_the_others(tmp_path: Path, form: str) -> None:
    store(tmp_path / form, batch(0, run_id="a"), batch(0, run_id="b", token="cd" * 8), batch(1, run_id="a"))
    reader = JsonlReader(tmp_path / form)
    assert [segment.id for segment in reader.segments("a")] == [f"{TOKEN}-0", f"{TOKEN}-1"]
    assert [segment.run_id for segment in reader.segments("b")] == ["b"]
    assert [*reader.segments("c")] == []


@both_forms
def test_the_last_facts_of_each_process_count(tmp_path: Path, form: str) -> None:
    sink = JsonlSink(tmp_path / form)
    sink.write_run(info(program="first"))
    sink.write_run(info(token="cd" * 8, program="other"))
    sink.write_run(info(run_id="later"))
    sink.write(batch())
    last = info(program="last", argv=["é", "\n"], ended_at=2.5, ledger=Ledger(recorded=3, written=3))
    sink.write_run(last)
    assert [*sink.processes("run")] == [last, info(token="cd" * 8, program="other")]
    assert [process.run_id for process in sink.processes()] == ["run", "run", "later"]
    assert len([*sink.segments()]) == 1
    sink.close()


def test_reading_changes_nothing_even_where_a_write_was_cut_short(tmp_path: Path) -> None:
    for form in FORMS:
        path = tmp_path / form
        store(path, batch(0), batch(1))
        os.truncate(path, path.stat().st_size - 20)
        path.chmod(0o400)
        before = path.read_bytes(), path.stat()
        reader = JsonlReader(path)
        assert ([segment.sequence for segment in reader.segments()], [*reader.processes()]) == ([0], [])
        after = path.read_bytes(), path.stat()
        assert (after[0], after[1].st_mtime_ns) == (before[0], before[1].st_mtime_ns)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FORMS)


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"spans\.jsonl: there is no such file"):
        JsonlReader(tmp_path / "spans.jsonl")
    assert not [*tmp_path.iterdir()]


A_SPAN = (
    b'{"type":"span","span_id":"1","parent_id":null,"run_id":"run","name":"x","start_time":0,"end_time":1,"duration":1'
)

DAMAGE = [
    b"",
    b"\xff\xfe not text",
    b"{" * 100_000,
    b"[" * 100_000,
    b'{"type":"nonsense"}',
    b'{"type":"batch"}',
    b'{"type":"batch","run_id":"run","token":"x","sequence":0,"spans":1000000000000}',
    b'{"type":"batch","run_id":"run","token":"x","sequence":0,"spans":-1}',
    b'{"type":"batch","run_id":"run","token":"x","sequence":0,"spans":1e999}',
    b'{"type":"run","run_id":"run","token":"x","argv":5}',
    A_SPAN.replace(b'"x"', b"5") + b"}",
    A_SPAN + b',"tags":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    A_SPAN + b" " * MAX_LINE_BYTES + b"}",
]


@pytest.mark.parametrize("damage", DAMAGE, ids=range(len(DAMAGE)))
@pytest.mark.parametrize("where", range(1, 12))
def test_a_damaged_line_costs_no_more_than_the_batch_that_it_is_in(tmp_path: Path, damage: bytes, where: int) -> None:
    path = tmp_path / "spans.jsonl"
    store(path, batch(0), batch(1), batch(2))
    lines = path.read_bytes().splitlines()
    lines[where] = damage
    path.write_bytes(b"\n".join(lines))
    reader = JsonlReader(path)
    assert [segment.sequence for segment in reader.segments()] == [n for n in range(3) if n != where // 4]
    assert [*reader.processes()] == []


@given(damaged=st.sets(st.integers(1, 11)))
def test_however_many_lines_are_damaged_no_batch_takes_the_spans_of_another(damaged: set[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "spans.jsonl")
        written = [batch(0), batch(1), batch(2)]
        store(path, *written)
        lines = path.read_bytes().splitlines()
        path.write_bytes(b"\n".join(b"?" if n in damaged else line for n, line in enumerate(lines)))
        found = {segment.sequence: [*segment] for segment in JsonlReader(path).segments()}
    hit = {line // 4 for line in damaged}
    assert found == {one.sequence: [*one] for one in written if one.sequence not in hit}


@pytest.mark.parametrize(
    "change", [("span_id", "no number"), ("span_id", "f" * 17), ("start_time", 1e300), ("duration", -1e300)]
)
def test_a_value_that_no_span_can_have_costs_its_batch(tmp_path: Path, change: tuple[str, Any]) -> None:
    path = tmp_path / "spans.jsonl"
    store(path, batch(0), batch(1))
    lines = lines_of(path)
    lines[1][change[0]] = change[1]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert stored(path) == [f"{TOKEN}-1"]


@given(data=st.data())
def test_any_damage_to_a_gzip_member_costs_no_other(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "spans.jsonl.gz")
        ends = [0]
        for sequence in range(3):
            store(path, batch(sequence))
            ends.append(path.stat().st_size)
        content = bytearray(path.read_bytes())
        hit = data.draw(st.integers(1, 2))  # the first one shows that the file is ours
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(ends[hit], ends[hit + 1] - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        assert {0, 3 - hit} <= {segment.sequence for segment in JsonlReader(path).segments()}


def test_a_gzip_member_counts_only_if_its_checksum_is_right_however_its_text_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spans.jsonl.gz"
    store(path, batch(spans=1))  # of one span, as the end of a second would be packed as a copy of the first's
    length = len(text_of(path))
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    for block in (length, length - 1, length - 2, length // 2):
        monkeypatch.setattr(jsonl_reader, "BLOCK", block)
        assert stored(path) == []
    for cut in range(len(content) - 10, len(content)):  # from about the end of the text on
        path.write_bytes(content[:cut])
        for block in range(len(content) - 16, len(content)):
            monkeypatch.setattr(jsonl_reader, "BLOCK", block)
            assert stored(path) == []


def test_a_gzip_file_that_expands_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl.gz"
    store(path, batch(0))
    with gzip.open(path, "ab", compresslevel=1) as file:
        for _ in range(128):
            file.write(b"{" * (1 << 20))
    store(path, batch(1))

    def read_in_little_memory() -> None:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert stored(path) == [f"{TOKEN}-0", f"{TOKEN}-1"]
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 32 << 10  # KiB

    assert ended(child(read_in_little_memory)) == 0


# Cut short


def _cut_and_go_on(path: Path, ends: list[int], cut: int) -> None:
    """Cut the file at any byte; nothing whole may be lost, and the next write must make it as good as new."""
    os.truncate(path, cut)
    whole = [i for i, end in enumerate(ends) if end <= cut]
    found = [int(name.rpartition("-")[2]) for name in stored(path)]
    assert found == list(range(len(found)))
    assert len(whole) <= len(found) <= len(whole) + 1  # a line that only lacks its end is whole
    store(path, batch(99))
    assert stored(path) == [f"{TOKEN}-{i}" for i in [*found, 99]]
    assert [line["sequence"] for line in lines_of(path) if line["type"] == "batch"] == [*found, 99]
    store(path, *(batch(i, attempt=2) for i in range(len(ends))))
    assert sorted(stored(path)) == sorted(f"{TOKEN}-{i}" for i in [*range(len(ends)), 99])
    assert set(spans_seen(path).values()) == {1}


def _written(path: Path, sizes: list[int]) -> list[int]:
    """Write batches of so many spans, and facts between them; where each batch ends."""
    ends, sink = [], JsonlSink(path)
    for sequence, size in enumerate(sizes):
        sink.write_run(info(started_at=sequence))
        sink.write(batch(sequence, size))
        ends.append(path.stat().st_size)
    sink.write_run(info(ended_at=1.0))
    sink.close()
    return ends


@both_forms
@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), where=st.floats(0, 1))
def test_cutting_the_file_anywhere_costs_no_batch_that_was_whole(form: str, sizes: list[int], where: float) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, form)
        ends = _written(path, sizes)
        _cut_and_go_on(path, ends, round(where * path.stat().st_size))


@both_forms
@pytest.mark.parametrize("block", [64, 1 << 18])
def test_cutting_a_small_file_at_each_of_its_bytes_costs_no_batch_that_was_whole(
    tmp_path: Path, form: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (jsonl, jsonl_reader):
        monkeypatch.setattr(module, "BLOCK", block)
    path = tmp_path / form
    ends = _written(path, [1, 1])
    content = path.read_bytes()
    for cut in range(len(content) + 1):
        path.write_bytes(content)
        _cut_and_go_on(path, ends, cut)


@both_forms
def test_a_process_killed_at_any_point_of_a_write_leaves_the_batch_to_be_stored_once(tmp_path: Path, form: str) -> None:
    store(tmp_path / form, batch(0))
    before = (tmp_path / form).read_bytes()
    store(tmp_path / form, batch(1))
    size = (tmp_path / form).stat().st_size - len(before)
    for point in sorted({1, 5, size // 3, size // 2, size - 9, size - 2, size - 1, size}):
        (tmp_path / form).write_bytes(before)

        def be_killed(point: int = point) -> None:
            die_after(point)
            store(tmp_path / form, batch(1))

        assert ended(child(be_killed)) == -signal.SIGKILL
        assert (tmp_path / form).stat().st_size == len(before) + point
        store(tmp_path / form, batch(1, attempt=2), batch(2))
        assert stored(tmp_path / form) == [f"{TOKEN}-{i}" for i in range(3)]
        assert set(spans_seen(tmp_path / form).values()) == {1}


@both_forms
def test_a_sink_in_use_mends_what_a_killed_process_left(tmp_path: Path, form: str) -> None:
    sink = JsonlSink(tmp_path / form)
    for sequence in range(0, 9, 3):
        sink.write(batch(sequence))

        def be_killed(sequence: int = sequence) -> None:
            die_after(150)
            store(tmp_path / form, batch(sequence + 1))

        assert ended(child(be_killed)) == -signal.SIGKILL
        sink.write(batch(sequence + 2))
    sink.close()
    sequences = [0, 2, 3, 5, 6, 8]
    assert stored(tmp_path / form) == [f"{TOKEN}-{i}" for i in sequences]
    assert [line["sequence"] for line in lines_of(tmp_path / form) if line["type"] == "batch"] == sequences
    assert len(spans_seen(tmp_path / form)) == 18


@both_forms
def test_what_was_stored_before_a_kill_from_outside_is_there_and_whole(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    acknowledged, acknowledge = os.pipe()

    def write_for_ever() -> None:
        sink = JsonlSink(path)
        for sequence in range(1_000_000):
            sink.write(batch(sequence, 200))
            os.write(acknowledge, b".")

    pid = child(write_for_ever)
    os.close(acknowledge)
    count = 0
    while count < 20:
        count += len(os.read(acknowledged, 1))
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    while rest := os.read(acknowledged, 1 << 16):
        count += len(rest)
    os.close(acknowledged)
    found = [(segment.sequence, len(segment)) for segment in JsonlReader(path).segments()]
    assert found == [(i, 200) for i in range(len(found))]
    assert count <= len(found) <= count + 1
    store(path, batch(len(found), 200, attempt=2))
    assert len(stored(path)) == len(found) + 1
    assert set(spans_seen(path).values()) == {1}


def test_a_last_line_without_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    store(path, batch(0))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    store(path, batch(1))
    assert len(lines_of(path)) == 8
    assert stored(path) == [f"{TOKEN}-0", f"{TOKEN}-1"]


@pytest.mark.parametrize("addition", [b"# a note\n", b"# a note", b'{"mine": true}'])
def test_what_others_added_to_the_file_is_kept(tmp_path: Path, addition: bytes) -> None:
    path = tmp_path / "spans.jsonl"
    store(path, batch(0))
    path.write_bytes(path.read_bytes() + addition)
    before = path.read_bytes()
    store(path, batch(1))
    assert path.read_bytes().startswith(before)
    assert stored(path) == [f"{TOKEN}-0", f"{TOKEN}-1"]


def test_a_file_of_spans_alone_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    store(path, batch(0), batch(1))
    spans = b"".join(line for line in path.read_bytes().splitlines(keepends=True) if b'"span"' in line)
    path.write_bytes(spans)
    store(path, batch(2))
    assert path.read_bytes().startswith(spans)
    assert stored(path) == [f"{TOKEN}-2"]


# In brief


def in_brief(path: Path, run_id: str | None = None) -> list[SegmentSummary]:
    """The summaries, which must be those of the segments."""
    reader = JsonlReader(path)
    found = [*reader.summaries(run_id)]
    assert found == [SegmentSummary.of(segment) for segment in reader.segments(run_id)]
    return found


@both_forms
@settings(deadline=None)
@given(
    parts=st.lists(st.tuples(st.sampled_from("ab"), st.lists(records, min_size=1, max_size=4)), min_size=1, max_size=4),
    data=st.data(),
)
def test_summaries_are_those_of_the_segments_wherever_the_file_is_cut(
    form: str, parts: list[tuple[str, list[Any]]], data: st.DataObject
) -> None:
    threads = [ThreadInfo(1, "MainThread"), ThreadInfo(2, "other")]
    written = [
        Batch(Origin(run, 16 * run, ord(run), ANCHOR), n, spans, threads) for n, (run, spans) in enumerate(parts)
    ]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, form)
        store(path, written[0])
        first = path.stat().st_size
        for one in written[1:]:
            store(path, one)
        content = path.read_bytes()
        found = in_brief(path)
        failed = [sum(span.status != "ok" for span in one) for one in written]
        assert [(one.sequence, one.spans, one.errors) for one in found] == [
            (one.sequence, len(one), errors) for one, errors in zip(written, failed, strict=True)
        ]
        for run in "abc":
            assert in_brief(path, run) == [one for one in found if one.run_id == run]
        cut = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:cut])
        assert in_brief(path) == found[: len(stored(path))]
        if cut >= first:  # so that the file is known to be ours
            path.write_bytes(content[:cut] + content)  # as by somebody who neither mends nor looks what is there
            in_brief(path)


@pytest.mark.parametrize("block", [64, 1 << 18])
@both_forms
def test_summaries_are_those_of_the_segments_at_each_cut_of_a_small_file(
    tmp_path: Path, form: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl_reader, "BLOCK", block)
    path = tmp_path / form
    _written(path, [1, 2])
    content = path.read_bytes()
    counts = set()
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        counts.add(len(in_brief(path)))
    assert counts == {0, 1, 2}


@pytest.mark.parametrize("damage", DAMAGE, ids=range(len(DAMAGE)))
@pytest.mark.parametrize("where", [4, 5, 7])
def test_a_damaged_line_costs_a_summary_only_if_it_costs_the_segment(tmp_path: Path, damage: bytes, where: int) -> None:
    path = tmp_path / "spans.jsonl"
    store(path, batch(0), batch(1), batch(2))
    lines = path.read_bytes().splitlines()
    lines[where] = damage
    path.write_bytes(b"\n".join(lines))
    assert [one.sequence for one in in_brief(path)] == [0, 2]


@given(data=st.data())
def test_any_damage_to_any_byte_costs_a_summary_only_if_it_costs_the_segment(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "spans.jsonl")
        store(path, batch(0))
        first = path.stat().st_size
        store(path, batch(1, tags={"é": ["x", 1.5, {"y": None}]}), batch(2))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(first, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        assert in_brief(path)[0].sequence == 0


LIMIT = 2**63 / 1e9  # seconds; from here on they are too many nanoseconds
EDGES = [math.nextafter(LIMIT, 0), LIMIT, math.nextafter(LIMIT, math.inf)]
seconds = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(-2 * LIMIT, 2 * LIMIT)
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([sign * edge for sign in (1, -1) for edge in EDGES])
)
ids = (
    st.integers(0, 2**65).map("{:x}".format)
    | st.sampled_from(["", "0x1f", "1_0", " 1 ", "-1", "-8000000000000000", "7fffffffffffffff", "8000000000000000"])
    | st.none()
    | texts
)
changes = st.one_of(
    st.tuples(st.sampled_from(["start_time", "end_time", "duration"]), seconds),
    st.tuples(st.sampled_from(["span_id", "parent_id"]), ids),
    st.tuples(st.sampled_from(["run_id", "name", "thread_name", "error"]), texts | st.none()),
    st.tuples(st.just("status"), st.sampled_from(["ok", "error", "", 5])),
    st.tuples(st.just("process_id"), st.integers() | st.just(1.0)),
    st.tuples(st.just("tags"), st.none() | st.just([]) | st.dictionaries(texts, json_values, max_size=2)),
    st.tuples(st.just("type"), st.sampled_from(["batch", "run"])),
)


def _change_and_compare(changed: list[tuple[str, Any]]) -> None:
    """Change a value in as many spans of a batch."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "spans.jsonl")
        store(path, batch(0), batch(1), batch(2))
        lines = lines_of(path)
        for line, change in zip(lines[5:], changed, strict=False):
            line.update([change])
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert {0, 2} <= {one.sequence for one in in_brief(path)}


@given(changed=st.lists(changes, min_size=1, max_size=3))
def test_odd_values_cost_a_summary_only_if_they_cost_the_segment(changed: list[tuple[str, Any]]) -> None:
    _change_and_compare(changed)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("edge", [*EDGES, 1e19, 1e300, 2**70, 9e9, 0.5e-9, 1.5e-9])
@pytest.mark.parametrize("names", [["start_time"], ["duration"], ["start_time", "duration"]])
def test_times_at_the_edge_of_what_fits_cost_a_summary_only_if_they_cost_the_segment(
    names: list[str], edge: float, sign: int
) -> None:
    _change_and_compare([(name, sign * edge) for name in names])


@pytest.mark.parametrize("name", ["span_id", "parent_id"])
@pytest.mark.parametrize("value", ["7fffffffffffffff", "8000000000000000", "-8000000000000000", "-8000000000000001"])
def test_ids_at_the_edge_of_what_fits_cost_a_summary_only_if_they_cost_the_segment(name: str, value: str) -> None:
    _change_and_compare([(name, value)])


@both_forms
def test_listing_runs_builds_no_segment(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / form
    sink = JsonlSink(path)
    tee = TeeSink(sinks=[sink])
    tee.write(batch(0))
    tee.write(batch(1, run_id="other", token="cd" * 8))
    monkeypatch.delattr(Segment, "from_spans")
    for source in (JsonlReader(path), sink, tee):
        assert [one.run_id for one in source.summaries()] == ["run", "other"]
        assert [one.sequence for one in source.summaries("other")] == [1]
    assert {(run.run_id, run.spans) for run in Report(path).runs()} == {("run", 3), ("other", 3)}
    tee.close()


# Several at once


@both_forms
def test_four_processes_can_append_at_once(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    waiting, start = os.pipe()

    def append(token: str) -> None:
        os.close(start)
        write_little_by_little(150)
        sink = JsonlSink(path)
        os.read(waiting, 1)
        sink.write_run(info(token=token))
        for sequence in range(50):
            sink.write(batch(sequence, 4, token=token))

    tokens = [f"{i:016x}" for i in range(4)]
    pids = [child(lambda token=token: append(token)) for token in tokens]
    os.close(waiting)
    os.close(start)
    assert [ended(pid) for pid in pids] == [0] * 4
    found = [(segment.token, segment.sequence, len(segment)) for segment in JsonlReader(path).segments()]
    assert sorted(found) == [(token, sequence, 4) for token in tokens for sequence in range(50)]
    for token in tokens:
        assert [sequence for found_token, sequence, _ in found if found_token == token] == [*range(50)]
    assert sorted(process.token for process in JsonlReader(path).processes()) == tokens
    assert len(lines_of(path)) == 4 * (1 + 50 * 5)


@both_forms
def test_two_sinks_of_one_process_can_append_at_once(tmp_path: Path, form: str) -> None:
    def append(token: str) -> None:
        sink = JsonlSink(tmp_path / form)
        for sequence in range(50):
            sink.write(batch(sequence, token=token))
        sink.close()

    threads = [threading.Thread(target=append, args=(f"{i:016x}",)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored(tmp_path / form)) == len(set(stored(tmp_path / form))) == 100
    assert set(Counter(line["type"] for line in lines_of(tmp_path / form)).values()) == {100, 300}


@both_forms
def test_a_forked_child_goes_on_in_the_same_file(tmp_path: Path, form: str) -> None:
    sink = JsonlSink(tmp_path / form)
    sink.write(batch(0))

    def go_on() -> None:
        mine = sink.reopen()
        mine.write(batch(0, token="cd" * 8))
        mine.close()

    pid = child(go_on)
    sink.write(batch(1))
    assert ended(pid) == 0
    sink.write(batch(2))
    sink.close()
    assert sorted(stored(tmp_path / form)) == sorted([f"{TOKEN}-{i}" for i in range(3)] + [f"{'cd' * 8}-0"])


def test_reopening_in_the_same_process_leaves_the_first_sink_usable(tmp_path: Path) -> None:
    first = JsonlSink(tmp_path / "spans.jsonl")
    second = first.reopen()
    first.write(batch(0))
    second.write(batch(1))
    first.write(batch(2))
    assert len([*second.segments()]) == 3
    first.close()
    second.close()


def test_a_parent_killed_in_a_write_does_not_lock_out_others_while_its_child_lives(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    is_ready, ready = os.pipe()
    may_end, end = os.pipe()

    def reopen_and_wait(sink: JsonlSink) -> None:
        os.close(end)
        mine = sink.reopen()
        os.write(ready, b".")
        os.read(may_end, 1)
        mine.close()

    def fork_and_be_killed() -> None:
        sink = JsonlSink(path)
        child(lambda: reopen_and_wait(sink))
        os.read(is_ready, 1)
        die_after(10)
        sink.write(batch(0))

    assert ended(child(fork_and_be_killed)) == -signal.SIGKILL
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    store(path, batch(1))
    assert stored(path) == [f"{TOKEN}-1"]
    for descriptor in (is_ready, ready, may_end, end):
        os.close(descriptor)


# Failing


@both_forms
def test_a_write_that_fails_half_way_leaves_the_file_as_it_was(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    store(path, batch(0))
    before = path.read_bytes()

    def write_into_a_full_disk() -> None:
        sink = JsonlSink(path)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
        for attempt in (1, 2):
            with pytest.raises(StorageError, match=r"spans\.jsonl.*nothing was appended: File too large"):
                sink.write(batch(1, 50, attempt=attempt))
            assert path.read_bytes() == before
        with pytest.raises(StorageError, match="nothing was appended"):
            sink.write_run(info(argv=[f"{i:x}" for i in range(1000)]))
        assert path.read_bytes() == before
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        sink.write(batch(1, 50, attempt=3))

    assert ended(child(write_into_a_full_disk)) == 0
    assert stored(path) == [f"{TOKEN}-0", f"{TOKEN}-1"]
    assert set(spans_seen(path).values()) == {1}


def test_an_interrupt_half_way_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spans.jsonl"
    sink = JsonlSink(path)
    sink.write(batch(0))
    before, write = path.read_bytes(), os.write

    def interrupted(descriptor: int, data: Any) -> int:
        if path.read_bytes() != before:
            raise KeyboardInterrupt
        return write(descriptor, bytes(data)[:50])

    monkeypatch.setattr(jsonl.os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sink.write(batch(1))
    monkeypatch.undo()
    assert path.read_bytes() == before
    sink.write(batch(1, attempt=2))
    assert len([*sink.segments()]) == 2
    sink.close()


@both_forms
def test_a_line_too_long_to_be_read_back_is_refused(tmp_path: Path, form: str) -> None:
    sink = JsonlSink(tmp_path / form)
    sink.write(batch(0))
    huge = batch(1)
    huge.records[1] = (*huge.records[1][:7], b'{"text":"%s"}' % (b"x" * MAX_LINE_BYTES), *huge.records[1][8:])
    with pytest.raises(StorageError, match=r"spans\.jsonl.*more than could be read back"):
        sink.write(huge)
    sink.write(batch(2, 40_000))
    assert [len(segment) for segment in sink.segments()] == [3, 40_000]
    sink.close()


def test_writing_after_close_is_told(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "spans.jsonl")
    sink.close()
    sink.close()
    with pytest.raises(StorageError, match=r"nothing was appended.*closed"):
        sink.write(batch())


# Refusing


@pytest.mark.parametrize("target", [None, ""])
def test_a_missing_target_is_told_with_an_example(target: str | None) -> None:
    with pytest.raises(StorageError, match=r"jsonl needs a file: jsonl:spans\.jsonl"):
        JsonlSink(target)


def test_a_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    reasons = {
        "missing/spans.jsonl": f"there is no directory {tmp_path / 'missing'}: make it first",
        "": "is a directory: name a file",
        "pipe": "is not a regular file: name a file",
        "file/spans.jsonl": "cannot be read and appended to: Not a directory",
        "nul\0": "cannot be read and appended to",
        "x" * 300: "cannot be read and appended to: File name too long",
    }
    for name, reason in reasons.items():
        with pytest.raises(StorageError) as raised:
            JsonlSink(tmp_path / name)
        assert str(tmp_path) in str(raised.value)
        assert reason in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe"]
    for name in ("", "pipe", "missing/spans.jsonl"):
        with pytest.raises(StorageError):
            JsonlReader(tmp_path / name)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_a_file_or_directory_that_may_not_be_written_is_told(open_directory: Path) -> None:
    path = open_directory / "spans.jsonl"
    store(path, batch())
    path.chmod(0o444)

    def try_as_nobody() -> None:
        if os.getuid() == 0:
            os.setuid(65534)
        else:
            open_directory.chmod(0o555)
        for name in ("spans.jsonl", "new.jsonl"):
            with pytest.raises(StorageError, match=f"{name} cannot be read and appended to: Permission denied"):
                JsonlSink(open_directory / name)
        assert len(stored(path)) == 1

    assert ended(child(try_as_nobody)) == 0
    open_directory.chmod(0o755)
    assert [file.name for file in open_directory.iterdir()] == ["spans.jsonl"]


FOREIGN = {
    "text": b"hello\n",
    "an empty line": b"\n",
    "spaces": b"   ",
    "other JSON lines": b'{"level":"info","message":"hello"}\n',
    "other runs": b'{"type":"run","name":"morning run","km":7}\n',
    "a JSON array": b"[1, 2]",
    "SQLite": b"SQLite format 3\0" + bytes(100),
    "no text": bytes(range(256)),
    "other gzip": gzip.compress(b"hello\n"),
    "other gzip, cut short": gzip.compress(b"hello\n" * 1000)[:30],
    "nothing, gzipped": gzip.compress(b""),
    "gzip in name only": b"\x1f\x8b hello",
    "one endless line": b"x" * (MAX_LINE_BYTES + 10),
}


@pytest.mark.parametrize("kind", FOREIGN)
@both_forms
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(tmp_path: Path, form: str, kind: str) -> None:
    path = tmp_path / form
    path.write_bytes(FOREIGN[kind])
    for opens in (JsonlSink, JsonlReader):
        with pytest.raises(StorageError, match=r"spans\.jsonl.* does not hold ferret's JSON lines"):
            opens(path)
    assert path.read_bytes() == FOREIGN[kind]
