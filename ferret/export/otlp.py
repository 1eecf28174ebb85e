"""OTLP as JSON lines, as the OpenTelemetry file exporter writes it, for collectors, Jaeger, Tempo and their like.

Each line is a `TracesData` message with spans of one process. It stays below 1 MiB, beyond which the collector's
receiver for such files would cut it.

Every root is a trace of its own, with what is below it. Its trace id is made of the run's id and the root's, so that it
is the same each time. A run as one trace would be larger than any of the tools can show.
The format is https://opentelemetry.io/docs/specs/otel/protocol/file-exporter.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgspec
import numpy as np

from ferret import __version__
from ferret.ambient import format_id
from ferret.analysis.tree import parents_of
from ferret.export.columns import chunks, collect
from ferret.export.facts import MAX_DEPTH, TagEncoder, beyond_depth, own_facts
from ferret.export.text import harmless, json_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ferret.export.columns import Spans, Track
    from ferret.models import ProcessInfo, RunInfo
    from ferret.packing import Int64
    from ferret.segment import Segment

    type Outcome = tuple[str, str | None, str | None]

_LINE: Final = 512 * 1024
_SPANS: Final = 4096
_REMEMBERED: Final = 10_000
_INTERNAL, _ERROR = 1, 2
_OURS: Final = {"thread.id", "thread.name", "ferret.task", "code.file.path", "code.line.number"}

_encode = msgspec.json.Encoder().encode


class _Status(msgspec.Struct, omit_defaults=True):
    message: str = ""
    code: int = 0


class _Event(msgspec.Struct):
    timeUnixNano: str  # noqa: N815 - the format's own name, as those below
    name: str
    attributes: list[dict[str, Any]]


class _Span(msgspec.Struct, omit_defaults=True):
    traceId: str  # noqa: N815 - as above
    spanId: str  # noqa: N815 - as above
    name: str
    kind: int
    startTimeUnixNano: str  # noqa: N815 - as above
    endTimeUnixNano: str  # noqa: N815 - as above
    attributes: msgspec.Raw
    parentSpanId: str = ""  # noqa: N815 - as above
    events: list[_Event] = []
    status: _Status | None = None


def write(info: RunInfo, segments: Iterable[Segment], out: BinaryIO) -> int:
    """Write the run's spans; their number."""
    spans = collect(segments, tags=True)
    if not len(spans):
        return 0
    processes = {process.token: process for process in info.processes}
    tokens = np.unique([track.token for track in spans.tracks], return_inverse=True)[1].astype(np.int32)
    owner = tokens[spans.track]
    changes = np.flatnonzero(np.diff(owner)) + 1
    encoder = _Encoder(info, spans)
    for first, last in zip([0, *changes.tolist()], [*changes.tolist(), len(spans)], strict=True):
        track = spans.tracks[spans.track[first]]
        before = _opening(info, track.process_id, track.token, processes.get(track.token))
        line: list[bytes] = []
        size = 0
        for one in encoder.encoded(first, last):
            if line and size + len(one) > _LINE:
                out.write(before + b",".join(line) + b"]}]}]}\n")
                line, size = [], 0
            line.append(one)
            size += len(one) + 1
        out.write(before + b",".join(line) + b"]}]}]}\n")
    return len(spans)


class _Encoder:
    """Makes spans of one run into JSON."""

    def __init__(self, info: RunInfo, spans: Spans) -> None:
        self._spans = spans
        self._run = blake2b(info.run_id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        self._roots = _roots(spans)
        self._tags = TagEncoder(spans, _attributes)
        self._places = [_place(track) for track in spans.tracks]
        self._sources = [_source(spans.sources.get(name)) for name in spans.names]
        self._known = {
            (track, name): _attributes({**place, **source})
            for track, place in enumerate(self._places)
            for name, source in enumerate(self._sources)
            if len(self._places) * len(self._sources) < _REMEMBERED
        }

    def encoded(self, first: int, last: int) -> Iterator[bytes]:
        """The spans from the first to before the last."""
        spans = self._spans
        for part in chunks(last - first, _SPANS):
            here = slice(first + part.start, first + part.stop)
            rows = zip(
                range(here.start, here.stop), self._roots[here].tolist(), spans.span_id[here].view(np.uint64).tolist(),
                spans.parent_id[here].view(np.uint64).tolist(), spans.start_ns[here].tolist(),
                spans.duration_ns[here].tolist(), spans.name[here].tolist(), strict=True,
            )  # fmt: skip
            for span, root, span_id, parent_id, start_ns, duration_ns, name in rows:
                end = str(start_ns + duration_ns)
                outcome = spans.outcomes[spans.outcome[span]]
                one = _Span(
                    traceId=self._run + format_id(root),
                    spanId=format_id(span_id),
                    name=spans.names[name],
                    kind=_INTERNAL,
                    startTimeUnixNano=str(start_ns),
                    endTimeUnixNano=end,
                    attributes=msgspec.Raw(b"[" + self._attributes(span, name) + b"]"),
                    parentSpanId=format_id(parent_id) if parent_id else "",
                    events=_events(outcome, end),
                    status=_status(outcome),
                )
                yield harmless(_encode(one))

    def _attributes(self, span: int, name: int) -> bytes:
        """Tags, and what ferret knows. A key stands there once: a tag takes the place of a fact."""
        track = self._spans.track[span]
        tags, keys = self._tags.of(span)
        facts = _facts(self._spans, span)
        if facts or not keys.isdisjoint(_OURS) or (track, name) not in self._known:
            ours = {**self._places[track], **self._sources[name], **facts}
            known = _attributes({key: value for key, value in ours.items() if key not in keys})
        else:
            known = self._known[track, name]
        return b",".join(part for part in (known, tags) if part)


def _roots(spans: Spans) -> Int64:
    """The id that is the root of each span's trace: the topmost span's, or that of its parent somewhere else."""
    parents = parents_of(spans.span_id, spans.parent_id)
    ancestors = np.where(parents < 0, np.arange(len(parents)), parents)
    while not np.array_equal(above := ancestors[ancestors], ancestors):  # 1, 2, 4, … generations up
        ancestors = above
    top = np.where(spans.parent_id != 0, spans.parent_id, spans.span_id)
    return top[ancestors].view(np.uint64)


def _opening(info: RunInfo, process_id: int, token: str, process: ProcessInfo | None) -> bytes:
    """A line up to its first span: what made the spans, and where."""
    facts = {
        "service.name": (process.program if process else info.program) or "unknown_service",
        "service.instance.id": token,
        "process.pid": process_id,
        "host.name": process.host if process else "",
        "process.command_args": process.argv if process else [],
        "process.runtime.version": process.python if process else "",
        "telemetry.sdk.name": "ferret",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
        "ferret.run_id": info.run_id,
    }
    resource = {"attributes": _pairs({key: value for key, value in facts.items() if value not in ("", [])})}
    scope = {"name": "ferret", "version": __version__}
    opening = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": []}]}]}
    return json_bytes(opening)[: -len(b"]}]}]}")]


def _place(track: Track) -> dict[str, Any]:
    place = {"thread.id": track.thread_id, "thread.name": track.thread_name}
    return {**place, "ferret.task": track.task} if track.task else place


def _source(source: tuple[str, int] | None) -> dict[str, Any]:
    return {"code.file.path": source[0], "code.line.number": source[1]} if source else {}


def _facts(spans: Spans, span: int) -> dict[str, Any]:
    """What the format has no field for."""
    facts = own_facts(spans, span)
    if "ferret.status" in facts:  # then these are in the status and the event
        facts.pop("ferret.error", None)
        facts.pop("ferret.error_type", None)
        if facts["ferret.status"] == "error":
            del facts["ferret.status"]
    return facts


def _status(outcome: Outcome) -> _Status | None:
    """Whatever ferret counts as an error is one. Success is left unset, as is the custom where nobody asked."""
    status, error, _ = outcome
    return None if status == "ok" else _Status(message=error or "", code=_ERROR)


def _events(outcome: Outcome, end: str) -> list[_Event]:
    """The exception that ended the span."""
    status, error, error_type = outcome
    if status == "ok" or error_type is None:
        return []
    attributes = {"exception.type": error_type, "exception.message": error or ""}
    return [_Event(end, "exception", _pairs(attributes))]


def _attributes(values: dict[str, Any]) -> bytes:
    """Values as attributes, without the brackets of their list."""
    return _encode(_pairs(values))[1:-1]


def _pairs(values: dict[str, Any], depth: int = 1) -> list[dict[str, Any]]:
    return [{"key": key or _unnamed(values), "value": _any_value(value, depth)} for key, value in values.items()]


def _unnamed(values: dict[str, Any]) -> str:
    """What an empty key is called, which the format does not allow: as no other is."""
    name = "(empty)"
    while name in values:
        name = f"({name})"
    return name


def _any_value(value: Any, depth: int) -> dict[str, Any]:  # noqa: PLR0911 - a line per kind
    if value is None:
        return {}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if -(1 << 63) <= value < 1 << 63 else {"stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value} if math.isfinite(value) else {"stringValue": str(value)}
    if depth > MAX_DEPTH:
        return {"stringValue": beyond_depth(value)}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": _pairs(value, depth + 1)}}
    return {"arrayValue": {"values": [_any_value(item, depth + 1) for item in value]}}
