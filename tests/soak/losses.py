"""The judge of loss: whether what the program did not store is told, how much it is, when it was, and where it went."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from issue import issued, poisoned

from ferret import Report, StorageError
from ferret.ledger.counts import MOST_CLAIMED
from ferret.writers import quarantine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harm import Happened
    from judge import Stored, Verdict
    from plan import Plan
    from tally import Tally

    from ferret.models import Ledger, ProcessFate, RunInfo

NEAR_NS = 2_000
"""By how much a time may differ for being a float of seconds since the epoch."""
POISON = {"names": "RejectedError", "raises": "ValueError"}


def read_run(path: Path, plan: Plan) -> RunInfo | None:
    """The program's run, as a reader finds it; None if there is none."""
    try:
        with Report(path) as report:
            return next((run for run in report.runs() if run.run_id == f"soak-{plan.seed}"), None)
    except StorageError:
        return None


def refused(ledger: Ledger | dict[str, Any], plan: Plan) -> bool:
    """Whether spans that the sink refuses are all that was lost."""
    numbers: dict[str, Any] = ledger if isinstance(ledger, dict) else ledger.model_dump()
    return not numbers["dropped"] and set(numbers["failed_by"]) <= {POISON.get(plan.poison)}


class Losses:
    """What one file says of loss.

    Args:
        placed: whether the counts of killed processes belong to this file; those of a `tee` belong to its first.
    """

    def __init__(self, plan: Plan, happened: Happened, verdict: Verdict, path: Path, *, placed: bool) -> None:
        self.plan, self.happened, self.verdict, self.path, self.placed = plan, happened, verdict, path, placed
        told = {kind: happened.told_by(kind) for kind in ("hello", "closed", "ending", "quiet")}
        self._quiet = told["quiet"].keys()
        self._whole = {  # they had recorded all when they ended
            process for kind in ("closed", "ending") for process in told[kind] if process not in happened.killed
        }
        self._forked = {
            process for process, hello in told["hello"].items()
            if "/" in hello["label"] and "fork" in plan.children[int(hello["label"].partition("/")[2])]
        }  # fmt: skip
        self._anchors = {process: hello["anchor"] for process, hello in told["hello"].items()}

    def judge(self, spans: list[Stored], run: RunInfo | None) -> None:
        """Judge what a reader is told of the run."""
        stored: dict[int, set[tuple[str, int]]] = {process: set() for process in self.happened.tallies}
        for span in spans:
            stored.setdefault(span.process_id, set()).add((span.tags["w"], span.tags["n"]))
        fates: dict[int, Any] = {} if run is None else {one.process_id: one for one in run.processes}
        wrong = [
            f"process {process} ({self._how(process)}): {what}"
            for process, tally in self.happened.tallies.items()
            for what in self._wrong_with(process, tally, fates.get(process), stored[process])
        ]
        if run is not None and self.placed:
            lost = sum((one.ledger.lost if one.ledger else 0) + (one.lost_by_kill or 0) for one in fates.values())
            if run.lost != lost:
                wrong.append(f"the run says {run.lost} lost, its processes {lost}")
        self.verdict.found(f"losses of which {self.path.name} says what is not so", wrong)
        self.verdict.taken += sum(one.lost_by_kill or 0 for one in fates.values() if one.state == "killed")
        self.verdict.killed += sum(one.state == "killed" for one in fates.values())

    def _how(self, process: int) -> str:
        label = self.happened.tallies[process].label
        ways = [
            how for how, those in (
                ("killed", self.happened.killed), ("quietly", self._quiet), ("by itself", self._whole),
                ("forked", self._forked),
            ) if process in those
        ]  # fmt: skip
        return ", ".join([label, *ways])

    def _wrong_with(
        self, process: int, tally: Tally, fate: ProcessFate | None, stored: set[tuple[str, int]]
    ) -> Iterator[str]:
        if fate is None:
            unheard = process in self._forked and process not in self._whole and not stored
            if tally.ended and self.placed and not unheard:  # a forked child is known from its first batch on
                yield f"recorded {tally.ended} spans, and is not known"
            return
        if fate.spans != len(stored):
            yield f"{len(stored)} of its spans are stored, and {fate.spans} are said to be"
        if fate.state == "running" or (fate.state == "unknown" and self.placed):
            yield f"it is gone, and {fate.state}"
        if fate.missing_batches:
            yield f"{fate.missing_batches} batches are said to be missing"
        if fate.ledger is not None and fate.state in {"ended", "killed"}:
            yield from self._wrong_counts(process, tally, fate, fate.ledger)
            if fate.state == "killed":
                yield from self._wrongly_taken(tally, fate, fate.ledger, len(stored))
            yield from self._wrong_gaps(process, tally, fate, fate.ledger, stored)

    def _wrong_counts(self, process: int, tally: Tally, fate: ProcessFate, ledger: Ledger) -> Iterator[str]:
        uncertain = ledger.uncertain
        least = tally.ended if fate.state == "killed" or process in self._whole else 0
        if not ledger.recorded >= least:
            yield f"recorded {tally.ended} spans at least, and its ledger says {ledger.recorded}"
        if not ledger.recorded - uncertain <= tally.begun:
            yield f"recorded {tally.begun} spans at most, and its ledger says {ledger.recorded} less {uncertain} at most"
        if ledger.recorded != ledger.written + ledger.dropped + ledger.failed + ledger.pending:
            yield f"its ledger does not add up: {ledger!r}"
        if ledger.lost != sum(ledger.dropped_by.values()) + sum(ledger.failed_by.values()):
            yield f"its reasons do not add up: {ledger!r}"
        if not 0 <= uncertain < MOST_CLAIMED or (uncertain and fate.state != "killed"):
            yield f"uncertain by {uncertain}"
        if process in self._quiet and (uncertain or ledger.recorded != tally.ended):
            yield f"killed in a quiet moment, {tally.ended} recorded, and its ledger says {ledger.recorded} less {uncertain}"
        if ledger.pending and fate.state == "ended":
            yield f"it ended, and {ledger.pending} are pending"

    def _wrongly_taken(self, tally: Tally, fate: ProcessFate, ledger: Ledger, stored: int) -> Iterator[str]:
        taken, uncertain = fate.lost_by_kill or 0, ledger.uncertain
        rest = stored + ledger.lost  # a batch that failed may be stored as well: then it is in both
        if not tally.ended - rest <= taken or not taken - uncertain <= max(0, tally.begun - rest) + ledger.failed:
            yield (
                f"the kill took {tally.ended - rest} to {tally.begun - rest} spans, "
                f"and is said to have taken {taken} less {uncertain} at most"
            )
        if not ledger.failed and taken != ledger.recorded - rest:
            yield f"the kill is said to have taken {taken}, and {ledger.recorded} less {rest} are not there"

    # -- gaps --------------------------------------------------------------------------------------

    def _wrong_gaps(
        self, process: int, tally: Tally, fate: ProcessFate, ledger: Ledger, stored: set[tuple[str, int]]
    ) -> Iterator[str]:
        """Each span that was dropped or failed is within a gap, and a gap counts no more than were lost then."""
        counted = sum(gap.count for gap in ledger.gaps)
        if counted > ledger.lost or (fate.state == "ended" and counted != ledger.lost):
            yield f"{ledger.lost} were lost before the end, and its gaps count {counted}"
        by_reason = Counter({**ledger.dropped_by, **ledger.failed_by})
        of_gaps: Counter[str] = Counter()
        for gap in ledger.gaps:
            of_gaps[gap.reason] += gap.count
        if fate.state == "ended" and "several" not in of_gaps and of_gaps != by_reason:
            yield f"lost {dict(by_reason)}, and its gaps say {dict(of_gaps)}"
        if process not in self._whole or fate.state != "ended":
            return
        anchor = self._anchors[process]
        missing = [times for who, times in tally.spans().items() if who not in stored]
        spared = max(0, ledger.lost - len(missing))  # failed, and stored all the same
        gaps = [
            (round(gap.since * 1e9) - anchor - NEAR_NS, round(gap.until * 1e9) - anchor + NEAR_NS, gap.count)
            for gap in ledger.gaps
        ]
        outside = [
            (begun, ended) for begun, ended in missing
            if not any(since <= ended and begun <= until for since, until, _ in gaps)
        ]  # fmt: skip
        if outside:
            yield f"{len(outside)} of {len(missing)} spans that are not stored are in none of {len(gaps)} gaps"
        for since, until, count in gaps:
            within = sum(since <= ended and begun <= until for begun, ended in missing)
            if count > within + spared:
                yield f"a gap counts {count}, and {within} are missing there"

    # -- quarantine --------------------------------------------------------------------------------

    def judge_quarantine(self, spans: list[Stored]) -> None:
        """Where the sink refuses spans, those and no others are set aside, as they were, and counted."""
        path = Path(quarantine.path_of(os.path.realpath(self.path)))
        theirs = {process: tally.poisoned(self.plan.seed) for process, tally in self.happened.tallies.items()}
        set_aside = Counter[tuple[str, int]]()
        wrong = []
        for line in self._lines(path, wrong):
            span = line["span"]
            who = (span["tags"]["w"], span["tags"]["n"])
            set_aside[who] += 1
            name, tags = issued(self.plan.seed, *who)
            if span["name"] != name or not tags.items() <= span["tags"].items():
                wrong.append(f"{who} is not what was issued")
            if POISON[self.plan.poison] not in line["error"]:
                wrong.append(f"{who} was refused for {line['error']}")
        wrong += [
            f"{who} was set aside, and nobody refused it" for who in set_aside if not poisoned(self.plan.seed, *who)
        ]
        wrong += [f"{who} was refused, and is stored" for who in self._keys(spans) if poisoned(self.plan.seed, *who)]
        if not {"die", "kill-child", "doubt"} & self.happened.faults.keys():
            wrong += [f"{who} was set aside {times} times" for who, times in set_aside.items() if times > 1]
        if not self._full():
            wrong += [
                f"{who} was refused, and not set aside" for process, _ in self._refusing()
                for who in sorted(theirs[process] - set_aside.keys())
            ]  # fmt: skip
        wrong += [
            f"{len(theirs[process])} were refused, and the ledger says {failed}"
            for process, failed in self._refusing() if failed != len(theirs[process])
        ]  # fmt: skip
        self.verdict.found(f"the quarantine beside {self.path.name} is not what was refused", wrong)
        self.verdict.set_aside += len(set_aside)

    def _lines(self, path: Path, wrong: list[str]) -> Iterator[dict[str, Any]]:
        if not path.exists():
            return
        if (mode := stat.S_IMODE(path.stat().st_mode)) != 0o600:
            wrong.append(f"{path.name} has mode {mode:o}")
        for line in path.read_bytes().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                if not self._full():
                    wrong.append(f"a line is damaged: {line[:60]!r}")

    def _full(self) -> bool:
        return "full" in self.happened.faults

    def _refusing(self) -> Iterator[tuple[int, int]]:
        """The processes that ended by themselves and lost nothing but what was refused; and how much they say that was."""
        for process, told in self.happened.told_by("closed").items():
            if refused(told["report"], self.plan):
                yield process, told["report"]["failed"]

    @staticmethod
    def _keys(spans: Iterable[Stored]) -> set[tuple[str, int]]:
        return {(span.tags["w"], span.tags["n"]) for span in spans}


def same_afterwards(verdict: Verdict, name: str, before: RunInfo | None, after: RunInfo | None) -> None:
    """What a killed process lost is the same once another profiler has put it into the facts of the run."""
    if before is None:
        return
    fates = {one.token: one for one in after.processes} if after is not None else {}
    changed = [
        f"{one.process_id}: {_shown(one)} became {_shown(fates.get(one.token))}"
        for one in before.processes if _shown(one) != _shown(fates.get(one.token))
    ]  # fmt: skip
    verdict.found(f"what {name} says of killed processes is another once they are settled", changed)


def _shown(fate: Any) -> Any:
    return None if fate is None else (fate.state, fate.spans, fate.missing_batches, fate.lost_by_kill, fate.ledger)
