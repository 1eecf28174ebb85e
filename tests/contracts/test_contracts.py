"""Ferret's own sinks and writers under the kit that ferret gives away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import in_proportion

from ferret.sinks.base import Sink
from ferret.sinks.beaver import BeaverSink
from ferret.sinks.jsonl import JsonlSink
from ferret.sinks.memory import MemorySink
from ferret.sinks.null import NullSink
from ferret.sinks.tee import TeeSink
from ferret.testing import GatedSink, SinkContract, WriterContract


@pytest.fixture(autouse=True)
def more_when_exploring(monkeypatch: pytest.MonkeyPatch) -> None:
    for contract in (SinkContract, WriterContract):
        monkeypatch.setattr(contract, "examples", in_proportion(contract.examples))


class TestMemory(SinkContract):
    persistent = False

    def make_sink(self, tmp_path: Path) -> Sink:
        return MemorySink()


class TestJsonl(SinkContract):
    def make_sink(self, tmp_path: Path) -> Sink:
        return JsonlSink(tmp_path / "spans.jsonl")


class TestJsonlGz(SinkContract):
    def make_sink(self, tmp_path: Path) -> Sink:
        return JsonlSink(tmp_path / "spans.jsonl.gz")


class TestBeaver(SinkContract):
    def make_sink(self, tmp_path: Path) -> Sink:
        return BeaverSink(str(tmp_path / "trace.db"))


class TestBeaverInMemory(SinkContract):
    persistent = False

    def make_sink(self, tmp_path: Path) -> Sink:
        return BeaverSink()


class TestTee(SinkContract):
    def make_sink(self, tmp_path: Path) -> Sink:
        return TeeSink(f"jsonl:{tmp_path}/spans.jsonl,beaver:{tmp_path}/trace.db,memory")


class TestNull(SinkContract):
    persistent = False

    def make_sink(self, tmp_path: Path) -> Sink:
        return NullSink()


class TestGated(SinkContract):
    persistent = False

    def make_sink(self, tmp_path: Path) -> Sink:
        return GatedSink()


class TestSync(WriterContract):
    writer = "sync"
    delivers_in_caller = True


class TestThreaded(WriterContract):
    writer = "threaded"


class TestBounded(WriterContract):
    writer = "bounded"


class TestBoundedThatBlocks(WriterContract):
    writer = "bounded"
    blocks_when_full = True
    options = {"overflow": "block", "max_queue": 8, "block_timeout": 20}  # noqa: RUF012 - as an author would write it


class TestProcess(WriterContract):
    writer = "process"


def test_without_pytest_the_kit_says_what_to_install() -> None:
    """Ferret does not bring pytest, and does not need it: only importing the kit asks for it."""
    code = "import sys; sys.modules['pytest'] = None; import ferret, ferret.cli; import ferret.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: ferret.testing needs pytest, which ferret does not bring: pip install pytest"
    )
