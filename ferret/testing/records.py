"""Batches made by hand, and spans compared with what a test expects."""

from __future__ import annotations

import difflib
import json
import zlib
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Final

from ferret.ambient import ThreadInfo
from ferret.batch import Batch, Origin, SpanData
from ferret.core import Profiler
from ferret.report import Report
from ferret.sinks.base import Readable
from ferret.tags import encode_outcome, encode_tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ferret.models import SpanModel
    from ferret.span import Record

    type AnySpan = SpanData | SpanModel
    type Outcome = tuple[str, str | None, str | None]

MOST: Final = 1 << 16
_ANCHOR_NS: Final = 1_700_000_000_000_000_000
_THREADS: Final = (ThreadInfo(1, "MainThread"), ThreadInfo(2, "wörker"))


def make_batch(
    count: int = 3,
    *,
    sequence: int = 0,
    run_id: str = "a run",
    names: Sequence[str] = ("work",),
    tags: Sequence[Mapping[str, Any] | None] | None = None,
    outcomes: Sequence[Outcome | None] = (None,),
    parents: Sequence[int | None] = (None,),
    tasks: Sequence[str | None] = (None,),
    attempt: int = 1,
) -> Batch:
    """A batch as a writer hands it to a sink. The same arguments make the same batch, with the same id.

    What is given per span is gone through again from the start where there are more spans than items.

    Args:
        count: how many spans, 65,536 at most.
        sequence: the batch's number in its run; each number has span ids and times of its own.
        run_id: the run. Each run comes from an origin of its own.
        names: the spans' names.
        tags: the spans' tags; `{"n": 0}`, `{"n": 1}` and so on unless given.
        outcomes: status, error and error type, or None for `"ok"`.
        parents: the place in this batch of each span's parent, or None for a root.
        tasks: the names of asyncio tasks, or None.
        attempt: more than 1 for a batch that comes again.
    """
    if count > MOST:
        raise ValueError(f"count is {count}: a batch made by hand has {MOST} spans at most")
    token = zlib.crc32(run_id.encode())
    first = (token << 27) + (sequence << 16) + 1
    given = tags or [{"n": number} for number in range(count)]
    columns = zip(*(islice(cycle(column), count) for column in (names, given, outcomes, parents, tasks)), strict=True)
    records: list[Record] = [
        (
            first + number,
            0 if parent is None else first + parent,
            name,
            (start := (sequence * MOST + number) * 1_234_567),
            start + 1_000_003,
            number % len(_THREADS),
            task,
            encode_tags(dict(own or {})),
            outcome and encode_outcome(outcome),
            0,
            -1,
        )
        for number, (name, own, outcome, parent, task) in enumerate(columns)
    ]
    return Batch(Origin(run_id, f"{token:016x}", 4242, _ANCHOR_NS), sequence, records, _THREADS, attempt)


def spans_in(source: Readable) -> list[SpanData]:
    """All spans that a readable sink holds, as it gives them."""
    return [span for segment in source.segments() for span in segment]


def facts(span: AnySpan) -> dict[str, Any]:
    """Every attribute, such that only what is the same is equal: for Python, `1 == 1.0 == True`; for JSON they differ."""
    found = {name: getattr(span, name) for name in SpanData.__struct_fields__}
    return found | {"tags": json.dumps(span.tags, sort_keys=True)}


def assert_spans(
    source: Readable | Report | Profiler | Iterable[AnySpan],
    expected: Iterable[tuple[str, Mapping[str, Any], str | None]],
) -> None:
    """Compare what was recorded with what should have been; the error shows both, span by span.

    Args:
        source: a readable sink; a report or a profiler, of which the latest run counts; or the spans themselves.
        expected: of each span its name, its tags, and its parent's name (None for a root), in the order in which the
            spans began.

    Raises:
        AssertionError: they differ.
    """
    spans = sorted(_spans_of(source), key=lambda span: (span.start_time, span.span_id))
    names = {span.span_id: span.name for span in spans}
    found = [
        _line(span.name, span.tags, span.parent_id and names.get(span.parent_id, span.parent_id)) for span in spans
    ]
    wanted = [_line(*one) for one in expected]
    if found != wanted:
        differences = [line for line in difflib.ndiff(wanted, found) if not line.startswith("?")]
        raise AssertionError("\n".join(["the spans differ (- expected, + found):", *differences]))


def _spans_of(source: Readable | Report | Profiler | Iterable[AnySpan]) -> Iterable[AnySpan]:
    if isinstance(source, Profiler):
        source = Report(source)
    if isinstance(source, Report):
        return source.spans()
    return spans_in(source) if isinstance(source, Readable) else source


def _line(name: str, tags: Mapping[str, Any], parent: str | None) -> str:
    where = "a root" if parent is None else f"in {parent!r}"
    return f"{name!r} {json.dumps(tags, sort_keys=True, ensure_ascii=False)}, {where}"
