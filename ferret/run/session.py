"""A program under `ferret run`: what its interpreter does before the program begins, and after it has ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ferret.errors import FerretError
from ferret.run import goodbye
from ferret.run.selection import Selection  # noqa: TC001 - msgspec decodes into it

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferret.config import Settings
    from ferret.core import Profiler
    from ferret.models import DeliveryReport
    from ferret.plugins import SinkSpec
    from ferret.run.tracer import FunctionTracer

VARIABLE = "_FERRET_RUN"
"""The environment variable in which a `Plan` travels to the interpreter that runs the program."""

STARTUP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "startup")
"""The folder whose `sitecustomize` calls `begin`."""

_HELPERS = ("ferret.writers.child", "multiprocessing.resource_tracker")
"""Python processes that are no part of the program."""


class Plan(msgspec.Struct, frozen=True):
    """What to record, and where to.

    Attributes:
        process_id: the program's own process; others that find the plan are its children.
        folder: what will be `sys.path[0]`.
        selection: which functions.
        min_duration_ns: calls that took less are left out.
        options: keywords of `Profiler`.
        children: whether to record child processes too.
        show: whether to show the numbers at the end.
        python_path: `PYTHONPATH` as it was; None if it was not set.
    """

    process_id: int
    folder: str
    selection: Selection
    min_duration_ns: int
    options: dict[str, Any]
    children: bool
    show: bool
    python_path: str | None

    def environment(self) -> dict[str, str]:
        """This process's environment, such that a Python that starts in it begins with `begin`."""
        path = STARTUP if self.python_path is None else STARTUP + os.pathsep + self.python_path
        return os.environ | {VARIABLE: msgspec.json.encode(self).decode(), "PYTHONPATH": path}


def begin(before: set[str]) -> None:
    """Start recording. Called once, by `ferret.run.startup.sitecustomize`.

    Args:
        before: the modules that were imported already.
    """
    plan = msgspec.json.decode(os.environ[VARIABLE], type=Plan)
    if any(helper in word for helper in _HELPERS for word in sys.orig_argv):
        return
    if not plan.children:
        _restore_environment(plan)
    global _session  # noqa: PLW0603 - lifecycle holds it weakly
    _session = session = Session(plan)
    try:
        with _standard_descriptors():
            session.start()
    except (FerretError, OSError) as error:
        if not session.is_child:
            sys.stderr.write(f"ferret: {_reason(error)}\n")
            sys.stderr.flush()
            os._exit(1)  # an exception would be told as an error of Python's own start
        _leave_out(error)
    _make_way(plan.folder, before)


def _leave_out(error: Exception) -> None:
    """Say why a child process is not recorded, if it can be said."""
    with suppress(Exception):
        sys.stderr.write(f"ferret: child process {os.getpid()} is not recorded: {_reason(error)}\n")


def _reason(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    if isinstance(error, FileNotFoundError) and error.filename is None:  # from os.getcwd
        return "recording cannot begin: the current folder was removed; change to another"
    return f"recording cannot begin: {error.strerror}{f': {error.filename!r}' if error.filename else ''}"


@contextmanager
def _standard_descriptors() -> Iterator[None]:
    """Keep 0, 1 and 2 free where the program was started without: what it writes there must not get into ferret's pipes."""
    held = []
    try:
        while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
            held.append(null)
        os.close(null)
        yield
    finally:
        for null in held:
            os.close(null)


def _restore_environment(plan: Plan) -> None:
    del os.environ[VARIABLE]
    if plan.python_path is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = plan.python_path


def _make_way(folder: str, before: set[str]) -> None:
    """Let the program import a module of its own folder, where one of the same name was imported for ferret's sake.

    A `queue.py` beside the script comes before the standard library's. Ferret keeps the module that it has.
    """
    try:
        own = {name.partition(".")[0] for name in os.listdir(folder or ".")}
    except OSError:
        return
    for name in {name.partition(".")[0] for name in sys.modules.keys() - before} & own - {"ferret"}:
        for module in list(sys.modules):
            if module == name or module.startswith(f"{name}."):
                del sys.modules[module]


_session: Session | None = None

_OPTIONS = {
    "writer": "process",  # most of the work is done on another core, and a kill takes 0.1 s
    "overflow": "block",  # a call that is not recorded would be worse than one that waits
    "block_timeout": 60.0,
    "handle_sigterm": True,
    "check_sink": False,  # the program starts at once; `_check_target` looks before, where it can
}
"""Where `ferret run` differs from the defaults; the environment (`FERRET_*`) goes before."""


def _check_target(settings: Settings, sink: SinkSpec | None) -> None:
    """Refuse what only the writing process would find out.

    Raises:
        FerretError: there is no such writer or sink, or the file cannot be used.
    """
    from ferret.plugins import plugins  # noqa: PLC0415 - only the one who begins the recording looks
    from ferret.sinks.beaver_file import check_target  # noqa: PLC0415 - as above

    plugins().find("writer", settings.writer)
    if sink is not None:
        plugins().find("sink", sink.name)
    elif settings.writer == "process" and settings.db_path != ":memory:":
        check_target(settings.db_path)


class Session:
    """One process's recording: a profiler with a tracer in front. `close` ends both; safe from any thread."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._profiler: Profiler | None = None
        self._tracer: FunctionTracer | None = None
        self._readable: goodbye.Readable | None = None
        self.is_child = os.getpid() != plan.process_id

    def start(self) -> None:
        """Begin to record; in a child process only once a selected function is called.

        Raises:
            FerretError: an option is wrong, or the sink cannot be used.
        """
        from ferret.run.tracer import FunctionTracer  # noqa: PLC0415 - helper processes do without

        recorder: Any = self._make_if_possible if self.is_child else self._make_profiler()
        tracer = FunctionTracer(recorder, self._plan.selection, min_duration_ns=self._plan.min_duration_ns)
        if (
            self._profiler is not None
        ):  # its thread begins now: later it would get what the program gives to threading.settrace
            self._profiler.gauge.rouse()
        tracer.start()
        self._tracer = tracer

    def _make_if_possible(self) -> Profiler | None:
        """In a child process, which is in the middle of its program: that goes on, whatever recording lacks."""
        try:
            return self._make_profiler()
        except (FerretError, OSError) as error:
            _leave_out(error)
            return None

    def _make_profiler(self) -> Profiler:
        from ferret import lifecycle  # noqa: PLC0415 - recording is imported where something is recorded
        from ferret.config import ENV_PREFIX, load_settings, misspelt_variables  # noqa: PLC0415 - as above
        from ferret.core import Profiler  # noqa: PLC0415 - as above
        from ferret.plugins import SinkSpec  # noqa: PLC0415 - as above

        for fault in misspelt_variables():
            if not self.is_child:
                sys.stderr.write(f"ferret: {fault}\n")
        options = {name: value for name, value in _OPTIONS.items() if ENV_PREFIX + name.upper() not in os.environ}
        options |= {name: value for name, value in self._plan.options.items() if value is not None}
        if threading.current_thread() is not threading.main_thread():
            options.pop("handle_sigterm", None)
        settings = load_settings(dict(options))
        sink = None if "db_path" in options or settings.sink is None else SinkSpec.parse(settings.sink)
        _check_target(settings, sink)
        if sink is not None and not self.is_child:
            options.pop("check_sink", None)  # only who opens it can say whether it works
        self._readable = goodbye.readable(sink or SinkSpec("beaver", str(settings.db_path)))
        profiler = Profiler(**cast("Any", options))
        self._profiler = profiler
        lifecycle.forget(profiler)  # it is this session that closes
        lifecycle.watch(self)
        return profiler

    def close(self) -> DeliveryReport:
        """Store everything, and show it if that was asked for."""
        assert self._profiler is not None
        if self._tracer is not None:
            self._tracer.stop()
        report = self._profiler.close()
        from ferret import lifecycle  # noqa: PLC0415 - it is imported already

        lifecycle.forget(self)
        if not self.is_child:
            self._say_goodbye(report)
        return report

    def _say_goodbye(self, report: DeliveryReport) -> None:
        """Tell at a terminal where the spans are, or show the numbers; on stderr, as stdout is the program's."""
        assert self._profiler is not None
        namespace = self._profiler.settings.namespace
        if (
            threading.current_thread() is threading.main_thread()
        ):  # at SIGTERM, that one may be in the middle of a print
            with suppress(AttributeError, ValueError, OSError):  # the program may have closed it, or have none
                sys.stdout.flush()
        if self._plan.show and self._readable is not None:
            command = [sys.executable, "-P", "-m", "ferret", "analyze", self._readable.file]
            command += ["--run", self._profiler.run_id, "--namespace", namespace]
            hidden = {VARIABLE, "PYTHONPATH"} if self._plan.children else set()
            environment = {name: value for name, value in os.environ.items() if name not in hidden}
            with suppress(OSError):
                subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, check=False, env=environment)
        elif os.isatty(2):
            written = None if self._plan.children else report.written  # a child counts for itself
            line = goodbye.line(written, self._readable, namespace)
            with suppress(OSError):  # the terminal may be gone
                os.write(2, f"{line}\n".encode() if line else b"")

    def _after_fork(self) -> None:
        assert self._profiler is not None
        self.is_child = True
        self._profiler._after_fork()
        if self._tracer is None:
            return
        if self._plan.children:
            self._tracer.after_fork()
        else:
            from ferret import sigterm  # noqa: PLC0415 - it is imported already

            self._tracer.leave()
            sigterm.leave()  # there is nothing to store: it ends at once, as it would have
