"""A sink that a test holds up, and makes fail."""

from __future__ import annotations

import math
import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from ferret import errors
from ferret.sinks.memory import MemorySink
from ferret.testing.patience import WAIT_S

if TYPE_CHECKING:
    from ferret.batch import Batch

REJECTED: type[Exception] | None = getattr(errors, "RejectedError", None)
"""What a sink raises that will never take a batch."""


class Fate(NamedTuple):
    """What happens to a batch: so many failures, each of which may have stored it, and then perhaps a rejection."""

    failures: tuple[bool, ...]
    rejected: bool


class Script(NamedTuple):
    """Decides the fate of batches at random, but always the same for one seed; a batch is known by its first span's `n`.

    Attributes:
        seed: of the random numbers.
        retryable: the share of batches that fail for a while.
        permanent: the share that is rejected in the end.
    """

    seed: int = 0
    retryable: float = 0.0
    permanent: float = 0.0

    def fate(self, number: int) -> Fate:
        """What happens to a batch that begins with this number."""
        dice = random.Random(f"{self.seed}/{number}")  # noqa: S311 - no secret
        count = dice.randint(1, 2) if dice.random() < self.retryable else 0
        rejected = dice.random() < self.permanent
        # a batch that is rejected was never stored: so no failure of it may have been
        return Fate(tuple(not rejected and dice.random() < 0.5 for _ in range(count)), rejected)

    def meet(self, number: int, attempt: int) -> tuple[bool, type[Exception] | None]:
        """Whether the attempt (0, 1, …) stores the batch, and what it raises."""
        failures, rejected = self.fate(number)
        if attempt < len(failures):
            return failures[attempt], OSError
        return (False, REJECTED) if rejected else (True, None)


class GatedSink(MemorySink):
    """A `memory` sink that can be held, and told to fail. Any thread may tell it.

    Attributes:
        entered: released whenever a write begins, so that a test can wait for one.
        writes: the writes that began.
        closes: the calls of `close`.
        attempts: the records of each batch, by its id, each time that it came.
    """

    def __init__(self, target: str | None = None) -> None:
        super().__init__(target)
        self.entered = threading.Semaphore(0)
        self.writes = self.closes = 0
        self.attempts: dict[str, list[list[str]]] = {}
        self._tries: Counter[int] = Counter()
        self._script: Script | None = None
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

    def follow(self, script: Script) -> None:
        """Let writes fail as the script says."""
        self._script = script

    def write(self, batch: Batch) -> None:
        """Keep the batch, unless told otherwise."""
        self.writes += 1
        self.entered.release()
        if not self._gate.wait(WAIT_S):
            raise TimeoutError("the test never released the sink")
        if self.closed:
            raise AssertionError("the sink was written to after it was closed")
        self.attempts.setdefault(batch.id, []).append([span.span_id for span in batch])
        keep, error = self._verdict(batch)
        if keep:
            super().write(batch)
        if error is not None:
            raise error("the sink fails, as it was told to")

    def _verdict(self, batch: Batch) -> tuple[bool, type[BaseException] | None]:
        if self._script is not None:
            number = next(iter(batch)).tags["n"]
            self._tries[number] += 1
            return self._script.meet(number, self._tries[number] - 1)
        if self._failures <= 0:
            return True, None
        self._failures -= 1
        return self._after_storing, self._error

    def close(self) -> None:
        """Count the call."""
        self.closes += 1
        super().close()
