"""What stands between ferret and the targets that it may miss, and what would lift it."""

from __future__ import annotations

from typing import Final

BOUNDS: Final[dict[str, str]] = {
    "1,000 tasks": """\
**1,000 tasks that end at once.** The floor is the slowest of 1,000 empty blocks, 1 to 3 µs. A span costs four such
blocks at its ordinary, and one in 64 claims a block of counts for 1.5 µs more: the worst of 1,000 is 4.6 µs, or 4
to 6 ×, where the worker's alarm is put out of reach. Beyond that it is a system call that wakes the worker (10 to
25 µs, for the first span after a second of quiet), or a turn of the GIL. Claiming in C, and a worker that never
sleeps for long, would lift it to about 3 ×.""",
    "a web service's requests": """\
**Requests of a web service.** The handler takes 77 µs of CPU; five spans, recorded, delivered and stored, take 10
µs more under `threaded` and 6 µs under `process`, where the caller's part alone is 5. 0.97 × leaves 2.3 µs, less
than half of what setting and resetting the context variable and reading the clock twice take for five spans. Only
fewer or cheaper spans would lift it: at 13,000 requests a second, these are 65,000 a second.""",
    "a web service's p99": """\
**The p99 of a web service under full load.** A thread that encodes a batch of 4,096 needs the GIL for 2 ms, in
steps of 0.1 to 0.3 ms. A loop that is never idle lets go of it at each of its system calls, and so loses it twenty times
in a row, until the batch is done: what arrives in those 3 ms waits for them. Batches follow each other 16 times a
second here. At a steady 400 requests a second nobody notices. A sleep of a millisecond after each step spreads it,
to 1.9 × rather than 2.5, but costs other loops more than it gives: `ferret/pace.py` has the figures. Under `process`
it is the two cores, which the service, its load and the writing process share.""",
    "loop lag at 50,000": """\
**The lag at 50,000 spans/s.** The application records 100 spans in one go, which takes 0.1 ms more than without
them: with nobody to deliver, p99 is 0.25 to 0.3 ms. The rest is the GIL, which the worker keeps for 0.1 to 0.3 ms
at a time, and 0.05 to 0.07 ms until a thread that was given it runs.""",
}
"""By how what is to be reached begins, as in `benchmarks.targets`. The page shows those that were missed."""


def bound_of(what: str) -> str | None:
    """What is known of that target."""
    return next((text for beginning, text in BOUNDS.items() if what.startswith(beginning)), None)
