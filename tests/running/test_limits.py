"""Programs that do strange things, or a great many of them: nothing leaks, nothing breaks, nothing is lost."""

from __future__ import annotations

from tests.running.programs import Place, tree

COUNT = """
    import gc
    def held():
        gc.collect()
        return len(gc.get_objects())
"""


def test_functions_that_are_made_and_dropped_leave_nothing_behind(place: Place) -> None:
    place.write(
        "program.py",
        COUNT
        + """
    def several(count):
        for n in range(count):
            assert eval(f"lambda: {n % 10}")() == n % 10
    several(3000)
    before = held()
    several(12000)
    grown = held() - before
    assert grown < 500, grown
    """,
    )
    done = place.watched("program.py")
    assert (done.status, done.err) == (0, "")
    assert place.counts() == {"<lambda>": 15000, "several": 2, "held": 2}


def test_threads_and_dropped_generators_leave_nothing_behind(place: Place) -> None:
    place.write(
        "program.py",
        COUNT
        + """
    import sys, threading
    def leaf(): pass
    def generator(): yield leaf()
    def drop(count):
        for _ in range(count): next(generator())
    def threads(count):
        for _ in range(count):
            thread = threading.Thread(target=leaf)
            thread.start()
            thread.join()
    drop(5000), threads(200)
    before = held()
    drop(15000), threads(800)
    grown = held() - before
    assert grown < 1200, grown  # of each thread, its name is kept
    """,
    )
    done = place.watched("program.py")
    assert (done.status, done.err) == (0, "")
    counts = place.counts()
    assert (counts["generator"], counts["leaf"]) == (20_000, 21_000)
    assert {span.status for span in place.report.spans()} == {"ok"}


def test_a_very_hot_function_loses_no_call(place: Place) -> None:
    place.write("program.py", "def tiny(): pass\ndef main():\n    for _ in range(200_000): tiny()\nmain()")
    place.watched("program.py")
    assert place.counts() == {"tiny": 200_000, "main": 1}
    assert place.run.lost == 0


def test_a_collector_that_never_rests(place: Place) -> None:
    place.write(
        "program.py",
        """
        import gc
        class Node:
            def __init__(self): self.me = self
            def __del__(self): leaf()
        def leaf(): pass
        def main():
            for _ in range(200): Node()
            gc.collect()
        gc.set_threshold(1)
        main()
        """,
    )
    place.same("program.py")
    counts = place.counts()
    assert (counts["main"], counts["Node.__init__"]) == (1, 200)
    assert counts["Node.__del__"] == counts["leaf"] <= 200  # not those that it runs during a callback of ferret's


def test_the_recursion_limit_is_where_it_was_and_nothing_of_ferret_shows(place: Place) -> None:
    place.write(
        "program.py",
        """
        import sys, traceback
        def deeper(n):
            global deepest
            deepest = n
            deeper(n + 1)
        def generator(n):
            global deepest
            deepest = n
            yield from generator(n + 1)
        def method(n):
            global deepest
            deepest = n
            try: method(n + 1)
            finally: helper()
        def helper(): pass
        for f in (deeper, lambda n: list(generator(n)), method):
            for _ in range(3):
                try: f(0)
                except RecursionError as error:
                    traced = traceback.format_exc()
                    assert "/ferret/" not in traced, traced
                    assert deepest > 900, deepest
        assert sys.getrecursionlimit() == 1000
        print("fine")
        """,
    )
    assert place.same("program.py").out == "fine\n"
    spans = [span for span in place.spans() if span.name == "__main__.deeper"]
    assert len(spans) > 3 * 900
    assert {span.error_type for span in spans} == {"RecursionError"}
    assert place.run.lost == 0


def test_strange_names_and_hostile_errors(place: Place) -> None:
    place.write(
        "program.py",
        """
        import contextlib, types
        class Hostile(Exception):
            def __str__(self): raise self
            __repr__ = __str__
        def fails(error): raise error
        def f(): pass
        with contextlib.suppress(Hostile): fails(Hostile())
        with contextlib.suppress(ValueError): fails(ValueError("\\ud800" + "x" * 100_000))
        f.__qualname__ = f.__name__ = "g"
        f()
        for name in (None, 7, "\\ud800", "", "a\\nb"):
            if name is None: del __name__
            else: globals()["__name__"] = name
            exec("def made(): pass\\nmade()")
        g = types.FunctionType(f.__code__.replace(co_name="\\ud800", co_qualname="<b>\\n"), {})
        g()
        print("fine")
        """,
    )
    done = place.same("program.py")
    assert done.out == "fine\n"
    names = [span.name for span in place.spans()]
    assert names[:3] == ["__main__.fails", "__main__.fails", "__main__.f"]
    assert names[2] == "__main__.f"
    errors = [span.error or "" for span in place.spans()[:2]]
    assert errors[0] == "<Hostile without a str()>"
    assert 100 < len(errors[1]) <= 65_536
    assert place.run.lost == 0


def test_code_that_was_there_before_and_code_that_changes(place: Place) -> None:
    place.write(
        "program.py",
        """
        import importlib, sys
        import part
        part.f()
        with open("part.py", "w") as file: file.write("def g(): pass\\ndef f(): g()\\n\\n")
        importlib.reload(part)
        part.f()
        def swap(): pass
        swap.__code__ = (lambda: part.g()).__code__
        swap()
        """,
    )
    place.write("part.py", "def f(): pass")
    place.watched("program.py")
    assert place.tree() == tree("""
        part.f
        part.f
          part.g
        <lambda>
          part.g
    """)
