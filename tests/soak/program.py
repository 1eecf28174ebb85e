"""A program that records as a plan says, and tells the oracle what it was promised: `program.py PLAN FOLDER LABEL`.

What it tells goes through a pipe, a line each, written at once: so it is not lost with the program.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import faulty
import msgspec
from issue import issued
from plan import FILES, Plan
from tally import BEGUN, ENDED, LEISURELY, Tally

from ferret import LostSpansWarning, Profiler, ambient
from ferret.plugins import register

warnings.simplefilter("ignore", LostSpansWarning)
warnings.simplefilter("ignore", DeprecationWarning)  # forking under load is the point
register(faulty, "faulty")


class Oracle:
    """The way to tell."""

    def __init__(self, folder: Path) -> None:
        self._pipe = os.open(folder / "pipe", os.O_WRONLY)

    def tell(self, kind: str, **what: Any) -> None:
        line = json.dumps({"kind": kind, "pid": os.getpid(), **what}).encode() + b"\n"
        assert len(line) <= 4096, "longer lines would not be written at once"
        os.write(self._pipe, line)


class Process:
    """One process of the program, and its workers."""

    def __init__(self, plan: Plan, folder: Path, label: str, profiler: Profiler) -> None:
        self.plan, self.folder, self.label, self.profiler = plan, folder, label, profiler
        self.oracle = Oracle(folder)
        self.tally = Tally(folder, label, writable=True)
        self._workers = {self.tally.worker(number): times for number, times in enumerate(self.tally.times)}
        self.ended: dict[str, int] = {}
        """The last number of each worker up to which all its spans have ended."""
        self.stop = threading.Event()
        self.oracle.tell("hello", label=label, anchor=ambient.clock.anchor_ns)

    def work(self, children: list[str]) -> None:
        """Record in threads, begin other processes meanwhile, and wait for all."""
        workers = [
            threading.Thread(target=self._guarded, args=(f"{self.label}.{number}",))
            for number in range(self.plan.threads)
        ]
        for worker in workers:
            worker.start()
        try:
            begun = [self._begin(kind, f"{self.label}/{number}") for number, kind in enumerate(children)]
            for worker in workers:
                worker.join()
            for wait in begun:
                wait()
        except KeyboardInterrupt:
            self.oracle.tell("interrupted")
            self.stop.set()
            for worker in workers:
                worker.join()

    def _guarded(self, worker: str) -> None:
        try:
            self._record(worker)
        except BaseException as error:
            self.oracle.tell("raised", what=f"{type(error).__name__}: {error}"[:500])
            raise

    # -- recording ---------------------------------------------------------------------------------

    def _record(self, worker: str) -> None:
        dice = random.Random(f"{self.plan.seed}/{worker}")
        number = 0
        styles = [self._by_hand, self._nested, self._in_tasks, self._decorated]
        self.ended[worker] = 0
        while number < self.plan.spans and not self.stop.is_set():
            number = dice.choice(styles)(worker, number, dice)
            self.ended[worker] = number
            if dice.random() < 0.1:
                time.sleep(dice.expovariate(1 / self.plan.pause))
            if dice.random() < 0.03:
                self.flush()

    def flush(self) -> None:
        """All that had ended before a flush that says True is owed."""
        ended = dict(self.ended)
        if self.profiler.flush(timeout=10):
            self.oracle.tell("ack", upto=ended)

    def _tags(self, worker: str, number: int, parent: int = 0) -> tuple[str, dict[str, Any]]:
        name, tags = issued(self.plan.seed, worker, number)
        begun = perf_counter_ns()
        self._workers[worker][number, BEGUN] = begun
        return name, {**tags, "up": parent, "a": begun}

    def _ended(self, worker: str, number: int) -> None:
        self._workers[worker][number, ENDED] = perf_counter_ns()

    def _by_hand(self, worker: str, number: int, dice: random.Random) -> int:
        count = dice.randint(1, 20)
        for own in range(number + 1, number + 1 + count):
            name, tags = self._tags(worker, own)
            span = self.profiler.start(name, tags)
            span.annotate(b=perf_counter_ns(), c=perf_counter_ns())
            span.end()
            self._ended(worker, own)
        return number + count

    def _nested(self, worker: str, number: int, dice: random.Random) -> int:
        outer, count = number + 1, dice.randint(0, 5)
        name, tags = self._tags(worker, outer)
        with self.profiler.measure(name, tags) as span:
            span.annotate(b=perf_counter_ns())
            for own in range(outer + 1, outer + 1 + count):
                name, tags = self._tags(worker, own, outer)
                with self.profiler.measure(name, tags) as inner:
                    inner.annotate(b=perf_counter_ns(), c=perf_counter_ns())
                self._ended(worker, own)
            span.annotate(c=perf_counter_ns())
        self._ended(worker, outer)
        return outer + count

    def _in_tasks(self, worker: str, number: int, dice: random.Random) -> int:
        count = dice.randint(1, 8)

        async def one(own: int) -> None:
            name, tags = self._tags(worker, own)
            async with self.profiler.measure(name, tags) as span:
                span.annotate(b=perf_counter_ns())
                await asyncio.sleep(0)
                span.annotate(c=perf_counter_ns())
            self._ended(worker, own)

        async def all_of_them() -> None:
            await asyncio.gather(*(one(number + 1 + index) for index in range(count)))

        asyncio.run(all_of_them())
        return number + count

    def _decorated(self, worker: str, number: int, dice: random.Random) -> int:
        number += 1
        name, tags = self._tags(worker, number)

        @self.profiler.measure(name, {**tags, "b": 1 << 62, "c": 0})
        def call() -> int:
            return sum(range(dice.randint(0, 500)))

        call()
        self._ended(worker, number)
        return number

    def _at_leisure(self) -> None:
        """Record so slowly that ferret counts each span by itself."""
        worker = self.tally.worker(self.plan.threads)
        for number in range(1, LEISURELY + 1):
            name, tags = self._tags(worker, number)
            self.profiler.start(name, {**tags, "b": 1 << 62, "c": 0}).end()
            self._ended(worker, number)
            time.sleep(0.0015)

    # -- other processes ---------------------------------------------------------------------------

    def _begin(self, kind: str, label: str) -> Any:
        time.sleep(random.Random(f"{self.plan.seed}/{label}").random() * 0.3)
        if kind == "fork":
            child = os.fork()
            if not child:
                self._live_forked(label)
            return lambda: os.waitpid(child, 0)
        if kind == "mp-fork":
            process = multiprocessing.get_context("fork").Process(target=self._live_in_fork, args=(label,))
            process.start()
            return process.join
        if kind == "spawn":
            arguments = (msgspec.json.encode(self.plan), str(self.folder), label)
            spawned = multiprocessing.get_context("spawn").Process(target=live, args=arguments)
            spawned.start()
            return spawned.join
        command = [sys.executable, __file__, str(self.folder / "plan"), str(self.folder), label]
        return subprocess.Popen(command).wait

    def _live_in_fork(self, label: str) -> None:
        """What it records is stored by the end of the process, which multiprocessing makes without `atexit`."""
        child = Process(self.plan, self.folder, label, self.profiler)
        child.work([])
        child.oracle.tell("ending", ended=child.ended)

    def _live_forked(self, label: str) -> None:
        try:
            child = Process(self.plan, self.folder, label, self.profiler)
            child.work([])
            child.close()
            os._exit(0)
        finally:
            os._exit(1)

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        report = self.profiler.close()
        self.oracle.tell("closed", ended=self.ended, report=report.model_dump(include=LEDGER))

    def end(self) -> None:
        ending = self.plan.ending
        if ending == "close":
            self.close()
            return
        if ending == "os._exit":
            self.flush()
            os._exit(0)
        if ending == "kill":
            self._at_leisure()
            self.oracle.tell("quiet")
            os.kill(os.getpid(), signal.SIGKILL)
        self.oracle.tell("ending", ended=self.ended)
        if ending == "raise":
            raise ValueError("the plan wants it")
        if ending == "exit":
            sys.exit(3)


LEDGER = {"recorded", "written", "dropped", "failed", "pending", "dropped_by", "failed_by", "timed_out"}


def live(encoded: bytes, folder_name: str, label: str) -> None:
    """Be one process of the program that has a profiler of its own."""
    plan, folder = msgspec.json.decode(encoded, type=Plan), Path(folder_name)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    options: Any = dict(plan.options)
    if threading.current_thread() is not threading.main_thread():
        options["handle_sigterm"] = False
    profiler = Profiler(
        sink=faulty.spec_of(plan.sink, folder, FILES[plan.sink]),
        sink_options={
            "seed": plan.seed,
            "faults": plan.sink_faults,
            "log": str(folder / "faults"),
            "poison": plan.poison,
        },
        run_id=f"soak-{plan.seed}",
        writer=plan.writer,
        **options,
    )
    process = Process(plan, folder, label, profiler)
    process.work(plan.children if "/" not in label else [])
    process.end()


if __name__ == "__main__":
    live(Path(sys.argv[1]).read_bytes(), sys.argv[2], sys.argv[3])
