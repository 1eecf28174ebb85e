"""A segment: a stored batch, as columns. `docs/segment-format.md` describes the bytes, so that others can read them.

Encoding one batch in a few C calls, rather than each span in Python, is what keeps a background thread from holding
the GIL: 4,096 spans take about 2 ms, in steps of 0.2 ms or less (`ferret.pace`).
"""

from __future__ import annotations

import zlib
from itertools import batched
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import numpy as np

from ferret import packing
from ferret.ambient import Source, format_id, parse_ids
from ferret.batch import SpanData
from ferret.errors import FormatError, NewerFormatError, RejectedError
from ferret.pace import WITHOUT_REST, Pace
from ferret.tags import decode_tags, encode_tags, plain_text, strict_tags
from ferret.twin import turn, unseen_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ferret.batch import Batch
    from ferret.packing import Int64

MAGIC: Final = b"FRT"
VERSION: Final = 1
MAX_SEGMENT_BYTES: Final = 1 << 28
"""No segment is larger when it is unpacked: a damaged or hostile file must not fill the memory."""
MAX_SPANS: Final = 1 << 20
"""No segment has more spans: a byte of a table may become a hundred bytes of objects."""

type _Table[T] = Annotated[list[T], msgspec.Meta(max_length=MAX_SPANS + 1)]

SLICE: Final = 1024
"""Records that are turned into columns in one go."""
FIELDS: Final = 11
"""Of a record."""

_OK = ("ok", None, None)


class _Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is stored, in the order in which it is documented. What has a default may be missing."""

    run_id: str
    token: str
    process_id: int
    sequence: int
    count: int
    names: _Table[str]
    threads: _Table[tuple[int, str]]
    tasks: _Table[str]
    outcomes: _Table[tuple[str, str | None, str | None]]
    span_id: bytes
    parent_id: bytes
    name: bytes
    start_ns: bytes
    duration_ns: bytes
    thread: bytes
    task: bytes
    outcome: bytes
    tags_length: bytes
    tags: bytes
    suspended_ns: bytes = b""
    self_ns: bytes = b""
    sources: Annotated[dict[str, Source], msgspec.Meta(max_length=MAX_SPANS)] = {}


class Segment:
    """Spans of one process as columns: NumPy arrays of equal length, and tables that some of them index.

    Attributes:
        run_id, token, process_id, sequence: the batch's identity (see `ferret.batch.Origin`).
        span_id, parent_id: the 64 bits of each id; 0 is "no parent". (A parent that came from elsewhere may use the
            highest one too: view them as `np.uint64` to read them.)
        name, thread, task, outcome: indices into `names`, `threads`, `tasks` and `outcomes`. `tasks[0]` is `""`, for
            no task; `outcomes[0]` is `("ok", None, None)`.
        start_ns: nanoseconds since the epoch.
        duration_ns: nanoseconds.
        tags: each span's tags as JSON, `b""` for none.
        suspended_ns: nanoseconds of the duration in which the span did not run; 0 for most.
        self_ns: nanoseconds in which it ran itself, as its recorder measured; -1 where nobody did.
        sources: file and line of the functions that names stand for, as far as that is known.
    """

    __slots__ = (
        "_pace", "_stored", "duration_ns", "name", "names", "outcome", "outcomes", "parent_id", "process_id", "run_id",
        "self_ns", "sequence", "sources", "span_id", "start_ns", "suspended_ns", "tags", "task", "tasks", "thread",
        "threads", "token",
    )  # fmt: skip

    run_id: str
    token: str
    process_id: int
    sequence: int
    names: list[str]
    threads: list[tuple[int, str]]
    tasks: list[str]
    outcomes: list[tuple[str, str | None, str | None]]
    span_id: Int64
    parent_id: Int64
    name: Int64
    start_ns: Int64
    duration_ns: Int64
    thread: Int64
    task: Int64
    outcome: Int64
    tags: list[bytes] | packing.TagsColumn
    suspended_ns: Int64
    self_ns: Int64
    sources: dict[str, Source]

    def __init__(self, run_id: str, token: str, process_id: int, sequence: int) -> None:
        self.run_id = run_id
        self.token = token
        self.process_id = process_id
        self.sequence = sequence
        self._stored: _Header | None = None
        self._pace = WITHOUT_REST

    @property
    def id(self) -> str:
        """The batch's id."""
        return f"{self.token}-{self.sequence}"

    def __len__(self) -> int:
        return len(self.span_id) if self._stored is None else self._stored.count

    def __getattr__(self, column: str) -> Int64:
        """Unpack a stored column when somebody first asks for it: no analysis needs them all."""
        unpack = _COLUMNS.get(column)
        if unpack is None or self._stored is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {column!r}")
        values = unpack(self, self._stored)
        setattr(self, column, values)
        return values

    @property
    def errors(self) -> int:
        """How many spans ended with a status other than `"ok"`."""
        failed = [index for index, outcome in enumerate(self.outcomes) if outcome[0] != "ok"]
        return int(np.isin(self.outcome, failed).sum()) if failed else 0

    @classmethod
    def from_batch(cls, batch: Batch) -> Segment:
        """The batch's spans as columns; a name that is not a text, or does not encode, is made one."""
        origin, pace = batch.origin, Pace(urgent=batch.urgent)
        segment = cls(origin.run_id, origin.token, origin.process_id, batch.sequence)
        segment._pace = pace
        span_id, parent_id, name, start_ns, end_ns, thread, task, tags, outcome, suspended_ns, self_ns = _turned(
            batch, pace
        )
        segment.span_id = packing.ids(span_id)
        segment.parent_id = packing.ids(parent_id)
        pace.rest()
        segment.start_ns = packing.int64(start_ns) + origin.anchor_ns
        segment.duration_ns = np.maximum(packing.int64(end_ns) + origin.anchor_ns - segment.start_ns, 0)
        pace.rest()
        names, segment.name = packing.table(name)
        segment.names = [plain_text(one) for one in names]
        pace.rest()
        indices, segment.thread = packing.table(thread)
        segment.threads = [tuple(batch.threads[index]) for index in indices]
        tasks, segment.task = packing.table(task, first=None)
        segment.tasks = ["" if one is None else plain_text(one) for one in tasks]
        pace.rest()
        outcomes, segment.outcome = packing.table(outcome, first=None)
        segment.outcomes = [_OK if one is None else tuple(msgspec.json.decode(one)) for one in outcomes]
        pace.rest()
        segment.tags = known = []
        for part in batched(tags, SLICE):
            known += strict_tags(part)
            pace.rest()
        segment.suspended_ns = packing.int64(suspended_ns)
        segment.self_ns = packing.int64(self_ns)
        sources = batch.sources
        segment.sources = {name: sources[name] for name in segment.names if name in sources} if sources else {}
        pace.rest()
        return segment

    @classmethod
    def from_spans(
        cls, spans: Sequence[SpanData], token: str = "", sequence: int = 0, tags: list[bytes] | None = None
    ) -> Segment:
        """Spans of one run and process, read from elsewhere, as columns; their tags, if they are not in the spans."""
        first = spans[0]
        segment = cls(first.run_id, token, first.process_id, sequence)
        segment.span_id = packing.ids(parse_ids(span.span_id for span in spans))
        segment.parent_id = packing.ids(parse_ids(span.parent_id or "0" for span in spans))
        segment.start_ns = packing.int64([_nanoseconds(span.start_time) for span in spans])
        segment.duration_ns = packing.int64([_nanoseconds(span.duration) for span in spans])
        segment.names, segment.name = packing.table([span.name for span in spans])
        segment.threads, segment.thread = packing.table([(span.thread_id, span.thread_name) for span in spans])
        segment.tasks, segment.task = packing.table([span.task_name or "" for span in spans], first="")
        outcomes = [(span.status, span.error, span.error_type) for span in spans]
        segment.outcomes, segment.outcome = packing.table(outcomes, first=_OK)
        segment.tags = [encode_tags(span.tags) or b"" for span in spans] if tags is None else tags
        segment.suspended_ns = packing.int64([_nanoseconds(span.suspended) for span in spans])
        segment.self_ns = packing.int64(
            [-1 if span.self_time is None else _nanoseconds(span.self_time) for span in spans]
        )
        segment.sources = {span.name: (span.file, span.line or 0) for span in spans if span.file is not None}
        return segment

    def __iter__(self) -> Iterator[SpanData]:
        return self._spans(slice(None), self.tags)

    def take(self, indices: Sequence[int]) -> Iterator[SpanData]:
        """Some of the spans, by their places."""
        return self._spans(list(indices), [self.tags[index] for index in indices])

    def _spans(self, which: slice | list[int], tags_of: Iterable[bytes]) -> Iterator[SpanData]:
        columns = zip(
            self.span_id.view(np.uint64)[which].tolist(), self.parent_id.view(np.uint64)[which].tolist(),
            self.name[which].tolist(), self.start_ns[which].tolist(), self.duration_ns[which].tolist(),
            self.thread[which].tolist(), self.task[which].tolist(), self.outcome[which].tolist(), tags_of,
            self.suspended_ns[which].tolist(), self.self_ns[which].tolist(),
            strict=True,
        )  # fmt: skip
        for (
            span_id, parent_id, name, start_ns, duration_ns, thread,
            task, outcome, tags, suspended_ns, self_ns,
        ) in columns:  # fmt: skip
            status, error, error_type = self.outcomes[outcome]
            thread_id, thread_name = self.threads[thread]
            start_time, duration = start_ns / 1e9, duration_ns / 1e9
            file, line = self.sources.get(self.names[name], (None, None))
            yield SpanData(
                span_id=format_id(span_id),
                parent_id=format_id(parent_id) if parent_id else None,
                run_id=self.run_id,
                name=self.names[name],
                start_time=start_time,
                end_time=start_time + duration,
                duration=duration,
                tags=decode_tags(tags) if tags else {},
                status=status,
                error=error,
                error_type=error_type,
                process_id=self.process_id,
                thread_id=thread_id,
                thread_name=thread_name,
                task_name=self.tasks[task] or None,
                suspended=suspended_ns / 1e9,
                self_time=None if self_ns < 0 else self_ns / 1e9,
                file=file,
                line=line,
            )

    def to_bytes(self) -> bytes:
        """The segment as it is stored: magic, version, then the columns, compressed.

        Raises:
            RejectedError: it is larger than would be read back.
        """

        def pack(values: Int64) -> bytes:
            self._pace.rest()
            return packing.pack(values)

        header = _Header(
            run_id=self.run_id,
            token=self.token,
            process_id=self.process_id,
            sequence=self.sequence,
            count=len(self),
            names=self.names,
            threads=self.threads,
            tasks=self.tasks,
            outcomes=self.outcomes,
            span_id=pack(packing.deltas(self.span_id)),
            parent_id=pack(packing.distances(self.span_id, self.parent_id)),
            name=pack(self.name),
            start_ns=pack(packing.deltas(self.start_ns)),
            duration_ns=pack(self.duration_ns),
            thread=pack(self.thread),
            task=pack(self.task),
            outcome=pack(self.outcome),
            tags_length=pack(np.fromiter(map(len, self.tags), dtype=np.int64, count=len(self))),
            tags=b"".join(self.tags),
            suspended_ns=pack(self.suspended_ns) if self.suspended_ns.any() else b"",
            self_ns=pack(self.self_ns) if (self.self_ns >= 0).any() else b"",
            sources=self.sources,
        )
        # Level 1: 9 bytes a span against 8 at level 6, in a fifth of the time; zlib lets go of the GIL.
        plain = msgspec.msgpack.encode(header)
        if len(plain) > MAX_SEGMENT_BYTES or len(self) > MAX_SPANS:
            raise RejectedError(
                f"a batch of {len(self)} spans and {len(plain)} bytes is more than could be read back: "
                f"{MAX_SPANS} spans and {MAX_SEGMENT_BYTES} bytes"
            )
        return MAGIC + bytes([VERSION]) + zlib.compress(plain, 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> Segment:
        """Read what `to_bytes` wrote.

        Raises:
            FormatError: it is no segment, is damaged, or is of a newer version; the message says which.
        """
        header = _read_header(data)
        segment = cls(header.run_id, header.token, header.process_id, header.sequence)
        segment.names, segment.threads = header.names, header.threads
        segment.tasks, segment.outcomes = header.tasks, header.outcomes
        segment.sources = header.sources
        try:
            _check_columns(header)
            segment.tags = packing.TagsColumn(packing.unpack(header.tags_length, header.count), header.tags)
        except ValueError as error:
            raise FormatError(f"a damaged segment: {error}") from error
        segment._stored = header
        return segment


def _read_header(data: Any) -> _Header:
    if not isinstance(data, bytes) or data[:3] != MAGIC:
        raise FormatError("not a segment: it does not begin with 'FRT'")
    if len(data) < 4 or data[3] != VERSION:
        found = data[3] if len(data) > 3 else "none"
        kind = NewerFormatError if len(data) > 3 and data[3] > VERSION else FormatError
        raise kind(f"a segment of version {found}; this ferret reads version {VERSION}: update ferret-trace")
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(data[4:], MAX_SEGMENT_BYTES)
        if not unpacker.eof:
            raise FormatError("a damaged segment: it ends too early, or is too large")
        return msgspec.msgpack.decode(plain, type=_Header)
    except (zlib.error, ValueError) as error:  # msgspec's own errors are ValueErrors, and so is a text that is no UTF-8
        raise FormatError(f"a damaged segment: {error}") from error


def _turned(batch: Batch, pace: Pace) -> list[list[Any]]:
    """The batch's records as columns."""
    columns = [unseen_list([None] * len(batch)) for _ in range(FIELDS)]
    # A slice at a time: 50 ns a span rather than 70 to 110 in Python, as its iterators stay in the processor's cache.
    for index, records in enumerate(batched(batch.records, SLICE)):
        turn(records, index * SLICE, columns)
        pace.rest()
    return columns


def _nanoseconds(seconds: float) -> int:
    """The nearest nanosecond, such that dividing by 1e9 gives `seconds` back: times since the epoch need the split."""
    whole = int(seconds)
    return whole * 1_000_000_000 + round((seconds - whole) * 1e9)


_COLUMNS: Final[dict[str, Callable[[Segment, _Header], Int64]]] = {
    "span_id": lambda _, stored: np.cumsum(packing.unpack(stored.span_id, stored.count)),
    "parent_id": lambda segment, stored: packing.parents(
        segment.span_id, packing.unpack(stored.parent_id, stored.count)
    ),
    "name": lambda _, stored: packing.unpack(stored.name, stored.count),
    "start_ns": lambda _, stored: np.cumsum(packing.unpack(stored.start_ns, stored.count)),
    "duration_ns": lambda _, stored: packing.unpack(stored.duration_ns, stored.count),
    "thread": lambda _, stored: packing.unpack(stored.thread, stored.count),
    "task": lambda _, stored: packing.unpack(stored.task, stored.count),
    "outcome": lambda _, stored: packing.unpack(stored.outcome, stored.count),
    "suspended_ns": lambda _, stored: packing.unpack_or(0, stored.suspended_ns, stored.count),
    "self_ns": lambda _, stored: packing.unpack_or(-1, stored.self_ns, stored.count),
}
"""How each column of a stored segment is made."""


def _check_columns(header: _Header) -> None:
    """Find what would make unpacking fail later, without unpacking: lengths, and indices beyond their tables."""
    count = header.count
    if not 0 <= count <= MAX_SPANS:
        raise ValueError(f"{count} spans, of {MAX_SPANS} at most")
    plain = (header.span_id, header.parent_id, header.start_ns, header.duration_ns, header.tags_length)
    tables: list[tuple[bytes, Sequence[object]]] = [
        (header.name, header.names), (header.thread, header.threads),
        (header.task, header.tasks), (header.outcome, header.outcomes),
    ]  # fmt: skip
    optional = [one for one in (header.suspended_ns, header.self_ns) if one]
    for data in (*plain, *optional, *(data for data, _ in tables)):
        if len(data) != count * 8:
            raise ValueError(f"a column of {len(data)} bytes for {count} spans")
    for data, table in tables:
        if count and not packing.within(data, count, len(table)):
            raise ValueError("an index beyond its table")
