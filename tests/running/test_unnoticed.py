"""The program cannot tell: under `ferret run` it says the same as under Python, byte for byte, and ends the same way."""

from __future__ import annotations

import os
import signal
import stat
import sys
import textwrap
import urllib.request
import zipfile

import pytest

from tests.running.programs import FERRET, Place

WHO_AM_I = """
    import json, os, signal, sys, threading

    NAMES = ("__name__", "__file__", "__package__", "__doc__", "__cached__")

    def look():
        main = sys.modules["__main__"]
        return {
            "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "flags": repr(sys.flags),
            "xoptions": sys._xoptions, "warnings": sys.warnoptions,
            "hooks": [repr(hook).split(" at ")[0] for hook in sys.path_hooks],
            "meta": [repr(finder) for finder in sys.meta_path],
            "main": {name: repr(value) for name, value in vars(main).items() if name in NAMES},
            "environment": {name: value for name, value in os.environ.items()},
            "spec": main.__spec__ and [main.__spec__.name, main.__spec__.origin],
            "signals": {s.name: repr(signal.getsignal(s)) for s in signal.Signals if s != signal.SIGTERM},
            "threads": sorted(t.name for t in threading.enumerate() if not t.name.startswith("ferret")),
            "limits": [sys.getrecursionlimit(), sys.getswitchinterval(), threading.stack_size()],
            "trace": [repr(sys.gettrace()), repr(sys.getprofile()), repr(threading.gettrace())],
            "sitecustomize": repr(sys.modules.get("sitecustomize")),
            "files": sorted(os.listdir()), "folder": os.getcwd(), "tty": sys.stdin.isatty(),
            "excepthooks": [sys.excepthook is sys.__excepthook__, threading.excepthook is threading.__excepthook__],
            "builtins": sorted(dir(__builtins__)),
        }

    if __name__ == "__main__":
        print(json.dumps(look(), indent=1))
        print("words of its own", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("program.py", ["program.py", "--help", "-o", "x", "--", "-m"]),
        ("program.py", ["./program.py"]),
        ("deep/er/a program näme.py", ["deep/er/a program näme.py", "ä"]),
        ("folder/__main__.py", ["folder", "1"]),
        ("folder/__main__.py", ["folder/"]),
        ("package/__main__.py", ["-m", "package", "--all"]),
        ("package/part.py", ["-m", "package.part", "-m", "x"]),
        ("module.py", ["-m", "module"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_a_program_sees_of_itself(place: Place, file: str, words: list[str]) -> None:
    place.write(file, WHO_AM_I)
    if words[-1] == "ä":  # a module that is found in the script's folder, not in the current one
        place.write("deep/er/beside.py", "here = __file__")
    place.same(*words)
    assert place.counts() == {"look": 1}


def test_absolute_paths_links_zip_files_and_scripts_that_cannot_be_written(place: Place) -> None:
    place.write("real/program.py", WHO_AM_I + "\n    import beside\n")
    place.write("real/beside.py", "def f(): pass\nf()")
    (place.folder / "link.py").symlink_to("real/program.py")
    (place.folder / "real/program.py").chmod(stat.S_IRUSR)
    with zipfile.ZipFile(place.folder / "packed.zip", "w") as packed:
        packed.writestr("__main__.py", "import beside\nprint(__file__, __spec__, beside.f())")
        packed.writestr("beside.py", "def f(): return __file__")
    for words in (["link.py"], [str(place.folder / "link.py")], ["packed.zip", "x"]):
        place.same(*words)
        assert place.counts()["beside.f"] == 1
        place.file.unlink()


def test_options_of_the_interpreter_are_passed_on_and_none_is_added(place: Place) -> None:
    place.write("program.py", WHO_AM_I + '    import warnings; warnings.warn("take care", DeprecationWarning)')
    for flags in (["-X", "dev"], ["-W", "error"], ["-OO", "-bb", "-Xfrozen_modules=off", "-u"]):
        place.same("program.py", python=flags)
    place.env |= {"PYTHONOPTIMIZE": "1", "PYTHONWARNINGS": "default", "PYTHONUNBUFFERED": "1", "PYTHONPATH": "."}
    place.same("program.py")


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("sys.exit()", 0),
        ("sys.exit(None)", 0),
        ("sys.exit(7)", 7),
        ("sys.exit(-1)", 255),
        ("sys.exit('a text')", 1),
        ("sys.exit({1: 2})", 1),
        ("os._exit(5)", 5),
        ("outer(0)", 1),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("signal.raise_signal(signal.SIGUSR1)", -signal.SIGUSR1),
        ("os.abort()", -signal.SIGABRT),
        ("raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})", 1),
        ("raise ExceptionGroup('several', [ValueError(1), OSError(2, 'x')])", 1),
        ("def f(: pass", 1),
        ("import no_such_module", 1),
        ("del sys.modules['__main__']; outer(0)", 1),
    ],
)
def test_how_it_ends(place: Place, ending: str, status: int) -> None:
    place.write(
        "program.py",
        f"""
        import atexit, os, signal, sys, threading
        atexit.register(print, "atexit, the last")
        atexit.register(print, "atexit, the first")

        def outer(n):
            inner(n)

        def inner(n):
            try:
                {{}}[n]
            except KeyError:
                1 / n

        if __name__ == "__main__":
            print("it begins", flush=True)
            {ending}
        """,
    )
    assert place.same("program.py").status == status


def test_threads_that_fail_and_hooks_that_are_told(place: Place) -> None:
    place.write(
        "program.py",
        """
        import sys, threading, warnings

        def fail(what):
            raise what

        def run(what):
            thread = threading.Thread(target=fail, args=[what])
            thread.start()
            thread.join()

        run(ValueError("in a thread"))
        run(SystemExit(3))
        threading.excepthook = lambda hooked: print("told:", hooked.exc_type, hooked.thread.name)
        run(ValueError("again"))
        sys.excepthook = lambda *told: print("told", told[:2])
        sys.unraisablehook = lambda told: print("unraisable", told.exc_value, told.object.__qualname__)

        class Bad:
            def __del__(self):
                fail(OSError("in __del__"))

        Bad()
        fail(LookupError("the last word"))
        """,
    )
    assert place.same("program.py").status == 1
    assert place.counts() == {"fail": 5, "run": 3, "Bad.__del__": 1, "<lambda>": 3}


def test_modules_beside_the_script_come_before_the_ones_that_ferret_uses(place: Place) -> None:
    names = ["queue", "typing", "random", "msgspec", "decimal", "pydantic"]
    for name in names:
        place.write(f"{name}.py", f"def f(): return 'my own {name}'\nprint(f())")
    place.write("asyncio/__init__.py", "x = 1")
    place.write("asyncio/events.py", "y = 2")
    place.write(
        "program.py",
        f"""
        import asyncio, asyncio.events
        print(asyncio.x, asyncio.events.y, hasattr(asyncio, "run"))
        import {", ".join(names)}
        print(queue.__file__, [name.f() for name in ({", ".join(names)})])
        """,
    )
    for words in (["program.py"], ["-m", "program"]):
        place.same(*words)
        assert place.counts() == {f"{name}.f": 2 for name in names}


def test_customisation_of_the_users_own(place: Place) -> None:
    place.write("site/sitecustomize.py", "import sys; sys.mine = [__file__, __spec__.name]")
    place.write("site/usercustomize.py", "import sys; sys.mine.append(__file__)")
    place.write("broken/sitecustomize.py", "import sys\nsys.mine = 'broken'\n1 / 0")
    place.write("missing/sitecustomize.py", "import sys\nsys.mine = 'missing'\nimport no_such_module")
    place.write("program.py", "import sys\ndef f(): print(sys.mine, sys.path, sys.modules.get('sitecustomize'))\nf()")
    for folder in ("site", "broken", "missing"):
        place.env["PYTHONPATH"] = str(place.folder / folder)
        plain, watched = place.plain("program.py"), place.watched("program.py")
        assert watched.out == plain.out
        assert set(watched.err.splitlines()) == set(plain.err.splitlines())  # ferret's own interpreters say it too
        assert place.counts() == {"f": 1}
        place.file.unlink()


TOOLS = {
    "settrace": """
        def watch(frame, event, arg):
            seen.append((frame.f_code.co_name, event, frame.f_lineno))
            return watch
        seen = []
        threading.settrace(watch)
        sys.settrace(watch)
        work(3)
        thread = threading.Thread(target=work, args=[1])
        thread.start()
        thread.join()
        sys.settrace(None)
        print(seen)
        """,
    "setprofile": """
        seen = []
        sys.setprofile(lambda frame, event, arg: seen.append((frame.f_code.co_name, event)))
        work(3)
        sys.setprofile(None)
        print(seen)
        """,
    "cProfile": """
        import cProfile, pstats
        with cProfile.Profile() as profile:
            work(3)
        print(sorted((key[2], value[:2]) for key, value in pstats.Stats(profile).stats.items()))
        """,
    "sys.monitoring": """
        m = sys.monitoring
        seen = []
        def note(code, *rest):
            seen.append((code.co_name, len(rest)))
        def note_once(code, *rest):
            seen.append((code.co_name, rest[0]))
            return m.DISABLE
        for tool in (m.DEBUGGER_ID, m.COVERAGE_ID, m.PROFILER_ID, 5):
            m.use_tool_id(tool, f"tool {tool}")
            m.register_callback(tool, m.events.PY_START, note_once if tool == 5 else note)
            m.register_callback(tool, m.events.PY_UNWIND, note)
            m.set_events(tool, m.events.PY_START | m.events.PY_UNWIND)
        work(2)
        work(2)
        m.restart_events()
        work(2)
        for tool in (m.DEBUGGER_ID, m.COVERAGE_ID, m.PROFILER_ID, 5):
            m.set_events(tool, 0)
            m.free_tool_id(tool)
        print(seen)
        """,
    "tracemalloc, faulthandler, warnings": """
        import faulthandler, gc, tracemalloc, warnings
        faulthandler.enable()
        tracemalloc.start()
        work(2)
        print(gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.callbacks)
        warnings.warn("with a place")
        """,
    "frames": """
        import inspect, traceback
        def deep():
            traceback.print_stack(file=sys.stdout)
            print([frame.function for frame in inspect.stack()], sys._getframe(1).f_code.co_name)
        deep()
        """,
    "signals": """
        import os, signal, time
        print(signal.getsignal(signal.SIGINT), signal.alarm(0), signal.set_wakeup_fd(-1))
        def hear(number, frame):
            work(1)
            print("heard", number, frame.f_code.co_name)
        def wait():
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.01)
        signal.signal(signal.SIGUSR1, hear)
        wait()
        signal.signal(signal.SIGTERM, hear)
        os.kill(os.getpid(), signal.SIGTERM)
        print(signal.getsignal(signal.SIGTERM))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        """,
    "exec": """
        os.execv(sys.executable, [sys.executable, "-c", "import sys, os; print(sys.argv, sorted(os.environ), sys.path)"])
        """,
    "fork": """
        print("before", flush=True)
        pid = os.fork()
        if not pid:
            work(5)
            print("the child", [thread.name for thread in threading.enumerate()], flush=True)
            sys.exit(9)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
    "subprocess": """
        import subprocess
        code = "import sys, os; print(sorted(os.environ), [m for m in sys.modules if 'ferret' in m], sys.path)"
        print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True))
        print(subprocess.run([sys.executable, "program.py", "child"], capture_output=True, text=True))
        """,
    "stdin": """
        print(sys.stdin.read(), sys.stdin.fileno(), sys.stdout.encoding, sys.stdout.line_buffering)
        """,
    "descriptors": """
        os.close(0)
        print(os.open("program.py", os.O_RDONLY))
        sys.stderr = None
        sys.stdout.flush()
        os.close(2)
        work(2)
        """,
    "folder": """
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
        os.umask(0o777)
        os.environ.clear()
        work(2)
        """,
    "recursion": """
        def deeper(n):
            return deeper(n + 1)
        try:
            deeper(0)
        except RecursionError as error:
            print(error, len(traceback.extract_tb(error.__traceback__)) > 950)
        work(2)
        """,
    "asyncio debug": """
        import asyncio
        async def sleepy():
            await asyncio.sleep(0)
            print(asyncio.current_task().get_name(), asyncio.get_running_loop().get_debug())
        async def never(): pass
        asyncio.run(sleepy(), debug=True)
        never()
        """,
    "pickle and copy": """
        import copy, pickle
        import dis
        print(pickle.loads(pickle.dumps(work))(2), copy.deepcopy(work) is work)
        dis.dis(work)
        """,
}


@pytest.mark.parametrize("tool", TOOLS)
def test_what_works_close_to_the_interpreter(place: Place, tool: str) -> None:
    head = """
        import os, sys, threading, traceback

        def work(n):
            try:
                return [helper(x) for x in range(n)]
            except ValueError:
                return sum(numbers(n))

        def helper(x):
            if x == 1:
                raise ValueError(x)
            return x

        def numbers(n):
            yield from range(n)

        if len(sys.argv) > 1:
            print("again", work(2), sorted(os.environ))
            sys.exit(4)
        """
    # two ways to find out that there are other threads: tools of sys.monitoring see them all, and fork() warns of them
    python = ["-W", "ignore::DeprecationWarning"] if tool == "fork" else []
    options = ["--writer", "sync"] if tool in ("cProfile", "sys.monitoring") else []
    place.write("program.py", textwrap.dedent(head) + textwrap.dedent(TOOLS[tool]))
    place.same("program.py", stdin=b"that is said\nto it\n", options=options, python=python)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("options", [[], ["--children"]], ids=["alone", "with its children"])
def test_multiprocessing(place: Place, method: str, options: list[str]) -> None:
    place.write(
        "program.py",
        f"""
        import concurrent.futures, multiprocessing, os, sys

        def square(x):
            return x * x, sys.argv, sys.path

        def fail(x):
            raise ValueError(x)

        def talk(pipe):
            pipe.send(square(pipe.recv()))
            sys.exit(3)

        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            with context.Pool(2) as pool:
                print(pool.map(square, range(5)))
            here, there = context.Pipe()
            process = context.Process(target=talk, args=[there])
            process.start()
            here.send(7)
            print(here.recv())
            process.join()
            print(process.exitcode)
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
                print(list(executor.map(square, range(3))))
                print(repr(executor.submit(fail, 1).exception()))
            process = context.Process(target=fail, args=[2])
            process.start()
            process.join()
            print(process.exitcode)
        """,
    )
    place.same("program.py", options=options)
    counts = place.counts()
    if options:
        assert (counts["square"], counts["fail"], counts["talk"]) == (9, 2, 1)
    else:
        assert counts == {}


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "</dev/null >/dev/null"])
def test_closed_streams(place: Place, closed: str) -> None:
    place.write(
        "program.py",
        """
        import os, sys
        def look():
            with open("seen", "a") as file:
                print(sys.stdin is None, sys.stdout is None, sys.stderr is None, file=file)
                print(os.open("program.py", os.O_RDONLY) < 3, file=file)
            print("out")
            print("err", file=sys.stderr)
        look()
        """,
    )
    seen = place.folder / "seen"
    results = []
    for command in ([sys.executable], [FERRET, "run", "-o", str(place.file)]):
        done = place.finish(place.start("/bin/sh", "-c", f'exec "$@" {closed}', "sh", *command, "program.py"))
        results.append((done, seen.read_text()))
        seen.unlink()
    assert results[0] == results[1]
    assert place.counts() == {"look": 1}


def test_the_standard_librarys_own_programs(place: Place) -> None:
    place.write("data.json", '{"b": [1, 2], "a": "ä"}')
    place.write(
        "test_it.py",
        """
        import unittest, pytest
        class Case(unittest.TestCase):
            def test_good(self): pass
            def test_bad(self): self.assertEqual(1, 2)
        @pytest.mark.parametrize("x", [1, 2])
        def test_plain(x): assert x == 1
        """,
    )
    place.env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # it is pytest's own work that counts
    place.same("-m", "json.tool", "data.json", stdin=b"")
    place.same("-m", "json.tool", "--compact", "-", stdin=b'{"x": 1}')
    place.same("-m", "venv", "--help")
    place.same("-m", "this")
    place.same("-m", "timeit", "--help")
    place.same("-m", "compileall", "-q", "test_it.py")

    def without_times(text: str) -> list[str]:
        return [line for line in text.splitlines() if " in " not in line and "Ran " not in line]

    for words in (["-m", "unittest", "test_it.Case"], ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]):
        plain, watched = place.plain(*words), place.watched(*words)
        assert watched.status == plain.status == 1
        assert without_times(watched.out) == without_times(plain.out)
        assert without_times(watched.err) == without_times(plain.err)
        assert place.counts()["test_it.Case.test_bad"] == 1


def test_a_server_that_is_stopped_by_ctrl_c(place: Place) -> None:
    place.write("page.txt", "hello")
    said = {}
    place.env["PYTHONUNBUFFERED"] = "1"
    for name, start in {"plain": place.start, "watched": place.start_watched}.items():
        words = ["-m", "http.server", "0", "--bind", "127.0.0.1"]
        server = start(*([sys.executable, *words] if name == "plain" else words))
        assert server.stdout is not None
        first = server.stdout.readline().decode()
        address = first.split("(")[1].split(")")[0]
        with urllib.request.urlopen(f"{address}page.txt") as answer:
            assert answer.read() == b"hello"
        os.kill(server.pid, signal.SIGINT)
        done = place.finish(server)
        said[name] = (done.status, done.out, done.err.rpartition("] ")[2])
    assert said["watched"] == said["plain"]
    assert said["plain"][0] == 0
