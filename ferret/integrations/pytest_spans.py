"""The spans of a test session: collection, modules, tests, their phases, and fixtures.

    pytest
      collection
        collect tests/test_shop.py
      tests/test_shop.py
        tests/test_shop.py::test_buy      outcome, durations, markers, params
          setup
            fixture db                    scope, param
          call
          teardown
            fixture db teardown

A fixture's span is below the phase that paid for it: a session's fixture below the first test that asked for it.
What an async fixture records itself is below its span, except under anyio's plugin when an older fixture shares its loop.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from ferret.integrations.pytest_outcomes import RunningTest, mark_failed, outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ferret.core import Profiler
    from ferret.span import Span

_PARAMETER = "get_direct_param_fixture_func"
"""The function by which pytest hands a test the values of `parametrize`, as if each were a fixture."""

_LONGEST = 200
"""Characters of a parameter that are kept."""


class Spans:
    """Makes the spans. Registered as a plugin; everything happens in pytest's thread."""

    def __init__(self, profiler: Profiler) -> None:
        self._profiler = profiler
        self._module: tuple[str, Span] | None = None
        self._test: RunningTest | None = None
        self._teardowns: dict[pytest.FixtureDef[Any], Span] = {}

    def close(self) -> None:
        """End what is still open: after an interruption, that is the module."""
        self._enter_module(None)

    # -- collection --------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """A span for all of it."""
        __tracebackhide__ = True
        with self._profiler.measure("collection"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """A span for each file, which is imported meanwhile."""
        if not isinstance(collector, pytest.File):
            return (yield)
        with self._profiler.measure(f"collect {collector.nodeid}") as span:
            report = yield
            if report.failed:
                mark_failed(span, "CollectError", report.longreprtext)
            return report

    # -- tests -------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """A span for the test, within one for its module."""
        __tracebackhide__ = True
        self._enter_module(_module_of(item))
        tags: dict[str, Any] = {"markers": sorted({mark.name for mark in item.iter_markers()})}
        if params := _params_of(item):
            tags["params"] = params
        with self._profiler.measure(item.nodeid, tags) as span:
            self._test = test = RunningTest(span)
            try:
                result = yield
            except BaseException:
                test.interrupted()
                raise
            else:
                test.end()
            finally:
                self._test = None
        if nextitem is None or _module_of(nextitem) != _module_of(item):
            self._enter_module(None)
        return result

    def _enter_module(self, nodeid: str | None) -> None:
        if self._module is not None:
            if self._module[0] == nodeid:
                return
            self._module[1].__exit__(None, None, None)
            self._module = None
        if nodeid:
            self._module = (nodeid, self._profiler.measure(nodeid).__enter__())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        """The first phase."""
        __tracebackhide__ = True
        return (yield from self._phase("setup"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """The test itself."""
        __tracebackhide__ = True
        return (yield from self._phase("call"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """The last phase."""
        __tracebackhide__ = True
        return (yield from self._phase("teardown"))

    def _phase(self, name: str) -> Generator[None, object, object]:
        __tracebackhide__ = True
        test = self._test
        if test is None:  # somebody runs a phase outside of the protocol
            return (yield)
        test.begin(self._profiler.measure(name))
        try:
            return (yield)
        finally:
            test.running = False  # its span ends with its report, which alone knows what an exception means

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """How a phase went."""
        report = yield
        if self._test is not None and not self._test.running:  # while it runs, it is the report of a subtest
            self._test.reported(report, call)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A subtest: known only when it is over. Its span begins when it did."""
        context = getattr(report, "context", None)
        if self._test is None or not self._test.running or context is None:
            return
        name = f"subtest {context.msg}" if context.msg else "subtest"
        span = self._profiler.start(name, {"outcome": outcome_of(report), **dict(context.kwargs)})
        span.start_ns -= int(report.duration * 1e9)
        if report.failed:
            self._test.failed_subtests += 1
            crash = getattr(report.longrepr, "reprcrash", None)
            mark_failed(span, "", getattr(crash, "message", report.longreprtext))
        span.end()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """A coroutine may be run in a task that is older than the test, and knows nothing of its span: tell it."""
        __tracebackhide__ = True
        test = pyfuncitem.obj
        if not inspect.iscoroutinefunction(test):
            return (yield)
        current, span_id = self._profiler.current, self._profiler.current.get()

        @functools.wraps(test)
        async def told(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            token = current.set(span_id)
            try:
                return await test(*args, **kwargs)
            finally:
                current.reset(token)

        pyfuncitem.obj = told
        try:
            return (yield)
        finally:
            pyfuncitem.obj = test

    # -- fixtures ----------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """A span for the setup of a fixture; and one for its teardown, if it has any."""
        __tracebackhide__ = True
        if getattr(fixturedef.func, "__name__", "") == _PARAMETER:
            return (yield)
        tags: dict[str, Any] = {"fixture": fixturedef.argname, "scope": fixturedef.scope}
        if hasattr(request, "param"):
            tags["param"] = _short(request.param)
        finalizers = _finalizers(fixturedef)
        before = len(finalizers)
        with self._profiler.measure(f"fixture {fixturedef.argname}", tags) as span:
            try:
                return (yield)
            except (pytest.skip.Exception, pytest.xfail.Exception):
                span.end()  # no error
                raise
            finally:
                if len(finalizers) > before:
                    # the last to be added is the first to be called
                    fixturedef.addfinalizer(functools.partial(self._begin_teardown, fixturedef, tags))

    def _begin_teardown(self, fixturedef: pytest.FixtureDef[Any], tags: dict[str, Any]) -> None:
        span = self._profiler.measure(f"fixture {fixturedef.argname} teardown", tags).__enter__()
        self._teardowns[fixturedef] = span
        finalizers = _finalizers(fixturedef)
        finalizers[:] = [_watched(finalizer, span) for finalizer in finalizers]

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Called when all that a fixture left to do is done."""
        span = self._teardowns.pop(fixturedef, None)
        if span is not None:
            span.__exit__(None, None, None)


def _module_of(item: pytest.Item) -> str | None:
    return next((node.nodeid for node in item.listchain() if isinstance(node, pytest.File)), None)


def _params_of(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return {name: _short(value) for name, value in callspec.params.items()} if callspec is not None else {}


def _short(value: Any) -> Any:
    """A parameter as a tag: small plain values as they are, others as their `repr`, cut."""
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - the tests' own objects
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _finalizers(fixturedef: pytest.FixtureDef[Any]) -> list[Callable[[], object]]:
    """What a fixture will do when it is torn down. Not public: where it is not to be had, no teardown has a span."""
    finalizers = getattr(fixturedef, "_finalizers", None)
    return finalizers if isinstance(finalizers, list) else []


def _watched(finalizer: Callable[[], object], span: Span) -> Callable[[], None]:
    def watched() -> None:
        __tracebackhide__ = True
        try:
            finalizer()
        except BaseException as error:
            mark_failed(span, type(error).__name__, str(error))
            raise

    return watched
