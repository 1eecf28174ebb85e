"""Runs what README.md and docs/*.md show: the Python blocks, and the commands, whose output must look as it is shown.

A page is one test: its blocks share a namespace and an empty folder. A `python` block that begins with a comment such as
`# shop.py` is saved there instead, for a later `$ python shop.py`. Commands run one after another, where they stand.
"""

from __future__ import annotations

import gc
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import warnings
from contextlib import ExitStack, chdir, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from sybil import Document, Example, Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser

import ferret.plugins
import ferret.shared
from ferret import lifecycle

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from sybil.region import Region

ROOT = Path(__file__).parent
PAGES = {ROOT / "README.md", *ROOT.glob("docs/*.md")}

RUN = {
    "ferret": [sys.executable, "-m", "ferret"],
    "python": [sys.executable],
    "pytest": [sys.executable, "-m", "pytest"],
}
"""The commands that are run."""
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "PYTHONUTF8": "1",
    "CI": "true",  # hypothesis draws the same examples each time
    # no fixtures, warnings or files but what the page speaks of
    "PYTEST_ADDOPTS": "-p no:asyncio -p no:anyio -p no:xdist -p no:cacheprovider",
}
SHOWN_ONLY = ("make", "pip", ".venv/bin/pip", ".venv/bin/python", "git", "cd")
"""The commands that are not: they install, or need the repository."""

FILE_NAME = re.compile(r"# (\w+\.py)\n")
ASSIGNMENT = re.compile(r"[A-Z_]+=")

NOT_PASSED = re.compile(r"FERRET_|COLUMNS$|LINES$|FORCE_COLOR$|TTY_")
"""Variables that would change what a page does, or how its output looks."""

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the many processes that tests start need not all compile ferret
# where the tests run in the background, children would inherit that Ctrl-C is ignored
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

VARYING = (
    (re.compile(r"\b[0-9a-f]{32}\b"), "<run>"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "<when>"),
    (re.compile(r"\d[\d,.]* (ns|µs|ms|s)\b"), "<time>"),
    (re.compile(r"\d+\.\d%"), "<share>"),
    (re.compile(r"\d[\d,.]* (B|kB|MB|GB)\b"), "<size>"),
    (re.compile(r"─+"), "─"),
    (re.compile(r"\s+"), " "),
)
"""What differs from run to run in a command's output, and what stands for it in the comparison."""


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Half as many again as there are cores: tests wait for processes, and a quarter of the time would go unused."""
    workers = yield
    return workers if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else workers + workers // 2


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the pages."""
    return PageFile.from_parent(parent, path=file_path) if file_path in PAGES else None


class ShownOtherwiseError(AssertionError):
    """A command does something else than the page says."""


class PageFile(pytest.File):
    """A page with something to run."""

    def collect(self) -> Iterable[pytest.Item]:
        """One test: with pytest-xdist, the blocks of a page must not come apart."""
        if any(True for _ in _parsed(self.path).examples()):
            yield Page.from_parent(self, name="examples")


class Page(pytest.Item):
    """All that a page shows, in order."""

    def runtest(self) -> None:
        """Run it in an empty folder, and see that nothing is left open."""
        with scene() as folder, warnings.catch_warnings():
            # a BeaverDB that a page closes itself leaves its event loop open (beaver-db 2.4.1)
            warnings.filterwarnings("ignore", "unclosed", ResourceWarning)
            page = _parsed(self.path)
            for example in page.examples():
                example.evaluate()
            never_run = {path.name for path in folder.glob("*.py")} - page.namespace.get("ran", set())
            assert not never_run, f"shown, but neither run nor imported: {never_run}"
            page.namespace.clear()
            gc.collect()
            assert not list(lifecycle._open), f"left open: {list(lifecycle._open)}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
        """From the page's own line on; what was shown otherwise than it is needs no traceback."""
        if isinstance(excinfo.value, ShownOtherwiseError):
            return str(excinfo.value)
        excinfo.traceback = excinfo.traceback.cut(path=self.path)
        return super().repr_failure(excinfo, style="short")

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it is."""
        return self.path, 0, self.path.name


@contextmanager
def scene() -> Iterator[Path]:
    """An empty folder to be in, no option from outside, and afterwards no plugin, module or shared profiler left."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ferret-docs-")))
        stack.enter_context(chdir(folder))
        outside = {name: value for name, value in os.environ.items() if not NOT_PASSED.match(name)}
        stack.enter_context(mock.patch.dict(os.environ, outside, clear=True))
        stack.enter_context(mock.patch.object(sys, "argv", ["demo.py"]))  # the program, as runs show it
        stack.enter_context(mock.patch.object(sys, "path", [str(folder), *sys.path]))
        stack.enter_context(mock.patch.object(ferret.plugins, "_shared", None))
        stack.callback(_forget, folder)
        yield folder


def _forget(folder: Path) -> None:
    for name in _imported_from(folder):
        del sys.modules[name]
    shared, ferret.shared._shared = ferret.shared._shared, None
    if shared is not None:
        shared.close()


def _parsed(path: Path) -> Document:
    return Sybil(parsers=[PythonParser(), CodeBlockParser("console", run_console)]).parse(path)


class PythonParser(PythonCodeBlockParser):
    """Runs a block, or saves it as the file that its first line names."""

    def __call__(self, document: Document) -> Iterator[Region]:
        """The blocks of a page."""
        for region in super().__call__(document):
            run = region.evaluator
            region.evaluator = self._saving(run) if run else None
            yield region

    @staticmethod
    def _saving(run: Any) -> Any:
        def evaluate(example: Example) -> str | None:
            source = str(example.parsed)
            if name := FILE_NAME.match(source):
                Path(name[1]).write_text(source, encoding="utf-8")
                return None
            result: str | None = run(example)
            _ran(example).update(f"{name}.py" for name in _imported_from(Path.cwd()))
            _ran(example).update(path.name for path in Path.cwd().glob("*.py") if path.name in source)
            return result

        return evaluate


def _imported_from(folder: Path) -> list[str]:
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    return [name for name, file in files.items() if file and Path(file).parent == folder]


def _ran(example: Example) -> set[str]:
    names: set[str] = example.namespace.setdefault("ran", set())
    return names


def run_console(example: Example) -> None:
    """Run each `$ command` of a block, and compare what it prints with what stands below it."""
    for command, shown in _commands(str(example.parsed)):
        words = shlex.split(command, comments=True)
        given = [word for word in words if ASSIGNMENT.match(word)]
        words = words[len(given) :]
        where = f"{Path(example.path).name}, line {example.line}: $ {command}"
        if words[0] not in RUN:
            if words[0] not in SHOWN_ONLY:
                raise ShownOtherwiseError(f"{where}: not a command that a page may show")
            continue
        done = subprocess.run(
            [*RUN[words[0]], *words[1:]],
            env=os.environ | dict(one.split("=", 1) for one in given) | ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        if words[0] in {"python", "pytest", "ferret"}:
            _ran(example).update(words[1:])
        if done.returncode != int(shown.startswith("ferret: ")):
            raise ShownOtherwiseError(f"{where}: exit status {done.returncode}\n{done.stdout}")
        if difference := _difference(shown, done.stdout):
            raise ShownOtherwiseError(f"{where}: {difference}\n{done.stdout}")


def _commands(block: str) -> Iterator[tuple[str, str]]:
    """Each command, and what is shown to come of it."""
    command, shown = "", ""
    for line in [*block.splitlines(), "$ "]:
        if line.startswith("$ "):
            if command:
                yield command, shown
            command, shown = line[2:], ""
        else:
            assert command, f"not a command, and not a command's output: {line!r}"
            shown += line + "\n"


def _difference(shown: str, printed: str) -> str:
    """The first line that is not as shown; a line `…` stands for all the rest."""
    expected, found = ([_shape(line) for line in text.strip().splitlines()] for text in (shown, printed))
    for want, have in zip_longest(expected, found):
        if want == "…":
            return ""
        if want != have:
            return f"shown is {want!r}, but printed was {have!r}"
    return ""


def _shape(line: str) -> str:
    for varying, name in VARYING:
        line = varying.sub(name, line)
    return line.strip()
