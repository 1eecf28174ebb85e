"""What a segment's columns and tables promise, and damage that only looks like data."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import numpy as np
import pytest
from support import ORIGIN, batch, record

from ferret import segment as segments
from ferret.errors import FormatError
from ferret.segment import MAGIC, VERSION, Segment
from ferret.tags import encode_outcome


def column(*values: int) -> bytes:
    """A column as `docs/segment-format.md` has it: byte k of value i is at k * count + i."""
    packed = [value.to_bytes(8, "little", signed=True) for value in values]
    return bytes(one[k] for k in range(8) for one in packed)


def changed(**changes: Any) -> bytes:
    """A segment of two spans, in which somebody changed something."""
    plain = msgspec.msgpack.decode(zlib.decompress(Segment.from_batch(batch(record(1), record(2))).to_bytes()[4:]))
    return MAGIC + bytes([VERSION]) + zlib.compress(msgspec.msgpack.encode({**plain, **changes}))


def test_the_first_task_is_none_and_the_first_outcome_is_ok_whatever_the_first_span_has() -> None:
    failed = encode_outcome(("error", "x", "E"))
    segment = Segment.from_batch(batch(record(1, task="Task-1", outcome=failed), record(2)))
    assert segment.tasks == ["", "Task-1"]
    assert segment.outcomes == [("ok", None, None), ("error", "x", "E")]
    assert (segment.task.tolist(), segment.outcome.tolist()) == ([1, 0], [1, 0])


def test_a_status_of_ones_own_counts_as_an_error() -> None:
    late = encode_outcome(("late", None, None))
    assert Segment.from_batch(batch(record(1, outcome=late), record(2))).errors == 1


def test_a_duration_is_never_negative() -> None:
    segment = Segment.from_batch(batch(record(1, start_ns=100, end_ns=40)))
    assert segment.duration_ns.tolist() == [0]


def test_times_are_since_the_epoch() -> None:
    segment = Segment.from_batch(batch(record(1, start_ns=100, end_ns=140)))
    assert (segment.start_ns.tolist(), segment.duration_ns.tolist()) == ([ORIGIN.anchor_ns + 100], [40])


def test_stored_tags_are_found_by_index_too() -> None:
    tags = [b'{"a":1}', None, b'{"b":22}', b'{"c":333}']
    segment = Segment.from_bytes(Segment.from_batch(batch(*[record(1, tags=one) for one in tags])).to_bytes())
    assert [segment.tags[index] for index in range(4)] == [one or b"" for one in tags] == list(segment.tags)


def test_a_name_that_does_not_encode_is_made_one_that_does() -> None:
    one = batch(record(1, name="caf\udce9", task="t\udce9sk"))
    assert Segment.from_batch(one).names == ["caf?"]
    assert [(span.name, span.task_name) for span in one] == [("caf?", "t?sk")]
    assert [span.name for span in Segment.from_bytes(Segment.from_batch(one).to_bytes())] == ["caf?"]


@pytest.mark.parametrize("missing", range(1, 9))
def test_a_segment_that_lacks_its_last_bytes_is_refused(missing: int) -> None:
    with pytest.raises(FormatError, match="damaged"):
        Segment.from_bytes(Segment.from_batch(batch(record(1))).to_bytes()[:-missing])


@pytest.mark.parametrize(
    "changes",
    [
        {"name": column(0, -1)}, {"thread": column(-1, 0)}, {"task": column(0, -1)}, {"outcome": column(-1, 0)},
        {"name": column(0, 1)}, {"tags_length": column(-7, 21)}, {"tags_length": column(15, -1)},
    ],
    ids=["name -1", "thread -1", "task -1", "outcome -1", "name 1", "tags -7", "tags 15"],
)  # fmt: skip
def test_numbers_that_point_before_or_behind_what_they_count_are_refused(changes: dict[str, Any]) -> None:
    assert len(Segment.from_bytes(changed())) == 2
    with pytest.raises(FormatError, match="damaged"):
        Segment.from_bytes(changed(**changes))


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = changed(names=["work", "x" * 100_000])
    assert len(Segment.from_bytes(data)) == 2
    monkeypatch.setattr(segments, "MAX_SEGMENT_BYTES", 50_000)
    with pytest.raises(FormatError, match="too large"):
        Segment.from_bytes(data)


def test_a_column_is_stored_as_documented() -> None:
    data = Segment.from_batch(batch(record(1, span_id=1000, start_ns=7), record(2, span_id=1003, parent_id=1000)))
    plain = msgspec.msgpack.decode(zlib.decompress(data.to_bytes()[4:]))
    assert plain["span_id"] == column(1000, 3)
    assert plain["parent_id"] == column(0, 4)
    assert plain["start_ns"] == column(ORIGIN.anchor_ns + 7, 13)
    assert np.array_equal(Segment.from_bytes(data.to_bytes()).span_id, [1000, 1003])
