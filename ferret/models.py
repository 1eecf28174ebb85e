"""The public models: what reports, sinks and programs look at. None of them is made while recording."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny


class SpanModel(BaseModel):
    """One span. Times are seconds since the epoch; `duration` is in seconds, and None while the span is open."""

    span_id: str = ""
    """16 hex digits."""
    parent_id: str | None = None
    run_id: str
    name: str

    start_time: float = 0.0
    end_time: float | None = None
    duration: float | None = None

    tags: dict[str, Any] = Field(default_factory=dict)
    status: str = "ok"
    """`"ok"`, `"error"`, or a word that the program chose."""
    error: str | None = None
    """The exception's message."""
    error_type: str | None = None
    """The exception's class."""

    process_id: int = 0
    thread_id: int = 0
    thread_name: str = ""
    task_name: str | None = None
    """The asyncio task, where there was one."""
    suspended: float = 0.0
    """Seconds of the duration in which it did not run: a generator that nobody asked, a coroutine that waited."""
    self_time: float | None = None
    """Seconds in which it ran itself, and nothing that it called, where the recorder measured that."""
    file: str | None = None
    """The file of the function that was recorded, where it was one."""
    line: int | None = None
    """The line at which that function begins."""


class Gap(BaseModel):
    """Spans that were recorded and are not stored, and when that was."""

    model_config = ConfigDict(frozen=True)

    since: float
    """Seconds since the epoch. Spans that failed began no earlier, and spans that were dropped ended no earlier."""
    until: float
    """Seconds since the epoch. They ended no later."""
    count: int
    """How many."""
    reason: str
    """As in `Ledger.dropped_by` and `Ledger.failed_by`."""


class Ledger(BaseModel):
    """Where every span that was recorded is: `recorded == written + dropped + failed + pending`.

    Exact whenever no `record` call is in the middle of running; a call that is counts as not yet recorded.
    """

    model_config = ConfigDict(frozen=True)

    recorded: int = 0
    """Spans that ended."""
    written: int = 0
    """Spans that the sink took."""
    dropped: int = 0
    """Spans that were never offered to the sink: the sum of `dropped_by`."""
    failed: int = 0
    """Spans that the sink did not take: the sum of `failed_by`."""
    pending: int = 0
    """Spans that are still on their way. 0 after `close()`."""
    dropped_by: dict[str, int] = Field(default_factory=dict)
    """By reason: `overflow`, `closed` (recorded after `close`), `suppressed` (recorded by the profiler's own sink),
    `not_owner` (open across a fork and ended in the child, where the parent owns it)."""
    failed_by: dict[str, int] = Field(default_factory=dict)
    """By reason: the name of the sink's exception, or `close_timeout`."""
    uncertain: int = Field(default=0, repr=False)
    """By how many `recorded` and `pending` may be too high; only after a kill, and in a program that was recording fast: the
    spans of a millisecond at most, and less than 64."""
    batches: int = Field(default=0, repr=False)
    """Batches that were made, and so numbers that were given to batches."""
    void_batches: int = Field(default=0, repr=False)
    """Those of them that failed, or were taken apart: these numbers are not in the sink."""
    gaps: list[Gap] = Field(default_factory=list, repr=False)
    """When spans were dropped or failed, in the order in which that was noticed; neighbours are joined beyond 100."""

    @property
    def lost(self) -> int:
        """Spans that will not be found in the sink."""
        return self.dropped + self.failed


class FlushResult(int):
    """What `Profiler.flush` returns: true or false, and why.

    Attributes:
        ledger: the numbers when the waiting ended.
        reason: in words, why it is false; an empty text if it is true.
    """

    ledger: Ledger
    reason: str

    def __new__(cls, complete: bool, ledger: Ledger) -> FlushResult:
        """Say why from the ledger."""
        result = super().__new__(cls, bool(complete))
        result.ledger = ledger
        result.reason = "" if complete else _why_not_all(ledger)
        return result

    def __repr__(self) -> str:
        return f"<{bool(self)}: {self.reason or f'{self.ledger.written:,} spans written'}>"

    __str__ = __repr__


def _why_not_all(ledger: Ledger) -> str:
    said = []
    if ledger.lost:
        reasons = ", ".join(
            f"{count:,} {reason}" for reason, count in {**ledger.dropped_by, **ledger.failed_by}.items()
        )
        said.append(f"{ledger.lost:,} of {ledger.recorded:,} spans were not stored ({reasons})")
    if ledger.pending:
        said.append(f"{ledger.pending:,} are still on their way")
    return "; ".join(said) or "the sink was not waited for"


class DeliveryReport(Ledger):
    """What `Profiler.close` returns: the final ledger."""

    timed_out: bool = False
    """Whether the sink had not finished within `close_timeout`. What it had not confirmed counts as failed."""


class ProcessInfo(BaseModel):
    """One profiler in one process of a run: the facts that are stored beside its spans."""

    run_id: str
    token: str
    """16 hex digits, unlike those of any other profiler or process."""
    process_id: int
    program: str = ""
    argv: list[str] = Field(default_factory=list)
    python: str = ""
    host: str = ""
    writer: str = ""
    started_at: float = 0.0
    """Seconds since the epoch."""
    ended_at: float | None = None
    """None while it runs, and for ever if it was killed."""
    ledger: Ledger | None = None
    """The last one that was stored; final if there is an end, or if it was killed."""
    killed: bool = False
    """Whether it was found dead without an end, and its last counts put into the ledger: see `ProcessFate`."""


class ProcessFate(ProcessInfo):
    """What became of a process, as a reader finds it.

    Where the counts survived, the ledger is that of this moment, or that of its death: then what was `pending` is lost.
    """

    state: Literal["ended", "running", "killed", "unknown"] = "unknown"
    """`killed`: it is gone and did not close the profiler, whatever the reason. `unknown`: it did not say that it ended, and
    its counts are not on this machine, so that it may still run."""
    spans: int = 0
    """Spans that are stored."""
    missing_batches: int = 0
    """Batches that were written and are not there, by their numbers. Of a process that was killed, or still runs, it is not
    known which batches had failed: then it is 0 while as many spans are there as are known to have been written, and
    otherwise at least 1, and no more than may be missing."""

    @property
    def lost_by_kill(self) -> int | None:
        """Spans that it had recorded and not yet stored when it was killed; None if nothing tells.

        Exact, but for `ledger.uncertain`.
        """
        if self.state == "unknown":
            return None
        return self.ledger.pending if self.state == "killed" and self.ledger else 0


class RunInfo(BaseModel):
    """One run, as `Report.runs` lists it: all its processes together."""

    run_id: str
    program: str = ""
    started_at: float
    ended_at: float | None = None
    """When its last process ended; None if one of them has not, or was killed."""
    spans: int = 0
    errors: int = 0
    lost: int = 0
    """Spans that its ledgers say are missing, with those that a kill took."""
    processes: list[SerializeAsAny[ProcessInfo]] = Field(default_factory=list)
    """Each a `ProcessFate`, where a report made it."""

    @property
    def unclean(self) -> bool:
        """Whether a process of the run still records, or was killed before it could close."""
        return any(process.ended_at is None for process in self.processes)

    @property
    def lost_by_kill(self) -> int | None:
        """Spans that were recorded and not yet stored when processes of the run were killed.

        Exact, but for `uncertain`. None if one of them neither ended nor left its counts: then nobody knows.
        """
        lost = [fate.lost_by_kill for fate in self._fates()]
        return None if None in lost else sum(filter(None, lost))

    @property
    def uncertain(self) -> int:
        """By how many `lost_by_kill` may be too high."""
        return sum(fate.ledger.uncertain for fate in self._fates() if fate.ledger and fate.state == "killed")

    @property
    def missing_batches(self) -> int:
        """Batches that were written and are not there."""
        return sum(fate.missing_batches for fate in self._fates())

    def _fates(self) -> list[ProcessFate]:
        return [one for one in self.processes if isinstance(one, ProcessFate)]


@dataclass
class AggregatedStats:
    """All spans of one name in a run. Durations are in seconds."""

    name: str
    count: int
    total_duration: float
    avg_duration: float
    min_duration: float
    max_duration: float
    error_count: int
    error_rate: float
    self_duration: float = 0.0
    """In the spans themselves, and in none of their children on the same process, thread and asyncio task."""
    suspended_duration: float = 0.0
    """In which they did not run: generators that nobody asked, coroutines that waited."""
    p50: float = 0.0
    """Half of the spans took no longer. Exact for few spans; see `ferret.analysis.ACCURACY`."""
    p95: float = 0.0
    p99: float = 0.0
    file: str | None = None
    """The file of the function that the name stands for, where that is known."""
    line: int | None = None


@dataclass
class TraceNode:
    """A span and the spans within it."""

    span: SpanModel
    children: list[TraceNode] = field(default_factory=list)

    @property
    def total_children_duration(self) -> float:
        """Seconds spent in direct children; more than the span's own where they ran side by side."""
        return sum(child.span.duration or 0.0 for child in self.children)

    @property
    def running_time(self) -> float:
        """Seconds in which the span was not suspended; never negative."""
        return max(0.0, (self.span.duration or 0.0) - self.span.suspended)

    @property
    def self_time(self) -> float:
        """Seconds spent in the span itself; never negative.

        As its recorder measured it, or else its running time without that of the children that ran where it ran: in the
        same process, thread and asyncio task. A child elsewhere takes nothing from it.
        """
        if self.span.self_time is not None:
            return self.span.self_time
        inside = (child.running_time for child in self.children if _track(child.span) == _track(self.span))
        return max(0.0, self.running_time - sum(inside))


@dataclass
class Trace(TraceNode):
    """The root of a trace, and its longest spans within it."""

    hidden: int = 0
    """How many of its spans are left out, the others being longer."""


def _track(span: SpanModel) -> tuple[int, int, str, str | None]:
    return span.process_id, span.thread_id, span.thread_name, span.task_name
