"""A random program and what befalls it, drawn from a seed: the same seed gives the same plan."""

from __future__ import annotations

import random
from typing import Any

import msgspec

WRITERS = ["sync", "threaded", "bounded", "process"]
SINKS = ["beaver", "jsonl", "jsonl.gz", "tee", "sqlite"]
FILES = {"beaver": ["trace.db"], "jsonl": ["spans.jsonl"], "jsonl.gz": ["spans.jsonl.gz"], "sqlite": ["spans.db"],
         "tee": ["spans.jsonl", "trace.db"]}  # fmt: skip
"""The files of each kind of sink."""


class Harm(msgspec.Struct, frozen=True):
    """Something that is done to a program from outside.

    Attributes:
        kind: `kill`, `term`, `int`, `stop`, `kill-child`, `kill-fork`, `full` or `locked`.
        at: seconds after the program has begun to record.
        lasting: seconds, for those that end.
    """

    kind: str
    at: float
    lasting: float = 0.0


class Plan(msgspec.Struct, frozen=True):
    """All that is decided about a program before it runs."""

    seed: int
    writer: str
    sink: str
    options: dict[str, Any]
    threads: int
    spans: int
    """For each thread of each process."""
    pause: float
    """Seconds, on average, of a sleep; one in ten spans is followed by one."""
    children: list[str]
    """How further processes begin: `fork` (under load), `spawn`, `mp-fork`, `program`."""
    ending: str
    """`close`, `return`, `raise`, `exit`, `os._exit`, or `kill`: it kills itself in a quiet moment."""
    poison: str
    """How the sink refuses some of the spans for good: it `names` them, or it `raises`; an empty text if it does not."""
    sink_faults: dict[str, float]
    """The share of writes that `raise`, are in `doubt`, `hang`, or let the process writer's child `die`."""
    harms: list[Harm]

    def describe(self) -> str:
        """For people."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    dice = random.Random(seed)
    writer = WRITERS[seed % len(WRITERS)]
    sink = dice.choice(SINKS)
    options = {
        "batch_size": dice.choice([1, 7, 50, 400, 4096]),
        "flush_interval": dice.choice([0.01, 0.1, 0.5]),
        "max_queue": dice.choice([2_000, 100_000]),
        "overflow": dice.choice(["drop_newest", "drop_oldest", "block"]),
        "block_timeout": 5.0,
        "close_timeout": dice.choice([8.0, 20.0]),
        "handle_sigterm": True,
    }
    kinds = ["raise", "doubt", "hang", *(["die"] if writer == "process" else [])]
    poison = dice.choice(["", "", "names", "raises"])
    # a batch that fails waits 0.1 s and more for its next attempt: with small batches, or many parts of them, that adds up
    most = 0.3 if options["batch_size"] >= 50 and poison != "raises" else 0.03
    shares = {"raise": most, "doubt": most, "hang": most / 3, "die": most / 3}
    sink_faults = {kind: shares[kind] * dice.random() for kind in kinds if dice.random() < 0.5}
    return Plan(
        seed=seed,
        writer=writer,
        sink=sink,
        options=options,
        threads=dice.randint(1, 4),
        spans=dice.choice([100, 300, 800]) if options["batch_size"] >= 50 else dice.choice([40, 200]),
        pause=dice.choice([0.0005, 0.002, 0.005]),
        children=dice.choices(["fork", "spawn", "mp-fork", "program"], k=dice.choice([0, 0, 1, 1, 2, 3])),
        ending=dice.choice(["close", "close", "return", "raise", "exit", "os._exit", "kill"]),
        poison=poison,
        sink_faults=sink_faults,
        harms=_harms(dice, writer),
    )


def _harms(dice: random.Random, writer: str) -> list[Harm]:
    kinds = ["kill", "term", "int", "stop", "kill-fork", "full", "full", "locked", "locked"]
    kinds += ["kill-child"] * 3 if writer == "process" else []
    chosen = dice.choices(kinds, k=dice.choice([0, 1, 1, 2, 2, 3]))
    harms = [Harm(kind, round(dice.uniform(0, 0.8), 3), round(dice.uniform(0.05, 0.8), 3)) for kind in chosen]
    return sorted(harms, key=lambda harm: harm.at)
