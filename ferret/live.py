"""What a process leaves behind however it ends: its counts, in a small file that is memory, and a lock that says it lives.

A profiler counts the spans that it is handed in a mapped file. The kernel keeps such a page when the process is killed, so
that whoever reads the spans later can say how many are missing, to the last one.

The file is in `/dev/shm`, which is memory, and not beside the spans. Storing into a mapped file of a real disk may wait for
that disk, whenever the page is just being written back, and the program would wait with it at a span. So the counts
survive any death of the process, but not of the machine. The next profiler that records into the same place puts them
into the facts of the run, and removes the file.

The lock is a `flock`, shared by all processes that still work for the profiler. It goes with the last of them.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import operator
import os
import stat
import struct
import time
import weakref
from contextlib import suppress
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MEMORY = "/dev/shm"  # noqa: S108 - the folder in it is made with mode 0700, and refused unless it is ours
"""A file system that is memory."""

CLAIMED: Final = 0
"""The cell that says how many spans may have been handed to the writer: as many, or a few less."""
BLOCK: Final = 1
"""The cell that says how many less at most, plus one."""
RETIRING: Final = 2
"""The cell that says how many less besides, for a moment."""
WRITTEN: Final = 3
FAILED: Final = 4
DROPPED: Final[Mapping[str, int]] = {"overflow": 5, "closed": 6, "suppressed": 7, "not_owner": 8}
"""The cells that count drops, by reason. `suppressed` spans were never handed over."""
_CELLS = 9

MOST_CLAIMED: Final = 64
"""Spans that are claimed at a time, at most."""
CLAIM_NS: Final = 1_000_000
"""For how long the next claim should last: in a slow program, it is for one span, and the count is exact."""

_MAGIC = b"FRTLIVE\x01"
_CELLS_AT = 64
_ABOUT_AT = 256
_LENGTH = struct.Struct("=I")
_COUNTS = struct.Struct(f"={_CELLS}Q")
_MOST_BYTES = 1 << 20


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
                self.cells[CLAIMED] += size
                self.cells[BLOCK] = size
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
        new = memoryview(mapping)[_CELLS_AT : _CELLS_AT + _COUNTS.size].cast("Q")
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
    return memoryview(bytearray(_COUNTS.size)).cast("Q")


class _About(msgspec.Struct):
    """What the file says of itself."""

    place: str
    device: int
    inode: int
    facts: msgspec.Raw


class Life(msgspec.Struct, frozen=True):
    """What a live file says.

    Attributes:
        token: whose it is, as in `ferret.batch.Origin`.
        alive: whether a process still works for that profiler.
        counts: the cells.
        facts: the process's facts, as JSON.
        same_place: whether the place is still the file that it was, and not another one of that name.
        path: the live file.
    """

    token: str
    alive: bool
    counts: tuple[int, ...]
    facts: bytes
    same_place: bool
    path: str

    @property
    def recorded(self) -> int:
        """Spans that ended, at most."""
        return self.counts[CLAIMED] + self.counts[DROPPED["suppressed"]]

    @property
    def uncertain(self) -> int:
        """How many less they may be."""
        return min(self.counts[CLAIMED], max(0, self.counts[BLOCK] - 1) + self.counts[RETIRING])

    @property
    def written(self) -> int:
        """Spans that the sink is known to have taken; it may have taken more."""
        return self.counts[WRITTEN]

    @property
    def failed(self) -> int:
        """Spans that the sink did not take."""
        return self.counts[FAILED]

    @property
    def dropped_by(self) -> dict[str, int]:
        """Spans that were never offered to it."""
        return {reason: self.counts[cell] for reason, cell in DROPPED.items() if self.counts[cell]}


def begin(counts: Counts, token: str, place: str, facts: bytes) -> str | None:
    """Move the counts into a live file.

    Args:
        counts: what is counted.
        token: whose they are.
        place: the absolute path of the file that the spans go to.
        facts: the process's facts, as JSON.

    Returns:
        The live file, which is there until it is removed; None where there can be none, and the counts stay as they are.
    """
    folder = _own_folder()
    if folder is None:
        return None
    path, unfinished = f"{folder}/{token}.live", f"{folder}/{token}.new"
    try:
        about = msgspec.json.encode(_About(place, *_identity(place), msgspec.Raw(facts)))
        # locked before it has its name: without a lock it would be taken for a dead one's
        file = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
            # all of it at once: a page that is missing when it is stored into would kill the program (SIGBUS)
            os.posix_fallocate(file, 0, _ABOUT_AT + len(about))
            os.pwrite(file, _MAGIC + _LENGTH.pack(len(about)), 0)
            os.pwrite(file, about, _ABOUT_AT)
            mapping = mmap.mmap(file, _ABOUT_AT)  # it keeps the file open, and so the lock
            os.rename(unfinished, path)
        except BaseException:
            os.unlink(unfinished)
            raise
        finally:
            os.close(file)
    except (OSError, ValueError, msgspec.MsgspecError):
        return None
    counts.move_to(mapping)
    return path


def remove(path: str) -> None:
    """Remove a live file: what it says is known by other means, or of no use any more."""
    with suppress(OSError):
        os.unlink(path)


class Hold:
    """Another process's share in the lock: as long as this one works for the profiler, it counts as alive."""

    def __init__(self, token: str) -> None:
        folder = _own_folder(make=False)
        self._file = -1
        if folder is not None:
            with suppress(OSError):
                self._file = os.open(f"{folder}/{token}.live", os.O_RDONLY | os.O_NOFOLLOW)
                fcntl.flock(self._file, fcntl.LOCK_SH)
        self._token, self._folder = token, folder

    @property
    def held(self) -> bool:
        """Whether there is such a file."""
        return self._file >= 0

    @property
    def files(self) -> tuple[int, ...]:
        """The descriptor that holds the share, if there is one; who inherits it, holds it too."""
        return (self._file,) if self.held else ()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        if self.held:
            os.close(self._file)
            self._file = -1

    def read(self) -> Life | None:
        """What it says at this moment."""
        path = f"{self._folder}/{self._token}.live"
        return _read(self._file, self._token, path, lambda _: True) if self.held else None


def look(place: str) -> dict[str, Life]:
    """What the live files of a place say, by token. Only those of the user who asks."""
    return {life.token: life for life in _lives(lambda other: other == place)}


def sweep() -> None:
    """Remove the files of dead profilers whose place was removed: nobody will ever ask for them."""
    for life in _lives(_was_removed):
        if not life.alive:
            remove(life.path)


def _lives(wanted: Callable[[str], bool]) -> Iterator[Life]:
    """The readable live files whose place is wanted."""
    folder = _own_folder(make=False)
    if folder is None:
        return
    for name in sorted(os.listdir(folder)):
        token, _, kind = name.rpartition(".")
        if kind != "live":
            continue
        path = f"{folder}/{name}"
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            life = _read(file, token, path, wanted)
        finally:
            os.close(file)
        if life is not None:
            yield life


def _read(file: int, token: str, path: str, wanted: Callable[[str], bool]) -> Life | None:
    try:
        head = os.pread(file, _ABOUT_AT, 0)
        (length,) = _LENGTH.unpack_from(head, len(_MAGIC))
        if not head.startswith(_MAGIC) or length > _MOST_BYTES:
            return None
        about = msgspec.json.decode(os.pread(file, length, _ABOUT_AT), type=_About)
        if not wanted(about.place):
            return None
        # first the lock, then the counts: those of a dead process are final
        alive = _is_locked(file)
        counts = _COUNTS.unpack(os.pread(file, _COUNTS.size, _CELLS_AT))
    except (OSError, ValueError, struct.error, msgspec.MsgspecError):
        return None  # not one of ours, or damaged: it says nothing
    same = _identity(about.place) == (about.device, about.inode)
    return Life(token, alive, counts, bytes(about.facts), same, path)


def _is_locked(file: int) -> bool:
    for wait in (0.0, 0.001, 0.005):  # another reader, who asks the same, holds the lock for a moment
        time.sleep(wait)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.EAGAIN}:
                raise
        else:
            fcntl.flock(file, fcntl.LOCK_UN)
            return False
    return True


def _identity(place: str) -> tuple[int, int]:
    try:
        found = os.stat(place)
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def _was_removed(place: str) -> bool:
    return not os.path.lexists(place) and os.path.isdir(os.path.dirname(place))  # and not only unmounted


def _own_folder(*, make: bool = True) -> str | None:
    """This user's folder; None where there can be none, or where somebody else has made it."""
    path = f"{MEMORY}/ferret-{os.getuid()}"
    try:
        if make:
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
        found = os.lstat(path)
    except OSError:
        return None
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return path if ours else None
