"""Child processes: in the same file and run where that is asked for, and left alone where it is not."""

from __future__ import annotations

import pytest

from tests.running.programs import Place, tree

PROGRAM = """
    import concurrent.futures, multiprocessing, os, subprocess, sys, threading, time

    def leaf(): pass

    def work(n):
        leaf()
        return n

    def forked():
        pid = os.fork()
        if not pid:
            work(1)
            time.sleep(0.5 if sys.version_info < (3, 13) else 0)  # see the limitations
            sys.exit(3)
        assert os.waitpid(pid, 0)[1] == 3 << 8

    def forked_in_a_thread():
        process = multiprocessing.get_context("fork").Process(target=work, args=[1])
        thread = threading.Thread(target=lambda: (process.start(), process.join()))
        thread.start()
        thread.join()

    def pools(method):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            assert list(pool.map(work, range(4))) == [0, 1, 2, 3]

    def runs():
        subprocess.run([sys.executable, "other.py", "1"], check=True)
        subprocess.run([sys.executable, "-c", "import other; other.work()"], check=True)
        subprocess.run([sys.executable, "-I", "-c", "print('not to be seen')"], check=True)
        subprocess.run(["/bin/sh", "-c", f"{sys.executable} -m other 1"], check=True)

    if __name__ == "__main__":
        globals()[sys.argv[1]](*sys.argv[2:])
"""

OTHER = """
    import sys
    def work(): leaf()
    def leaf(): pass
    if len(sys.argv) > 1: work()
"""


@pytest.mark.parametrize(
    ("words", "own", "children", "processes"),
    [
        (["forked"], {"forked": 1}, {"work": 1, "leaf": 1}, {2}),
        (
            ["forked_in_a_thread"],
            {"forked_in_a_thread": 1, "forked_in_a_thread.<lambda>": 1},
            {"work": 1, "leaf": 1},
            {2},
        ),
        (["pools", "fork"], {"pools": 1}, {"work": 4, "leaf": 4}, {2, 3}),
        (["pools", "spawn"], {"pools": 1}, {"work": 4, "leaf": 4}, {2, 3}),
        (["pools", "forkserver"], {"pools": 1}, {"work": 4, "leaf": 4}, {2, 3}),
        (["runs"], {"runs": 1}, {"work": 2, "leaf": 2, "other.work": 1, "other.leaf": 1}, {4}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_children(
    place: Place, words: list[str], own: dict[str, int], children: dict[str, int], processes: set[int]
) -> None:
    place.write("program.py", PROGRAM)
    place.write("other.py", OTHER)
    without_warning = ["-W", "ignore::DeprecationWarning"]  # of threads and fork()
    place.same("program.py", *words, python=without_warning)
    assert place.counts() == own
    assert len(place.run.processes) == 1
    place.file.unlink()
    place.same("program.py", *words, python=without_warning, options=["--children"])
    expected = dict(own)
    for name, count in children.items():
        expected[name] = expected.get(name, 0) + count
    assert place.counts() == expected
    assert len(place.run.processes) in processes
    assert all(process.ended_at for process in place.run.processes)


def test_what_a_forked_child_calls_belongs_to_the_call_that_forked(place: Place) -> None:
    place.write("program.py", PROGRAM)
    place.watched("program.py", "forked", options=["--children"])
    assert place.tree() == tree("forked\n  work\n    leaf")
    forked, work, leaf = place.spans()
    assert forked.process_id != work.process_id == leaf.process_id
    assert place.run.lost == 0


def test_a_child_that_cannot_be_recorded_goes_on_and_says_so_once(place: Place) -> None:
    place.write(
        "program.py",
        """
        import os, resource, subprocess, sys
        def f(): return 1
        if len(sys.argv) > 1:
            if sys.argv[1] == "files":
                resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))
            else:
                os.mkdir("gone"), os.chdir("gone"), os.rmdir("../gone")
            print(f() + f())
        else:
            f()
            for what in "files", "folder":
                sys.exit(1) if subprocess.run([sys.executable, __file__, what]).returncode else None
        """,
    )
    done = place.watched("program.py", options=["--children"])
    assert (done.status, done.out, done.err.count("\n")) == (0, "2\n2\n", 2)
    assert done.err.count(" is not recorded: the ") == 2
    assert place.counts() == {"f": 1}
