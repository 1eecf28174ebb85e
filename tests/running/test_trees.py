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
            2 × add
          fac
            fac
              fac
          outer
          outer.inner
            3 × leaf
          3 × main.<lambda>
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
          a ! SystemExit
            b ! SystemExit
              raises ! SystemExit
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
              2 × leaf
            leaf
          echo
            4 × leaf
          consume ! LookupError
            fails ! LookupError
          consume ! RuntimeError
            stops ! RuntimeError
          dropped
            inner
              leaf
          begun_here
            inner
              2 × leaf
          2 × consume
            inner
              leaf
        """,
    ),
}


def check_times(place: Place) -> None:
    """On each thread, the time that its functions took themselves is the time that the outermost ones ran."""
    spans = place.spans()
    by_id = {span.span_id: span for span in spans}
    for span in spans:
        assert span.duration is not None
        assert span.self_time is not None
        assert 0 <= span.self_time <= span.duration - span.suspended + 1e-9
    for thread in {span.thread_id for span in spans}:
        ours = [span for span in spans if span.thread_id == thread]
        outermost = [span for span in ours if span.parent_id is None or by_id[span.parent_id].thread_id != thread]
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
