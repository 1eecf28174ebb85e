"""Reading a run from its end: a span is stored when it ends, so that parents then come before their children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferret.sinks.summary import summaries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferret.segment import Segment
    from ferret.sinks.base import Readable

NEVER: Final = -(1 << 63)
"""The horizon where nothing is left to be read."""


def newest_first(readable: Readable, run_id: str | None = None) -> Iterator[Segment]:
    """The readable's segments, those that were stored last before the others.

    Asks the readable's own `newest_first(run_id)` where it has one; otherwise all segments are held in memory.
    """
    own = getattr(readable, "newest_first", None)
    if own is not None:
        yield from own(run_id)
    else:
        yield from reversed(list(readable.segments(run_id)))


def with_horizon(readable: Readable, run_id: str) -> Iterator[tuple[Segment, int]]:
    """The same segments, and with each when the latest span of those that are still to come ended.

    A span that began later than that has no more children to come. In nanoseconds since the epoch. Holds 250 bytes for
    each segment of the run.
    """
    latest = NEVER
    known: dict[str, int] = {}
    for brief in summaries(readable, run_id):
        known[f"{brief.token}-{brief.sequence}"] = latest
        latest = max(latest, brief.end_ns)
    for segment in newest_first(readable, run_id):
        # what was stored after they were asked for is read first, and has all of the others before it
        yield segment, known.get(segment.id, latest)
