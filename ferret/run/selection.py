"""Which functions are recorded: by the folder that they come from, or by the module that they are in."""

from __future__ import annotations

import inspect
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ferret.tags import plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType

OWN_FOLDER = str(Path(__file__).parent.parent) + os.sep
"""What is in it is ferret's."""
_INSTALLED = tuple(os.sep + name + os.sep for name in ("site-packages", "dist-packages"))


class Selection(msgspec.Struct, frozen=True):
    """Says of a function whether it is recorded. Asked once for each; safe from any thread.

    Ferret's own functions never are. Neither are comprehensions, generator expressions, and the bodies of modules and
    classes: their time is that of the function around them.

    Attributes:
        folders: record functions whose file is in one of these folders, or is one of these files; but what is installed
            somewhere below a folder, as in a virtual environment, is left out.
        include: instead, record the modules that match one of these globs. `app` also stands for `app.views`.
        exclude: leave these modules out, whatever else is said.
        everything: record all Python functions, those of the standard library too.
        main: the name that `__main__` has besides, such as `pygments.__main__`.
    """

    folders: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    everything: bool = False
    main: str | None = None

    def wants(self, code: CodeType, variables: Mapping[str, Any]) -> bool:
        """Whether calls of the code, with the global variables that it sees, are to be recorded."""
        if not code.co_flags & inspect.CO_OPTIMIZED or (code.co_name[0] == "<" and code.co_name != "<lambda>"):
            return False
        if code.co_filename.startswith(OWN_FOLDER):
            return False
        module = module_of(variables)
        names = [module, self.main] if module == "__main__" and self.main else [module]
        if any(_matches(name, self.exclude) for name in names):
            return False
        if self.everything:
            return True
        if self.include:
            return any(_matches(name, self.include) for name in names)
        path = code.co_filename
        if path[:1] == "<":  # made by exec, as by dataclasses and namedtuples, or frozen
            path = str(variables.get("__file__") or "")
        return bool(path) and self._in_folders(os.path.abspath(path))

    def _in_folders(self, path: str) -> bool:
        for folder in self.folders:
            if path == folder:
                return True
            inside = folder if folder.endswith(os.sep) else folder + os.sep
            if path.startswith(inside):
                return not any(installed in path[len(inside) - 1 :] for installed in _INSTALLED)
        return False


def module_of(variables: Mapping[str, Any]) -> str:
    """The module's name, from its global variables."""
    return plain_text(variables.get("__name__", "?"))


def span_name(code: CodeType, variables: Mapping[str, Any]) -> str:
    """`module.qualname`."""
    return plain_text(f"{module_of(variables)}.{code.co_qualname}")


def _matches(module: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(module, glob) or fnmatchcase(module, f"{glob}.*") for glob in globs)
