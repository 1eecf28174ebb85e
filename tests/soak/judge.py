"""The judge: whether all that a program was promised is there, once the faults are over."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from faulty import _open
from issue import issued, poisoned
from losses import Losses, read_run, refused, same_afterwards
from plan import FILES

from ferret import Profiler, Report
from ferret.models import ProcessInfo
from ferret.sinks.reading import open_readable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harm import Happened
    from plan import Plan

CLOCK_S = 2e-6
"""By how much a time may differ for being a float of seconds since the epoch (its step is 0.24 µs), and for SQLite's text."""
SHOWN = 5


class Stored(NamedTuple):
    """A stored span, as far as the judge needs it."""

    token: str
    process_id: int
    span_id: str
    parent_id: str | None
    name: str
    start: float
    end: float
    tags: dict[str, Any]


class Verdict:
    """What the judge found. `violations` is empty if all is well."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.stored = 0
        self.owed = 0
        self.processes = 0
        self.killed = 0
        self.taken = 0
        """Spans that kills took, as the reader says."""
        self.set_aside = 0

    def found(self, what: str, cases: list[Any]) -> None:
        """Note a violation, if there is a case of it."""
        if cases:
            shown = ", ".join(str(case) for case in cases[:SHOWN])
            self.violations.append(f"{what}: {len(cases)}, such as {shown}")


def judge(plan: Plan, happened: Happened, folder: Path) -> Verdict:
    """Judge each file of the program's sink."""
    verdict = Verdict()
    verdict.violations += happened.violations
    verdict.found("a thread of the program raised", [one["what"] for one in happened.told if one["kind"] == "raised"])
    runs = {}
    for name in FILES[plan.sink]:
        path = folder / name
        runs[name] = read_run(path, plan) if plan.sink != "sqlite" else None
        spans, processes = read(path)
        _Case(plan, happened, verdict, name).judge(spans, processes)
        if plan.sink != "sqlite":  # which has no place
            losses = Losses(plan, happened, verdict, path, placed=name == FILES[plan.sink][0])
            losses.judge(spans, runs[name])
            if plan.poison and losses.placed:
                losses.judge_quarantine(spans)
        if path.suffix == ".db" and path.exists():
            with closing(sqlite3.connect(path)) as db:
                (answer,) = db.execute("PRAGMA integrity_check").fetchone()
            if answer != "ok":
                verdict.violations.append(f"integrity: {name}: {answer}")
    _live_on(plan, folder, verdict)
    name = FILES[plan.sink][0]
    same_afterwards(verdict, name, runs[name], read_run(folder / name, plan))
    return verdict


class Owed:
    """Up to which number each worker's spans are owed.

    Attributes:
        flushed: by a flush that was true, which owes all of them.
        closed: by an end without loss, which does not owe those that the sink refused.
    """

    def __init__(self, plan: Plan, happened: Happened) -> None:
        self._plan = plan
        self.flushed: dict[str, int] = defaultdict(int)
        self.closed: dict[str, int] = defaultdict(int)
        for told in happened.told:
            self._raise(self.flushed, told.get("upto", {}))
            if told["kind"] == "closed" and refused(told["report"], plan):
                self.close(told["ended"])

    def close(self, ended: dict[str, int]) -> None:
        """All up to these numbers are stored, or were refused."""
        self._raise(self.closed, ended)

    @staticmethod
    def _raise(owed: dict[str, int], upto: dict[str, int]) -> None:
        for worker, number in upto.items():
            owed[worker] = max(owed[worker], number)

    def spans(self) -> Iterator[tuple[str, int]]:
        """Each by worker and number."""
        for worker in self.flushed.keys() | self.closed.keys():
            flushed, closed = self.flushed[worker], self.closed[worker]
            for number in range(1, max(flushed, closed) + 1):
                if number <= flushed or not (self._plan.poison and poisoned(self._plan.seed, worker, number)):
                    yield worker, number


class _Case:
    """One file."""

    def __init__(self, plan: Plan, happened: Happened, verdict: Verdict, name: str) -> None:
        self.plan, self.happened, self.verdict, self.name = plan, happened, verdict, name

    def judge(self, spans: list[Stored], processes: list[ProcessInfo]) -> None:
        owed = Owed(self.plan, self.happened)
        self._ledgers(spans, processes, owed)
        self.verdict.stored += len(spans)
        self.verdict.processes += sum(told["kind"] == "hello" for told in self.happened.told)
        self._conservation(spans, owed)
        self._integrity(spans)

    def _conservation(self, spans: list[Stored], owed: Owed) -> None:
        numbers = Counter((span.tags["w"], span.tags["n"]) for span in spans)
        self.verdict.found(f"stored twice in {self.name}", [key for key, times in numbers.items() if times > 1])
        these = list(owed.spans())
        self.verdict.owed += len(these)
        self.verdict.found(f"acknowledged, and not in {self.name}", [who for who in these if who not in numbers])
        ids = Counter(span.span_id for span in spans)
        self.verdict.found(f"one id for several spans in {self.name}", [one for one, times in ids.items() if times > 1])

    def _integrity(self, spans: list[Stored]) -> None:
        anchors = {told["pid"]: told["anchor"] for told in self.happened.told if told["kind"] == "hello"}
        numbers = {span.span_id: span.tags["n"] for span in spans}
        wrong, late, parents = [], [], []
        for span in spans:
            tags = dict(span.tags)
            a, b, c, up = (tags.pop(key) for key in ("a", "b", "c", "up"))
            who = (tags["w"], tags["n"])
            if (span.name, tags) != issued(self.plan.seed, *who):
                wrong.append(who)
            anchor = anchors.get(span.process_id)
            if anchor is None:
                late.append((who, "of a process that nobody knows"))
            elif not (
                (anchor + a) / 1e9 - CLOCK_S <= span.start <= (anchor + b) / 1e9 + CLOCK_S
                and span.end >= (anchor + c) / 1e9 - CLOCK_S
                and span.end >= span.start
            ):
                late.append((who, span.start - (anchor + a) / 1e9, span.end - (anchor + c) / 1e9))
            if (up == 0) != (span.parent_id is None) or (span.parent_id in numbers and numbers[span.parent_id] != up):
                parents.append(who)
        self.verdict.found(f"name or tags in {self.name} are not those that were issued", wrong)
        self.verdict.found(f"times in {self.name} are not those at which it happened", late)
        self.verdict.found(f"parents in {self.name} are not those that were issued", parents)

    def _ledgers(self, spans: list[Stored], processes: list[ProcessInfo], owed: Owed) -> None:
        by_token = Counter(span.token for span in spans)
        by_process = Counter(span.process_id for span in spans)
        wrong = []
        for one in processes:
            if (ledger := one.ledger) is None:
                continue
            if ledger.recorded != ledger.written + ledger.dropped + ledger.failed + ledger.pending:
                wrong.append(f"{one.process_id}: {ledger}")
            elif one.ended_at is not None:
                found = by_token[one.token] if any(by_token) else by_process[one.process_id]
                if not ledger.written <= found <= ledger.written + ledger.failed:
                    wrong.append(f"process {one.process_id} says {ledger.written} written, and {found} are stored")
        self.verdict.found(f"ledgers in {self.name} that are wrong", wrong)
        self._reports(by_process, processes)
        self._endings(processes, owed)

    def _reports(self, by_process: Counter[int], processes: list[ProcessInfo]) -> None:
        """What `close()` returned: its numbers add up, are those that are stored, and count every span."""
        stored = {one.process_id: one.ledger for one in processes if one.ledger and one.ended_at is not None}
        wrong = []
        for told in self.happened.told:
            if told["kind"] != "closed":
                continue
            report, process = told["report"], told["pid"]
            total = report["written"] + report["dropped"] + report["failed"] + report["pending"]
            if report["pending"] or report["recorded"] != total or total != sum(told["ended"].values()):
                wrong.append(f"process {process} recorded {sum(told['ended'].values())}, and close() says {report}")
            if not report["written"] <= by_process[process] <= report["written"] + report["failed"]:
                wrong.append(f"close() of {process} says {report['written']} written; {by_process[process]} are stored")
            if process in stored and stored[process].written != report["written"]:
                wrong.append(
                    f"close() of {process} says {report['written']} written, its ledger {stored[process].written}"
                )
        self.verdict.found(f"reports of close() that {self.name} does not bear out", wrong)

    def _endings(self, processes: list[ProcessInfo], owed: Owed) -> None:
        """A process that ended by itself, without close(), owes what it recorded, less what its ledger says."""
        ledgers = {one.process_id: one for one in processes if one.ended_at is not None}
        wrong = []
        for told in self.happened.told:
            if told["kind"] != "ending" or told["pid"] in self.happened.killed or not any(told["ended"].values()):
                continue
            info = ledgers.get(told["pid"])
            if info is None or info.ledger is None:
                if not self._storage_was_harmed():
                    wrong.append(f"process {told['pid']} ended by itself, and its run has no end")
                continue
            if info.ledger.recorded != sum(told["ended"].values()):
                wrong.append(f"process {told['pid']} recorded {sum(told['ended'].values())}: {info.ledger}")
            if refused(info.ledger, self.plan):
                owed.close(told["ended"])
        self.verdict.found(f"endings that {self.name} does not bear out", wrong)

    def _storage_was_harmed(self) -> bool:
        return bool({"full", "locked", "term", "int", "die", "kill-child"} & self.happened.faults.keys())


def _live_on(plan: Plan, folder: Path, verdict: Verdict) -> None:
    """A fresh profiler can record into the same file, and read it back."""
    target = faulty_target(plan, folder)
    try:
        sink = _open(plan.sink, target)
        with Profiler(sink=sink, writer="sync", run_id="afterwards") as profiler:
            for number in range(20):
                profiler.start("afterwards", {"w": "after", "n": number}).end()
            report = profiler.close()
        for name in FILES[plan.sink]:
            spans, _ = read(folder / name, "afterwards")
            if report.written != 20 or [span.tags["n"] for span in spans] != list(range(20)):
                verdict.violations.append(f"liveness: {len(spans)} of 20 spans in {name} afterwards; {report}")
            if plan.sink != "sqlite":
                with Report(folder / name) as found:
                    assert found.runs()
    except Exception as error:
        verdict.violations.append(f"liveness: {type(error).__name__}: {error}")


def faulty_target(plan: Plan, folder: Path) -> str:
    """The target of the sink inside."""
    files = FILES[plan.sink]
    return f"jsonl:{folder / files[0]},beaver:{folder / files[1]}" if plan.sink == "tee" else str(folder / files[0])


def read(path: Path, run_id: str | None = None) -> tuple[list[Stored], list[ProcessInfo]]:
    """Everything in a file, of one run or of all."""
    if not path.exists() or not path.stat().st_size:  # nobody came to write to it
        return [], []
    if path.name == FILES["sqlite"][0]:
        return _read_sqlite(path, run_id)
    readable: Any = open_readable(str(path), "_ferret_trace")
    spans = [
        Stored(segment.token, span.process_id, span.span_id, span.parent_id, span.name, span.start_time, span.end_time,
               span.tags)
        for segment in readable.segments(run_id) for span in segment
    ]  # fmt: skip
    return spans, list(readable.processes(run_id))


def _read_sqlite(path: Path, run_id: str | None) -> tuple[list[Stored], list[ProcessInfo]]:
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row

        def rows(table: str) -> Iterator[dict[str, Any]]:
            for row in db.execute(f"SELECT * FROM {table} ORDER BY rowid"):
                if run_id is None or row["run_id"] == run_id:
                    yield {key: row[key] for key in row.keys()}  # noqa: SIM118 - a Row is no mapping

        spans = [
            Stored("", row["process_id"], row["span_id"], row["parent_id"], row["name"], row["start_time"],
                   row["end_time"], json.loads(row["tags"]))
            for row in rows("spans")
        ]  # fmt: skip
        processes = []
        for row in rows("processes"):
            facts = {**row, "argv": json.loads(row["argv"]), "ledger": json.loads(row["ledger"] or "null")}
            processes.append(ProcessInfo.model_validate(facts))
    return spans, processes


sys.path.append(str(Path(__file__).parents[2] / "examples" / "ferret-sink-sqlite"))
