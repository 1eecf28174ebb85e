"""`%%ferret`, the cell magic of IPython and Jupyter: what a cell's functions did. `%load_ext ferret` brings it."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from ferret.core import Profiler
from ferret.errors import FerretError
from ferret.run.selection import Selection
from ferret.run.tracer import FunctionTracer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType

    from IPython.core.interactiveshell import InteractiveShell


class CellFailedError(Exception):
    """The cell failed, and has said so: this one only keeps the cells below from being run."""

    def _render_traceback_(self) -> list[str]:
        return []


class CellSelection:
    """Which functions are recorded: those of the notebook and of the current folder's modules, unless others are named."""

    def __init__(self, include: list[str], exclude: list[str], *, everything: bool) -> None:
        named = bool(include) or everything
        folders = () if named else (os.getcwd(),)
        self._selections = [Selection(folders, tuple(include), tuple(exclude), everything)]
        if not named:  # what cells define has no file
            self._selections.append(Selection(include=("__main__",), exclude=tuple(exclude)))

    def wants(self, code: CodeType, variables: Mapping[str, Any]) -> bool:
        """As `Selection.wants`."""
        return any(selection.wants(code, variables) for selection in self._selections)


@magics_class
class FerretMagics(Magics):
    """`%%ferret`."""

    @magic_arguments()
    @argument("file", nargs="?", help="the BeaverDB file to record into; without it, nothing is kept")
    @argument("--writer", help="how spans leave the cell: sync, threaded, bounded or process")
    @argument("--include", action="append", default=[], metavar="GLOB", help="record the modules that match, instead")
    @argument("--exclude", action="append", default=[], metavar="GLOB", help="leave the modules out that match")
    @argument("--all", action="store_true", help="record all Python functions, those of libraries too")
    @argument("--tree", action="store_true", help="show who called whom")
    @cell_magic
    def ferret(self, line: str, cell: str) -> None:
        """Record the Python functions that the cell calls, and show where the time went."""
        options = parse_argstring(self.ferret, line)
        selection = CellSelection(options.include, options.exclude, everything=options.all)
        with _file(options.file) as file:
            failed = not self._run(cell, file, options.writer, selection)
            _show(file, tree=options.tree)
        if options.file is not None:
            print(f"The spans are in {options.file}: ferret analyze {options.file}")
        if failed:
            raise CellFailedError

    def _run(self, cell: str, file: str, writer: str | None, selection: CellSelection) -> bool:
        given: Any = {} if writer is None else {"writer": writer}
        try:
            profiler = Profiler(file, **given)
        except FerretError as error:
            raise UsageError(str(error)) from None
        with profiler:
            tracer = FunctionTracer(profiler, cast("Selection", selection))
            try:
                tracer.start()
            except FerretError as error:
                raise UsageError(str(error)) from None
            assert self.shell is not None
            try:
                return bool(self.shell.run_cell(cell).success)
            finally:
                tracer.stop()


@contextmanager
def _file(named: str | None) -> Iterator[str]:
    """The file that was named, or one that is gone afterwards."""
    if named is not None:
        yield named
        return
    with tempfile.TemporaryDirectory(prefix="ferret-") as folder:
        yield os.path.join(folder, "trace.db")


def _show(file: str, *, tree: bool) -> None:
    """What `ferret analyze` shows of the file's latest run."""
    from ferret.cli import app  # noqa: PLC0415 - it brings typer and rich

    app(["analyze", file, *(["--tree"] if tree else [])], standalone_mode=False)


def load(shell: InteractiveShell) -> None:
    """Add the magic to a shell."""
    shell.register_magics(FerretMagics)
