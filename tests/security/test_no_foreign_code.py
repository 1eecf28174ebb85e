"""Nothing that ferret reads is ever executed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ferret

ROOT = Path(ferret.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
EXECUTE = {"eval", "exec", "compile", "__import__", "execfile"}
LOADERS = {
    "pickle",
    "cPickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "marshal",
    "shelve",
    "jsonpickle",
    "yaml",
    "code",
    "codeop",
    "ctypes",
}
IMPORT_BY_NAME = {
    "__init__.py", "builtin.py", "export/__init__.py", "testing/__init__.py",  # ferret's own modules
    "testing/installed.py",  # what the person who runs pytest names
    "run/program.py", "run/startup/sitecustomize.py",  # the program that is run, as Python would
    "writers/child.py",  # the modules whose plugins the program had registered, through the private pipe
}  # fmt: skip
"""Where a module is imported by a name that is a value."""


def found_in(tree: ast.AST) -> set[str]:
    """The forbidden names that are called or imported."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in EXECUTE:
            found.add(node.func.id)
        elif isinstance(node, ast.Import):
            found |= {one.name.split(".")[0] for one in node.names} & LOADERS
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module.split(".")[0]} & LOADERS
        if isinstance(node, ast.keyword) and node.arg in {"allow_pickle", "shell"}:
            found.add(node.arg)
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_can_unpickle_or_evaluate(source: Path) -> None:
    assert not found_in(ast.parse(source.read_text("utf-8")))


def test_such_a_module_would_be_found() -> None:
    code = "import pickle\nfrom marshal import loads\neval('1')\nnp.load(x, allow_pickle=True)\nexec('x')"
    assert found_in(ast.parse(code)) == {"pickle", "marshal", "eval", "allow_pickle", "exec"}


def test_modules_are_imported_by_name_in_few_places() -> None:
    by_name = {
        str(source.relative_to(ROOT))
        for source in SOURCES
        if any(word in source.read_text("utf-8") for word in ("import_module(", "module_from_spec("))
    }
    assert by_name <= IMPORT_BY_NAME
