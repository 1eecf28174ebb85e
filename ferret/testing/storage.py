"""What happens to a file while a sink writes to it: its process is killed, the disk is full. In forked children."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ferret.testing.patience import in_child
from ferret.testing.records import make_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ferret.batch import Batch
    from ferret.sinks.base import Sink


def numbered(number: int) -> Batch:
    """A batch that can be told from the others by its spans' name, of a size of its own."""
    return make_batch(1 + number * 7 % 40, sequence=number, names=[f"batch {number}"])


def killed_while_it_writes(make_sink: Callable[[], Sink], first: int, seed: int, at_most_s: float) -> int:
    """Let a child write one batch after another until it is killed; how many `write` returned from.

    Args:
        make_sink: opens the sink, in the child.
        first: the number of the first batch.
        seed: decides when to kill.
        at_most_s: the longest that it may write.
    """
    told, telling = os.pipe()
    child = _fork()
    if not child:
        try:
            sink = make_sink()
            os.write(telling, b".")
            for number in range(first, first + 100_000):
                sink.write(numbered(number))
                os.write(telling, b".")
        finally:
            os._exit(1)
    os.close(telling)
    try:
        opened = os.read(told, 1)
        time.sleep(random.Random(seed).uniform(0, at_most_s))  # noqa: S311 - no secret
    finally:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    with os.fdopen(told, "rb") as pipe:
        written = pipe.read()
    assert opened, "the sink could not be opened in a forked child"
    assert os.WIFSIGNALED(status), "the sink raised in a forked child"
    return len(written)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tried
        return os.fork()


@contextmanager
def files_of_at_most(size: int) -> Generator[None]:
    """No file may grow beyond so many bytes, as on a disk that is full. For a forked child: it changes the process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def fill_the_disk(make_sink: Callable[[], Sink], folder_size: Callable[[], int], most: int) -> None:
    """In a child: write until the disk is full, then get room again, write what failed once more, and go on.

    Batches 0, 1, … `most - 1` are written in the end. Some fail at first, if the sink writes to files at all.
    """

    def work() -> None:
        sink = make_sink()
        failed = []
        sink.write(numbered(0))
        sink.flush()
        with files_of_at_most(folder_size() + 8192):
            for number in range(1, most):
                try:
                    sink.write(numbered(number))
                except Exception:  # noqa: BLE001 - any exception says "not stored"
                    failed.append(number)
        for number in failed:
            sink.write(numbered(number).again())
        sink.flush()
        sink.close()

    in_child(work)
