"""Self time: what is left of a span's running time without its children's.

`SelfTimes` finds it in one pass over a run of any length: spans are stored when they end, so that children come before
their parents, and what they took is kept under their parent's key until it comes by. `self_times` is for who holds the
whole run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ferret.analysis.chunks import find

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ferret.analysis.chunks import Bools, Chunk, UInt64
    from ferret.packing import Int64

OPEN_PARENTS: Final = 1 << 17
"""So many spans may be awaited at a time. Beyond that, those that have been awaited longest are given up: their self time
will count children of theirs. A parent that was lost never comes, and must not be kept for ever."""


class SelfTimes:
    """Fed with the chunks of a run in their order. Holds about 3 MB at most. Not thread-safe.

    A child counts if it ran on the track (process, thread, asyncio task) of its parent, and is stored before it or in the
    same chunk.
    """

    def __init__(self, most: int = OPEN_PARENTS) -> None:
        self._most = most
        self._chunk = 0
        # of each awaited parent: its key (sorted), what its children took so far, and when the last of them came
        self._key: UInt64 = np.zeros(0, dtype=np.uint64)
        self._taken: Int64 = np.zeros(0, dtype=np.int64)
        self._seen: Int64 = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        """How many parents are awaited."""
        return len(self._key)

    def of(self, chunk: Chunk) -> Int64:
        """The self time of each span in nanoseconds: as its recorder measured it, or else computed. Never negative."""
        # Multiplied by its track, an id becomes a key that its children on that track can name. The ids of one track stay
        # distinct, as odd numbers have an inverse, and those of two meet as seldom as any two random numbers of 64 bits.
        key = chunk.span_id.view(np.uint64) * chunk.track
        parents = chunk.parent_id.view(np.uint64) * chunk.track
        order = np.argsort(key)
        own = key[order]
        below = np.zeros(len(own), dtype=np.int64)

        came, at = find(own, self._key)
        np.add.at(below, at[came], self._taken[came])

        children = np.flatnonzero((parents != 0) & (parents != key))
        parent, running = parents[children], chunk.running_ns[children]
        here, at = find(own, parent)
        np.add.at(below, at[here], running[here])

        self._await(~came, parent[~here], running[~here])
        computed = np.empty_like(below)
        computed[order] = np.maximum(chunk.running_ns[order] - below, 0)
        return np.where(chunk.self_ns >= 0, chunk.self_ns, computed)

    def _await(self, still: Bools, parent: UInt64, running: Int64) -> None:
        """Keep those who did not come, and what these children of others took."""
        self._chunk += 1
        keys = np.concatenate([self._key[still], parent])
        taken = np.concatenate([self._taken[still], running])
        seen = np.concatenate([self._seen[still], np.full(len(parent), self._chunk)])
        self._key, place = np.unique(keys, return_inverse=True)
        self._taken = np.zeros(len(self._key), dtype=np.int64)
        self._seen = np.zeros(len(self._key), dtype=np.int64)
        np.add.at(self._taken, place, taken)
        np.maximum.at(self._seen, place, seen)
        if len(self._key) > self._most:
            kept = np.sort(np.argsort(self._seen, kind="stable")[-self._most :])
            self._key, self._taken, self._seen = self._key[kept], self._taken[kept], self._seen[kept]


def self_times(
    parent: Int64, track: NDArray[np.integer], duration_ns: Int64, suspended_ns: Int64, measured_ns: Int64
) -> Int64:
    """The self time of each span of a whole run, in nanoseconds; no shorter than 0, no longer than the span.

    Args:
        parent: the place of each span's parent in these arrays, -1 for none.
        track: a number for the process, thread and asyncio task.
        duration_ns: from start to end.
        suspended_ns: how much of it the span was suspended.
        measured_ns: the self time as the recorder measured it; -1 where it did not.
    """
    running = np.clip(duration_ns - suspended_ns, 0, None)
    inner = np.flatnonzero(parent >= 0)
    inner = inner[track[parent[inner]] == track[inner]]
    within = np.zeros_like(running)
    np.add.at(within, parent[inner], running[inner])
    left: Int64 = np.where(measured_ns >= 0, measured_ns, running - within)
    return np.clip(left, 0, duration_ns)
