"""Very many spans through a writer into a sink that fails at one batch in twenty: each is stored once, or accounted for.

`python tests/soak/many.py --spans 10_000_000 --writer threaded --sink beaver`
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from ferret import Profiler, Report, plugins
from ferret.models import DeliveryReport
from ferret.sinks.reading import open_readable
from ferret.writers import delivery
from ferret.writers.quarantine import path_of

WRITERS = ["sync", "threaded", "bounded", "process"]
SINKS = ["beaver", "jsonl"]
NAMES = [f"work {number}" for number in range(7)]
THREADS = 4
MOST_QUEUED = 40_000
KILL_EVERY_S = 2.0


class Outcome(NamedTuple):
    """What became of the spans; `wrong` says what should not have."""

    recorded: int
    stored: int
    report: DeliveryReport
    seconds: float
    reading_s: float
    megabytes: float
    kills: int
    wrong: list[str]

    def __str__(self) -> str:
        lost = {**self.report.dropped_by, **self.report.failed_by}
        return (
            f"{self.recorded:,} recorded, {self.stored:,} stored, {lost or 'nothing'} lost and counted; "
            f"{self.seconds:.0f} s, read in {self.reading_s:.0f} s, {self.megabytes:.0f} MB at most, {self.kills} kills"
        )


def through(writer: str, sink: str, spans: int, folder: Path, seed: int = 1) -> Outcome:
    """Record so many spans in four threads, close, and look at what is stored, segment by segment."""
    import flaky

    if not plugins.plugins().manager.is_registered(flaky):
        plugins.register(flaky)
    path = folder / f"{writer}.{sink}"
    profiler = Profiler(
        sink=f"flaky:{seed}|{sink}:{path}", writer=writer, batch_size=512, max_queue=MOST_QUEUED, close_timeout=300,
        run_id="many",
    )  # fmt: skip
    over, kills = threading.Event(), [0]
    killer = threading.Thread(target=_kill_its_child, args=(profiler.writer, over, kills))
    killer.start()
    started = time.monotonic()
    each = spans // THREADS
    threads = [threading.Thread(target=_record, args=(profiler, each * one, each)) for one in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    killer.join()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = profiler.close()
    seconds = time.monotonic() - started
    wrong = _account(path, each * THREADS, report)
    return Outcome(
        report.recorded, report.written, report, seconds, time.monotonic() - started - seconds,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, kills[0], wrong,
    )  # fmt: skip


def _record(profiler: Profiler, first: int, count: int) -> None:
    queue: Any = profiler.writer.queue  # type: ignore[attr-defined]
    for number in range(first, first + count):
        profiler.start(NAMES[number % len(NAMES)], {"n": number}).end()
        if not number % 500 and number % 100_000:  # mostly no faster than the sink, and at times as fast as it goes
            while len(queue) > MOST_QUEUED * 0.8:
                time.sleep(0.001)


def _kill_its_child(writer: Any, over: threading.Event, kills: list[int]) -> None:
    while not over.wait(KILL_EVERY_S):
        child = getattr(writer, "child_pid", None)
        if child is not None and not writer._deaths:  # five that died before they had stored anything would be given up
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
                kills[0] += 1


def _account(path: Path, spans: int, report: DeliveryReport) -> list[str]:
    """What is wrong with what is stored, and with what the ledger says of it."""
    seen = np.zeros(spans, dtype=np.uint8)
    wrong: list[str] = []
    decode = msgspec.json.Decoder(dict[str, int]).decode
    sink = open_readable(path, "_ferret_trace")
    for segment in sink.segments("many"):
        numbers = np.fromiter((decode(tags)["n"] for tags in segment.tags), dtype=np.int64, count=len(segment))
        np.add.at(seen, numbers, 1)
        kinds = np.array([NAMES.index(name) for name in segment.names])
        if (kinds[segment.name] != numbers % len(NAMES)).any():
            wrong.append(f"segment {segment.id}: a name is another's")
    if (seen > 1).any():
        wrong.append(f"{(seen > 1).sum()} spans are stored more than once")
    stored = int((seen > 0).sum())
    if stored != report.written:
        wrong.append(f"{stored} are stored, and {report.written} written, says the ledger")
    if spans != report.recorded or report.recorded != report.written + report.dropped + report.failed or report.pending:
        wrong.append(f"the ledger does not add up: {report}")
    aside = Path(path_of(str(path)))
    lines = aside.read_text().splitlines() if aside.exists() else []
    refused = {json.loads(line)["span"]["tags"]["n"] for line in lines}
    if not wrong and (seen[list(refused)] > 0).any():
        wrong.append("a span is stored and refused")
    if len(refused) != report.failed_by.get("RejectedError", 0):
        wrong.append(f"{len(refused)} spans were set aside, and {report.failed_by} failed")
    (run,) = Report(path).runs()
    if run.unclean or run.missing_batches or run.lost != spans - stored:
        wrong.append(f"the run reads as {run!r}")
    return wrong


def main() -> None:
    """Try what is asked for, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=lambda text: int(text.replace("_", "")), default=10_000_000)
    parser.add_argument("--writer", choices=WRITERS, action="append")
    parser.add_argument("--sink", choices=SINKS, default="beaver")
    chosen = parser.parse_args()
    delivery.FIRST_DELAY_S = 0.001  # one batch in twenty fails: the pauses would be most of it
    guilty = False
    for writer in chosen.writer or WRITERS:
        with tempfile.TemporaryDirectory() as folder:
            outcome = through(writer, chosen.sink, chosen.spans, Path(folder))
        guilty |= bool(outcome.wrong)
        print(f"{writer} into {chosen.sink}: {outcome}", *outcome.wrong, sep="\n  ", flush=True)
    sys.exit(guilty)


if __name__ == "__main__":
    main()
