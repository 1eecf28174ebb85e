"""A run in a line, and its ledger in another."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from ferret.cli.terminal import MAX_NAME, local_time, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ferret.models import ProcessInfo, RunInfo


def run_line(run: RunInfo) -> Text:
    """A run in one line."""
    facts = [f"run {run.run_id}", run.program, local_time(run.started_at)]
    if len(run.processes) > 1:
        facts.append(f"{len(run.processes)} processes")
    facts.append(f"{run.spans:,} {'span' if run.spans == 1 else 'spans'}")
    return Text(" · ").join(Text(printable(fact, MAX_NAME)) for fact in facts if fact)


def ledger_line(run: RunInfo) -> Text:
    """Whether everything that the run recorded is there, and where the rest went."""
    ledgers = [process.ledger for process in run.processes if process.ledger]
    missing = sum(ledger.written for ledger in ledgers) - run.spans
    said = [*_lost(run.processes), *_unclean(run.processes)]
    if missing > 0 and not run.unclean:
        said.append((f"{missing:,} spans were written, but are not in this file", "red"))
    if not run.processes or (len(ledgers) < len(run.processes) and not run.unclean):
        said.append(("no ledger: nothing tells whether spans are missing", "yellow"))
    if not said:
        spans = "span" if run.spans == 1 else "spans"
        said.append((f"complete: {run.spans:,} {spans} recorded, none lost", "green"))
    return Text("; ").join(Text(printable(text), style=style) for text, style in said)


def _lost(processes: Sequence[ProcessInfo]) -> Iterator[tuple[str, str]]:
    ledgers = [process.ledger for process in processes if process.ledger]
    recorded = sum(ledger.recorded for ledger in ledgers)
    lost = sum(ledger.lost for ledger in ledgers)
    if not lost:
        return
    reasons: Counter[str] = Counter()
    for ledger in ledgers:
        for how, by in (("dropped", ledger.dropped_by), ("failed", ledger.failed_by)):
            reasons.update({f"{how} ({reason})": count for reason, count in by.items()})
    where = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    yield f"lost {lost:,} of {recorded:,} spans: {where or 'nothing tells why'}", "red"


def _unclean(processes: Sequence[ProcessInfo]) -> Iterator[tuple[str, str]]:
    open_ended = sum(process.ended_at is None for process in processes)
    if open_ended:
        who = "the program" if len(processes) == 1 else f"{open_ended} of {len(processes)} processes"
        were = "were" if open_ended > 1 else "was"
        runs = "run" if open_ended > 1 else "runs"
        yield f"unclean: {who} {were} killed or still {runs}", "yellow"
