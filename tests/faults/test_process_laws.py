"""Smaller promises of the process writer: what a sink in the child is told, and how the two sides end."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from support import WAIT_S, is_gone, wait_until

from ferret import LostSpansWarning, Profiler, Report, plugins
from ferret.errors import FerretError
from ferret.writers import frames, link
from ferret.writers.frames import Kind

SINK = '''
"""Notes in files what it is told, and does what a file says."""
import os
from pathlib import Path
from ferret import hookimpl

class Noting:
    def __init__(self, target=None):
        self.folder = Path(target)
        self.note("opened")

    def note(self, what):
        with (self.folder / "notes").open("a") as file:
            file.write(what + "\\n")

    def told(self, what):
        path = self.folder / what
        if path.exists():
            path.unlink()
            return True
        return False

    def write(self, batch):
        self.note(f"batch {batch.sequence} attempt {batch.attempt} of {len(batch)}")
        if self.told("die"):
            os.kill(os.getpid(), 9)
        if self.told("fail"):
            raise OSError("it failed as it was told to")
        if self.told("read"):
            self.note(f"read {os.read(0, 100)!r}")
        self.note("threads " + ", ".join(sorted({span.thread_name for span in batch})))

    def flush(self):
        self.note("flushed")
        if self.told("die-in-flush"):
            os.kill(os.getpid(), 9)

    def close(self):
        self.note("closed")

@hookimpl
def ferret_sinks():
    return {"noting": Noting}
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a sink `noting:FOLDER`, which other processes can import too."""
    (tmp_path / "noting_sink.py").write_text(SINK)
    sys.path.insert(0, str(tmp_path))
    import noting_sink  # type: ignore[import-not-found]

    plugins.register(noting_sink)
    yield tmp_path
    sys.path.remove(str(tmp_path))
    del sys.modules["noting_sink"]


def noting(folder: Path, **options: Any) -> Profiler:
    return Profiler(sink=f"noting:{folder}", writer="process", **options)


def notes(folder: Path, beginning: str = "") -> list[str]:
    path = folder / "notes"
    return [line for line in path.read_text().splitlines() if line.startswith(beginning)] if path.exists() else []


def tell(folder: Path, what: str) -> None:
    (folder / what).touch()


def child_of(profiler: Profiler) -> int:
    pid = profiler.writer.child_pid  # type: ignore[attr-defined]
    assert isinstance(pid, int)
    return pid


# -- what the sink is told ----------------------------------------------------------------------------


def test_a_batch_that_its_child_did_not_survive_comes_once_to_the_next_as_another_attempt(folder: Path) -> None:
    tell(folder, "die")
    with noting(folder, batch_size=1) as profiler:
        profiler.start("x").end()
        assert profiler.flush(WAIT_S)
        profiler.start("y").end()
    assert notes(folder, "batch") == ["batch 0 attempt 1 of 1", "batch 0 attempt 2 of 1", "batch 1 attempt 1 of 1"]


def test_a_batch_that_its_sink_refused_comes_again_in_the_same_child_as_another_attempt(folder: Path) -> None:
    tell(folder, "fail")
    with noting(folder, batch_size=1) as profiler:
        profiler.start("x").end()
        assert profiler.flush(WAIT_S)
    assert notes(folder, "batch") == ["batch 0 attempt 1 of 1", "batch 0 attempt 2 of 1"]
    assert len(notes(folder, "opened")) == 1


def test_what_a_sink_in_the_child_refuses_for_good_is_told_and_counted_as_failed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "noting_sink.py").write_text(SINK.replace('self.told("fail")', "batch.sequence == 0"))
    profiler = noting(folder, batch_size=1, close_timeout=0.2)
    with pytest.warns(
        LostSpansWarning, match="a batch of 1 spans was not stored: OSError: it failed as it was told to"
    ):
        profiler.start("x").end()
        assert not profiler.flush(WAIT_S)
        profiler.start("y").end()
        report = profiler.close(timeout=WAIT_S)
    assert (report.written, report.failed_by) == (1, {"OSError": 1})


def test_a_flush_flushes_the_sink_in_the_child_and_the_end_closes_it(folder: Path) -> None:
    with noting(folder) as profiler:
        profiler.start("x").end()
        assert profiler.flush(WAIT_S)
        assert notes(folder, "flushed") == ["flushed"]
        assert notes(folder, "closed") == []
    assert notes(folder, "closed") == ["closed"]


def test_a_flush_is_answered_though_the_child_dies_over_it(folder: Path) -> None:
    with noting(folder) as profiler:
        profiler.start("x").end()
        tell(folder, "die-in-flush")
        assert profiler.flush(WAIT_S)
        profiler.start("y").end()
        assert profiler.flush(WAIT_S)
    assert len(notes(folder, "closed")) == 1


def test_a_sink_that_reads_its_standard_input_finds_it_empty(folder: Path) -> None:
    tell(folder, "read")
    with noting(folder) as profiler:
        profiler.start("x").end()
        assert profiler.flush(WAIT_S)
    assert notes(folder, "read") == ["read b''"]


def test_the_threads_of_a_batch_are_named_on_the_other_side(db: str) -> None:
    import threading

    with Profiler(db, writer="process") as profiler:
        threads = [
            threading.Thread(target=lambda name=name: profiler.start(name).end(), name=name) for name in ("a", "b", "c")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {(span.name, span.thread_name) for span in Report(db).spans()} == {("a", "a"), ("b", "b"), ("c", "c")}


def test_a_span_is_handed_over_at_once_even_if_its_batch_may_fill_for_an_hour(folder: Path) -> None:
    with noting(folder, flush_interval=3600) as profiler:
        profiler.start("x").end()
        wait_until(lambda: notes(folder, "batch"), seconds=5)


# -- deaths -------------------------------------------------------------------------------------------


def test_children_may_die_any_number_of_times_as_long_as_each_stores_something(folder: Path) -> None:
    with noting(folder, batch_size=1) as profiler:
        for number in range(8):
            tell(folder, "die")
            profiler.start("x", {"n": number}).end()
            assert profiler.flush(WAIT_S)
        assert profiler.stats().written == 8


def test_a_child_that_dies_with_nothing_to_do_is_replaced_for_the_next_span(folder: Path) -> None:
    with noting(folder) as profiler:
        os.kill(child_of(profiler), signal.SIGKILL)
        wait_until(lambda: not profiler.writer._link.alive)  # type: ignore[attr-defined]
        profiler.start("x").end()
        assert profiler.flush(WAIT_S)
    assert (len(notes(folder, "opened")), notes(folder)[-1]) == (2, "closed")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_child_that_dies_with_nothing_to_do_is_replaced_to_store_the_end_of_the_run(db: str) -> None:
    profiler = Profiler(db, writer="process")
    profiler.start("x").end()
    assert profiler.flush(WAIT_S)
    os.kill(child_of(profiler), signal.SIGKILL)
    wait_until(lambda: not profiler.writer._link.alive)  # type: ignore[attr-defined]
    assert profiler.close().written == 1
    gc.collect()
    assert not Report(db).runs()[0].unclean


def test_a_child_outlives_sigquit(folder: Path) -> None:
    with noting(folder) as profiler:
        os.kill(child_of(profiler), signal.SIGQUIT)
        profiler.start("x").end()
        assert profiler.flush(WAIT_S)
    assert len(notes(folder, "opened")) == 1


def test_a_child_is_in_a_process_group_of_its_own(folder: Path) -> None:
    with noting(folder) as profiler:
        assert os.getpgid(child_of(profiler)) == child_of(profiler) != os.getpgid(0)


def test_an_orphaned_child_stores_what_it_got_and_flushes_and_closes_its_sink(folder: Path) -> None:
    program = f"""
    import os, signal, sys
    sys.path.insert(0, {str(folder)!r})
    import noting_sink
    from ferret import Profiler, plugins
    plugins.register(noting_sink)
    profiler = Profiler(sink="noting:{folder}", writer="process", batch_size=1)
    profiler.start("x").end()
    profiler.flush()
    print(profiler.writer.child_pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True, timeout=60, check=False
    )
    child = int(done.stdout)
    wait_until(lambda: not psutil.pid_exists(child) or is_gone(psutil.Process(child)))
    assert notes(folder)[-2:] == ["flushed", "closed"]


# -- the child's surroundings -------------------------------------------------------------------------


def test_files_in_the_programs_folder_are_not_taken_for_modules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "msgspec.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(folder / "elsewhere")
    with noting(folder) as profiler:
        profiler.start("x").end()
        assert profiler.flush(WAIT_S)


@pytest.mark.skipif(not hasattr(fcntl, "F_GETPIPE_SZ"), reason="only Linux lets a pipe grow")
def test_the_pipe_to_the_child_is_as_large_as_linux_allows(folder: Path) -> None:
    most = int(Path("/proc/sys/fs/pipe-max-size").read_text())
    with noting(folder) as profiler:
        requests = profiler.writer._link._requests  # type: ignore[attr-defined]
        assert fcntl.fcntl(requests, fcntl.F_GETPIPE_SZ) >= min(most, link.PIPE_BYTES)


# -- frames -------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


@pytest.mark.parametrize("size", [1, 4, 5, 6, 150])
def test_a_last_frame_that_was_cut_off_anywhere_is_left_out(pipe: tuple[int, int], size: int) -> None:
    reading, writing = pipe
    frames.send(writing, Kind.FLUSH, 1)
    os.write(writing, (frames._HEAD.pack(Kind.FLUSH, 150) + b"\x01" * 150)[:size])
    os.close(writing)
    assert [frames.decode(payload) for _, payload in frames.receive(reading)] == [1]


def test_a_frame_is_written_whole_by_however_many_writes(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = pipe
    monkeypatch.setattr(frames, "os", SimpleNamespace(write=lambda fd, data: os.write(fd, data[:7]), read=os.read))
    frames.send(writing, Kind.FLUSH, "x" * 100)
    os.close(writing)
    assert [frames.decode(payload) for _, payload in frames.receive(reading)] == ["x" * 100]


def test_a_frame_beyond_the_limit_is_neither_sent_nor_read(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = pipe
    frames.send(writing, Kind.FLUSH, "x" * 1000)
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 500)
    with pytest.raises(frames.FrameTooLargeError, match="smaller batch_size"):
        frames.send(writing, Kind.FLUSH, "x" * 1000)
    os.close(writing)
    with pytest.raises(FerretError, match="out of step"):
        list(frames.receive(reading))
