"""What a segment holds, in eight values: enough to list runs without reading every span."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferret.segment import Segment
    from ferret.sinks.base import Readable


class SegmentSummary(msgspec.Struct, frozen=True):
    """One stored batch in brief.

    Attributes:
        run_id, token, process_id, sequence: the batch's identity (see `ferret.batch.Origin`).
        spans: how many there are.
        errors: how many of them ended with a status other than `"ok"`.
        start_ns: when the earliest began, in nanoseconds since the epoch; 0 if there are none.
        end_ns: when the latest ended; 0 if there are none.
    """

    run_id: str
    token: str
    process_id: int
    sequence: int
    spans: int
    errors: int
    start_ns: int
    end_ns: int

    @classmethod
    def of(cls, segment: Segment) -> SegmentSummary:
        """The segment in brief."""
        spans = len(segment)
        return cls(
            run_id=segment.run_id,
            token=segment.token,
            process_id=segment.process_id,
            sequence=segment.sequence,
            spans=spans,
            errors=segment.errors,
            start_ns=int(segment.start_ns.min()) if spans else 0,
            end_ns=int((segment.start_ns + segment.duration_ns).max()) if spans else 0,
        )


def summaries(readable: Readable, run_id: str | None = None) -> Iterator[SegmentSummary]:
    """The readable's segments in brief, of one run or of all.

    Asks the readable's own `summaries(run_id)` where it has one, and otherwise reads every segment. Streams.
    """
    stored = getattr(readable, "summaries", None)
    if stored is not None:
        yield from stored(run_id)
    else:
        yield from map(SegmentSummary.of, readable.segments(run_id))
