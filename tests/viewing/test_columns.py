"""What the page is given: every span once, in order, with its parent, track and self time."""

from __future__ import annotations

import zlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support import batch, record

from ferret.analysis.selftime import self_times
from ferret.segment import Segment
from ferret.view.columns import gather
from ferret.view.page import pack


def segment(*records: dict[str, object], sequence: int = 0) -> Segment:
    return Segment.from_batch(batch(*[record(0, **one) for one in records], sequence=sequence))


def test_spans_come_in_the_order_of_their_start_and_the_outer_one_before_the_inner() -> None:
    run = gather(
        [
            segment({"span_id": 3, "name": "late", "start_ns": 50, "end_ns": 60}),
            segment(
                {"span_id": 2, "parent_id": 1, "name": "inner", "start_ns": 10, "end_ns": 20},
                {"span_id": 1, "name": "outer", "start_ns": 10, "end_ns": 40},
            ),
        ]
    )
    assert [run.names[name] for name in run.name] == ["outer", "inner", "late"]
    assert run.start_ns.tolist() == [0, 0, 40]
    assert run.duration_ns.tolist() == [30, 10, 10]
    assert run.parent.tolist() == [-1, 0, -1]
    assert run.self_ns.tolist() == [20, 10, 10]


def test_a_child_on_another_track_takes_nothing_of_its_parents_self_time() -> None:
    run = gather(
        [
            segment(
                {"span_id": 1, "start_ns": 0, "end_ns": 100},
                {"span_id": 2, "parent_id": 1, "start_ns": 10, "end_ns": 90, "thread": 1},
                {"span_id": 3, "parent_id": 1, "start_ns": 11, "end_ns": 91, "task": "Task-1"},
                {"span_id": 4, "parent_id": 1, "start_ns": 12, "end_ns": 42},
            )
        ]
    )
    assert run.self_ns.tolist() == [70, 80, 80, 30]
    tracks = [run.tracks[track] for track in run.track]
    assert [(track.thread_name, track.task) for track in tracks] == [
        ("MainThread", ""), ("worker", ""), ("MainThread", "Task-1"), ("MainThread", ""),
    ]  # fmt: skip


def test_time_in_which_a_span_was_suspended_is_not_its_self_time() -> None:
    run = gather(
        [
            segment(
                {"span_id": 1, "start_ns": 0, "end_ns": 100, "suspended_ns": 30},
                {"span_id": 2, "parent_id": 1, "start_ns": 10, "end_ns": 60, "suspended_ns": 40},
            )
        ]
    )
    assert run.self_ns.tolist() == [60, 10]


def test_a_self_time_that_was_measured_stands() -> None:
    run = gather(
        [
            segment(
                {"span_id": 1, "start_ns": 0, "end_ns": 100, "self_ns": 5},
                {"span_id": 2, "parent_id": 1, "start_ns": 10, "end_ns": 20},
            )
        ]
    )
    assert run.self_ns.tolist() == [5, 10]


def test_self_time_is_never_negative() -> None:
    one = np.array([0, 0], dtype=np.int64)
    parent, duration = np.array([-1, 0]), np.array([10, 50])
    assert self_times(parent, one, duration, one, one - 1).tolist() == [0, 50]


def test_tags_are_found_by_the_order_in_which_spans_were_stored() -> None:
    run = gather(
        [
            segment({"span_id": 3, "start_ns": 9, "tags": b'{"n":3}'}, {"span_id": 1, "start_ns": 1, "tags": None}),
            segment({"span_id": 2, "start_ns": 5, "tags": b'{"n":22}'}, sequence=1),
        ]
    )
    text = b"".join(zlib.decompress(block) for block in run.tag_blocks)
    ends = np.cumsum(run.tag_lengths)
    found = [text[ends[place] - run.tag_lengths[place] : ends[place]] for place in run.stored]
    assert found == [b"", b'{"n":22}', b'{"n":3}']


def test_processes_have_tracks_of_their_own() -> None:
    one, other = segment({"span_id": 1}), segment({"span_id": 2})
    other.token = "fedcba9876543210"
    assert len(gather([one, other]).tracks) == 2


def test_a_run_without_spans_has_empty_columns() -> None:
    run = gather([])
    assert len(run.start_ns) == len(run.parent) == len(run.tag_lengths) == 0


@given(st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 300)))
def test_a_packed_column_has_all_its_values(values: list[int]) -> None:
    width, planes = pack(np.array(values, dtype=np.int64))
    assert len(planes) == width * len(values)
    plane = [planes[i * len(values) : (i + 1) * len(values)] for i in range(width)]
    assert [int.from_bytes(bytes(one), "little") for one in zip(*plane, strict=True)] == (values if width else [])
    assert width or not any(values)
