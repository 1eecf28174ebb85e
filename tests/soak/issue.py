"""What a program records: name and tags of a span follow from who records it and its number, so that anyone can tell."""

from __future__ import annotations

import random
from typing import Any

NAMES = ["query", "GET /π/{user}", "'; DROP TABLE spans; --", "a\nb\t\x1b[31m", "名前 🦦"]


def issued(seed: int, worker: str, number: int) -> tuple[str, dict[str, Any]]:
    """Name and tags of a worker's span. The tags are those that do not depend on the time."""
    dice = random.Random(f"{seed}/{worker}/{number}")
    tags: dict[str, Any] = {"w": worker, "n": number, "v": dice.getrandbits(70), "x": dice.random()}
    if dice.random() < 0.3:
        tags["text"] = dice.choice(["", 'é\n\0\u2028"\\', "long " * dice.randint(1, 200)])
    if dice.random() < 0.2:
        tags["deep"] = {"list": [1, [2.5, {"three": None}], True], "": {}}
    return dice.choice(NAMES), tags


def poisoned(seed: int, worker: str, number: int) -> bool:
    """Whether it is one of the few spans that a sink refuses, where the plan wants it to refuse any."""
    return random.Random(f"{seed}/{worker}/{number}/poison").random() < 0.02
