"""What `pytest --ferret=FILE` registers: the session, its file and run, its workers, and what is said at the end.

With pytest-xdist, each worker records into the same file and run, below the span of the session that started it.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from ferret.core import Profiler
from ferret.errors import FerretError
from ferret.integrations.pytest_spans import Spans

if TYPE_CHECKING:
    from collections.abc import Generator

    from ferret.models import Ledger
    from ferret.span import Span

_sink_spec = re.compile(r"([a-z][\w-]+):(.+)", re.DOTALL).fullmatch  # one letter and a colon is a drive of Windows

_OURS = "ferret"
"""The key of what controller and workers tell each other."""

_NO_ERROR = {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}


class Recorder:
    """Records a session. Registered as a plugin; everything happens in pytest's thread.

    Attributes:
        profiler: who records, from the start of the session on.
    """

    profiler: Profiler

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.target: str = config.getoption("ferret")
        self._told: dict[str, str] = getattr(config, "workerinput", {}).get(_OURS, {})
        self._session: Span
        self._recorded = 0
        self._lost = 0
        self._crashed = 0

    # -- the session -------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Open the file: not before, as `pytest --help` is to make none."""
        config = session.config
        self.profiler = self._open()
        if self._told:
            self.profiler.current.set(int(self._told["parent"], 16))
            name = f"pytest {config.workerinput['workerid']}"  # type: ignore[attr-defined]
        else:
            name = "pytest"
        tags = {"args": config.invocation_params.args, "rootdir": str(config.rootpath), "pytest": pytest.__version__}
        self._session = self.profiler.measure(name, tags).__enter__()
        self._spans = Spans(self.profiler)
        config.pluginmanager.register(self._spans, "ferret-spans")

    def _open(self) -> Profiler:
        path: str | None = os.path.abspath(self.target)
        sink = None
        if spec := _sink_spec(self.target):
            path, sink = None, self.target
            if spec[1] == "jsonl":
                sink = f"jsonl:{os.path.abspath(spec[2])}"
        path, sink = (self._told["path"] or None, self._told["sink"] or None) if self._told else (path, sink)
        options: Any = {} if (writer := self.config.getoption("ferret_writer")) is None else {"writer": writer}
        self._where = {"path": path or "", "sink": sink or ""}
        try:
            return Profiler(path, run_id=self._told.get("run_id"), sink=sink, **options)
        except FerretError as error:
            raise pytest.UsageError(f"--ferret={self.target}: {error}") from error

    # The innermost wrapper: what xdist's worker tells its controller must be complete before it goes.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None]:
        """End the session's span, and wait until everything is stored."""
        try:
            return (yield)
        finally:
            self._spans.close()
            status = pytest.ExitCode(exitstatus) if exitstatus in pytest.ExitCode else exitstatus
            self._session.annotate(exitstatus=getattr(status, "name", status), collected=session.testscollected)
            self._session.end("ok" if status in _NO_ERROR else "error")
            self._session.__exit__(None, None, None)
            self._count(self.profiler.close())
            output = getattr(self.config, "workeroutput", None)
            if output is not None:
                output[_OURS] = {"recorded": self._recorded, "lost": self._lost}

    def _count(self, ledger: Ledger) -> None:
        self._recorded += ledger.recorded
        self._lost += ledger.lost

    # -- the workers of pytest-xdist ---------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to record."""
        node.workerinput[_OURS] = {
            **self._where,
            "run_id": self.profiler.run_id,
            "parent": self._session.model.span_id,
        }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Add up what a worker recorded; one that crashed says nothing."""
        told = (getattr(node, "workeroutput", None) or {}).get(_OURS)
        if told is None:
            self._crashed += 1
            return
        self._recorded += told["recorded"]
        self._lost += told["lost"]

    # -- the end -----------------------------------------------------------------------------------

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the spans are, how many, whether any is missing, and how to look at them."""
        terminalreporter.write_sep("-", "ferret")
        terminalreporter.write_line(self.summary())

    def summary(self) -> str:
        """The last words."""
        kept = self._recorded - self._lost
        lost = f"{self._lost:,} lost" if self._lost else "none lost"
        if self._crashed:
            workers = f"{self._crashed} workers" if self._crashed > 1 else "a worker"
            lost += f" but what {workers} had not stored when it crashed"
        spec = _sink_spec(self.target)
        file = spec[2] if spec and spec[1] in {"jsonl", "beaver"} else None if spec else self.target
        look = f"; look at them with: ferret analyze {shlex.quote(file)} --tree" if file else ""
        return f"{kept:,} {'span' if kept == 1 else 'spans'} in {self.target}, {lost}{look}"
