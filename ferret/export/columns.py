"""A run's spans as columns: what an export holds while it works, some 50 bytes a span and the tags, and no object."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from ferret.ambient import format_id
from ferret.errors import FormatError
from ferret.tags import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from ferret.packing import Int64
    from ferret.segment import Segment

    type Int32 = NDArray[np.int32]

_LATEST: Final = np.iinfo(np.int64).max

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Track(NamedTuple):
    """Where spans ran that belong on one line of a timeline."""

    token: str
    """The profiler and process, as `ferret.batch.Origin` has it."""
    process_id: int
    thread_id: int
    thread_name: str
    task: str
    """The asyncio task; nothing outside all tasks."""


class Spans:
    """Spans of one run, in the order in which they were stored: arrays of equal length, and tables that they index.

    Attributes:
        span_id, parent_id, start_ns, duration_ns, suspended_ns, self_ns: as in `ferret.segment.Segment`. No duration is
            negative, and no end beyond what 64 bits hold, whatever the file says.
        name, track, outcome: indices into `names`, `tracks` and `outcomes`.
        names: all different; each encodes as UTF-8.
        outcomes: status, error and error type.
        sources: file and line of the functions that names stand for, as far as that is known.
        tags: of each span, as JSON; none unless they were asked for.
    """

    __slots__ = (
        "duration_ns", "name", "names", "outcome", "outcomes", "parent_id", "self_ns", "sources", "span_id", "start_ns",
        "suspended_ns", "tags", "track", "tracks",
    )  # fmt: skip

    span_id: Int64
    parent_id: Int64
    start_ns: Int64
    duration_ns: Int64
    suspended_ns: Int64
    self_ns: Int64
    name: Int32
    track: Int32
    outcome: Int32
    names: list[str]
    tracks: list[Track]
    outcomes: list[tuple[str, str | None, str | None]]
    sources: dict[str, tuple[str, int]]
    tags: Tags

    def __len__(self) -> int:
        return len(self.span_id)

    @property
    def end_ns(self) -> Int64:
        """When each span ended; made anew each time."""
        return self.start_ns + self.duration_ns

    def tags_of(self, span: int) -> dict[str, Any]:
        """The tags of one span.

        Raises:
            FormatError: they are no JSON object.
        """
        data = self.tags[span]
        if not data:
            return {}
        try:
            return _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            span_id = format_id(int(self.span_id[span]) & (1 << 64) - 1)
            raise FormatError(f"span {span_id}: damaged tags: {error}") from error


class Tags:
    """The tags of many spans as one text, cut where each begins."""

    __slots__ = ("_first", "_text")

    def __init__(self, lengths: NDArray[np.int64], text: bytes | bytearray) -> None:
        self._first = np.concatenate([[0], np.cumsum(lengths)])
        self._text = text

    def __getitem__(self, span: int) -> bytes:
        return bytes(self._text[self._first[span] : self._first[span + 1]])

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which spans have any."""
        return np.diff(self._first) > 0


class _Table[T]:
    """Values numbered as they turn up: each segment has a numbering of its own."""

    def __init__(self) -> None:
        self.numbers: dict[T, int] = {}

    def of(self, values: Iterable[T], indices: Int64) -> Int32:
        numbers = self.numbers
        table = [numbers.setdefault(value, len(numbers)) for value in values]
        return np.array(table, dtype=np.int32)[indices]


def collect(segments: Iterable[Segment], *, tags: bool = False) -> Spans:
    """The spans of all the segments.

    Args:
        segments: the spans of one run.
        tags: keep those, too.
    """
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    names, tracks, outcomes = _Table[str](), _Table[Track](), _Table[tuple[str, str | None, str | None]]()
    text = bytearray()
    spans = Spans()
    spans.sources = {}
    for one in segments:
        if not len(one):
            continue
        start_ns = np.maximum(one.start_ns, 0)
        for column, values in {
            "span_id": one.span_id,
            "parent_id": one.parent_id,
            "start_ns": start_ns,
            "duration_ns": np.clip(one.duration_ns, 0, _LATEST - start_ns),
            "suspended_ns": _unless_all(0, one.suspended_ns),
            "self_ns": _unless_all(-1, one.self_ns),
            "name": names.of(map(plain_text, one.names), one.name),
            "track": _tracks(one, tracks),
            "outcome": outcomes.of(map(_plain_outcome, one.outcomes), one.outcome),
        }.items():
            columns[column].append(values)
        spans.sources.update((plain_text(name), (plain_text(file), line)) for name, (file, line) in one.sources.items())
        pieces = list(one.tags) if tags else []
        columns["tags"].append(np.fromiter(map(len, pieces), dtype=np.int32, count=len(pieces)))
        text += b"".join(pieces)
    spans.tags = Tags(_joined(columns, "tags", np.int64), text)
    for column, usual in (("suspended_ns", 0), ("self_ns", -1)):
        if all(piece.strides == (0,) for piece in columns[column]):
            setattr(spans, column, _all(usual, sum(map(len, columns[column]))))
        else:
            setattr(spans, column, _joined(columns, column, np.int64))
    for column in ("span_id", "parent_id", "start_ns", "duration_ns"):
        setattr(spans, column, _joined(columns, column, np.int64))
    for column in ("name", "track", "outcome"):
        setattr(spans, column, _joined(columns, column, np.int32))
    spans.names, spans.tracks, spans.outcomes = list(names.numbers), list(tracks.numbers), list(outcomes.numbers)
    return spans


def chunks(length: int, size: int) -> Iterator[slice]:
    """Slices of `size` that cover `length`: what becomes Python objects does so a slice at a time."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def _joined(columns: dict[str, list[Any]], column: str, kind: Any) -> Any:
    """The column in one piece; the pieces are let go, so that no more than one column is held twice."""
    return np.concatenate([np.zeros(0, dtype=kind), *columns.pop(column, [])])


def _unless_all(usual: int, values: Int64) -> Int64:
    """The values, or what takes no room where all of them are as usual."""
    return values if (values != usual).any() else _all(usual, len(values))


def _all(value: int, count: int) -> Int64:
    """So many of one value, in the room of one."""
    return np.broadcast_to(np.int64(value), count)


def _tracks(segment: Segment, table: _Table[Track]) -> Int32:
    """The number of each span's track."""
    tasks = len(segment.tasks)
    distinct, indices = np.unique(segment.thread * tasks + segment.task, return_inverse=True)
    found = []
    for one in distinct.tolist():
        thread_id, thread_name = segment.threads[one // tasks]
        task = plain_text(segment.tasks[one % tasks])
        found.append(Track(segment.token, segment.process_id, thread_id, plain_text(thread_name), task))
    return table.of(found, indices)


def _plain_outcome(outcome: tuple[str, str | None, str | None]) -> tuple[str, str | None, str | None]:
    status, error, error_type = outcome
    return plain_text(status), error and plain_text(error), error_type and plain_text(error_type)
