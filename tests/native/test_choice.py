"""Whether spans are recorded in C: where it can be, unless the environment says no; and users can see it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from time import perf_counter_ns

import pytest

import ferret
from ferret import _native, twin

RECORDS = """
import ferret
from ferret import Profiler
with Profiler(sink="memory") as profiler:
    with profiler.measure("outer", {"user": 7}):
        profiler.measure("inner")(lambda: None)()
    profiler.flush()
    print(ferret.native, [(span.name, span.tags) for span in profiler.sink.spans])
"""


def output(code: str, **environ: str) -> str:
    """What a program prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environ,
    )
    return done.stdout.strip()


@pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="it is not for the free-threaded build")
def test_where_there_is_a_compiler_the_twin_is_built() -> None:
    has_headers = (Path(sysconfig.get_path("include")) / "Python.h").exists()
    if not (shutil.which("cc") or shutil.which("gcc")) or not has_headers:
        pytest.skip("there is none")
    assert ferret.native


def test_the_environment_chooses_python() -> None:
    recorded = "[('inner', {}), ('outer', {'user': 7})]"
    assert output(RECORDS) == f"{ferret.native} {recorded}"
    assert output(RECORDS, FERRET_PURE="1") == f"False {recorded}"


def test_without_the_twin_everything_is_there() -> None:
    """As on a machine without a compiler."""
    hidden = "import sys; sys.modules['ferret._native'] = None\n"
    assert output(hidden + RECORDS) == "False [('inner', {}), ('outer', {'user': 7})]"


def test_a_build_of_another_edition_is_left_alone() -> None:
    stale = "import sys, types; sys.modules['ferret._native'] = types.ModuleType('ferret._native')\n"
    assert output(stale + RECORDS).startswith("False ")


def test_a_second_copy_of_ferret_in_one_process_runs_in_python() -> None:
    again = "for name in [one for one in sys.modules if one.split('.')[0] == 'ferret']: del sys.modules[name]\n"
    assert output("import sys, ferret.shared\n" + again + RECORDS).startswith("False ")


def test_the_twin_reads_the_clock_that_python_reads() -> None:
    if not ferret.native:
        pytest.skip("the native twin is not built")
    assert twin.EDITION == _native.EDITION
    for _ in range(100):
        before = perf_counter_ns()
        between = _native.clock_ns()
        assert before <= between <= perf_counter_ns()


def test_every_file_of_the_package_is_in_the_wheel() -> None:
    root = Path(ferret.__file__).parent.parent
    listed = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    packed = {
        path for name, globs in listed.items() for glob in globs for path in (root / name.replace(".", "/")).rglob(glob)
    }
    packed |= {path for path in (root / "ferret").rglob("*.py") if (path.parent / "__init__.py").exists()}
    left_out = {".c", ".so", ".pyd", ".pyc"}
    found = {path for path in (root / "ferret").rglob("*") if path.is_file() and path.suffix not in left_out}
    assert found - packed == set()


def test_the_laws_of_spans_hold_in_plain_python_too() -> None:
    root = Path(__file__).parents[2]
    laws = [str(root / "tests" / "recording" / name) for name in ("test_span_laws.py", "test_profiler.py")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *laws],
        capture_output=True, text=True, check=False, cwd=root, env=os.environ | {"FERRET_PURE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
