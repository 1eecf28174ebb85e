"""What became of each process of a run: what it stored of itself, what is stored of its spans, and what survived it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ferret.ledger import live
from ferret.models import Ledger, ProcessFate, ProcessInfo
from ferret.sinks.base import KeepsRuns, Readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ferret.ledger.live import Life
    from ferret.sinks.summary import SegmentSummary

UNTOLD = "untold"
"""The reason of failures that a process counted but did not live to explain."""


def last_ledger(life: Life, stored: Ledger | None) -> Ledger:
    """The ledger by the counts that survived; `pending` is what had no verdict by then.

    Args:
        life: what survived.
        stored: the ledger that was stored last, which knows the reasons of failures before it.
    """
    before = Ledger() if stored is None else stored
    untold = life.failed - before.failed
    failed_by = dict(before.failed_by)
    if untold > 0:
        failed_by[UNTOLD] = failed_by.get(UNTOLD, 0) + untold
    failed = sum(failed_by.values())
    dropped = sum(life.dropped_by.values())
    written = life.written
    return before.model_copy(
        update={
            "recorded": life.recorded,
            "written": written,
            "dropped": dropped,
            "failed": failed,
            "pending": max(0, life.recorded - written - dropped - failed),
            "dropped_by": life.dropped_by,
            "failed_by": failed_by,
            "uncertain": life.uncertain,
        }
    )


@dataclass
class Stored:
    """What is stored of one process's spans."""

    spans: int = 0
    batches: int = 0
    last: int = -1

    def add(self, segment: SegmentSummary) -> None:
        """Another batch."""
        self.spans += segment.spans
        self.batches += 1
        self.last = max(self.last, segment.sequence)


def settle(sink: object, place: str) -> None:
    """Put what survived dead profilers of the same place into the facts of their runs, and remove their live files.

    Args:
        sink: a sink that keeps runs and can be read; others are left alone.
        place: the file that it writes to.
    """
    if not (isinstance(sink, KeepsRuns) and isinstance(sink, Readable)):
        return
    for life in live.look(place).values():
        if life.alive:
            continue
        try:
            facts = ProcessInfo.model_validate_json(life.facts)
        except ValueError:  # damaged: it says nothing
            live.remove(life.path)
            continue
        stored = next((one for one in sink.processes(facts.run_id) if one.token == life.token), None)
        if stored is not None or (life.same_place and life.recorded):  # or else the place has become another file
            facts = stored or facts
            if facts.ended_at is None:
                ledger = last_ledger(life, facts.ledger)
                sink.write_run(facts.model_copy(update={"ledger": ledger, "killed": True}))
        live.remove(life.path)
    live.sweep()


def unheard_of(lives: Mapping[str, Life], known: Iterable[ProcessInfo]) -> list[ProcessInfo]:
    """Processes that were killed before they had stored anything, even their facts: only their counts survived."""
    tokens = {process.token for process in known}
    gone = [
        life for life in lives.values()
        if not life.alive and life.same_place and life.recorded and life.token not in tokens
    ]  # fmt: skip
    found = []
    for life in gone:
        with suppress(ValueError):  # damaged: it says nothing
            found.append(ProcessInfo.model_validate_json(life.facts))
    return found


def fate(process: ProcessInfo, stored: Stored, life: Life | None) -> ProcessFate:
    """What became of a process, by its facts, its stored spans, and what survived it."""
    ledger = process.ledger
    state: Literal["ended", "running", "killed", "unknown"] = "unknown"
    if process.ended_at is not None:
        state = "ended"
    elif life is not None:
        ledger = last_ledger(life, ledger)
        state = "running" if life.alive else "killed"
    elif process.killed:
        state = "killed"
    missing = _missing(stored, ledger, state == "ended")
    if state == "killed" and ledger is not None:
        # what the sink holds is the truth: the last verdict may not have come back from it
        pending = max(0, ledger.recorded - stored.spans - ledger.dropped - ledger.failed)
        uncertain = min(ledger.uncertain, pending)
        written = ledger.recorded - ledger.lost - pending
        ledger = ledger.model_copy(update={"written": written, "pending": pending, "uncertain": uncertain})
    return ProcessFate(
        **process.model_dump(exclude={"ledger"}),
        ledger=ledger,
        state=state,
        spans=stored.spans,
        missing_batches=missing,
    )


def _missing(stored: Stored, ledger: Ledger | None, ended: bool) -> int:
    if ledger is None:
        return 0
    if ended:
        return max(0, ledger.batches - ledger.void_batches - stored.batches)
    spans = ledger.written - stored.spans
    if spans <= 0:  # numbers that are not there may be of batches that failed since the last note
        return 0
    return max(1, min(spans, stored.last + 1 - ledger.void_batches - stored.batches))
