"""How a thread in the background leaves the GIL to the program between two steps of its work."""

from __future__ import annotations

import time
from time import perf_counter_ns
from typing import Final

STRETCH_NS: Final = 100_000
"""For how long the GIL is kept."""


class Pace:
    """Gives the GIL up between two steps of encoding, every `STRETCH_NS` or so.

    A thread that wants the GIL would otherwise wait until the whole batch is encoded, or for the switch interval of 5 ms.
    Urgent work is done in one go: each time that a busy program gets the GIL, it keeps it for those 5 ms.
    """

    __slots__ = ("_since", "_urgent")

    def __init__(self, *, urgent: bool) -> None:
        self._urgent = urgent
        self._since = perf_counter_ns()

    def rest(self) -> None:
        """Let others run, if it is time. To be called between steps that take 0.1 ms at most."""
        if not self._urgent and perf_counter_ns() - self._since >= STRETCH_NS:
            time.sleep(0)  # costs 12 µs of CPU, and 70 µs in all, even where nobody waits
            self._since = perf_counter_ns()


WITHOUT_REST: Final = Pace(urgent=True)
"""For work that nobody waits behind."""
