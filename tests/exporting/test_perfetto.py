"""Perfetto traces, read with Perfetto's own message classes and by its rules for tracks and slices."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb
from recorded import OUTCOMES, PIDS, SOURCES, TASKS, THREADS, One, exported, runs

from ferret.export.facts import MAX_DEPTH

BEGIN, END = pb.TrackEvent.TYPE_SLICE_BEGIN, pb.TrackEvent.TYPE_SLICE_END


class Trace:
    """What a reader of the trace sees: slices, and the tracks that they are on."""

    def __init__(self, data: bytes) -> None:
        self.tracks: dict[int, Any] = {}
        self.slices: list[dict[str, Any]] = []
        self.tables: dict[str, dict[int, Any]] = {}
        open_slices: dict[int, list[dict[str, Any]]] = {}
        now: dict[int, int] = {}
        trace = pb.Trace()
        trace.ParseFromString(data)
        sequence_began = False
        for packet in trace.packet:
            assert packet.trusted_packet_sequence_id == 1
            sequence_began |= bool(packet.sequence_flags & pb.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED)
            self._intern(packet.interned_data)
            if packet.HasField("track_descriptor"):
                track = packet.track_descriptor
                assert track.uuid not in self.tracks
                assert not track.parent_uuid or track.parent_uuid in self.tracks
                self.tracks[track.uuid] = track
            if not packet.HasField("track_event"):
                continue
            assert sequence_began
            assert packet.sequence_flags & pb.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
            event = packet.track_event
            assert event.track_uuid in self.tracks
            assert packet.timestamp >= now.get(event.track_uuid, 0), "not in the order of time"
            now[event.track_uuid] = packet.timestamp
            stack = open_slices.setdefault(event.track_uuid, [])
            if event.type == BEGIN:
                stack.append(self._slice(packet, event))
                self.slices.append(stack[-1])
            else:
                assert event.type == END
                stack.pop()["end"] = packet.timestamp
        assert not any(open_slices.values()), "left open"

    def _intern(self, data: Any) -> None:
        for kind in ("event_names", "event_categories", "debug_annotation_names", "source_locations"):
            table = self.tables.setdefault(kind, {})
            for entry in getattr(data, kind):
                assert entry.iid
                assert entry.iid not in table
                table[entry.iid] = entry

    def _slice(self, packet: Any, event: Any) -> dict[str, Any]:
        source = self.tables["source_locations"].get(event.source_location_iid)
        return {
            "track": event.track_uuid,
            "name": self.tables["event_names"][event.name_iid].name,
            "begin": packet.timestamp,
            "args": {self.key(one): self.value(one) for one in event.debug_annotations},
            "categories": [self.tables["event_categories"][iid].name for iid in event.category_iids],
            "source": source and (source.file_name, source.line_number),
            "out": list(event.flow_ids),
            "in": list(event.terminating_flow_ids),
        }

    def key(self, annotation: Any) -> str:
        if annotation.HasField("name"):
            return str(annotation.name)
        return str(self.tables["debug_annotation_names"][annotation.name_iid].name)

    def value(self, annotation: Any) -> Any:
        if annotation.dict_entries:
            return {self.key(one): self.value(one) for one in annotation.dict_entries}
        if annotation.array_values:
            return [self.value(one) for one in annotation.array_values]
        return getattr(annotation, annotation.WhichOneof("value"))

    def place(self, uuid: int) -> tuple[int, str, str]:
        """Process id, thread and task of a track."""
        track, task = self.tracks[uuid], ""
        if not track.HasField("thread"):
            task = track.name.partition(" (")[0]
            track = self.tracks[track.parent_uuid]
        thread = track.thread.thread_name
        process = self.tracks[track.parent_uuid].process
        assert track.thread.pid == process.pid
        return process.pid, thread, "" if task == thread else task


def argument(value: Any) -> Any:
    """A tag's value as Perfetto has a form for it."""
    if value is None or value in ({}, []):
        return msgspec.json.encode(value).decode()
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, dict):
        return {key: argument(item) for key, item in value.items()}
    return [argument(item) for item in value] if isinstance(value, list) else value


def facts(one: One) -> dict[str, Any]:
    status, error, error_type = OUTCOMES[one.outcome]
    known = {"ferret.error": error, "ferret.error_type": error_type, "ferret.suspended_ns": one.suspended_ns or None}
    known["ferret.status"] = None if status == "ok" else status
    known["ferret.self_ns"] = None if one.self_ns < 0 else one.self_ns
    return {key: value for key, value in known.items() if value is not None}


def comparable(*parts: Any) -> str:
    return repr((*parts[:-1], sorted(parts[-1].items())))


@given(runs())
def test_every_span_is_there_once_on_a_track_of_its_thread_and_task(spans: list[One]) -> None:
    trace = Trace(exported(spans, "perfetto"))
    found = Counter(
        comparable(trace.place(one["track"]), one["name"], one["begin"], one["end"], one["categories"], one["args"])
        for one in trace.slices
    )
    assert found == Counter(
        comparable(
            (PIDS[one.process], THREADS[one.thread][1], TASKS[one.task]), one.known_name, one.start_ns, one.end_ns,
            ["error"] * (OUTCOMES[one.outcome][0] != "ok"),
            {**facts(one), **{key: argument(value) for key, value in one.tags.items()}},
        )
        for one in spans
    )  # fmt: skip


def test_tracks_are_named_and_below_each_other() -> None:
    spans = [
        One(1, 0, "a", 0, 9), One(2, 0, "b", 5, 9), One(3, 0, "c", 0, 9, task=1), One(4, 0, "d", 0, 9, thread=1),
        One(5, 0, "e", 0, 9, process=1),
    ]  # fmt: skip
    trace = Trace(exported(spans, "perfetto"))
    shown = [
        (track.name or track.thread.thread_name or track.process.process_name, track.parent_uuid)
        for track in trace.tracks.values()
    ]
    uuid = {name: number for number, (name, _) in enumerate(shown, 1)}
    assert sorted(shown) == sorted(
        [
            ("</p>4242.py", 0), ("</p>4243.py", 0), ("MainThread", uuid["</p>4242.py"]), ("MainThread", uuid["</p>4243.py"]),
            ("worker", uuid["</p>4242.py"]), ("MainThread (2)", shown.index(("MainThread", uuid["</p>4242.py"])) + 1),
            ("Task-1", shown.index(("MainThread", uuid["</p>4242.py"])) + 1),
        ]
    )  # fmt: skip
    threads = [track.thread for track in trace.tracks.values() if track.HasField("thread")]
    assert len({thread.tid for thread in threads}) == len(threads)
    assert {thread.tid for thread in threads if thread.thread_name == "MainThread"} == set(PIDS)
    assert all(track.process.cmdline == ["x", "\x1b"] for track in trace.tracks.values() if track.HasField("process"))


def test_a_parent_on_another_track_is_an_arrow() -> None:
    spans = [One(1, 0, "a", 0, 9), One(2, 1, "b", 1, 2, task=1), One(3, 1, "c", 1, 3, thread=1), One(4, 1, "d", 2, 1)]
    slices = {one["name"]: (sorted(one["out"]), one["in"]) for one in Trace(exported(spans, "perfetto")).slices}
    assert slices == {"a": ([2, 3], []), "b": ([], [2]), "c": ([], [3]), "d": ([], [])}


def test_a_function_s_file_and_line_are_with_its_spans() -> None:
    slices = Trace(exported([One(1, 0, "a", 0, 9), One(2, 0, "c", 0, 9)], "perfetto")).slices
    assert [one["source"] for one in slices] == [SOURCES["a"], None]


def test_the_trace_says_what_time_it_was() -> None:
    trace = pb.Trace()
    trace.ParseFromString(exported([One(1, 0, "a", 77, 9)], "perfetto"))
    assert {clock.clock_id: clock.timestamp for clock in trace.packet[0].clock_snapshot.clocks} == {1: 77, 6: 77}


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 500])
def test_tags_that_are_too_deep_end_as_json(depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    (one,) = Trace(exported([One(1, 0, "a", 0, 1, tags={"deep": value})], "perfetto")).slices
    found = one["args"]["deep"]
    for _ in range(min(depth, MAX_DEPTH)):
        (found,) = found
    beyond = depth - MAX_DEPTH
    assert found == ("[" * beyond + "1" + "]" * beyond if beyond > 0 else 1)


def test_keys_that_are_all_different_fill_no_table() -> None:
    spans = [One(n, 0, "a", n, 1, tags={f"key {n} {i}": i for i in range(100)}) for n in range(1, 120)]
    trace = Trace(exported(spans, "perfetto"))
    assert len(trace.tables["debug_annotation_names"]) == 10_000
    assert {key: value for one in trace.slices for key, value in one["args"].items()} == {
        key: value for one in spans for key, value in one.tags.items()
    }


def test_a_run_without_spans_is_a_trace_without_slices() -> None:
    assert Trace(exported([], "perfetto")).slices == []
