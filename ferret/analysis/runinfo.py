"""Runs, put together from the facts of their processes and from what their segments hold in brief."""

from __future__ import annotations

import difflib
from collections import defaultdict
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

from ferret.ledger.fates import Stored, fate, unheard_of
from ferret.models import RunInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ferret.ledger.live import Life
    from ferret.models import ProcessInfo
    from ferret.sinks.summary import SegmentSummary


@dataclass
class _Run:
    """What is known of a run so far."""

    processes: list[ProcessInfo] = field(default_factory=list)
    stored: defaultdict[str, Stored] = field(default_factory=lambda: defaultdict(Stored))
    spans: int = 0
    errors: int = 0
    start_ns: int | None = None
    end_ns: int | None = None

    def add(self, segment: SegmentSummary) -> None:
        self.stored[segment.token].add(segment)
        if segment.spans:
            self.spans += segment.spans
            self.errors += segment.errors
            self.start_ns = segment.start_ns if self.start_ns is None else min(self.start_ns, segment.start_ns)
            self.end_ns = segment.end_ns if self.end_ns is None else max(self.end_ns, segment.end_ns)

    def info(self, run_id: str, lives: Mapping[str, Life]) -> RunInfo:
        found = [fate(one, self.stored[one.token], lives.get(one.token)) for one in self.processes]
        processes = sorted(found, key=attrgetter("started_at"))
        starts = [process.started_at for process in processes if process.started_at]
        starts += [] if self.start_ns is None else [self.start_ns / 1e9]
        ends = [process.ended_at for process in processes]
        if not ends and self.end_ns is not None:  # the last span's end is the nearest thing to the run's
            ends = [self.end_ns / 1e9]
        known = [end for end in ends if end is not None]
        return RunInfo(
            run_id=run_id,
            program=processes[0].program if processes else "",
            started_at=min(starts, default=0.0),
            ended_at=max(known) if known and len(known) == len(ends) else None,
            spans=self.spans,
            errors=self.errors,
            lost=sum((one.ledger.lost if one.ledger else 0) + (one.lost_by_kill or 0) for one in processes),
            processes=list(processes),
        )


def run_infos(
    processes: Iterable[ProcessInfo], segments: Iterable[SegmentSummary], lives: Mapping[str, Life]
) -> list[RunInfo]:
    """Every run, the oldest first. Holds something for each process, and nothing for a segment.

    Args:
        processes: the facts that they stored.
        segments: what is stored of their spans.
        lives: what survived them, by token, as it was found before the other two are read.
    """
    found: dict[str, _Run] = {}
    known = list(processes)
    for process in [*known, *unheard_of(lives, known)]:
        found.setdefault(process.run_id, _Run()).processes.append(process)
    for segment in segments:
        found.setdefault(segment.run_id, _Run()).add(segment)
    return sorted((run.info(run_id, lives) for run_id, run in found.items()), key=attrgetter("started_at"))


def no_such_run(run_id: str, known: list[str], ambiguous: bool) -> str:
    """What to say to somebody who asked for a run that is not there, or for several at once."""
    if ambiguous:
        return f"{len(known)} runs begin with {run_id!r}: {_listed(known)}"
    nearest = difflib.get_close_matches(run_id, known, n=3)
    hint = f"did you mean {_listed(nearest)}?" if nearest else f"there is {_listed(known)}"
    return f"there is no run {run_id!r}; {hint}"


def _listed(run_ids: list[str]) -> str:
    """The latest few."""
    shown = ", ".join(map(repr, run_ids[:-6:-1]))
    return f"{shown} and {len(run_ids) - 5} more" if len(run_ids) > 5 else shown
