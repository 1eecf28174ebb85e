"""Folders that a program leaves, loses, or has under an odd name: its spans stay where they were meant to go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ferret import Profiler, Report
from ferret.plugins import SinkSpec

WRITERS = ["threaded", "process"]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Where the program begins, and where it goes."""
    begins, goes = tmp_path / "begins", tmp_path / "goes"
    begins.mkdir()
    goes.mkdir()
    monkeypatch.chdir(begins)
    return begins, goes


class Full:
    """A sink that takes nothing."""

    def write(self, batch: Any) -> None:
        raise OSError("full")

    def flush(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
@pytest.mark.parametrize("fallback", ["jsonl:rest.jsonl", "beaver:rest.db", "tee:null, jsonl:rest.jsonl"])
def test_a_relative_fallback_sink_is_where_the_program_began(folders: tuple[Path, Path], fallback: str) -> None:
    begins, goes = folders
    profiler = Profiler(sink=Full(), writer="sync", fallback_sink=fallback, close_timeout=0.01)
    os.chdir(goes)
    profiler.start("kept").end()
    profiler.close()
    assert list(goes.iterdir()) == []
    (rest,) = (path for path in begins.iterdir() if path.suffix in {".jsonl", ".db"})
    assert [span.name for span in Report(rest).spans()] == ["kept"]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("sink", ["jsonl:trace.jsonl", "beaver:trace.db", "tee:jsonl:trace.jsonl, null"])
def test_a_relative_sink_is_written_and_read_where_the_program_began(
    folders: tuple[Path, Path], writer: str, sink: str
) -> None:
    begins, goes = folders
    with Profiler(sink=sink, writer=writer) as profiler:
        os.chdir(goes)
        profiler.start("kept").end()
        assert [span.name for span in Report(profiler).spans()] == ["kept"]
    assert list(goes.iterdir()) == []
    assert (begins / "trace.jsonl").exists() != (begins / "trace.db").exists()


def test_only_what_is_known_to_be_a_file_is_made_absolute(folders: tuple[Path, Path]) -> None:
    begins, _ = folders
    for text in ["null", "memory", "beaver", "beaver:", "beaver::memory:", "other:a", "jsonl:", "tee", "jsonl:/x/y"]:
        assert SinkSpec.parse(text).absolute().text == text
    assert SinkSpec.parse("tee:beaver:a,other:b, null").absolute().text == f"tee:beaver:{begins}/a,other:b,null"
    os.mkdir("a,b")
    os.chdir("a,b")
    assert SinkSpec.parse("tee:beaver:a,null").absolute().text == "tee:beaver:a,null"
