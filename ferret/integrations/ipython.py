"""`%%ferret`, the cell magic of IPython and Jupyter: what a cell's functions did. `%load_ext ferret` brings it."""

from __future__ import annotations

import os
import pkgutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from ferret.core import Profiler
from ferret.errors import FerretError
from ferret.run import recording

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from IPython.core.interactiveshell import InteractiveShell


class CellFailedError(Exception):
    """The cell failed, and has said so: this one only keeps the cells below from being run."""

    def _render_traceback_(self) -> list[str]:
        return []


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
        with _file(options.file) as file:
            failed = not self._run(cell, file, options)
            _show(file, tree=options.tree)
        if options.file is not None:
            print(f"The spans are in {options.file}: ferret analyze {options.file}")
        if failed:
            raise CellFailedError

    def _run(self, cell: str, file: str, options: Namespace) -> bool:
        """Whether the cell succeeded."""
        assert self.shell is not None
        given: Any = {} if options.writer is None else {"writer": options.writer}
        include = options.include or ["__main__", *_beside()]
        try:
            with (
                Profiler(file, **given) as profiler,
                recording(profiler, include=include, exclude=options.exclude, everything=options.all),
            ):
                return bool(self.shell.run_cell(cell).success)  # which raises nothing of the cell's
        except FerretError as error:
            raise UsageError(str(error)) from None


def _beside() -> list[str]:
    """The modules of the current folder; what cells define is in `__main__`."""
    return [module.name for module in pkgutil.iter_modules([os.getcwd()])]


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
