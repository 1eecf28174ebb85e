"""Random programs and random faults, judged one by one: `make soak`; `python tests/soak/soak.py --seed 7` replays one."""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from harm import Happened, Running
from judge import Verdict, judge
from plan import Plan, draw

import ferret

KINDS = {
    "raise": "a sink raised before it stored a batch", "doubt": "a sink stored a batch and raised",
    "hang": "a sink hung for up to 0.7 s", "die": "the process writer's child died in its sink",
    "kill": "SIGKILL of the program", "quiet": "SIGKILL in a quiet moment",
    "kill-child": "SIGKILL of the process writer's child",
    "kill-fork": "SIGKILL of another process of the program", "term": "SIGTERM", "int": "Ctrl-C",
    "stop": "SIGSTOP for a while", "full": "no file could grow for a while",
    "locked": "another process held the file's lock", "fork": "a fork under load",
}  # fmt: skip


class Judged(NamedTuple):
    """One program, what happened, and the verdict."""

    plan: Plan
    happened: Happened
    verdict: Verdict
    folder: Path


def try_one(plan: Plan, home: Path) -> Judged:
    """Run a program and judge it. Its folder is kept if it was found guilty."""
    folder = home / f"seed-{plan.seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    happened = Running(plan, folder).run()
    labels = [told["label"] for told in happened.told if told["kind"] == "hello" and "/" in told["label"]]
    kinds = [plan.children[int(label.partition("/")[2])] for label in labels]
    happened.faults["quiet"] += len(happened.told_by("quiet"))
    happened.faults["fork"] += sum("fork" in kind for kind in kinds)
    verdict = judge(plan, happened, folder)
    if not verdict.violations:
        shutil.rmtree(folder)
    return Judged(plan, happened, verdict, folder)


class Totals:
    """The sum over all programs."""

    def __init__(self) -> None:
        self.programs = self.processes = self.stored = self.owed = self.killed = self.taken = self.set_aside = 0
        self.faults: Counter[str] = Counter()
        self.writers: Counter[str] = Counter()
        self.guilty: list[Judged] = []

    def add(self, judged: Judged) -> None:
        self.programs += 1
        self.processes += judged.verdict.processes
        self.stored += judged.verdict.stored
        self.owed += judged.verdict.owed
        self.killed += judged.verdict.killed
        self.taken += judged.verdict.taken
        self.set_aside += judged.verdict.set_aside
        self.faults.update(judged.happened.faults)
        self.writers[judged.plan.writer] += 1
        if judged.verdict.violations:
            self.guilty.append(judged)

    def summary(self, seconds: float) -> str:
        """What was tried, and what came of it."""
        lines = [
            f"{self.programs:,} programs of {self.processes:,} processes in {seconds:,.0f} s: "
            + ", ".join(f"{count:,} {name}" for name, count in sorted(self.writers.items())),
            f"{self.stored:,} spans stored, of which {self.owed:,} were acknowledged",
            f"{self.killed:,} processes died before they had closed, and took {self.taken:,} spans with them",
            f"{self.set_aside:,} spans that a sink refused, and that were set aside",
            f"{sum(self.faults.values()):,} faults:",
            *(f"  {self.faults[kind]:>7,}  {what}" for kind, what in KINDS.items() if self.faults[kind]),
            f"violations: {sum(len(one.verdict.violations) for one in self.guilty) or 'none'}",
        ]
        return "\n".join(lines)


def soak(seconds: float, seeds: list[int] | None, home: Path, jobs: int, first: int) -> Totals:
    """Try programs until the time is over, or each of the seeds once."""
    totals = Totals()
    deadline = time.monotonic() + seconds
    waiting = iter(seeds) if seeds is not None else iter(range(first, first + 1_000_000))

    def work() -> None:
        for seed in waiting:
            if seeds is None and time.monotonic() > deadline:
                return
            judged = try_one(draw(seed), home)
            totals.add(judged)
            if judged.verdict.violations:
                print(accusation(judged), flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(work) for _ in range(jobs)]:
            done.result()
    return totals


def accusation(judged: Judged) -> str:
    """A program that was found guilty, such that one can replay it."""
    return "\n".join(
        [
            f"seed {judged.plan.seed} is guilty:",
            *(f"  {one}" for one in judged.verdict.violations),
            judged.plan.describe(),
            f"what it said is in {judged.folder}/stderr; again: python tests/soak/soak.py --seed {judged.plan.seed}",
        ]
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long to go on (600)")
    parser.add_argument("--seed", type=int, action="append", help="replay this program; may be given several times")
    parser.add_argument("--times", type=int, default=1, help="how often to replay it: threads differ from time to time")
    parser.add_argument("--first", type=int, help="the first seed of random ones; random unless given")
    parser.add_argument("--jobs", type=int, default=2, help="programs at a time (2)")
    parser.add_argument("--result", type=Path, help="a file to write the summary to")
    options = parser.parse_args()
    first = options.first if options.first is not None else random.SystemRandom().randrange(1_000_000_000)
    seeds = [seed for seed in options.seed for _ in range(options.times)] if options.seed else None
    home = Path(tempfile.mkdtemp(prefix="ferret-soak-"))
    started = time.monotonic()
    totals = soak(options.seconds, seeds, home, 1 if seeds else options.jobs, first)
    summary = totals.summary(time.monotonic() - started)
    print(summary)
    if not totals.guilty:
        shutil.rmtree(home)
    if options.result:
        when = dt.datetime.now(dt.UTC).date()
        where = f"Python {platform.python_version()} on {platform.system()}"
        head = f"{when}, ferret {ferret.__version__}, {where}, seeds from {first}"
        options.result.write_text(f"{head}\n{summary}\n")
    return 1 if totals.guilty else 0


if __name__ == "__main__":
    sys.exit(main())
