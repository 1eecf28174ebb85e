"""A sink that a test holds up, and makes fail."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from ferret.sinks.memory import MemorySink
from ferret.testing.patience import WAIT_S

if TYPE_CHECKING:
    from ferret.batch import Batch


class GatedSink(MemorySink):
    """A `memory` sink that can be held, and told to fail. Any thread may tell it.

    Attributes:
        entered: released whenever a write begins, so that a test can wait for one.
        writes: the writes that began.
        closes: the calls of `close`.
    """

    def __init__(self, target: str | None = None) -> None:
        super().__init__(target)
        self.entered = threading.Semaphore(0)
        self.writes = self.closes = 0
        self._gate = threading.Event()
        self._gate.set()
        self._failures = 0.0
        self._error: type[BaseException] = OSError
        self._after_storing = False

    def hold(self) -> None:
        """Let every write wait, from now on."""
        self._gate.clear()

    def release(self) -> None:
        """Let writes through again."""
        self._gate.set()

    def fail(
        self, times: float = math.inf, *, error: type[BaseException] = OSError, after_storing: bool = False
    ) -> None:
        """Let the next writes raise.

        Args:
            times: how many; all, unless given.
            error: what they raise.
            after_storing: whether they store the batch all the same, as when only the answer is lost.
        """
        self._failures, self._error, self._after_storing = times, error, after_storing

    def write(self, batch: Batch) -> None:
        """Keep the batch, unless told otherwise."""
        self.writes += 1
        self.entered.release()
        if not self._gate.wait(WAIT_S):
            raise TimeoutError("the test never released the sink")
        if self.closed:
            raise AssertionError("the sink was written to after it was closed")
        failing = self._failures > 0
        self._failures -= failing
        if not failing or self._after_storing:
            super().write(batch)
        if failing:
            raise self._error("the sink fails, as it was told to")

    def close(self) -> None:
        """Count the call."""
        self.closes += 1
        super().close()
