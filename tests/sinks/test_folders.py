"""Folders that a program leaves, loses, or has under an odd name: its spans stay where they were meant to go."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import in_proportion, is_gone
from typer.testing import CliRunner

from ferret import Profiler, Report
from ferret.cli.app import app
from ferret.errors import StorageError, WriterProcessError
from ferret.plugins import SinkSpec
from ferret.writers import frames

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


# -- names that are not UTF-8, or no names at all ----------------------------------------------------


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder whose name is Latin-1."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    return folder


@pytest.mark.parametrize("writer", ["sync", "process"])
@pytest.mark.parametrize("kind", ["beaver", "jsonl"])
@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
def test_a_folder_whose_name_is_not_utf8_is_one_like_any_other(
    odd: Path, monkeypatch: pytest.MonkeyPatch, writer: str, kind: str, relative: bool
) -> None:
    monkeypatch.chdir(odd)
    path = odd / f"trace.{kind}"
    options = {"fallback_sink": f"jsonl:{odd}/rest.jsonl"}
    with Profiler(sink=f"{kind}:{path.name if relative else path}", writer=writer, **options) as profiler:
        profiler.start("kept").end()
    assert [span.name for span in Report(path).spans()] == ["kept"]
    if kind == "beaver" and not relative:
        Profiler(path, writer=writer).close()
    assert CliRunner().invoke(app, ["runs", str(path)]).exit_code == 0


def test_a_folder_to_import_from_need_not_be_utf8(odd: Path, db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(odd))
    with Profiler(db, writer="process") as profiler:
        profiler.start("kept").end()
    assert [span.name for span in Report(db).spans()] == ["kept"]


@settings(max_examples=in_proportion(40))
@given(
    st.recursive(
        st.text(st.characters()) | st.integers(0, 9) | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_text_goes_through_the_pipe_as_it_is(value: Any) -> None:
    reading, writing = os.pipe()
    hello = frames.Hello(["\udce9"], [], "x", "\ud800", {"any": value}, {}, ("", "", 0, 0), {})
    try:
        frames.send(writing, frames.Kind.WARNING, value)
        frames.send(writing, frames.Kind.HELLO, hello)
        incoming = frames.receive(reading)
        assert frames.decode(next(incoming)[1]) == value
        assert frames.decode_hello(next(incoming)[1]) == hello
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", ["a\0b", "\ud800"], ids=["NUL", "no name in any encoding"])
def test_what_no_file_can_be_called_is_refused_by_its_name(tmp_path: Path, writer: str, name: str) -> None:
    for sink in (f"beaver:{tmp_path}/{name}.db", f"jsonl:{tmp_path}/{name}.jsonl"):
        with pytest.raises(StorageError, match=re.escape(str(tmp_path))):
            Profiler(sink=sink, writer=writer)
    assert list(tmp_path.iterdir()) == []


# -- folders that are gone, or may not be written ----------------------------------------------------


@pytest.mark.parametrize("writer", WRITERS)
def test_a_current_folder_that_is_gone_is_named_where_it_is_needed(
    folders: tuple[Path, Path], db: str, writer: str
) -> None:
    folders[0].rmdir()
    for sink in ("beaver:trace.db", "jsonl:trace.jsonl", "tee:jsonl:trace.jsonl"):
        with pytest.raises(StorageError, match="the current folder is gone"):
            Profiler(sink=sink, writer=writer)
    if writer == "process":
        with pytest.raises(StorageError, match="the current folder is gone"):
            Profiler(db, writer=writer)
    else:
        Profiler(db, writer=writer).close()


READ_ONLY = """
import os, sys
from ferret import Profiler, StorageError
path = sys.argv[1]
Profiler(path).close()
os.chmod(os.path.dirname(path), 0o555)
if os.geteuid() == 0:  # who may write everything
    for one in (path, os.path.dirname(path)):
        os.chown(one, 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    Profiler(path)
except StorageError as error:
    print(error)
"""


def test_a_file_in_a_folder_that_may_not_be_written_is_refused_with_what_sqlite_needs() -> None:
    folder = tempfile.mkdtemp()  # in one that everybody may enter
    try:
        path = f"{folder}/trace.db"
        done = subprocess.run([sys.executable, "-c", READ_ONLY, path], capture_output=True, text=True, check=True)
        assert f"{path!r} cannot be written" in done.stdout
        assert "SQLite makes files beside it, such as 'trace.db-wal'" in done.stdout
    finally:
        os.chmod(folder, 0o755)
        shutil.rmtree(folder)


# -- a child that is not left behind -----------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, TypeError, RuntimeError("can't start new thread")])
def test_a_writing_process_that_cannot_be_greeted_is_not_left_behind(
    db: str, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(frames, "send", fail)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        Profiler(db, writer="process")
    assert not [one for one in psutil.Process().children() if not is_gone(one)]


def test_a_python_that_cannot_be_started_is_named(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(WriterProcessError, match=r"the writing process could not start: .*/no/such/python"):
        Profiler(db, writer="process")
