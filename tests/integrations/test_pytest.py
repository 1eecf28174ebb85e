"""`pytest --ferret=FILE`, run as its user runs it: what the file holds afterwards must be what happened."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ferret.report import Report

if TYPE_CHECKING:
    from ferret.models import SpanModel, TraceNode

pytest_plugins = "pytester"

OPTIONS = ("-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:anyio", "-p", "no:hypothesispytest")
"""Without the plugins that happen to be here, which have fixtures of their own."""


def run(pytester: pytest.Pytester, *options: str, file: str = "trace.db") -> pytest.RunResult:
    return pytester.runpytest_subprocess(*OPTIONS, f"--ferret={file}", *options, timeout=60)


def spans_in(path: str | Path) -> list[SpanModel]:
    with Report(path) as report:
        (run,) = report.runs()
        assert run.lost == 0
        assert not run.unclean
        spans = list(report.spans())
    assert len(spans) == run.spans
    return spans


def tree_in(path: str | Path) -> Any:
    """The one tree of the run: a name, or a list of a name and what is below it, in the order of their start."""
    with Report(path) as report:
        (root,) = report.build_trees()
    return shape(root)


def shape(node: TraceNode) -> Any:
    children = sorted(node.children, key=lambda child: child.span.start_time)
    return [node.span.name, *map(shape, children)] if children else node.span.name


def named(spans: list[SpanModel], name: str) -> SpanModel:
    (span,) = [span for span in spans if span.name == name]
    return span


def test_sessions_modules_tests_phases_and_fixtures_are_a_tree(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_one="""
        import pytest

        @pytest.fixture(scope="session")
        def database(ferret_profiler):
            yield

        @pytest.fixture(scope="module")
        def tables(database):
            yield

        @pytest.fixture
        def row(request, tables, ferret_profiler):
            with ferret_profiler.measure("insert"):
                pass
            def remove():
                with ferret_profiler.measure("delete"):
                    pass
            request.addfinalizer(remove)

        @pytest.fixture
        def plain():
            return 3

        def test_a(row): ...

        class TestB:
            @pytest.fixture(scope="class")
            def of_class(self):
                yield

            def test_b(self, plain, of_class, ferret_profiler):
                with ferret_profiler.measure("inside"):
                    pass
            def test_c(self, of_class): ...
        """,
        test_two="def test_d(): ...",
    )
    result = run(pytester)
    result.assert_outcomes(passed=4)
    phases = ["setup", "call", "teardown"]
    assert tree_in("trace.db") == [
        "pytest",
        ["collection", "collect test_one.py", "collect test_two.py"],
        [
            "test_one.py",
            [
                "test_one.py::test_a",
                ["setup", "fixture ferret_profiler", "fixture database", "fixture tables", ["fixture row", "insert"]],
                "call",
                ["teardown", ["fixture row teardown", "delete"]],
            ],
            [
                "test_one.py::TestB::test_b",
                ["setup", "fixture of_class", "fixture plain"],
                ["call", "inside"],
                "teardown",
            ],
            [
                "test_one.py::TestB::test_c",
                "setup",
                "call",
                ["teardown", "fixture of_class teardown", "fixture tables teardown"],
            ],
        ],
        [
            "test_two.py",
            [
                "test_two.py::test_d",
                *phases[:2],
                ["teardown", "fixture database teardown", "fixture ferret_profiler teardown"],
            ],
        ],
    ]


OUTCOMES = """
    import unittest
    import pytest

    @pytest.fixture
    def broken():
        raise RuntimeError("no disk")

    @pytest.fixture
    def leaves_badly():
        yield
        raise RuntimeError("still in use")

    @pytest.fixture
    def skips():
        pytest.skip("not here")

    def test_passed(): ...
    def test_failed():
        assert 1 == 2, "sums"
    def test_setup_error(broken): ...
    def test_teardown_error(leaves_badly): ...
    def test_both(leaves_badly):
        raise KeyError("first")
    @pytest.mark.skip(reason="why not")
    def test_skipped_by_mark(): ...
    def test_skipped_inside():
        pytest.skip("later")
    def test_skipped_by_fixture(skips): ...
    @pytest.mark.xfail(reason="known")
    def test_xfailed():
        assert False
    def test_xfailed_inside():
        pytest.xfail("known too")
    @pytest.mark.xfail
    def test_xpassed(): ...
    @pytest.mark.xfail(strict=True)
    def test_xpassed_strictly(): ...
    class TestOld(unittest.TestCase):
        def test_unittest(self):
            self.assertEqual(1, 2)
"""


def test_outcomes_are_pytests_own_and_only_failures_are_errors(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_outcomes=OUTCOMES)
    assert run(pytester).ret == pytest.ExitCode.TESTS_FAILED
    spans = spans_in("trace.db")
    tests = {span.name.rpartition("::test_")[2]: span for span in spans if "::" in span.name}
    assert {name: (span.tags["outcome"], span.status, span.error) for name, span in tests.items()} == {
        "passed": ("passed", "ok", None),
        "failed": ("failed", "error", "sums\nassert 1 == 2"),
        "setup_error": ("error", "error", "no disk"),
        "teardown_error": ("error", "error", "still in use"),
        "both": ("failed", "error", "'first'"),
        "skipped_by_mark": ("skipped", "ok", None),
        "skipped_inside": ("skipped", "ok", None),
        "skipped_by_fixture": ("skipped", "ok", None),
        "xfailed": ("xfailed", "ok", None),
        "xfailed_inside": ("xfailed", "ok", None),
        "xpassed": ("xpassed", "ok", None),
        "xpassed_strictly": ("failed", "error", "[XPASS(strict)]"),
        "unittest": ("failed", "error", "1 != 2"),
    }
    reasons = {name: span.tags["reason"] for name, span in tests.items() if "reason" in span.tags}
    assert reasons.pop("xpassed", "") == ""
    assert reasons == {
        "skipped_by_mark": "why not",
        "skipped_inside": "later",
        "skipped_by_fixture": "not here",
        "xfailed": "known",
        "xfailed_inside": "known too",
    }
    by_id = {span.span_id: span for span in spans}
    inner = Counter(
        (by_id[span.parent_id].name.rpartition("::test_")[2], span.name)
        for span in spans
        if span.status != "ok" and span.parent_id in by_id and by_id[span.parent_id] in tests.values()
    )
    assert inner == Counter(
        [("failed", "call"), ("setup_error", "setup"), ("teardown_error", "teardown"), ("both", "call"),
         ("both", "teardown"), ("xpassed_strictly", "call"), ("unittest", "call")]
    )  # fmt: skip
    assert named(spans, "fixture broken").error_type == "RuntimeError"
    assert {span.error for span in spans if span.name == "fixture leaves_badly teardown"} == {"still in use"}
    assert named(spans, "fixture skips").status == "ok"
    session = named(spans, "pytest")
    assert (session.status, session.tags["exitstatus"], session.tags["collected"]) == ("error", "TESTS_FAILED", 13)


def test_markers_parameters_and_durations_are_tags(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import time, pytest

        class Odd:
            def __repr__(self):
                raise RuntimeError

        @pytest.fixture(scope="module", params=["sqlite", "x" * 500])
        def backend(request):
            yield request.param

        @pytest.mark.parametrize(("n", "odd"), [(1, Odd())])
        @pytest.mark.filterwarnings("ignore")
        def test_it(n, odd, backend):
            time.sleep(0.02)
        """
    )
    run(pytester).assert_outcomes(passed=2)
    spans = spans_in("trace.db")
    tests = [span for span in spans if "::" in span.name]
    assert tests[0].tags["markers"] == ["filterwarnings", "parametrize"]
    assert tests[0].tags["params"] == {"n": 1, "odd": "<Odd>", "backend": "sqlite"}
    assert tests[1].tags["params"]["backend"] == "x" * 199 + "…"
    assert list(tests[0].tags["durations"]) == ["setup", "call", "teardown"]
    assert tests[0].tags["durations"]["call"] >= 0.02
    backends = [span for span in spans if span.name.startswith("fixture ")]  # `n` and `odd` are none
    assert [(span.name, span.tags["param"][:6]) for span in backends] == [
        ("fixture backend", "sqlite"),
        ("fixture backend teardown", "sqlite"),
        ("fixture backend", "xxxxxx"),
        ("fixture backend teardown", "xxxxxx"),
    ]
    assert {span.tags["scope"] for span in backends} == {"module"}


def test_a_teardown_does_not_hold_that_of_the_fixtures_above_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import time, pytest

        @pytest.fixture
        def outer():
            yield
            time.sleep(0.03)

        @pytest.fixture
        def inner(outer):
            yield
            time.sleep(0.03)

        def test_it(inner): ...
        """
    )
    run(pytester).assert_outcomes(passed=1)
    spans = spans_in("trace.db")
    outer, inner = named(spans, "fixture outer teardown"), named(spans, "fixture inner teardown")
    assert inner.end_time is not None
    assert inner.end_time <= outer.start_time + 1e-6
    assert outer.parent_id == inner.parent_id == named(spans, "teardown").span_id


ASYNC = """
import asyncio, pytest
{head}

@{fixture}
async def loop_lives_on():
    yield

@{fixture}
async def resource(loop_lives_on, ferret_profiler):
    with ferret_profiler.measure("open"):
        await asyncio.sleep(0)
    yield
    await asyncio.sleep(0)

async def test_one(resource, ferret_profiler):
    with ferret_profiler.measure("one"):
        await asyncio.sleep(0)

async def test_two(resource, ferret_profiler):
    with ferret_profiler.measure("two"):
        await asyncio.gather(work(ferret_profiler))

async def work(ferret_profiler):
    with ferret_profiler.measure("work"):
        await asyncio.sleep(0)
"""

ASYNCIO = {
    "head": "import pytest_asyncio\npytestmark = pytest.mark.asyncio(loop_scope='module')",
    "fixture": "pytest_asyncio.fixture(scope='module', loop_scope='module')",
}
ANYIO = {
    "head": "pytestmark = pytest.mark.anyio\n@pytest.fixture(scope='module')\ndef anyio_backend(): return 'asyncio'",
    "fixture": "pytest.fixture(scope='module')",
}


def test_a_modules_span_ends_with_its_last_test(one_test: pytest.Pytester) -> None:
    one_test.makeconftest("import time\ndef pytest_sessionfinish(): time.sleep(0.2)")
    run(one_test).assert_outcomes(passed=1)
    spans = spans_in("trace.db")
    module, session = named(spans, "test_it.py"), named(spans, "pytest")
    assert module.end_time is not None
    assert session.end_time is not None
    assert session.end_time - module.end_time >= 0.2


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (ASYNC.format(**ASYNCIO), ["-p", "no:anyio", "-o", "asyncio_default_fixture_loop_scope=function"]),
        (ASYNC.format(**ANYIO), ["-p", "no:asyncio"]),
    ],
    ids=["asyncio", "anyio"],
)
def test_async_tests_and_fixtures_are_below_their_phases(
    pytester: pytest.Pytester, source: str, options: list[str]
) -> None:
    pytester.makepyfile(source)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options, "--ferret=trace.db", timeout=60)
    result.assert_outcomes(passed=2)
    spans = spans_in("trace.db")
    by_id = {span.span_id: span for span in spans}

    def above(name: str) -> list[str]:
        span, names = named(spans, name), []
        while span.parent_id is not None:
            span = by_id[span.parent_id]
            names.append(span.name.rpartition("::")[2])
        return names

    assert above("one")[:2] == ["call", "test_one"]
    assert above("two")[:2] == ["call", "test_two"]
    assert above("work")[:3] == ["two", "call", "test_two"]
    if "no:asyncio" not in options:  # anyio runs them in a task that is as old as its first fixture
        assert above("open")[:3] == ["fixture resource", "setup", "test_one"]
    assert above("fixture resource teardown")[:2] == ["teardown", "test_two"]


@pytest.mark.skipif(not hasattr(pytest, "Subtests"), reason="this pytest has no subtests")
def test_subtests_are_spans_in_the_call(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import time, unittest

        def test_some(subtests):
            for number in range(3):
                with subtests.test("number", n=number):
                    time.sleep(0.02)
                    assert number != 1

        class TestOld(unittest.TestCase):
            def test_old(self):
                for number in range(2):
                    with self.subTest(n=number):
                        pass
        """
    )
    assert run(pytester).ret == pytest.ExitCode.TESTS_FAILED
    spans = spans_in("trace.db")
    by_id = {span.span_id: span for span in spans}
    subtests = [span for span in spans if span.name == "subtest number"]
    assert [(span.tags["n"], span.tags["outcome"], span.status) for span in subtests] == [
        ("0", "passed", "ok"),
        ("1", "failed", "error"),
        ("2", "passed", "ok"),
    ]
    assert (subtests[1].error or "").startswith("assert 1 != 1")
    for span in subtests:
        call = by_id[span.parent_id or ""]
        assert call.name == "call"
        assert span.duration is not None
        assert span.duration >= 0.02
        assert span.start_time >= call.start_time
    test = next(span for span in spans if span.name.endswith("::test_some"))
    assert (test.tags["outcome"], test.status, test.error) == ("failed", "error", "contains 1 failed subtest")
    assert next(span for span in spans if span.name.endswith("::test_old")).status == "ok"


# -- sessions that end early ---------------------------------------------------------------------------------------


def test_the_first_failure_may_be_the_last_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture(scope="session", autouse=True)
        def everything():
            yield
        def test_a(): assert False
        def test_b(): ...
        """
    )
    result = run(pytester, "-x")
    result.assert_outcomes(failed=1)
    spans = spans_in("trace.db")
    assert [span.name.rpartition("::")[2] for span in spans if "::" in span.name] == ["test_a"]
    assert named(spans, "fixture everything teardown").status == "ok"
    assert named(spans, "pytest").tags["exitstatus"] == "TESTS_FAILED"


@pytest.mark.parametrize(
    ("ends", "error", "exitstatus"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", "KeyboardInterrupt", "INTERRUPTED"),
        ("import pytest; pytest.exit('enough')", "Exit", "INTERRUPTED"),
    ],
)
@pytest.mark.parametrize("where", ["test", "fixture"])
def test_an_interrupted_session_keeps_what_it_recorded(
    pytester: pytest.Pytester, ends: str, error: str, exitstatus: str, where: str
) -> None:
    pytester.makepyfile(
        f"""
        import pytest
        def ends():
            {ends}
        @pytest.fixture(scope="module")
        def kept():
            yield
        @pytest.fixture
        def resource(kept):
            if {where!r} == "fixture": ends()
        def test_before(): ...
        def test_ends(resource):
            ends()
        def test_never(): ...
        """
    )
    # where this suite runs with SIGINT ignored, so would its children
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = run(pytester)
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*spans in trace.db, none lost;*"])
    spans = spans_in("trace.db")
    tests = [span for span in spans if "::" in span.name]
    assert [(span.name.rpartition("::")[2], span.tags["outcome"]) for span in tests] == [
        ("test_before", "passed"),
        ("test_ends", "interrupted"),
    ]
    assert named(spans, "fixture resource").error_type == (error if where == "fixture" else None)
    assert named(spans, "fixture kept teardown")
    assert named(spans, "pytest").tags["exitstatus"] == exitstatus
    assert tree_in("trace.db")[0] == "pytest", "everything has its place in the one tree"


def test_a_file_that_cannot_be_imported_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_broken="import no_such_module", test_fine="def test_a(): ...")
    assert run(pytester).ret == pytest.ExitCode.INTERRUPTED
    broken = named(spans_in("trace.db"), "collect test_broken.py")
    assert (broken.status, "no_such_module" in (broken.error or "")) == ("error", True)
    assert named(spans_in("trace.db"), "collect test_fine.py").status == "ok"


# -- several processes ---------------------------------------------------------------------------------------------


def test_workers_record_into_the_run_of_the_session(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture(scope="module")
        def shared():
            yield
        @pytest.mark.parametrize("n", range(8))
        def test_it(n, shared, ferret_profiler):
            with ferret_profiler.measure("inside"):
                pass
        """
    )
    result = run(pytester, "-n", "2")
    result.assert_outcomes(passed=8)
    spans = spans_in("trace.db")
    result.stdout.fnmatch_lines([f"{len(spans)} spans in trace.db, none lost; look at them with: *"])
    session = named(spans, "pytest")
    workers = {span.name: span for span in spans if span.name.startswith("pytest gw")}
    assert list(workers) == ["pytest gw0", "pytest gw1"] or list(workers) == ["pytest gw1", "pytest gw0"]
    assert {span.parent_id for span in workers.values()} == {session.span_id}
    assert len({span.process_id for span in (session, *workers.values())}) == 3
    tests = [span.name for span in spans if "::" in span.name]
    assert Counter(tests) == Counter(f"{tests[0].partition('::')[0]}::test_it[{n}]" for n in range(8))
    assert tree_in("trace.db")[0] == "pytest", "one tree"


def test_a_worker_that_crashes_is_told_of(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import os\ndef test_crash():\n    os._exit(3)\n")
    result = run(pytester, "-n", "1", "--max-worker-restart=0")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*spans in trace.db, none lost but what a worker had not stored when it crashed;*"])
    (run_info,) = Report("trace.db").runs()
    assert run_info.lost == run_info.lost_by_kill > 0  # type: ignore[operator]
    assert named(list(Report("trace.db").spans()), "pytest").tags["exitstatus"] == "TESTS_FAILED"


# -- options -------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_test(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_it="def test_it(): ...")
    return pytester


def test_it_says_where_the_spans_are_and_how_to_look_at_them(one_test: pytest.Pytester) -> None:
    result = run(one_test, "-q", file="my trace.db")
    spans = spans_in("my trace.db")
    line = f"{len(spans)} spans in my trace.db, none lost; look at them with: ferret analyze 'my trace.db' --tree"
    result.stdout.fnmatch_lines([line])
    look = [sys.executable, "-m", "ferret", "analyze", "my trace.db", "--tree"]
    shown = subprocess.run(look, capture_output=True, text=True, check=True).stdout
    assert "test_it.py::test_it" in shown


def test_a_second_session_is_a_second_run(one_test: pytest.Pytester) -> None:
    run(one_test)
    run(one_test)
    with Report("trace.db") as report:
        assert len(report.runs()) == 2


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_another_sink_can_be_named(one_test: pytest.Pytester, workers: tuple[str, ...]) -> None:
    result = run(one_test, *workers, file="jsonl:spans.jsonl")
    spans = spans_in("spans.jsonl")
    result.stdout.fnmatch_lines(
        [f"{len(spans)} spans in jsonl:spans.jsonl, none lost; look at them with: ferret analyze spans.jsonl --tree"]
    )
    assert sum("::" in span.name for span in spans) == 1
    assert not Path("trace.db").exists()


def test_what_is_lost_is_told(one_test: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    one_test.makeconftest(
        """
        import sys
        import ferret.plugins

        class Broken:
            def write(self, batch):
                raise OSError("no space left")
            def flush(self): ...
            def close(self): ...

        @ferret.hookimpl
        def ferret_sinks():
            return {"broken": lambda target: Broken()}

        ferret.plugins.register(sys.modules[__name__])
        """
    )
    monkeypatch.setenv("FERRET_CLOSE_TIMEOUT", "0.2")
    result = run(one_test, file="broken:disk")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["0 spans in broken:disk, 8 lost"])


@pytest.mark.parametrize(("option", "variable", "expected"), [
    ("process", None, "process"), (None, "bounded", "bounded"), ("sync", "bounded", "sync"), (None, None, "threaded"),
])  # fmt: skip
def test_the_writer_comes_from_the_option_or_the_environment(
    one_test: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, option: str | None, variable: str | None, expected: str
) -> None:
    if variable:
        monkeypatch.setenv("FERRET_WRITER", variable)
    run(one_test, *([f"--ferret-writer={option}"] if option else [])).assert_outcomes(passed=1)
    with Report("trace.db") as report:
        assert [process.writer for process in report.run().processes] == [expected]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--ferret=nowhere/trace.db"], "*--ferret=nowhere/trace.db: *no directory*make it first*"),
        (["--ferret=nowhere/trace.db", "-n", "1"], "*--ferret=nowhere/trace.db: *no directory*make it first*"),
        (["--ferret=test_it.py"], "*--ferret=test_it.py: *not a database*choose another file*"),
        (["--ferret=."], "*--ferret=.: * is a directory*"),
        (["--ferret=parquett:x"], "*--ferret=parquett:x: there is no sink 'parquett'*"),
        (["--ferret=jsonl:nowhere/x"], "*--ferret=jsonl:nowhere/x: *"),
        (["--ferret=trace.db", "--ferret-writer=thraeded"], "*did you mean 'threaded'?*"),
        (["--ferret-writer=sync"], "*--ferret-writer needs --ferret=FILE*"),
    ],
)
def test_what_cannot_work_is_one_usage_error(one_test: pytest.Pytester, options: list[str], says: str) -> None:
    result = one_test.runpytest_subprocess(*OPTIONS, *options, "-p", "no:terminal", timeout=60)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.errlines if line.startswith("ERROR: ")]
    assert len(errors) == 1
    result.stderr.fnmatch_lines([f"ERROR: {says}"])
    assert "Traceback" not in result.stderr.str()
    pytesters = re.compile(r"runpytest-\w+|stdout|stderr|__pycache__").fullmatch
    assert [path.name for path in one_test.path.iterdir() if not pytesters(path.name)] == ["test_it.py"]


@pytest.mark.parametrize("option", ["--help", "--version", "--markers", "--fixtures"])
def test_asking_for_help_makes_no_file(one_test: pytest.Pytester, option: str) -> None:
    result = run(one_test, option)
    assert result.ret == 0
    assert option == "--fixtures" or not Path("trace.db").exists()
    if option == "--help":
        result.stdout.fnmatch_lines(["*--ferret=FILE*", "*--ferret-writer=NAME*"])


def test_without_the_option_nothing_is_imported_and_the_profiler_keeps_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_light():
            loaded = {name for name in sys.modules if name.split(".")[0] == "ferret"}
            assert loaded == {"ferret", "ferret.pytest_plugin", "ferret.testing", "ferret.testing.plugin"}
            assert not {"numpy", "pydantic", "beaver", "msgspec"} & set(sys.modules)

        def test_null(ferret_profiler):
            with ferret_profiler.measure("inside"):
                pass
            assert ferret_profiler.settings.sink == "null"
        """
    )
    result = pytester.runpytest_subprocess(*OPTIONS, "-p", "no:hypothesispytest", timeout=60)
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*ferret*look*")
    assert not list(pytester.path.glob("*.db"))


def test_a_ferret_that_is_imported_before_pytest_is_no_reason_for_a_warning(one_test: pytest.Pytester) -> None:
    # pytest asks for it like this when the package is installed, rather than used from where it is developed
    one_test.makeconftest("import pytest, ferret; pytest.register_assert_rewrite('ferret')")
    result = one_test.runpytest_subprocess(*OPTIONS, "-W", "error", timeout=60)
    result.assert_outcomes(passed=1)


def test_it_can_be_left_out(one_test: pytest.Pytester) -> None:
    result = run(one_test, "-p", "no:ferret")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unrecognized arguments: --ferret=trace.db*"])
    one_test.runpytest_subprocess(*OPTIONS, "-p", "no:ferret").assert_outcomes(passed=1)


def test_the_output_is_otherwise_as_without_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_outcomes=OUTCOMES)
    pytester.makeconftest(
        """
        import pytest

        def pytest_runtest_setup(item):
            if item.name == "test_passed":
                raise RuntimeError("somebody else's plugin")

        def pytest_fixture_setup(fixturedef):
            if fixturedef.argname == "skips":
                raise RuntimeError("somebody else's plugin")
        """
    )

    def output(*options: str) -> list[str]:
        result = pytester.runpytest_subprocess(*OPTIONS, "-v", *options, timeout=60)
        lines = [re.sub(r"0x[0-9a-f]+|in \d+\.\d+s|=+|\d+%", "", line) for line in result.outlines]
        return [line for line in lines if " spans in trace.db" not in line and " ferret -" not in line]

    assert output("--ferret=trace.db") == output()
    assert os.path.exists("trace.db")
