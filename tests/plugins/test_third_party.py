"""A stranger's package, `examples/ferret-sink-sqlite`, installed beside ferret as a user would install it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import SAME_EXAMPLES

import ferret

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[2]
EXAMPLE = CHECKOUT / "examples" / "ferret-sink-sqlite"

# Making the environment takes some 20 s, and each process of pytest-xdist would make its own (use --dist=loadgroup).
pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("third_party")]


class Environment:
    """A virtual environment. What runs in it knows nothing of the checkout, nor of the environment of the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        strange = ("FERRET_", "PYTHON", "PYTEST", "VIRTUAL_ENV")
        self.variables = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
        self.variables |= SAME_EXAMPLES
        self.work = folder / "work"
        self.work.mkdir(parents=True)

    def run(self, command: str, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment, in an empty folder unless told; its output is in the result."""
        return subprocess.run(
            [self.bin / command, *arguments],
            cwd=folder or self.work,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def install(self, *requirements: str, retries: int = 5) -> subprocess.CompletedProcess[str]:
        """Install from the registry; with few retries, it gives up soon where there is none."""
        # not compiled, as most of it is never imported
        options = ["--quiet", "--no-compile", f"--retries={retries}", "--timeout=15"]
        return self.run("python", "-m", "pip", "install", *options, *requirements)

    def succeed(self, command: str, *arguments: str, folder: Path | None = None) -> str:
        """Run a command that must do well, and return what it prints."""
        done = self.run(command, *arguments, folder=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A fresh environment with ferret and the example, built and installed as from an index."""
    folder = tmp_path_factory.mktemp("third-party") / "environment"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    environment = Environment(folder)
    probe = environment.install("hatchling", retries=1)
    if probe.returncode:
        shutil.rmtree(folder)
        pytest.skip(f"the package registry cannot be reached: {probe.stderr.strip().splitlines()[-1]}")
    # a copy, as building leaves files behind, and others may be building
    left_out = shutil.ignore_patterns(".*", "build", "demo", "*.so")
    copy = shutil.copytree(CHECKOUT, folder.with_name("checkout"), ignore=left_out)
    installed = environment.install(str(copy), f"{EXAMPLE}[test]")
    assert installed.returncode == 0, installed.stderr
    yield environment
    shutil.rmtree(folder)  # pytest keeps temporary folders, and this one has 120 MB


RECORD = """
import sys
from ferret import Profiler

with Profiler(sink="sqlite:spans.db", writer=sys.argv[1], run_id="a run") as profiler:
    for number in range(1000):
        with profiler.measure("outer", tags={"n": number}):
            with profiler.measure("inner"):
                pass
print(profiler.close().model_dump_json())
"""


def test_the_environment_has_its_own_ferret(environment: Environment) -> None:
    code = "import ferret, ferret_sink_sqlite; print(ferret.__file__, ferret_sink_sqlite.__file__, sep='\\n')"
    for file in environment.succeed("python", "-c", code).split():
        assert Path(file).is_relative_to(environment.folder)


@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded", "process"])
def test_its_sink_works_by_name_alone_under_every_writer(environment: Environment, tmp_path: Path, writer: str) -> None:
    printed = environment.succeed("python", "-c", RECORD, writer, folder=tmp_path)
    ledger = {"recorded": 2000, "written": 2000, "dropped": 0, "failed": 0, "pending": 0}
    assert ledger.items() <= json.loads(printed).items()
    with closing(sqlite3.connect(tmp_path / "spans.db")) as db:

        def query(sql: str) -> list[tuple[Any, ...]]:
            return db.execute(sql).fetchall()

        assert query("SELECT name, count(*) FROM spans GROUP BY name ORDER BY name") == [
            ("inner", 1000),
            ("outer", 1000),
        ]
        assert query("SELECT count(DISTINCT span_id), min(run_id), max(run_id) FROM spans") == [
            (2000, "a run", "a run")
        ]
        pairs = "SELECT count(*) FROM spans a JOIN spans b ON b.parent_id = a.span_id WHERE a.name = 'outer'"
        assert query(pairs) == [(1000,)]
        tags = [json.loads(text)["n"] for (text,) in query("SELECT tags FROM spans WHERE name = 'outer'")]
        assert sorted(tags) == list(range(1000))
        [(stored, ended_at)] = query("SELECT ledger, ended_at FROM processes")
    assert ledger.items() <= json.loads(stored).items()
    assert ended_at is not None


def test_the_command_lists_it_with_distribution_and_version(environment: Environment) -> None:
    version = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["version"]
    listed = json.loads(environment.succeed("ferret", "plugins", "--json"))
    [line] = [one for one in listed if one["name"] == "sqlite"]
    assert (line["kind"], line["distribution"], line["version"]) == ("sink", "ferret-sink-sqlite", version)
    assert [one for one in listed if one["error"]] == []
    ours = {(one["distribution"], one["version"]) for one in listed if one is not line}
    assert ours == {("ferret-trace", ferret.__version__)}


def test_its_own_tests_pass(environment: Environment, tmp_path: Path) -> None:
    copy = tmp_path / "example"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("ferret_sink_sqlite", "__pycache__"))
    printed = environment.succeed("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=copy)
    assert " passed" in printed
    assert " skipped" not in printed
