"""A run in a line, and its ledger in another."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from ferret.cli.terminal import MAX_NAME, local_time, printable
from ferret.models import ProcessFate

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
    said = [*_lost(run.processes), *_killed(run), *_unclean(run.processes)]
    if run.unclean and run.missing_batches:
        said.append((f"{run.missing_batches:,} batches that were written are not in this file", "red"))
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


def _killed(run: RunInfo) -> Iterator[tuple[str, str]]:
    killed = [one for one in run.processes if isinstance(one, ProcessFate) and one.state == "killed"]
    if not killed:
        return
    most = sum(one.lost_by_kill or 0 for one in killed)
    least = most - run.uncertain
    count = f"{most:,}" if most == least else f"{least:,} to {most:,}"
    took = f"{count} {'span that was' if most == 1 else 'spans that were'} recorded and not yet stored"
    who = "" if len(run.processes) == 1 else f"{len(killed)} of {len(run.processes)} processes "
    yield f"{who}killed, with {took if most else 'nothing lost'}", "red" if most else "yellow"


def _unclean(processes: Sequence[ProcessInfo]) -> Iterator[tuple[str, str]]:
    running = sum(isinstance(process, ProcessFate) and process.state == "running" for process in processes)
    if running:
        yield "still running" if len(processes) == 1 else f"{running} of {len(processes)} processes still run", "yellow"
    known = {"running", "killed"}
    open_ended = sum(
        process.ended_at is None and not (isinstance(process, ProcessFate) and process.state in known)
        for process in processes
    )
    if open_ended:
        who = "the program" if len(processes) == 1 else f"{open_ended} of {len(processes)} processes"
        were = "were" if open_ended > 1 else "was"
        runs = "run" if open_ended > 1 else "runs"
        yield f"unclean: {who} {were} killed or still {runs}", "yellow"
