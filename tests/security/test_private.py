"""What is recorded is for its owner alone, on its way and where it rests."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import psutil
import pytest

from ferret import Profiler, export
from ferret.writers import quarantine


def modes(folder: Path) -> dict[str, int]:
    return {one.name: stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()}


@pytest.fixture(autouse=True)
def generous_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("writer", ["threaded", "process"])
@pytest.mark.parametrize("sink", ["beaver:x.db", "jsonl:x.jsonl", "jsonl:x.jsonl.gz", "tee:beaver:x.db,jsonl:x.jsonl"])
def test_every_file_beside_the_spans_is_for_its_owner_only(
    writer: str, sink: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Profiler(sink=sink, writer=writer) as profiler:
        profiler.start("x").end()
        assert profiler.flush()
        assert modes(tmp_path)
        assert set(modes(tmp_path).values()) == {0o600}, modes(tmp_path)
        if sink.startswith("beaver"):
            assert "x.db-wal" in modes(tmp_path)
    assert set(modes(tmp_path).values()) == {0o600}, modes(tmp_path)


def test_what_is_set_aside_is_for_its_owner_only(tmp_path: Path) -> None:
    from support import batch, record

    assert quarantine.put(str(tmp_path / "x.db"), batch(record(1)), "ValueError: no")
    assert set(modes(tmp_path).values()) == {0o600}


def test_an_export_is_a_file_as_any_other_for_it_is_made_to_be_passed_on(tmp_path: Path) -> None:
    with Profiler(tmp_path / "x.db") as profiler:
        profiler.start("x").end()
    os.umask(0o027)
    export.write(tmp_path / "x.db", "folded", tmp_path / "x.folded")
    assert modes(tmp_path)["x.folded"] == 0o640


def test_the_writing_process_hears_its_program_alone(tmp_path: Path) -> None:
    """Two pipes without a name: there is nothing that another process could open or connect to."""
    with Profiler(tmp_path / "x.db", writer="process") as profiler:
        profiler.start("x").end()
        assert profiler.flush()
        (child,) = (one for one in psutil.Process().children() if "ferret.writers.child" in one.cmdline())
        assert all(
            one.family is socket.AF_UNIX and not (one.laddr or one.raddr) for one in child.net_connections("all")
        )
        ours, theirs = (_pipes_of(pid) for pid in ("self", child.pid))
        assert len(ours & theirs) == 2
        assert str(tmp_path) not in " ".join(child.cmdline())


def _pipes_of(pid: object) -> set[str]:
    """The pipes without a name that the process has open."""
    paths = [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]
    links = {os.readlink(path) for path in paths if os.path.lexists(path)}
    return {link for link in links if link.startswith("pipe:[")}
