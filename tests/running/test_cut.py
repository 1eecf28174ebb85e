"""A program that is cut short keeps what it recorded, and ends as it would have ended without ferret."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from typing import Any

import pytest

from ferret import StorageError
from ferret.analysis.tree import span_models
from ferret.run.callbacks import leave_out_of
from ferret.run.selection import OWN_FOLDER
from tests.running.programs import Place, tree, until

LOOP = """
    import asyncio, signal, sys, threading, time

    def leaf(): pass

    def numbers():
        while True:
            yield leaf()

    def outer(): inner()

    def inner():
        for n, _ in enumerate(numbers()):
            if n == 999:
                print("ready", flush=True)
            if n >= 999:
                time.sleep(0.01)

    async def waits(): await asyncio.sleep(1000)

    async def several():
        tasks = [asyncio.create_task(waits()) for _ in range(2)]
        asyncio.get_running_loop().call_later(0.2, lambda: print("ready", flush=True))
        await asyncio.gather(*tasks)

    def hot():
        print("ready", flush=True)
        while True:
            leaf()

    if __name__ == "__main__":
        {main}
"""


def cut(place: Place, main: str, number: int, *, watched: bool, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """Run it until it says that it is ready, send it the signal; its status and what it said on stderr."""
    place.write("program.py", LOOP.replace("{main}", main))
    words = ["program.py"]
    process = place.start_watched(*words, options=options) if watched else place.start(sys.executable, *words)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.3)
    os.kill(process.pid, number)
    # An event loop that is just about to wait does not see a signal until it wakes: CPython looks for signals, lets another
    # thread run, and then waits without a second look. Somebody at a terminal would press Ctrl-C again; a stop wakes it too.
    ended = threading.Event()
    threading.Thread(target=wake, args=[process, ended], daemon=True).start()
    try:
        done = place.finish(process)
    finally:
        ended.set()
    return done.status, done.err


def wake(process: subprocess.Popen[bytes], ended: threading.Event) -> None:
    """Have calls that wait end early, now and then: Linux does that when a process is stopped and goes on."""
    while not ended.wait(1):
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("number", "ending"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "unfinished")], ids=["INT", "TERM"]
)
def test_what_was_recorded_is_there_and_what_was_open_says_so(
    place: Place, number: signal.Signals, ending: str
) -> None:
    plain = cut(place, "outer()", number, watched=False)
    watched = cut(place, "outer()", number, watched=True)
    assert watched[0] == plain[0]
    assert "ferret" not in watched[1]
    assert watched[1].count("\n") == plain[1].count("\n")
    found = place.tree()
    leaves = place.counts()["leaf"]
    assert leaves >= 1000
    assert found in (
        tree(f"outer ! {ending}\n  inner ! {ending}\n    numbers{left}\n      {leaves} x leaf")
        for left in ("", " ! unfinished")
    )
    assert not place.run.unclean


def test_ctrl_c_in_the_middle_of_ferrets_own_work_shows_none_of_it(place: Place) -> None:
    for _ in range(6):  # it hits a callback about every other time
        status, error = cut(place, "hot()", signal.SIGINT, watched=True)
        assert status == -signal.SIGINT
        assert "ferret" not in error
        assert error.startswith("Traceback")
        latest = deque(place.report.segments(), maxlen=2)  # there are hundreds of thousands before
        (hot,) = [span for one in latest for span in span_models(one) if span.name == "__main__.hot"]
        assert (hot.status, hot.error_type) == ("error", "KeyboardInterrupt")


def test_what_a_callback_was_handling_when_it_was_cut_is_left_out_too() -> None:
    source = """
def on_return(interrupt):
    try:
        raise StopIteration
    except StopIteration:
        try:
            raise KeyError
        except KeyError:
            interrupt()
"""
    callback: dict[str, Any] = {}
    exec(compile(source, OWN_FOLDER + "callbacks.py", "exec"), callback)

    def interrupt() -> None:
        raise KeyboardInterrupt

    def program() -> None:
        try:
            raise ValueError("the program's own")
        except ValueError:
            callback["on_return"](interrupt)

    with pytest.raises(KeyboardInterrupt) as caught:
        program()
    trace = caught.value.__traceback__
    assert trace is not None
    assert "StopIteration" in "".join(traceback.format_exception(caught.value))
    leave_out_of(caught.value, trace.tb_next or trace)  # as seen from `program`
    told = "".join(traceback.format_exception(caught.value))
    assert "the program's own" in told
    assert "StopIteration" not in told
    assert "KeyError" not in told
    assert OWN_FOLDER not in told


def test_coroutines_that_wait_at_sigterm_are_unfinished_and_suspended(place: Place) -> None:
    status, _ = cut(place, "asyncio.run(several())", signal.SIGTERM, watched=True)
    assert status == -signal.SIGTERM
    assert place.tree().startswith("several ! unfinished\n  2 x waits ! unfinished\n")
    for span in place.spans()[:3]:
        assert span.duration is not None
        assert span.suspended > span.duration / 2


def test_tasks_are_cancelled_at_ctrl_c(place: Place) -> None:
    plain = cut(place, "asyncio.run(several())", signal.SIGINT, watched=False)
    watched = cut(place, "asyncio.run(several())", signal.SIGINT, watched=True)
    assert watched == plain
    assert place.tree() == tree("""
        several ! CancelledError
          2 x waits ! CancelledError
        several.<lambda>
    """)


def test_what_was_handed_over_is_there_after_sigkill(place: Place) -> None:
    main = "g = numbers(); [next(g) for _ in range(2000)]; print('ready', flush=True); time.sleep(100)"
    place.write("program.py", LOOP.replace("{main}", main))
    process = place.start_watched("program.py")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    def stored() -> bool:
        try:
            return place.counts()["leaf"] == 2000
        except StorageError:  # there is nothing to read yet
            return False

    until(stored, "what has been waiting for a while is handed over")
    process.kill()
    assert place.finish(process).status == -signal.SIGKILL
    assert place.counts()["leaf"] == 2000
    assert place.run.unclean


def test_signal_handlers_of_the_program_are_asked_and_recorded(place: Place) -> None:
    place.write(
        "program.py",
        """
        import os, signal, sys
        def leaf(): pass
        def hear(number, frame):
            leaf()
            sys.exit(7)
        def main():
            signal.signal(signal.SIGTERM, hear)
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000000): pass
        main()
        """,
    )
    assert place.same("program.py").status == 7
    assert place.tree() == tree("main ! SystemExit\n  hear ! SystemExit\n    leaf")
