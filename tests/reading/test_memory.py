"""Memory does not grow with the number of spans."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SYNTHETIC = Path(__file__).parents[2] / "benchmarks" / "synthetic.py"
PEAK = """
import resource, sys
from ferret.report import Report
with Report(sys.argv[1]) as report:
    getattr(report, sys.argv[2])()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
FEW, MANY = 200_000, 1_200_000
SLACK_MB = 12
"""A million spans as columns alone take 88 MB; as objects a gigabyte."""


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    folder = tmp_path_factory.mktemp("memory")

    def made(spans: int) -> str:
        path = folder / f"{spans}.db"
        if not path.exists():
            subprocess.run([sys.executable, str(SYNTHETIC), str(path), str(spans)], check=True, timeout=100)
        return str(path)

    return made


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ru_maxrss is in other units")
@pytest.mark.parametrize("method", ["runs", "analyze_run", "merged_tree", "slowest"])
def test_six_times_the_spans_take_no_more_memory(file_of: Callable[[int], str], method: str) -> None:
    few, many = (
        int(subprocess.run([sys.executable, "-c", PEAK, file_of(spans), method], capture_output=True, text=True,
                           check=True, timeout=100).stdout)
        for spans in (FEW, MANY)
    )  # fmt: skip
    assert many < few + SLACK_MB
