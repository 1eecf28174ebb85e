"""Segments: encoding and decoding a batch changes nothing, and damage is told, not guessed at."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ORIGIN, THREADS, batch, record, tags_strategy

from ferret.batch import Batch
from ferret.errors import FormatError
from ferret.segment import MAGIC, VERSION, Segment
from ferret.span import Record
from ferret.tags import encode_outcome, encode_tags

ids = st.integers(1, 2**60)
texts = st.text(max_size=12)
SOURCES = {"": ("empty.py", 1), "0": ("zero.py", 2**31)}


@st.composite
def records(draw: st.DrawFn) -> Record:
    start = draw(st.integers(0, 2**50))
    outcome = draw(st.none() | st.tuples(texts, st.none() | texts, st.none() | texts))
    return (
        draw(ids), draw(st.just(0) | ids), draw(texts), start, start + draw(st.integers(0, 2**45)),
        draw(st.integers(0, len(THREADS) - 1)), draw(st.none() | texts.filter(bool)), encode_tags(draw(tags_strategy)),
        None if outcome is None else encode_outcome(outcome), draw(st.just(0) | st.integers(0, 2**45)),
        draw(st.just(-1) | st.integers(0, 2**45)),
    )  # fmt: skip


@given(st.lists(records(), min_size=1, max_size=20))
def test_a_batch_comes_back_as_it_was(found: list[Record]) -> None:
    original = Batch(ORIGIN, 7, found, THREADS, sources=SOURCES)
    decoded = Segment.from_bytes(Segment.from_batch(original).to_bytes())
    assert list(decoded) == list(original)
    assert (decoded.id, decoded.run_id, decoded.process_id) == (original.id, ORIGIN.run_id, ORIGIN.process_id)


@given(st.lists(records(), min_size=1, max_size=20))
def test_spans_make_the_same_segment_as_the_batch_they_came_from(found: list[Record]) -> None:
    original = Batch(ORIGIN, 7, found, THREADS, sources=SOURCES)
    again = Segment.from_spans(list(original), ORIGIN.token, 7)
    assert list(again) == list(original)


def test_the_columns_of_a_batch_are_its_spans() -> None:
    one = batch(record(1), record(2, name="other"))
    columns = one.columns()
    assert [columns["name"][0], columns["name"][1]] == ["work", "other"]
    assert all(len(column) == 2 for column in columns.values())
    assert set(columns) == set(msgspec.structs.asdict(next(iter(one))))


def test_encoding_lets_other_threads_run_unless_the_batch_is_urgent(monkeypatch: pytest.MonkeyPatch) -> None:
    many = batch(*map(record, range(20_000)))
    rests: list[float] = []
    monkeypatch.setattr("time.sleep", rests.append)
    Segment.from_batch(many).to_bytes()
    assert rests == []
    many.urgent = False
    Segment.from_batch(many).to_bytes()
    assert rests
    assert set(rests) == {0}


def test_an_unknown_outcome_counts_as_an_error() -> None:
    failed = encode_outcome(("error", "x", "E"))
    segment = Segment.from_batch(batch(record(1), record(2, outcome=failed), record(3, outcome=failed)))
    assert segment.errors == 2


def test_a_span_costs_few_bytes() -> None:
    """A thousand plausible spans with two tags: the promise is 60 bytes each."""
    rng = np.random.default_rng(1)
    starts = np.cumsum(rng.integers(1_000, 100_000, 4096)).tolist()
    spans = [
        record(
            number, parent_id=0 if number % 3 == 0 else 1000 + number - number % 3, start_ns=start,
            end_ns=start + int(rng.integers(1_000, 10_000_000)), name=f"name {number % 40}",
            tags=b'{"user":%d,"items":%d}' % (rng.integers(10_000), rng.integers(100)),
        )
        for number, start in enumerate(starts)
    ]  # fmt: skip
    assert len(Segment.from_batch(batch(*spans)).to_bytes()) / len(spans) < 60


def stored() -> bytes:
    return Segment.from_batch(batch(*[record(number) for number in range(50)])).to_bytes()


def test_a_newer_version_is_refused_with_advice() -> None:
    with pytest.raises(FormatError, match=f"version {VERSION + 1}.*update ferret"):
        Segment.from_bytes(MAGIC + bytes([VERSION + 1]) + stored()[4:])


def test_foreign_bytes_are_no_segment() -> None:
    with pytest.raises(FormatError, match="not a segment"):
        Segment.from_bytes(b"PK\x03\x04 something else")


@given(st.data())
def test_a_damaged_segment_is_refused_or_read_but_never_anything_else(data: Any) -> None:
    good = stored()
    position = data.draw(st.integers(0, len(good) - 1))
    damaged = good[:position] + bytes([good[position] ^ data.draw(st.integers(1, 255))]) + good[position + 1 :]
    try:
        read = Segment.from_bytes(damaged)
    except FormatError:
        return
    assert list(read) == list(Segment.from_bytes(good)), "deflate leaves a few bits unused; no other may go unnoticed"


@given(st.integers(0, 10_000))
def test_a_segment_that_was_cut_short_is_refused(length: int) -> None:
    good = stored()
    with pytest.raises(FormatError):
        Segment.from_bytes(good[: length % len(good)])


def header(**changes: Any) -> bytes:
    import zlib

    plain = msgspec.msgpack.decode(zlib.decompress(stored()[4:]))
    return MAGIC + bytes([VERSION]) + zlib.compress(msgspec.msgpack.encode({**plain, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"names": []}, {"threads": []}, {"count": 49}, {"count": -1}, {"count": 2**40}, {"tags": b"{}"}, {"outcomes": []},
        {"span_id": b"x"}, {"tags_length": b"\xff" * 400}, {"names": 3}, {"tasks": []},
    ],
    ids=str,
)  # fmt: skip
def test_a_segment_whose_parts_disagree_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="damaged"):
        Segment.from_bytes(header(**changes))
