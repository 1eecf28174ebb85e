"""A sink that misbehaves at random around one that does not: `soak:KIND|TARGET`."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from around import Around
from issue import poisoned

from ferret.errors import RejectedError
from ferret.hookspecs import hookimpl
from ferret.plugins import SinkSpec
from ferret.sinks.base import Reopens

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferret.batch import Batch
    from ferret.sinks.base import Sink

HANG_S = 0.7


class FaultySink(Around):
    """Hands on to the sink inside, but for what befalls it.

    Args:
        target: kind and target of the sink inside.
        seed: of the dice.
        faults: the share of writes that `raise`, are in `doubt` (stored, then raised), `hang`, or make the process writer's
            child `die`.
        log: a file to which the name of each fault is appended.
        poison: whether it refuses some spans for good; see `Plan.poison`.
    """

    def __init__(
        self, target: str | None = None, *, seed: int, faults: dict[str, float], log: str, poison: str = ""
    ) -> None:
        kind, _, inner = str(target).partition("|")
        self._seed, self._poison = seed, poison
        self.inner = _open(kind, inner)
        self._faults = faults
        self._dice = random.Random(f"{seed}/{os.getpid()}/{time.time_ns()}")
        self._log = Path(log)

    def write(self, batch: Batch) -> None:
        fault = self._draw()
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            time.sleep(HANG_S * self._dice.random())
        if fault == "raise":
            raise OSError("the soak wants this write to fail")
        if self._poison:
            self._refuse(batch)
        self.inner.write(batch)
        if fault == "doubt":
            raise OSError("the soak wants this write to be in doubt")

    def _refuse(self, batch: Batch) -> None:
        bad = [index for index, span in enumerate(batch) if poisoned(self._seed, span.tags["w"], span.tags["n"])]
        if bad and self._poison == "names":
            raise RejectedError("the soak does not want these spans", bad)
        if bad:
            raise ValueError("the soak does not want one of these spans")

    def _draw(self) -> str | None:
        dice = self._dice.random()
        for kind, share in self._faults.items():
            if dice < share:
                if kind == "die" and "ferret.writers.child" not in sys.orig_argv:
                    return None
                with self._log.open("a") as log:
                    log.write(f"{kind}\n")
                return kind
            dice -= share
        return None

    def reopen(self) -> FaultySink:
        other = FaultySink.__new__(FaultySink)
        vars(other).update(vars(self))
        other.inner = self.inner.reopen() if isinstance(self.inner, Reopens) else self.inner
        other._dice = random.Random(f"{os.getpid()}/{time.time_ns()}")
        return other


def _open(kind: str, target: str) -> Sink:
    if kind == "sqlite":  # the example plugin, which need not be installed
        sys.path.append(str(Path(__file__).parents[2] / "examples" / "ferret-sink-sqlite"))
        from ferret_sink_sqlite import SqliteSink

        return SqliteSink(target)
    return SinkSpec("jsonl" if kind.startswith("jsonl") else kind, target).open()


def spec_of(kind: str, folder: Path, files: list[str]) -> str:
    """The sink of a program, by name."""
    if kind == "tee":
        jsonl, db = files
        return f"soak:tee|jsonl:{folder / jsonl},beaver:{folder / db}"
    return f"soak:{kind}|{folder / files[0]}"


@hookimpl
def ferret_sinks() -> dict[str, Callable[..., Any]]:
    return {"soak": FaultySink}
