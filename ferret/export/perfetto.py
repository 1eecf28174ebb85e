"""Perfetto's own trace format: a protobuf stream of packets, for https://ui.perfetto.dev and its `trace_processor`.

Perfetto reads Chrome's JSON as well, but turns its microseconds into nanoseconds by cutting off what floating point
leaves over: neighbours then overlap by a nanosecond, and are drawn wrongly. In packets times are whole nanoseconds. They
also are a third as large, which counts in a viewer that loads the whole file, and tracks can be within each other.

A process has a track for each thread; below it are one for each asyncio task, and further lanes where spans overlap.
The format is https://perfetto.dev/docs/reference/trace-packet-proto.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgspec
import numpy as np

from ferret.analysis.tree import parents_of
from ferret.export.columns import chunks, collect
from ferret.export.facts import MAX_DEPTH, TagEncoder, beyond_depth, own_facts, special
from ferret.export.protobuf import TIME_BYTES, double, fixed64, message, number, text, times, varint
from ferret.export.tracks import lay_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ferret.export.columns import Spans, Track
    from ferret.export.tracks import Layout
    from ferret.models import RunInfo
    from ferret.segment import Segment

_EVENTS: Final = 1 << 15
_BOOTTIME, _REALTIME = 6, 1
_BEGIN, _END = number(9, 1), number(9, 2)
_FAILED: Final = 1
_MAX_KEYS: Final = 10_000

_ID = number(10, 1)  # all packets are of one sequence
_AFRESH = number(13, 1)  # from here on, what is interned counts
_USES = number(13, 2)  # needs what was interned before
_IN_ORDER_OF_TIME = number(11, 2)
_NOT_MERGED = number(15, 2)


def write(info: RunInfo, segments: Iterable[Segment], out: BinaryIO) -> int:
    """Write the run's spans; their number."""
    spans = collect(segments, tags=True)
    layout = lay_out(spans)
    start = int(spans.start_ns.min()) if len(spans) else 0
    # the viewer counts from boot; this says what time that was
    out.write(
        _packet(message(6, *(message(1, number(1, clock), number(2, start)) for clock in (_BOOTTIME, _REALTIME))))
    )
    out.write(_packet(_AFRESH, message(12, message(1, number(1, _FAILED), text(2, "error")), *_names(spans))))
    tracks = _Tracks(info)
    uuids = [tracks.lane(spans.tracks[lane.track], lane.number) for lane in layout.lanes]
    out.writelines(tracks.packets)
    out.writelines(b"".join(pieces) for pieces in _Events(spans, layout, uuids).pieces())
    return len(spans)


def _packet(*parts: bytes) -> bytes:
    return message(1, _ID, *parts)


def _names(spans: Spans) -> Iterator[bytes]:
    """Each name, and where its function is, under its index + 1: 0 is none."""
    for index, name in enumerate(spans.names, 1):
        yield message(2, number(1, index), text(2, name))
        if name in spans.sources:
            file, line = spans.sources[name]
            yield message(4, number(1, index), text(2, file), text(3, name), number(4, line))


class _Tracks:
    """Gives every track its number in the file, and says what it is.

    Attributes:
        packets: the descriptions, each before those of what is below it.
    """

    def __init__(self, info: RunInfo) -> None:
        self.packets: list[bytes] = []
        self._info = {process.token: process for process in info.processes}
        self._program = info.program
        self._uuids = count(1)
        self._known: dict[tuple[Any, ...], int] = {}
        self._pids: dict[str, int] = {}
        self._main_threads: set[int] = set()
        # Python's thread ids do not fit into 32 bits, and what tells threads apart for people is the name
        self._fresh_ids = count(1 << 30)

    def lane(self, track: Track, number_: int) -> int:
        """The track on which a lane's spans are."""
        thread = self._thread(track)
        if not track.task and not number_:
            return thread
        title = track.task or track.thread_name
        title += f" ({number_ + 1})" if number_ else ""
        return self._add((track, number_), number(5, thread), text(2, title), _NOT_MERGED)

    def _thread(self, track: Track) -> int:
        key = (track.token, track.thread_id, track.thread_name)
        if key not in self._known:
            process = self._process(track)
            pid = self._pids[track.token]
            main = track.thread_name == "MainThread" and pid not in self._main_threads
            if main:
                self._main_threads.add(pid)
            tid = pid if main else next(self._fresh_ids)
            thread = message(4, number(1, pid), number(2, tid), text(5, track.thread_name))
            self._add(key, number(5, process), thread, _IN_ORDER_OF_TIME)
        return self._known[key]

    def _process(self, track: Track) -> int:
        key = (track.token,)
        if key not in self._known:
            pid = track.process_id if 0 < track.process_id < 1 << 30 else next(self._fresh_ids)
            self._pids[track.token] = pid
            info = self._info.get(track.token)
            name = info.program if info else self._program
            arguments = [text(2, one) for one in info.argv] if info else []
            self._add(key, message(3, number(1, pid), *arguments, text(6, name)))
        return self._known[key]

    def _add(self, key: tuple[Any, ...], *what: bytes) -> int:
        uuid = self._known[key] = next(self._uuids)
        self.packets.append(_packet(message(60, number(1, uuid), *what)))
        return uuid


class _Events:
    """Makes a packet of each span's begin, and one of its end."""

    def __init__(self, spans: Spans, layout: Layout, uuids: list[int]) -> None:
        self._spans = spans
        self._uuids = uuids
        self._first = np.array([lane.first for lane in layout.lanes], dtype=np.int64) * 2
        self._order, self._opens = layout.events()
        self._end_ns = layout.end_ns
        self._flows = _Flows(spans, layout)
        self._special = special(spans) | self._flows.touched
        self._named = [_named(index, name in spans.sources) for index, name in enumerate(spans.names, 1)]
        self._failed = [outcome[0] != "ok" for outcome in spans.outcomes]
        self._arguments = _Arguments(spans)

    def pieces(self) -> Iterator[list[bytes]]:
        """The packets, many at a time, each in pieces."""
        current, tails, end = -1, dict[int, tuple[bytes, bytes]](), (b"", b"")
        track = b""
        for part in chunks(len(self._order), _EVENTS):
            spans, opens = self._order[part], self._opens[part]
            lanes = np.searchsorted(self._first, np.arange(part.start, part.stop), side="right") - 1
            stamps = times(np.where(opens, self._spans.start_ns[spans], self._end_ns[spans]))
            pieces: list[bytes] = []
            rows = zip(
                spans.tolist(), opens.tolist(), self._special[spans].tolist(), self._spans.name[spans].tolist(),
                lanes.tolist(), range(0, len(stamps), TIME_BYTES), strict=True,
            )  # fmt: skip
            for span, opening, own, name, lane, stamp in rows:
                if lane != current:
                    current, tails = lane, {}
                    track = number(11, self._uuids[lane])
                    end = _ending(_END + track)
                if not opening:
                    head, tail = end
                elif own:
                    head, tail = _ending(_BEGIN + track + self._named[name] + self._own(span))
                    pieces += self._arguments.new_keys()
                else:
                    if name not in tails:
                        tails[name] = _ending(_BEGIN + track + self._named[name])
                    head, tail = tails[name]
                pieces += (head, stamps[stamp : stamp + TIME_BYTES], tail)
            yield pieces

    def _own(self, span: int) -> bytes:
        spans = self._spans
        category = number(3, _FAILED) if self._failed[spans.outcome[span]] else b""
        return b"".join([category, self._arguments.of(span), *self._flows.of(span)])


def _named(index: int, has_source: bool) -> bytes:
    return number(10, index) + (number(34, index) if has_source else b"")


def _ending(event: bytes) -> tuple[bytes, bytes]:
    """What goes before and after the time, in the packet of an event."""
    tail = _ID + _USES + message(11, event)
    time_tag = varint(8 << 3)
    return varint(1 << 3 | 2) + varint(len(time_tag) + TIME_BYTES + len(tail)) + time_tag, tail


class _Flows:
    """Arrows from a span to those of its children that are on another lane.

    Attributes:
        touched: the spans at either end of one.
    """

    def __init__(self, spans: Spans, layout: Layout) -> None:
        lane_of = np.empty(len(spans), dtype=np.int32)
        lane_of[layout.order] = np.repeat(
            np.arange(len(layout.lanes), dtype=np.int32), [lane.last - lane.first for lane in layout.lanes]
        )
        parents = parents_of(spans.span_id, spans.parent_id) if len(spans) else np.zeros(0, dtype=np.int64)
        children = np.flatnonzero((parents >= 0) & (lane_of[parents] != lane_of) & (spans.span_id != 0))
        children = children[np.argsort(parents[children], kind="stable")]
        self._parents = parents[children]
        self._ids = spans.span_id.view(np.uint64)
        self._children = children
        self._is_child = np.zeros(len(spans), dtype=np.bool_)
        self._is_child[children] = True
        self.touched = self._is_child.copy()
        self.touched[self._parents] = True

    def of(self, span: int) -> Iterator[bytes]:
        """Where arrows begin and end in a span."""
        first, last = np.searchsorted(self._parents, (span, span + 1))
        for child in self._children[first:last]:
            yield fixed64(47, int(self._ids[child]))
        if self._is_child[span]:
            yield fixed64(48, int(self._ids[span]))


class _Arguments:
    """Tags and facts as debug annotations, whose keys are written once."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._tags = TagEncoder(spans, self._encoded)
        self._keys: dict[str, int] = {}
        self._unwritten: list[bytes] = []

    def of(self, span: int) -> bytes:
        """Those of one span. A tag takes the place of a fact of the same name."""
        encoded, keys = self._tags.of(span)
        facts = {key: value for key, value in own_facts(self._spans, span).items() if key not in keys}
        return encoded + self._encoded(facts) if facts else encoded

    def new_keys(self) -> Iterator[bytes]:
        """A packet with those keys that no packet told before."""
        if self._unwritten:
            yield _packet(_USES, message(12, *self._unwritten))
            self._unwritten = []

    def _encoded(self, values: dict[str, Any]) -> bytes:
        return b"".join(message(4, self._key(key), self._value(value, 1)) for key, value in values.items())

    def _key(self, key: str) -> bytes:
        known = self._keys.get(key)
        if known is None:
            if len(self._keys) >= _MAX_KEYS:  # no table for keys that are all different
                return text(10, key)
            known = self._keys[key] = len(self._keys) + 1
            self._unwritten.append(message(3, number(1, known), text(2, key)))
        return number(1, known)

    def _value(self, value: Any, depth: int) -> bytes:  # noqa: PLR0911 - a line per kind
        if isinstance(value, str):
            return text(6, value)
        if isinstance(value, bool):
            return number(2, value)
        if isinstance(value, int):
            return _integer(value)
        if isinstance(value, float):
            return double(5, value)
        if not value:  # the format knows nothing that is empty
            return text(6, msgspec.json.encode(value).decode())
        if depth > MAX_DEPTH:
            return text(6, beyond_depth(value))
        if isinstance(value, dict):
            items = (message(11, self._key(key), self._value(item, depth + 1)) for key, item in value.items())
            return b"".join(items)
        return b"".join(message(12, self._value(item, depth + 1)) for item in value)


def _integer(value: int) -> bytes:
    if -(1 << 63) <= value < 1 << 63:
        return number(4, value)
    return number(3, value) if 0 <= value < 1 << 64 else text(6, str(value))
