"""Recording takes no lock and does no I/O: shown by holding every lock, and by listening to what the interpreter does."""

from __future__ import annotations

import gc
import sys
import threading
from contextlib import ExitStack
from typing import Any

import pytest

from ferret import Profiler

NEVER_WAITING = {
    "threaded": {"writer": "threaded"},
    "bounded-drop_newest": {"writer": "bounded", "overflow": "drop_newest", "max_queue": 50},
    "bounded-drop_oldest": {"writer": "bounded", "overflow": "drop_oldest", "max_queue": 50},
    "process": {"writer": "process"},
}
LOCKS = (type(threading.Lock()), type(threading.RLock()), threading.Condition)


def locks_of(thing: object, seen: set[int] | None = None) -> list[Any]:
    """Every lock that is reached from an object of ferret's, through its own attributes."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return []
    seen.add(id(thing))
    if isinstance(thing, LOCKS):
        return [thing]
    if not type(thing).__module__.startswith("ferret"):
        return []
    names = {
        *getattr(thing, "__dict__", {}),
        *(slot for kind in type(thing).__mro__ for slot in getattr(kind, "__slots__", ())),
    }
    return [lock for name in names for lock in locks_of(getattr(thing, name, None), seen)]


listening: list[str] | None = None
audited_threads: set[int] = set()


def listen(event: str, _: object) -> None:
    if listening is not None and threading.get_ident() in audited_threads:
        listening.append(event)


sys.addaudithook(listen)  # there is no way to remove one: it is quiet unless a test listens


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
@pytest.mark.parametrize("name", NEVER_WAITING)
def test_recording_goes_on_while_another_thread_holds_every_lock_of_the_writer(db: str, name: str) -> None:
    profiler = Profiler(db, batch_size=10, **NEVER_WAITING[name])  # type: ignore[arg-type]
    profiler.start("first").end()  # it starts the worker
    profiler.flush()
    locks = locks_of(profiler.writer)
    assert len(locks) >= 3, "the test found no locks to hold"
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            held.set()
            release.wait()

    def record() -> None:
        for number in range(1000):
            if number % 2:
                profiler.writer.alarm = 1  # type: ignore[attr-defined]  # the slow path, too
            profiler.start("x").end()

    holder = threading.Thread(target=hold)
    recorder = threading.Thread(target=record)
    holder.start()
    assert held.wait(10)
    recorder.start()
    recorder.join(10)
    stuck = recorder.is_alive()
    release.set()
    holder.join()
    recorder.join()
    assert not stuck, "a lock was waited for"
    report = profiler.close()
    assert report.recorded == 1001 == report.written + report.dropped


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
@pytest.mark.parametrize("name", NEVER_WAITING)
def test_recording_asks_nothing_of_the_operating_system(db: str, name: str) -> None:
    """Files, sockets, processes, threads, imports: each raises an audit event (PEP 578), and there is none."""
    global listening
    profiler = Profiler(db, batch_size=10, **NEVER_WAITING[name])  # type: ignore[arg-type]
    measured = profiler.measure("decorated")(lambda: None)
    with profiler.measure("first", {"x": 1}):
        measured()
    profiler.flush()
    gc.collect()
    audited_threads.add(threading.get_ident())
    listening = []
    try:
        for number in range(1000):
            with profiler.measure("x", {"n": number}):
                measured()
        heard = listening
    finally:
        listening = None
        audited_threads.clear()
    assert heard == []
    profiler.close()


def test_the_ear_hears(tmp_path: Any) -> None:
    """The check above can fail: a file that is opened while it listens is heard."""
    global listening
    audited_threads.add(threading.get_ident())
    listening = []
    try:
        (tmp_path / "x").write_text("")
        heard = listening
    finally:
        listening = None
        audited_threads.clear()
    assert "open" in heard
