"""Programs that are run twice: by Python alone, and under `ferret run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from ferret import Report
from ferret.testing import patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ferret.models import RunInfo, SpanModel, TraceNode

FERRET = str(Path(sys.executable).with_name("ferret"))
PATIENCE_S = 60.0


class Done(NamedTuple):
    """How a program ended, and what it said."""

    status: int
    out: str
    err: str


class Place:
    """A folder with a program in it, and a file beside it for what is recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self.file = folder / "trace.db"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FERRET_"))}
        if "PYTHONPATH" in os.environ:  # it may say which ferret is tested
            self.env["PYTHONPATH"] = os.environ["PYTHONPATH"]
        self.env |= {"COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"}

    def write(self, name: str, source: str) -> str:
        """Make a file; its path, relative to the folder in which programs run."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return name

    # -- running -----------------------------------------------------------------------------------

    def plain(self, *words: str, **how: Any) -> Done:
        """Run `python` with these words."""
        return self.finish(self.start(sys.executable, *words), **how)

    def watched(self, *words: str, options: Iterable[str] = (), python: Iterable[str] = (), **how: Any) -> Done:
        """Run `ferret run` with these words."""
        return self.finish(self.start_watched(*words, options=options, python=python), **how)

    def start(self, *words: str, **how: Any) -> subprocess.Popen[bytes]:
        """Start a command in the folder."""
        how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        return subprocess.Popen(words, cwd=self.folder, env=self.env, preexec_fn=as_in_the_foreground, **how)  # noqa: PLW1509 - only signals

    def start_watched(
        self, *words: str, options: Iterable[str] = (), python: Iterable[str] = (), **how: Any
    ) -> subprocess.Popen[bytes]:
        """Start `ferret run` with these words."""
        command = [sys.executable, *python, FERRET, "run", *options]
        if not {"-o", "--sink"} & set(options):
            command += ["-o", str(self.file)]
        return self.start(*command, *words, **how)

    def finish(self, process: subprocess.Popen[bytes], *, stdin: bytes = b"") -> Done:
        """Wait for its end."""
        try:
            out, err = process.communicate(stdin, timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            with suppress(psutil.Error):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"it hangs\n{out.decode()}\n{err.decode()}") from None
        return Done(process.returncode, (out or b"").decode(), (err or b"").decode())

    def same(self, *words: str, options: Iterable[str] = (), python: Iterable[str] = (), stdin: bytes = b"") -> Done:
        """Run a program both ways: it must say the same, byte for byte, and end the same way."""
        plain = self.finish(self.start(sys.executable, *python, *words), stdin=stdin)
        watched = self.watched(*words, options=options, python=python, stdin=stdin)
        assert watched.out == plain.out
        assert watched.err == plain.err
        assert watched.status == plain.status
        return watched

    # -- what was recorded -------------------------------------------------------------------------

    @property
    def report(self) -> Report:
        """What is in the file."""
        return Report(self.file)

    @property
    def run(self) -> RunInfo:
        """The only run."""
        (run,) = self.report.runs()
        return run

    def spans(self) -> list[SpanModel]:
        """The spans of the last run, in the order in which they began."""
        return sorted(self.report.spans(), key=lambda span: span.start_time)

    def counts(self) -> Counter[str]:
        """How often each function was called."""
        return Counter(_short(span.name) for span in self.report.spans())

    def tree(self, *, sort: bool = False) -> str:
        """The calls, indented; `2 x f` are two in a row that are alike; `sort` is for threads, which begin in any order."""
        return "\n".join(_lines(self.report.build_trees(), sort=sort))


def as_in_the_foreground() -> None:
    """Where tests run in the background, Ctrl-C may be ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def tree(text: str) -> str:
    """A tree as it is written in a test."""
    return textwrap.dedent(text).strip("\n").rstrip()


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that must happen."""
    patience.wait_until(condition, f"it never happened: {what}", PATIENCE_S)


def _short(name: str) -> str:
    return name.removeprefix("__main__.").removeprefix("__mp_main__.").replace("<locals>.", "")


def _lines(nodes: list[TraceNode], *, sort: bool) -> list[str]:
    drawn = []
    for node in nodes:
        span = node.span
        ending = "" if span.status == "ok" else f" ! {span.error_type or span.status}"
        inner = [f"  {line}" for line in _lines(node.children, sort=sort)]
        drawn.append([_short(span.name) + ending, *inner])
    if sort:
        drawn.sort()
    lines = []
    for one, alike in groupby(drawn):
        times = len(list(alike))
        lines += [f"{times} x {one[0]}" if times > 1 else one[0], *one[1:]]
    return lines
