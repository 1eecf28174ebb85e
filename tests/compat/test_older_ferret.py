"""Programs written for ferret-io 0.3.1 run on ferret unchanged: its own test file, and its examples.

They are fetched from the package registry, and never kept here. Where it cannot be reached, these tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ferret import Report
from ferret.models import AggregatedStats, TraceNode

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("older-ferret")]


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of ferret-io 0.3.1, without its package: `import ferret` must be ours."""
    folder = tmp_path_factory.mktemp("older")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
    # 0.3.1 asks for Python 3.13; nothing of it is built or installed, so that 3.12 may look at it too
    command += ["--no-binary", ":all:", "--ignore-requires-python", "ferret-io==0.3.1", "-d", str(folder)]
    try:
        fetched = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("ferret-io 0.3.1 could not be fetched: the package registry did not answer in time")
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"ferret-io 0.3.1 could not be fetched: {fetched.stderr.strip()[-300:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return folder / "ferret_io-0.3.1"


def environment(**variables: str) -> dict[str, str]:
    home = str(Path(__file__).parent.parent.parent)
    return {**os.environ, "PYTHONPATH": home, **variables}


def test_its_own_test_file_passes_unchanged(older: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
         "--rootdir", str(tmp_path), str(older / "tests" / "test_basic.py")],
        cwd=tmp_path, env=environment(FERRET_WRITER="sync"), capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout


@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded", "process"])
def test_its_example_of_explicit_spans_runs_unchanged_under_every_writer(
    older: Path, tmp_path: Path, writer: str
) -> None:
    done = subprocess.run(
        [sys.executable, str(older / "examples" / "simple.py")],
        cwd=tmp_path, env=environment(FERRET_WRITER=writer), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Done!" in done.stdout
    report = Report(tmp_path / "ferret_explicit.db")
    stats = report.analyze_run("semantic_demo_v1")
    assert {name: one.count for name, one in stats.items()} == {
        "system_boot": 1, "batch_job": 1, "db_fetch": 4, **{f"process_user:{user}": 1 for user in (101, 102, 103, 999)},
    }  # fmt: skip
    (boot, job) = report.build_trees("semantic_demo_v1")
    assert (boot.span.name, job.span.name, len(job.children)) == ("system_boot", "batch_job", 4)
    assert all(child.children[0].span.tags["table"] == "users" for child in job.children)


def test_its_example_without_spans_runs(older: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(older / "examples" / "wrapped.py")],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Done!" in done.stdout


def test_the_models_keep_their_fields() -> None:
    fields = [
        "name", "count", "total_duration", "avg_duration", "min_duration", "max_duration", "error_count", "error_rate",
    ]  # fmt: skip
    assert list(AggregatedStats.__dataclass_fields__)[: len(fields)] == fields
    assert AggregatedStats("work", 1, 2.0, 2.0, 2.0, 2.0, 0, 0.0).self_duration == 0.0  # what came later has a default
    assert list(TraceNode.__dataclass_fields__) == ["span", "children"]
    assert {"total_children_duration", "self_time"} <= set(dir(TraceNode))
