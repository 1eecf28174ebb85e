"""Programs that are odd but legal print the same with the native twin and without it. Each of them did not, or crashed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

BEGIN = """
import importlib, signal, sys, threading, types, weakref
import ferret, ferret.decorate, ferret.span
from ferret import Profiler, ambient

p = Profiler(sink="null", writer="sync", batch_size=10**6, flush_interval=3600)
other = Profiler(sink="null", writer="sync", batch_size=10**6, flush_interval=3600)
with p.measure("first"), other.measure("first"):
    pass

class OwnSpans:
    def write(self, batch):
        with other.measure("inside the sink"):
            pass
        with writing.measure("the sink's own"):  # to be left out
            pass
    def flush(self): pass
    def close(self): pass

writing = Profiler(sink=OwnSpans(), writer="sync", batch_size=10, flush_interval=3600)
"""

PROGRAMS = {
    "a recursion in a thread with a small stack": """
        @p.measure("deep")
        def deep(n):
            return 0 if n == 0 else 1 + deep(n - 1)
        threading.stack_size(64 * 1024)
        thread = threading.Thread(target=lambda: print(deep(100)))
        thread.start()
        thread.join()
        """,
    "each level of a recursion decorates a function": """
        sys.setrecursionlimit(10**6)
        def visit(n):
            if n == 0:
                return 0
            @p.measure("visit")
            def inner():
                return 1 + visit(n - 1)
            return inner()
        print(visit(5000))
        """,
    "decorating is loaded again": """
        importlib.reload(ferret.decorate)
        print(ferret.decorate.Measure)
        """,
    "spans are loaded again": """
        importlib.reload(ferret.span)
        for _ in range(25):
            with writing.measure("x"):
                pass
        print(writing.stats().dropped_by)
        """,
    "the text of an error asks what is handled": """
        class Asks(Exception):
            def __str__(self):
                return f"handled: {sys.exc_info()[0]}"
        @p.measure("fails")
        def fails():
            raise Asks
        try:
            fails()
        except Asks:
            print(p.queue[-1][8])
        """,
    "Ctrl-C while an error is recorded": """
        class Cut(Exception):
            def __str__(self):
                raise KeyboardInterrupt
        @p.measure("cut")
        def cut():
            raise Cut
        try:
            try:
                raise LookupError
            except LookupError:
                cut()
        except KeyboardInterrupt as error:
            while error is not None:
                print(type(error))
                error = error.__context__
        """,
    "what a span lets go of takes the span apart": """
        class Evil:
            def __del__(self):
                del span.span_id
        span = p.measure("x")
        try:
            with span:
                p.current.set(Evil())
        except AttributeError:  # in Python: C has it in its hand already
            pass
        print("alive")
        """,
    "a metaclass takes the span apart": """
        class Meta(type):
            hook = None
            def __getattribute__(cls, name):
                if Meta.hook:
                    Meta.hook()
                return type.__getattribute__(cls, name)
        class Mine(Profiler, metaclass=Meta):
            pass
        mine, tokens = Mine(sink="null", writer="sync", batch_size=10**6, flush_interval=3600), []
        def hook():
            Meta.hook = None
            del span._token
            tokens.append(mine.current.set(5))
        with mine.measure("first"):
            pass
        span = mine.measure("x")
        try:
            with span:
                Mine.changed = 1
                Meta.hook = hook
        except Exception:
            pass
        print("nobody else's token was used:", not any(" used " in repr(token) for token in tokens))
        """,
    "a signal comes as a delivery begins": """
        def record(*_):
            with other.measure("handler"):
                pass
        signal.signal(signal.SIGUSR1, record)
        def ref(mark):
            signal.raise_signal(signal.SIGUSR1)
            return weakref.ref(mark)
        ambient.weakref = types.SimpleNamespace(ref=ref)
        for _ in range(10):
            with writing.measure("x"):
                pass
        print(writing.stats().dropped_by)
        """,
}


def printed(program: str, pure: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(program)],
        env={**os.environ, "FERRET_PURE": pure}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("which", PROGRAMS)
def test_an_odd_program_prints_the_same(which: str) -> None:
    native, pure = printed(PROGRAMS[which], ""), printed(PROGRAMS[which], "1")
    assert native == pure != ""
