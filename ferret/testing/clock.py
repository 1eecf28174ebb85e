"""A clock for tests, which stands still until it is told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from ferret import ambient

if TYPE_CHECKING:
    import pytest

READERS: Final = ("ferret.span", "ferret.decorate")
"""The modules in which spans read the time."""

EPOCH_S: Final = 1_767_225_600
"""2026-01-01 00:00:00 UTC, where it begins."""


class ManualClock:
    """The time that spans read. Only they: queues, timeouts and `time.sleep` go on as ever. Any thread may move it.

    Attributes:
        now_ns: what `time.perf_counter_ns` would say.
    """

    def __init__(self) -> None:
        self.now_ns = EPOCH_S * 1_000_000_000 - ambient.clock.anchor_ns
        self._moving = threading.Lock()

    def __call__(self) -> int:
        """The time now, in nanoseconds."""
        return self.now_ns

    @property
    def time(self) -> float:
        """The time now, in seconds since the epoch, as spans have it."""
        return (self.now_ns + ambient.clock.anchor_ns) / 1e9

    def advance(self, seconds: float) -> None:
        """Let time pass; a negative number turns it back, as no real clock of spans would."""
        with self._moving:
            self.now_ns += round(seconds * 1e9)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have spans read this clock, until the patch is undone."""
        for module in READERS:
            monkeypatch.setattr(f"{module}.perf_counter_ns", self)
