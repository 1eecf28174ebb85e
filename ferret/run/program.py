"""The program that `ferret run` is to run: finding it without running it, and becoming it."""

from __future__ import annotations

import getopt
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, NoReturn

import msgspec

from ferret.errors import FerretError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferret.run.session import Plan

_FLAGS = "bBc:dEhiIm:OPqRsStuvVW:xX:?"
"""Python's own options, which stand before `-m ferret`, as `getopt` wants them."""
_NOT_PASSED_ON = ("-E", "-I", "-S", "-c", "-m", "-x")
"""Those that ask for ferret rather than for the program, and those under which `ferret.run.startup` would not be found."""


class ProgramNotFoundError(FerretError, LookupError):
    """There is no such script or module, or it cannot be run."""


class Program(msgspec.Struct, frozen=True):
    """What to run.

    Attributes:
        words: what stands behind `python` on the command line.
        folder: what will be `sys.path[0]`.
        folders: where the program's own functions are.
        main: the name of the module that will be `__main__`, if it has one.
    """

    words: tuple[str, ...]
    folder: str
    folders: tuple[str, ...]
    main: str | None = None


def script(path: str, arguments: Sequence[str]) -> Program:
    """A script, or a folder or zip file with a `__main__.py`.

    Raises:
        ProgramNotFoundError: there is none.
    """
    if not os.path.exists(path):
        hint = f"; to run the module {path!r}, put -m before it" if _find(path) is not None else ""
        if path.removesuffix(".exe").rstrip("0123456789.") == "python":
            hint = f"; leave out {path!r}: what stands behind it is what ferret runs"
        raise ProgramNotFoundError(f"there is no script {path!r}{hint}")
    if os.path.isdir(path) and not os.path.isfile(os.path.join(path, "__main__.py")):
        raise ProgramNotFoundError(f"{path!r} is a folder without a __main__.py: name a script in it")
    if not os.access(path, os.R_OK):
        raise ProgramNotFoundError(f"the script {path!r} cannot be read: change its permissions")
    real = os.path.realpath(path)
    is_file = os.path.isfile(real) and real.endswith((".py", ".pyw", ".pyc"))
    folder = os.path.dirname(real) if os.path.isfile(real) else real
    own = os.path.dirname(os.path.abspath(path)) if os.path.isfile(path) else os.path.abspath(path)
    folders = dict.fromkeys([own, folder] if is_file or os.path.isdir(real) else [own, folder, real])
    return Program((path, *arguments), folder, tuple(folders))


def module(name: str, arguments: Sequence[str]) -> Program:
    """A module, as with `python -m`: its own functions are those of its package, and those below the current folder.

    Raises:
        ProgramNotFoundError: there is none, or it is a package without `__main__`.
    """
    spec = _find(name)
    if spec is None:
        hint = f"; to run the script {name!r}, leave out -m" if os.path.exists(name) else ""
        raise ProgramNotFoundError(f"there is no module {name!r} here or on Python's path{hint}")
    main = name
    if spec.submodule_search_locations is not None:
        main = f"{name}.__main__"
        if _find(main) is None:
            raise ProgramNotFoundError(f"{name!r} is a package without a __main__ module: name a module in it")
    top = _find(name.partition(".")[0])
    own = list(top.submodule_search_locations or [top.origin or ""]) if top is not None else []
    folder = os.getcwd()
    folders = dict.fromkeys([folder, *(os.path.abspath(one) for one in own if one)])
    return Program(("-m", name, *arguments), folder, tuple(folders), main)


def _find(name: str) -> ModuleSpec | None:
    """The module's spec, found without importing anything; None where the path has none."""
    where: Sequence[str] | None = [os.getcwd(), *(entry for entry in sys.path if entry)]
    spec = None
    done = ""
    for part in name.split("."):
        done = f"{done}.{part}" if done else part
        if done in sys.builtin_module_names or (not part) or where is None:
            return None
        spec = PathFinder.find_spec(done, list(where))
        if spec is None:
            return None
        where = spec.submodule_search_locations
    return spec


def become(program: Program, plan: Plan) -> NoReturn:
    """Replace this process by Python, running the program as if nobody watched.

    It is Python itself that runs it: so its `sys.argv`, `sys.path`, `__main__`, tracebacks, signals and end are what they
    always are.

    Raises:
        FerretError: Python was started such that it does not look for what starts the recording.
    """
    if sys.flags.no_site:
        raise FerretError("functions cannot be recorded under python -S: leave it out")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os.execve(sys.executable, [sys.executable, *_flags(sys.orig_argv[1:]), *program.words], plan.environment())  # noqa: S606 - it is what was asked for


def _flags(words: list[str]) -> list[str]:
    """Python's own options among the words behind `python`; as they were written, where that can be."""
    given, rest = getopt.getopt(words, _FLAGS, ["check-hash-based-pycs="])
    if any(flag in _NOT_PASSED_ON for flag, _ in given):
        return [word for flag in given if flag[0] not in _NOT_PASSED_ON for word in flag if word]
    return words[: len(words) - len(rest)]
