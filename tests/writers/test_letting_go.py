"""A batch is freed by whoever delivered it, at once: the garbage collector would do it in the program's time, or never."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import WAIT_S, wait_until

from ferret import Profiler, RejectedError
from ferret.errors import StorageError
from ferret.sinks.memory import MemorySink
from ferret.sinks.null import NullSink
from ferret.sinks.tee import TeeSink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferret.batch import Batch


def record_and_see_that_it_is_let_go_of(profiler: Profiler, name: str, count: int) -> None:
    before = sys.getrefcount(name)
    gc.disable()
    try:
        for _ in range(count):
            with profiler.measure(name):
                pass
        profiler.flush(WAIT_S)
        assert profiler.stats().pending == 0
        wait_until(lambda: sys.getrefcount(name) == before)
    finally:
        gc.enable()


@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded", "process"])
def test_a_batch_is_let_go_of_by_whoever_delivered_it_and_not_by_the_garbage_collector(writer: str, db: str) -> None:
    name = f"a name of {writer}'s own"
    with Profiler(db, writer=writer, batch_size=100) as profiler:
        profiler.start("first").end()
        assert profiler.flush(WAIT_S)
        record_and_see_that_it_is_let_go_of(profiler, name, 1000)
        assert profiler.flush(WAIT_S)


class FailsEverySecondTime(MemorySink):
    """Keeps nothing."""

    def __init__(self, error: Exception | type[Exception]) -> None:
        super().__init__()
        self._error = error
        self._tries = 0

    def write(self, batch: Batch) -> None:
        self._tries += 1
        if self._tries % 2:
            raise self._error


@pytest.mark.parametrize(
    "error", [OSError, OSError("the same one"), ValueError, RejectedError, RejectedError("no", [0])]
)
@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded"])
@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
def test_a_batch_that_a_sink_did_not_take_at_once_is_let_go_of_without_the_garbage_collector(
    writer: str, error: Any
) -> None:
    name = f"a name of {writer}'s own"
    with Profiler(sink=FailsEverySecondTime(error), writer=writer, batch_size=100) as profiler:
        record_and_see_that_it_is_let_go_of(profiler, name, 300)


class TellsInItsOwnWords(MemorySink):
    """Keeps nothing. What it raises came from another error, which a function of `contextmanager` caught."""

    def write(self, batch: Batch) -> None:
        with self.translated():
            raise OSError(batch.id)

    @contextmanager
    def translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.words(error) from error

    def words(self, error: OSError) -> Exception:
        return StorageError("not stored")


class TellsOfAGroup(TellsInItsOwnWords):
    def words(self, error: OSError) -> Exception:
        return ExceptionGroup("not stored", [error, ExceptionGroup("inner", [StorageError(), error])])


class TellsWhileItHandles(TellsInItsOwnWords):
    def write(self, batch: Batch) -> None:
        try:
            super().write(batch)
        except StorageError:
            raise LookupError  # noqa: B904 - as sinks do


@pytest.mark.parametrize("sink", [TellsInItsOwnWords, TellsOfAGroup, TellsWhileItHandles, TeeSink])
@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded"])
@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
def test_what_a_sinks_error_came_from_holds_no_batch(writer: str, sink: Any) -> None:
    name = f"a name of {writer}'s own"
    broken = TeeSink(sinks=[NullSink(), TellsInItsOwnWords()]) if sink is TeeSink else sink()
    with Profiler(sink=broken, writer=writer, batch_size=100, close_timeout=0.1) as profiler:
        record_and_see_that_it_is_let_go_of(profiler, name, 300)


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
def test_an_error_that_the_program_handles_while_a_sink_fails_keeps_its_traceback() -> None:
    def handle() -> None:
        try:
            raise KeyError
        except KeyError as error:
            with Profiler(sink=TellsInItsOwnWords(), writer="sync", close_timeout=0.1) as profiler:
                profiler.start("x").end()
            raise ValueError from error

    with pytest.raises(ValueError, match=r"^$") as raised:
        handle()
    cause = raised.value.__cause__
    assert cause is not None
    assert cause.__traceback__ is not None
