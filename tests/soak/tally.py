"""What a process did, in a page that survives it: when each of its spans began and ended, by the program's own word.

The oracle makes the pages before the program begins; a process writes into its own. So the oracle knows of a process that
was killed how many spans it had recorded at least (those that had ended), and at most (those that had begun).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from issue import poisoned

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from plan import Plan

BEGUN, ENDED = 0, 1
LEISURELY = 80
"""Spans that a program records slowly before it is killed in a quiet moment: more than ferret claims at a time."""
MOST_AT_ONCE = 32
"""By how many a worker may exceed the number of its spans."""


def make(folder: Path, plan: Plan) -> None:
    """Make the page of every process that there may be."""
    rows = max(plan.spans + MOST_AT_ONCE, LEISURELY) + 1
    for label in ["main", *(f"main/{number}" for number in range(len(plan.children)))]:
        np.save(_path(folder, label), np.zeros((plan.threads + 1, rows, 2), np.int64))


class Tally:
    """The page of one process.

    Attributes:
        times: by worker, number and `BEGUN` or `ENDED`, of `perf_counter_ns`; 0 where that has not happened.
    """

    def __init__(self, folder: Path, label: str, *, writable: bool = False) -> None:
        self.label = label
        self.times: NDArray[np.int64] = np.load(_path(folder, label), mmap_mode="r+" if writable else None)

    def worker(self, number: int) -> str:
        """The name of a worker; there is one more than there are threads, for what is recorded at leisure."""
        return f"{self.label}.{number}"

    @property
    def begun(self) -> int:
        """Spans of which recording had begun: as many were recorded at most."""
        return int(np.count_nonzero(self.times[:, :, BEGUN]))

    @property
    def ended(self) -> int:
        """Spans that were surely recorded."""
        return int(np.count_nonzero(self.times[:, :, ENDED]))

    def spans(self) -> dict[tuple[str, int], tuple[int, int]]:
        """When each span that ended began and ended, at the earliest and at the latest; by worker and number."""
        return {
            (self.worker(worker), int(number)): (int(begun), int(ended))
            for worker, of_worker in enumerate(self.times)
            for number, (begun, ended) in enumerate(of_worker) if ended
        }  # fmt: skip

    def poisoned(self, seed: int) -> set[tuple[str, int]]:
        """Those of them that a sink refuses, where it refuses any."""
        return {who for who in self.spans() if poisoned(seed, *who)}


def _path(folder: Path, label: str) -> Path:
    return folder / f"tally-{label.replace('/', '-')}.npy"
