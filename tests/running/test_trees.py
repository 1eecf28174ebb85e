"""Who called whom, how often, for how long and how it ended: against trees that are written by hand."""

from __future__ import annotations

import pytest

from tests.running.programs import Place, tree

HEAD = """
import asyncio, contextlib, functools, sys, threading, time
from concurrent.futures import ThreadPoolExecutor

"""

PROGRAMS = {
    "plain calls, recursion, lambdas, closures, decorators, classes": (
        """
        def twice(f):
            @functools.wraps(f)
            def wrapper(*args):
                return f(f(*args))
            return wrapper
        @twice
        def add(x): return x + 1
        def fac(n): return n * fac(n - 1) if n else 1
        def outer():
            def inner(): return [leaf(x) for x in range(2)] + list(leaf(x) for x in range(1))
            return inner
        def leaf(x): return x
        class Thing:
            def __init__(self): self.x = leaf(1)
            @property
            def value(self): return leaf(2)
            @classmethod
            def make(cls): return cls()
            @staticmethod
            def nothing(): pass
            def __eq__(self, other): return True
            def __getattr__(self, name): return leaf(name)
            def __del__(self): leaf(3)
        def main():
            add(1)
            fac(2)
            outer()()
            sorted([3, 1, 2], key=lambda x: -x)
            list(map(leaf, [1]))
            thing = Thing.make()
            thing.value, thing.nothing(), thing == 1, thing.missing
            del thing
        main()
        """,
        """
        twice
        main
          twice.wrapper
            2 x add
          fac
            fac
              fac
          outer
          outer.inner
            3 x leaf
          3 x main.<lambda>
          leaf
          Thing.make
            Thing.__init__
              leaf
          Thing.value
            leaf
          Thing.nothing
          Thing.__eq__
          Thing.__getattr__
            leaf
          Thing.__del__
            leaf
        """,
    ),
    "exceptions: through frames, caught, raised again, in a context, from finally": (
        """
        def main():
            for what in (ValueError, StopIteration, KeyboardInterrupt, SystemExit):
                try: a(what)
                except BaseException: pass
            with contextlib.suppress(OSError), Manager(): raises(OSError)
            with Manager(True): raises(LookupError)
            with contextlib.suppress(KeyError): finally_()
            recover(3)
        def a(what): b(what)
        def b(what):
            try: raises(what)
            except ValueError: raise TypeError from None
        def raises(what): raise what
        class Manager:
            def __init__(self, swallows=False): self.swallows = swallows
            def __enter__(self): pass
            def __exit__(self, *_): return self.swallows
        def finally_():
            try: raises(KeyError)
            finally: fine()
        def fine(): pass
        def recover(n):
            if n:
                with contextlib.suppress(KeyError): recover(n - 1)
                fine()
            raise KeyError(n)
        main()
        """,
        """
        main ! KeyError
          a ! TypeError
            b ! TypeError
              raises ! ValueError
          a
            b
              raises
          a ! KeyboardInterrupt
            b ! KeyboardInterrupt
              raises ! KeyboardInterrupt
          a
            b
              raises
          Manager.__init__
          Manager.__enter__
          raises ! OSError
          Manager.__exit__
          Manager.__init__
          Manager.__enter__
          raises ! LookupError
          Manager.__exit__
          finally_ ! KeyError
            raises ! KeyError
            fine
          recover ! KeyError
            recover ! KeyError
              recover ! KeyError
                recover ! KeyError
                fine
              fine
            fine
        """,
    ),
    "generators: nested, sent to, thrown into, closed, dropped, never begun, handed on": (
        """
        def leaf(): pass
        def inner(n):
            for i in range(n):
                leaf()
                got = yield i
            return "done"
        def outer(n):
            result = yield from inner(n)
            leaf()
        def echo():
            while True:
                try: x = yield leaf()
                except ValueError: leaf()
        def fails():
            yield 1
            raise LookupError
        def stops():
            yield 1
            raise StopIteration
        def consume(g): return list(g)
        def dropped():
            next(inner(3))
        def begun_here():
            g = inner(2)
            next(g)
            return g
        def main():
            list(outer(2))
            e = echo()
            next(e), e.send(1), e.throw(ValueError), e.close()
            with contextlib.suppress(LookupError): consume(fails())
            with contextlib.suppress(RuntimeError): consume(stops())
            dropped()
            inner(1), inner(1).close()
            with contextlib.suppress(OSError): inner(1).throw(OSError)
            consume(begun_here())
            consume(x for x in inner(1))
        main()
        """,
        """
        main
          outer
            inner
              2 x leaf
            leaf
          echo
            4 x leaf
          consume ! LookupError
            fails ! LookupError
          consume ! RuntimeError
            stops ! RuntimeError
          dropped
            inner
              leaf
          begun_here
            inner
              2 x leaf
          consume
          consume
            inner
              leaf
        """,
    ),
}


CONCURRENT = {
    "tasks, gather, groups, cancellation, threads from asyncio, async generators, async with": (
        """
        def leaf(): pass
        async def child(n):
            leaf()
            await asyncio.sleep(0)
            leaf()
            return n
        async def awaits(): return await child(1)
        async def fails():
            await asyncio.sleep(0)
            raise ValueError
        async def forever():
            await asyncio.sleep(1000)
        async def numbers():
            for i in range(2):
                await child(i)
                yield i
        class Manager:
            async def __aenter__(self): await child(0)
            async def __aexit__(self, *_): leaf()
        def blocking(): leaf()
        def callback(): leaf()
        async def groups():
            async with asyncio.TaskGroup() as group:
                group.create_task(child(5))
                group.create_task(child(6))
        async def group_fails():
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                group.create_task(forever())
        async def main():
            await awaits()
            await asyncio.gather(child(1), child(2))
            await groups()
            try: await group_fails()
            except* ValueError: pass
            task = asyncio.create_task(forever(), name="the task")
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError): await task
            with contextlib.suppress(TimeoutError): await asyncio.wait_for(forever(), 0.01)
            async for _ in numbers(): pass
            async with Manager(): leaf()
            await asyncio.to_thread(blocking)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, blocking)
            loop.call_soon(callback)
            await asyncio.sleep(0)
            partial = numbers()
            await anext(partial)
            await partial.aclose()
        asyncio.run(main())
        """,
        """
        main
          awaits
            child
              2 x leaf
          2 x child
            2 x leaf
          groups
            2 x child
              2 x leaf
          group_fails ! ExceptionGroup
            fails ! ValueError
            forever ! CancelledError
          2 x forever ! CancelledError
          numbers
            2 x child
              2 x leaf
          Manager.__aenter__
            child
              2 x leaf
          leaf
          Manager.__aexit__
            leaf
          2 x blocking
            leaf
          numbers
            child
              2 x leaf
        callback
          leaf
        """,
    ),
    "threads, pools, timers": (
        """
        def leaf(): pass
        def work(n):
            leaf()
            if n: start(n - 1)
        def start(n):
            thread = threading.Thread(target=work, args=[n])
            thread.start()
            thread.join()
        class Own(threading.Thread):
            def run(self): leaf()
        def fails(): raise OSError
        def initialise(): pass
        def pooled():
            with ThreadPoolExecutor(1, initializer=initialise) as pool:
                list(pool.map(work, [0, 0]))
                pool.submit(fails).exception()
                submitted(pool)
        def submitted(pool): pool.submit(leaf).result()
        def timed():
            timer = threading.Timer(0, leaf)
            timer.start()
            timer.join()
        def main():
            start(1)
            own = Own()
            own.start(), own.join()
            pooled()
            timed()
        main()
        """,
        """
        main
          start
            work
              leaf
              start
                work
                  leaf
          Own.run
            leaf
          pooled
            initialise
            2 x work
              leaf
            fails ! OSError
            submitted
              leaf
          timed
            leaf
        """,
    ),
}


def check_times(place: Place) -> None:
    """On each thread and task, the time that its functions took themselves is the time that the outermost ones ran."""
    spans = place.spans()
    for span in spans:
        assert span.duration is not None
        assert span.self_time is not None
        assert 0 <= span.self_time <= span.duration - span.suspended + 1e-9
    tracks = {span.span_id: (span.thread_id, span.task_name) for span in spans}
    for track in set(tracks.values()):
        ours = [span for span in spans if tracks[span.span_id] == track]
        outermost = [span for span in ours if tracks.get(span.parent_id or "") != track]
        running = sum((span.duration or 0) - span.suspended for span in outermost)
        assert sum(span.self_time or 0 for span in ours) == pytest.approx(running, abs=1e-6 * len(ours), rel=1e-6)


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_thread(place: Place, name: str) -> None:
    source, expected = PROGRAMS[name]
    place.write("program.py", source)
    path = place.folder / "program.py"
    path.write_text(HEAD + path.read_text())
    place.watched("program.py")
    assert place.tree() == tree(expected)
    check_times(place)


@pytest.mark.parametrize("name", CONCURRENT)
@pytest.mark.parametrize("python", [[], ["-X", "dev"]], ids=["", "dev"])
def test_many_threads_and_tasks(place: Place, name: str, python: list[str]) -> None:
    source, expected = CONCURRENT[name]
    place.write("program.py", source)
    path = place.folder / "program.py"
    path.write_text(HEAD + path.read_text())
    done = place.watched("program.py", python=python)
    assert done.status == 0, done.err
    assert place.tree() == tree(expected)
    check_times(place)


def test_the_tasks_have_their_names(place: Place) -> None:
    place.write(
        "program.py",
        """
        import asyncio
        async def child(): await asyncio.sleep(0)
        async def main(): await asyncio.create_task(child(), name="the task")
        asyncio.run(main())
        """,
    )
    place.watched("program.py")
    main, child = place.spans()
    assert (main.task_name, child.task_name) == ("Task-1", "the task")
    assert (main.name, child.parent_id) == ("__main__.main", main.span_id)


def test_who_waits_for_what_an_error_is_thrown_into_is_not_suspended_while_that_runs(place: Place) -> None:
    place.write(
        "program.py",
        """
        import asyncio, contextlib, time
        def busy():
            end = time.perf_counter() + 0.01
            while time.perf_counter() < end: pass
        async def cleans_up():
            try: await asyncio.sleep(1000)
            finally: busy()
        async def gives_in(): await cleans_up()
        async def swallows():
            try: await asyncio.sleep(1000)
            except asyncio.CancelledError:
                busy()
                await asyncio.sleep(0.01)
                busy()
        async def goes_on(depth):
            await (goes_on(depth - 1) if depth else swallows())
            busy()
            await asyncio.sleep(0.01)
        async def main():
            with contextlib.suppress(TimeoutError): await asyncio.wait_for(gives_in(), 0.01)
            task = asyncio.create_task(goes_on(2))
            await asyncio.sleep(0.01)
            task.cancel()
            await task
        def numbers():
            for number in range(3):
                try: yield number
                except ValueError: busy()
        def passes_on():
            yield from numbers()
        def consumes():
            given = passes_on()
            next(given)
            given.throw(ValueError())
            busy()
            list(given)
        def by_hand():
            given = numbers()
            next(given)
            try: yield
            finally: given.throw(ValueError())
        asyncio.run(main())
        consumes()
        contextlib.contextmanager(by_hand)().__enter__()
        with contextlib.contextmanager(by_hand)(): busy()
        """,
    )
    place.watched("program.py")
    check_times(place)


def test_times_are_those_that_the_program_measured_itself(place: Place) -> None:
    place.write(
        "program.py",
        """
        import asyncio, time, sys
        told = []
        def busy(ms):
            end = time.perf_counter() + ms / 1000
            while time.perf_counter() < end: pass
        def numbers():
            for _ in range(3):
                busy_here = time.perf_counter() + 0.01
                while time.perf_counter() < busy_here: pass
                yield
        def consume():
            for _ in numbers(): busy(20)
        async def waits():
            busy(10)
            await asyncio.sleep(0.05)
            busy(10)
        async def main(): await asyncio.gather(waits(), waits())
        def fails():
            busy(10)
            end = time.perf_counter() + 0.02
            while time.perf_counter() < end: pass
            raise ValueError
        consume()
        asyncio.run(main())
        try: fails()
        except ValueError: pass
        """,
    )
    place.watched("program.py")
    spans = {span.name.removeprefix("__main__."): span for span in place.spans()}
    times = {name: (span.duration or 0, span.suspended, span.self_time or 0) for name, span in spans.items()}

    def about(expected: float, found: float) -> None:
        assert expected * 0.99 <= found, f"{found} is less than {expected}: {times}"
        assert found < expected * 1.2 + 0.5, f"{found} is far more than {expected}: {times}"  # a busy machine

    about(0.09, times["consume"][0])
    about(0.09, times["numbers"][0])
    about(0.06, times["numbers"][1])
    about(0.03, times["numbers"][2])
    about(0.05, times["waits"][1])
    about(0.03, times["fails"][0])
    about(0.02, times["fails"][2])
    assert times["consume"][2] < times["consume"][0] / 3
    assert times["main"][2] < times["main"][1]
    assert times["waits"][2] < times["waits"][0] / 2
    check_times(place)


def test_a_generator_goes_on_in_another_thread_and_two_take_turns(place: Place) -> None:
    place.write(
        "program.py",
        """
        import threading
        def leaf(): pass
        def numbers(n):
            for i in range(n):
                leaf()
                yield i
        def consume(g): return list(g)
        def turns(): return list(zip(numbers(2), numbers(3)))
        def recursive(n):
            yield n
            if n: yield from recursive(n - 1)
        def main():
            g = numbers(2)
            next(g)
            thread = threading.Thread(target=consume, args=[g])
            thread.start()
            thread.join()
            turns()
            consume(recursive(2))
            left = numbers(1)
            next(left)
            return left
        left = main()
        """,
    )
    assert place.watched("program.py").status == 0
    assert place.tree() == tree("""
        main
          numbers
            2 x leaf
          consume
          turns
            2 x numbers
              2 x leaf
          consume
            recursive
              recursive
                recursive
          numbers ! unfinished
            leaf
    """)
