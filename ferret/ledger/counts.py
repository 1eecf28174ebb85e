"""How many spans a profiler was handed, and what became of them: numbers that anybody may increase, without a lock.

`ferret.ledger.live` keeps them where they survive the process.
"""

from __future__ import annotations

import operator
import struct
import weakref
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Mapping

CLAIMED: Final = 0
"""The cell that says how many spans may have been handed to the writer: as many, or a few less."""
BLOCK: Final = 1
"""The cell that says how many less at most, plus one."""
RETIRING: Final = 2
"""The cell that is `MOST_CLAIMED` for the moment in which what was claimed is given back: as many less at most, then."""
WRITTEN: Final = 3
FAILED: Final = 4
DROPPED: Final[Mapping[str, int]] = {"overflow": 5, "closed": 6, "suppressed": 7, "not_owner": 8}
"""The cells that count drops, by reason. `suppressed` spans were never handed over."""
_CELLS = 9
COUNTS: Final = struct.Struct(f"={_CELLS}Q")
"""The cells as bytes."""
CELLS_AT: Final = 64
"""Where the cells are in a mapped file."""

MOST_CLAIMED: Final = 64
"""Spans that are claimed at a time, at most."""
CLAIM_NS: Final = 1_000_000
"""For how long the next claim should last: in a slow program, it is for one span, and the count is exact."""


class Follower(Protocol):
    """What looks at `Counts.draw` for itself."""

    draw: Callable[[], object]


class Counts:
    """Nine numbers that anybody may increase at any time: `counts.cells[FAILED] += 1`.

    That statement is one step. CPython (with the GIL) switches threads and runs signal handlers at calls, at jumps
    backwards and where a function begins, and nowhere between the reading and the storing of a cell.

    It is too slow for each span, though: 95 ns of 870. So spans are claimed in blocks: their number is added to a cell,
    and then a span only takes the next item of an iterator of so many, for 15 ns. When the process is killed, what was
    claimed and not drawn is not known: at most the spans of a millisecond, and less than `MOST_CLAIMED`.
    """

    __slots__ = ("_claimed_at", "_follower", "_mapping", "_size", "cells", "draw")

    def __init__(self) -> None:
        self.cells = _plain_cells()
        self.draw: Callable[[], object] = _none_left
        self._size = 1
        self._claimed_at = 0
        self._mapping: mmap.mmap | None = None
        self._follower: Callable[[], Follower | None] = _nobody

    def keep_told(self, follower: Follower) -> None:
        """Have `draw` at hand in another object too, which is held weakly. A span finds it there in less time."""
        self._follower = weakref.ref(follower)
        follower.draw = self.draw

    def count(self) -> None:
        """Count a span that is handed over. As safe as a span is: from any thread, or a signal handler."""
        try:
            self.draw()
        except StopIteration:
            self.claim()

    def claim(self) -> None:
        """Count a span for which nothing is claimed, and claim some more."""
        now = perf_counter_ns()
        elapsed = now - self._claimed_at
        size = max(1, min(MOST_CLAIMED, self._size * 2, self._size * CLAIM_NS // (elapsed or 1)))
        fresh = iter(range(size - 1)).__next__
        follower = self._follower() or self
        while True:
            draw = self.draw
            try:
                draw()
            except StopIteration:
                pass
            else:
                return  # another thread claimed meanwhile
            # One step, as in `Counts`: neither a call nor a jump backwards comes before the end. A block is replaced only
            # when it is used up.
            if self.draw is draw:
                if self.cells[RETIRING]:  # one block may be uncertain, and no more
                    size, fresh = 1, _none_left
                self.cells[BLOCK] = size  # first, as a kill may come between the two
                self.cells[CLAIMED] += size
                self.draw = fresh
                follower.draw = fresh
                self._size = size
                self._claimed_at = now
                return

    def retire(self) -> None:
        """Give back what was claimed and not drawn, so that the count is exact until the next span. For one thread."""
        follower = self._follower() or self
        self.cells[RETIRING] = MOST_CLAIMED
        left = self.draw
        self.draw = _none_left
        follower.draw = _none_left
        self.cells[BLOCK] = 0
        unused = operator.length_hint(getattr(left, "__self__", ()))  # nobody can draw from it any more
        self.cells[CLAIMED] -= unused
        self.cells[RETIRING] = 0

    def clear(self) -> None:
        """Begin at zero, in a forked child: the cells that it inherited are its parent's, and so is the lock on them."""
        old, self.cells = self.cells, _plain_cells()
        self.draw = (self._follower() or self).draw = _none_left
        old.release()
        if self._mapping is not None:
            self._mapping.close()
            self._mapping = None

    def move_to(self, mapping: mmap.mmap) -> None:
        """Go on counting in a mapped file, without losing one."""
        new = memoryview(mapping)[CELLS_AT : CELLS_AT + COUNTS.size].cast("Q")
        old = self.cells
        # one step as well, for the same reason
        new[0], new[1], new[2], new[3], new[4] = old[0], old[1], old[2], old[3], old[4]
        new[5], new[6], new[7], new[8] = old[5], old[6], old[7], old[8]
        self.cells = new
        self._mapping = mapping


_none_left = iter(()).__next__


def _nobody() -> None:
    return None


def _plain_cells() -> memoryview:
    return memoryview(bytearray(COUNTS.size)).cast("Q")
