"""What ferret wants to reach, each a ratio of figures of one run, and whether a run reached it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.kinds import Figures, cost, drain, ending, growth, hanging, http, lag
from benchmarks.peers.ferret import NON_BLOCKING

if TYPE_CHECKING:
    from benchmarks.results import Results

type Rows = dict[str, Figures]
type Judge = Callable[[Rows], tuple[float, float]]
"""Of the rows of one round: what was measured, and what is allowed."""


@dataclass(frozen=True)
class Target:
    """One thing to reach."""

    what: str
    writer: str
    limit: str
    kind: str
    table: str
    judge: Judge
    at_least: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether it was reached: by the median of the rounds."""

    target: Target
    measured: float
    allowed: float

    @property
    def share(self) -> float:
        """What was measured, as a share of what is allowed."""
        if not self.allowed:
            return math.inf if self.measured else 1.0
        return self.measured / self.allowed

    @property
    def met(self) -> bool:
        return self.share >= 1 if self.target.at_least else self.share <= 1


def judged(results: Results) -> list[Verdict]:
    """The targets that the run has figures for."""
    verdicts = []
    for target in TARGETS:
        found = []
        for rows in results.each_round(target.kind, target.table):
            try:
                found.append(target.judge(rows))
            except KeyError:
                continue
        if found:
            measured, allowed = (statistics.median(side) for side in zip(*found, strict=True))
            verdicts.append(Verdict(target, measured, allowed))
    return verdicts


def by_writer(verdicts: list[Verdict]) -> dict[tuple[str, str], dict[str, Verdict]]:
    """Each target, as what and limit, with the verdicts of the writers that it is for."""
    found: dict[tuple[str, str], dict[str, Verdict]] = {}
    for verdict in verdicts:
        found.setdefault((verdict.target.what, verdict.target.limit), {})[verdict.target.writer] = verdict
    return found


def at(row: str, figure: str, limit: float) -> Judge:
    """A figure beside a fixed limit."""
    return lambda rows: (rows[row][figure], limit)


def beside_untraced(row: str, figure: str, times: float, plus: float = 0.0) -> Judge:
    """A figure beside the untraced one of the same round."""
    return lambda rows: (rows[row][figure], rows["untraced"][figure] * times + plus)


def grown(figure: str, times: float, *, beside: int = 0) -> Judge:
    """A figure of the largest run beside that of another, by its place among the sizes: of the smallest."""

    def judge(rows: Rows) -> tuple[float, float]:
        ordered = sorted(rows, key=_size)
        if len(ordered) < 2:
            raise KeyError("one size shows no growth")
        return rows[ordered[-1]][figure], rows[ordered[beside]][figure] * times

    return judge


def largest(figure: str, limit: float) -> Judge:
    """A figure of the largest run."""
    return lambda rows: (rows[max(rows, key=_size, default="none")][figure], limit)


def _size(row: str) -> int:
    return int(row.split(maxsplit=1)[0].replace(",", ""))


def _two_tags(row: str) -> Judge:
    return lambda rows: (rows[row]["two tags"] - rows[row]["with"], 1.0)


def _collection(rows: Rows) -> tuple[float, float]:
    figures = rows["ferret threaded"]
    return figures["collection, full queue, ms"], figures["collection, empty queue, ms"] + 10


def _cost() -> Iterator[Target]:
    def target(what: str, writer: str, limit: str, judge: Judge) -> Target:
        return Target(what, writer, limit, "cost", cost.TABLE, judge)

    for writer in NON_BLOCKING:
        row = f"ferret {writer}"
        yield target("one span by `with`", writer, "≤ 4 × an empty `with`", at(row, "with", 4))
        yield target("a decorated call", writer, "≤ 2.5 × an empty `with`", at(row, "decorated call", 2.5))
        yield target("two tags more", writer, "≤ 1 × an empty `with` more", _two_tags(row))


def _lag() -> Iterator[Target]:
    limits = (("p99", "≤ 1.5 × untraced + 0.2 ms", 1.5, 0.2), ("p99.9", "≤ 2 × untraced + 1 ms", 2, 1))
    for table in (f"{rate:,} spans/s" for rate in lag.RATES[1:]):
        for writer in ("threaded", "process"):
            for share, limit, times, plus in limits:
                judge = beside_untraced(f"ferret {writer}", share, times, plus)
                yield Target(f"loop lag at {table}, {share}, ms", writer, limit, "lag", table, judge)


def _http() -> Iterator[Target]:
    for writer in NON_BLOCKING:
        more = at(f"ferret {writer}", "requests/s, × untraced", 0.97)
        what = "a web service's requests/s, × untraced"
        yield Target(what, writer, "≥ 0.97 × untraced", "http", http.PAGE, more, at_least=True)
        late = at(f"ferret {writer}", "p99, × untraced", 1.1)
        what = "a web service's p99 under full load, × untraced"
        yield Target(what, writer, "≤ 1.1 × untraced", "http", http.PAGE, late)


def _ending() -> Iterator[Target]:
    for writer in NON_BLOCKING:
        judge = at(f"ferret {writer}", "worst, × untraced", 2)
        what = "1,000 tasks that end at once: the worst caller, × untraced"
        yield Target(what, writer, "≤ 2 × untraced", "ending", ending.TASKS, judge)


def _hanging() -> Iterator[Target]:
    for writer in NON_BLOCKING:
        row = f"ferret {writer}"
        late = beside_untraced(row, "over 1 ms", 1)
        what = "a sink that hangs: spans that took the caller over 1 ms"
        yield Target(what, writer, "≤ those of the untraced program", "hanging", hanging.TABLE, late)
        what = "a sink that hangs: `close(1.0)`, s"
        yield Target(what, writer, "≤ 1.5 s", "hanging", hanging.TABLE, at(row, "closing", 1.5))


def _drain() -> Iterator[Target]:
    def target(what: str, writer: str, limit: str, table: str, judge: Judge, *, at_least: bool = False) -> Target:
        return Target(what, writer, limit, "drain", table, judge, at_least)

    # 5 µs in all, and 2.5 µs in the program's own process, where an empty `with` takes 0.35 µs
    for writer, whose, limit in (("threaded", "whole", 14.0), ("process", "own", 7.1)):
        what = f"{whose} CPU of a span on disk, × an empty `with`"
        judge = at(f"{writer} into beaver", "CPU, × empty with", limit)
        yield target(what, writer, f"≤ {limit:g} ×", drain.SINKS, judge)
    for writer in ("threaded", "process"):
        what = "200,000 spans into BeaverDB, × raw `executemany`"
        judge = at(f"{writer} into beaver", "× raw sqlite3", 0.3)
        yield target(what, writer, "≥ 0.3 × (aim: 0.6)", drain.SINKS, judge, at_least=True)
    for figure, size in (("bytes/span, two tags", 60), ("bytes/span, no tags", 40)):
        yield target(f"disk, {figure}", "threaded", f"≤ {size}", drain.DISK, at("beaver", figure, size))
    judge = at("ferret threaded", "bytes/span, no tags", 250)
    yield target("memory of a queued span without tags, bytes", "threaded", "≤ 250", drain.WAITING, judge)
    what = "a full garbage collection with a million spans queued, ms"
    yield target(what, "threaded", "≤ 10 ms more than with none", drain.WAITING, _collection)


def _growth() -> Iterator[Target]:
    def target(what: str, limit: str, judge: Judge, *, at_least: bool = False) -> Target:
        return Target(what, "threaded", limit, "growth", growth.TABLE, judge, at_least)

    flat = grown("caller, × empty with", 1.2)
    yield target("a span's cost in the largest run, × an empty `with`", "≤ 1.2 × that in the smallest", flat)
    speed = largest("analyzed spans/s", 2e6)
    yield target("analysis of the largest run, spans/s", "≥ 2,000,000", speed, at_least=True)
    memory = grown("analyze peak, MB", 1.1, beside=-2)  # the smallest does not fill what is read in one go
    yield target("analysis of the largest run, peak MB", "≤ 1.1 × that of a run a tenth as large", memory)


TARGETS = (*_cost(), *_lag(), *_http(), *_ending(), *_hanging(), *_drain(), *_growth())
