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
import os
import random
import stat
import struct
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from ferret.ledger.counts import BLOCK, CELLS_AT, CLAIMED, COUNTS, DROPPED, FAILED, RETIRING, WRITTEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ferret.ledger.counts import Counts

MEMORY = "/dev/shm"  # noqa: S108 - the folder in it is made with mode 0700, and refused unless it is ours
"""A file system that is memory."""

_MAGIC = b"FRTLIVE\x01"
_ABOUT_AT = 256
_LENGTH = struct.Struct("=I")
_MOST_BYTES = 1 << 20
_FORGOTTEN_S = 86_400
"""After so long, a folder that is not there was removed, rather than unmounted for a while."""

SWEPT_AT_ONCE = 100
"""Files that one sweep looks at, which takes 3 ms. Where a day's tests had killed 4,000 programs, looking at all of what
these had left took each new profiler 400 ms."""


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
        place: the file that the spans go to.
    """

    token: str
    alive: bool
    counts: tuple[int, ...]
    facts: bytes
    same_place: bool
    path: str
    place: str = ""

    @property
    def recorded(self) -> int:
        """Spans that ended, at most."""
        return self.counts[CLAIMED] + self.counts[DROPPED["suppressed"]]

    @property
    def uncertain(self) -> int:
        """How many less they may be."""
        return max(0, min(self.counts[CLAIMED], max(self.counts[BLOCK], self.counts[RETIRING]) - 1))

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
    path, unfinished = f"{folder}/{token}.{mark_of(place)}.live", f"{folder}/{token}.new"
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
        self._token, self._path, self._file = token, "", -1
        for path, found, _ in _files():
            if found == token:
                with suppress(OSError):
                    self._file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
                    fcntl.flock(self._file, fcntl.LOCK_SH)
                self._path = path

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
        return _read(self._file, self._token, self._path, lambda _: True) if self.held else None


def look(place: str) -> dict[str, Life]:
    """What the live files of a place say, by token. Only those of the user who asks."""
    mark = mark_of(place)
    marked = [file for file in _files() if file[2] == mark]
    return {life.token: life for life in _lives(marked, lambda other: other == place)}


def sweep() -> None:
    """Remove the files of dead profilers whose place was removed: nobody will ever ask for them.

    Where there are many files, it looks at some, and later sweeps at others.
    """
    files = list(_files())
    if len(files) > SWEPT_AT_ONCE:
        # not of the shared numbers: the program may have seeded them
        files = random.SystemRandom().sample(files, SWEPT_AT_ONCE)
    for life in _lives(files, lambda place: not os.path.lexists(place)):
        if not life.alive and (os.path.isdir(os.path.dirname(life.place)) or _age(life.path) > _FORGOTTEN_S):
            remove(life.path)


def _age(path: str) -> float:
    try:
        return time.time() - os.stat(path).st_mtime
    except OSError:
        return 0.0


def mark_of(place: str) -> str:
    """What the name of a live file says of its place, so that not all of them need to be opened."""
    return f"{zlib.crc32(place.encode(errors='surrogatepass')):08x}"


def _files() -> Iterator[tuple[str, str, str]]:
    """The path, token and mark of each live file."""
    folder, names = _own_folder(make=False), list[str]()
    if folder is not None:
        with suppress(OSError):
            names = sorted(os.listdir(folder))
    for name in names:
        token, _, rest = name.partition(".")
        mark, _, kind = rest.partition(".")
        if kind == "live":
            yield f"{folder}/{name}", token, mark


def _lives(files: Iterable[tuple[str, str, str]], wanted: Callable[[str], bool]) -> Iterator[Life]:
    """Those that can be read, and whose place is wanted."""
    for path, token, _ in files:
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
        counts = COUNTS.unpack(os.pread(file, COUNTS.size, CELLS_AT))
    except (OSError, ValueError, RecursionError, struct.error):  # msgspec's own errors are ValueErrors
        return None  # not one of ours, or damaged: it says nothing
    same = _identity(about.place) == (about.device, about.inode)
    return Life(token, alive, counts, bytes(about.facts), same, path, about.place)


def _is_locked(file: int) -> bool:
    for wait in (0, 0.001, 0.005):  # another reader, who asks the same, holds the lock for a moment
        if wait:  # a sleep of no time takes 70 µs
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
    except (OSError, ValueError):  # ValueError: a damaged file says that its place has a NUL in its name
        return 0, 0
    return found.st_dev, found.st_ino


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
