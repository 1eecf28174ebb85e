"""`ferret export` and `ferret.export.write`: which format, where to, and what stays as it was when it fails."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from recorded import One, segments
from support import WAIT_S, batch, record

import ferret
from ferret import Profiler, Report, export
from ferret.cli.export import amount
from ferret.errors import ExportError, RunNotFoundError, StorageError
from ferret.export.files import replacing
from ferret.sinks.memory import MemorySink

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITTEN_HERE = [name for name in export.FORMATS if name != "html"]


def run(*args: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ferret", "export", *args]
    return subprocess.run(command, capture_output=True, timeout=60, check=False, **options)


@pytest.fixture
def trace(db: str) -> str:
    """An earlier run of one span, and a later one of three."""
    for run_id, names in (("early", ["boot"]), ("late", ["outer", "inner", "last"])):
        with Profiler(db, run_id=run_id) as profiler:
            for name in names:
                profiler.start(name).end()
    return db


def lines(path: Path | str) -> list[str]:
    return [line.rpartition(" ")[0] for line in Path(path).read_text().splitlines()]


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", WRITTEN_HERE)
def test_each_format_is_told_by_name_or_by_the_file_s_ending_and_is_the_same_on_stdout(
    trace: str, tmp_path: Path, name: str
) -> None:
    by_name = tmp_path / "file"
    done = run(trace, "--format", name, "-o", str(by_name))
    assert done.returncode == 0, done.stderr
    size = amount(by_name.stat().st_size)
    assert done.stderr.decode() == (
        f"{by_name}: 3 spans as {name}, {size}; open it in {export.FORMATS[name].opened_by}\n"
    )
    assert done.stdout == b""
    for suffix in export.FORMATS[name].suffixes:
        by_ending = tmp_path / f"RUN{suffix.upper()}"
        assert run(trace, "-o", str(by_ending)).returncode == 0
        assert by_ending.read_bytes() == by_name.read_bytes()
    for to_stdout in ([], ["-o", "-"]):
        assert run(trace, "-f", name, *to_stdout).stdout == by_name.read_bytes()


def test_a_run_is_chosen_by_the_beginning_of_its_id_and_the_latest_if_none(trace: str, tmp_path: Path) -> None:
    out = str(tmp_path / "a.folded")
    assert run(trace, "-o", out, "--run", "ear").returncode == 0
    assert lines(out) == ["boot"]
    assert run(trace, "-o", out).returncode == 0
    assert sorted(lines(out)) == ["inner", "last", "outer"]


def test_another_namespace(db: str, tmp_path: Path) -> None:
    with Profiler(db, namespace="mine") as profiler:
        profiler.start("there").end()
    assert run(db, "-f", "folded", "--namespace", "mine").stdout.startswith(b"there ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-f", "svg"], "there is no format 'svg'; there is speedscope, perfetto, folded, html or otlp-json"),
        (
            ["-f", "\x1b[31m"],
            r"there is no format '\x1b[31m'; there is speedscope, perfetto, folded, html or otlp-json",
        ),
        ([], "which format? --format speedscope | perfetto | folded | html | otlp-json"),
        (
            ["-o", "x.json"],
            (
                "x.json: its name does not tell the format: end it in .speedscope.json, .pftrace, .folded, "
                ".html or .otlp.jsonl, or choose speedscope, perfetto, folded, html or otlp-json"
            ),
        ),
        (["-o", "nowhere/x.folded"], "nowhere/x.folded cannot be written: No such file or directory"),
        (["-f", "folded", "-o", "."], ". is a directory: name a file in it"),
        (["-f", "folded", "-o", "trace.db"], "trace.db is what the spans are read from: write to another file"),
        (
            ["-f", "folded", "-o", "./trace.db-wal"],
            "./trace.db-wal is what the spans are read from: write to another file",
        ),
        (["-o", "x.folded", "-r", "none"], "trace.db: there is no run 'none'; there is 'late', 'early'"),
    ],
)
def test_what_cannot_be_is_said_in_a_line_and_changes_nothing(
    trace: str, tmp_path: Path, args: list[str], message: str
) -> None:
    before, content = parts(tmp_path), Path(trace).read_bytes()
    done = run("trace.db", *args, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", f"ferret: {message}\n")
    assert parts(tmp_path) == before
    assert Path(trace).read_bytes() == content


def test_a_link_to_the_trace_is_the_trace(trace: str, tmp_path: Path) -> None:
    os.link(trace, tmp_path / "other.folded")
    (tmp_path / "link.folded").symlink_to(trace)
    for name in ("other.folded", "link.folded"):
        assert b"is what the spans are read from" in run(trace, "-o", str(tmp_path / name)).stderr


@pytest.mark.parametrize("content", [None, b"", b"hello", b'{"type":"span"', b"SQLite format 3\0"])
def test_a_file_without_spans_is_said_in_a_line_and_nothing_is_written(tmp_path: Path, content: bytes | None) -> None:
    source = tmp_path / "source"
    if content is not None:
        source.write_bytes(content)
    done = run(str(source), "-o", str(tmp_path / "out.folded"))
    assert done.returncode == 1
    assert done.stderr.startswith(b"ferret: ")
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "out.folded").exists()


def test_nothing_is_written_to_a_terminal(trace: str) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "ferret", "export", trace, "-f", "folded"], stdout=theirs, stderr=subprocess.PIPE
    ) as process:
        os.close(theirs)
        assert process.stderr is not None
        said = process.stderr.read().decode()
        assert process.wait(WAIT_S) == 1
    assert said == "ferret: the output is a terminal, and this is for programs: name a file with -o, or redirect it\n"
    with pytest.raises(
        OSError, match="Input/output error"
    ):  # how Linux says that nothing was written, and nothing will be
        os.read(ours, 1)
    os.close(ours)


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    path = str(tmp_path / "many.db")
    with Profiler(path) as profiler:
        for number in range(20_000):
            profiler.start(f"name {number}").end()
    with subprocess.Popen(
        [sys.executable, "-m", "ferret", "export", path, "-f", "folded"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(WAIT_S) == 0


def test_what_is_replaced_keeps_who_may_read_it_and_a_link_stays_one(trace: str, tmp_path: Path) -> None:
    kept, link = tmp_path / "kept.folded", tmp_path / "link.folded"
    kept.write_text("old")
    kept.chmod(0o640)
    link.symlink_to(kept)
    assert run(trace, "-o", str(link)).returncode == 0
    assert link.is_symlink()
    assert len(lines(kept)) == 3
    assert kept.stat().st_mode & 0o777 == 0o640


def test_a_new_file_is_as_the_umask_has_it(trace: str, tmp_path: Path) -> None:
    out = tmp_path / "new.folded"
    assert run(trace, "-o", str(out), umask=0o027).returncode == 0
    assert out.stat().st_mode & 0o777 == 0o640


def test_a_device_and_a_pipe_are_written_to(trace: str, tmp_path: Path) -> None:
    assert run(trace, "-f", "folded", "-o", os.devnull).returncode == 0
    assert not Path(os.devnull).is_file()
    assert run(trace, "-f", "folded", "-o", "/dev/stdout").stdout.count(b"\n") == 3


def test_a_failed_export_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out.folded"
    out.write_text("old")

    def failing() -> Iterator[Any]:
        yield from segments([One(1)])
        raise StorageError("the disk is gone")

    sink = MemorySink()
    sink.write(batch(record(1)))
    sink.segments = lambda run_id=None: failing()  # type: ignore[method-assign, assignment]
    sink.summaries = lambda run_id=None: iter(())  # type: ignore[attr-defined]
    sink.write_run(ferret.models.ProcessInfo(run_id="a run", token="t", process_id=1))
    with pytest.raises(StorageError, match="the disk is gone"):
        export.write(sink, None, out)
    assert out.read_text() == "old"
    assert parts(tmp_path) == ["out.folded"]


def test_an_interrupted_export_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from ferret.export.files import replacing\n"
        "with replacing('out.bin') as file:\n"
        "    file.write(b'half'); file.flush(); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert len(parts(tmp_path)) == 1
        process.send_signal(signal.SIGINT)
        process.wait(WAIT_S)
    assert parts(tmp_path) == []


def test_a_full_disk_is_said_of_the_file_that_was_asked_for(trace: str) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    done = run(trace, "-f", "speedscope", "-o", "/dev/full")
    assert (done.returncode, done.stderr) == (1, b"ferret: /dev/full cannot be written: No space left on device\n")


def test_nothing_of_the_file_is_there_before_it_is_whole(tmp_path: Path) -> None:
    with replacing(str(tmp_path / "x")) as file:
        file.write(b"abc")
        assert not (tmp_path / "x").exists()
    assert (tmp_path / "x").read_bytes() == b"abc"


def test_from_python_a_path_a_report_a_profiler_and_a_sink_are_written_alike(db: str, tmp_path: Path) -> None:
    sink = MemorySink()
    with Profiler(sink=sink, run_id="r") as profiler:
        profiler.start("one").end()
        for source in (profiler, Report(sink), sink):
            out = io.BytesIO()
            assert export.write(source, "folded", out) == 1
            assert out.getvalue().startswith(b"one ")
    with Profiler(db) as profiler:
        profiler.start("two").end()
    assert export.write(db, None, tmp_path / "a.folded") == 1
    assert lines(tmp_path / "a.folded") == ["two"]


def test_from_python_what_cannot_be_is_an_exception(db: str, tmp_path: Path) -> None:
    with Profiler(db, run_id="r") as profiler:
        profiler.start("one").end()
    with pytest.raises(ExportError, match="there is no format 'pdf'"):
        export.write(db, "pdf", tmp_path / "x")
    with pytest.raises(ExportError, match="an open file does not tell the format"):
        export.write(db, None, io.BytesIO())
    with pytest.raises(ExportError, match="read from"):
        export.write(db, "folded", db)
    with pytest.raises(RunNotFoundError, match="no run 'x'"):
        export.write(db, "folded", tmp_path / "x", run_id="x")
    assert not (tmp_path / "x").exists()


def test_a_page_has_every_name(trace: str, tmp_path: Path) -> None:
    pytest.importorskip("ferret.view.page")
    out = tmp_path / "run.html"
    done = run(trace, "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stderr.decode().startswith(f"{out}: 3 spans as html, ")
    assert "<html" in out.read_text()[:1000].lower()


def test_json_lines_are_exported_too(tmp_path: Path) -> None:
    path = str(tmp_path / "spans.jsonl.gz")
    with Profiler(sink=f"jsonl:{path}") as profiler:
        for _ in range(100):
            with profiler.measure("outer"):
                profiler.start("inner").end()
    out = tmp_path / "x.speedscope"
    assert run(path, "-o", str(out)).returncode == 0
    (profile,) = json.loads(out.read_text())["profiles"]
    assert len(profile["events"]) == 400


def test_help_and_the_list_of_formats_import_no_numpy() -> None:
    code = "import sys; import ferret.cli.app, ferret.export; print('numpy' in sys.modules, 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False False\n"


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (10**13, "10,000.0 GB")],
)
def test_amounts_have_a_unit(size: int, shown: str) -> None:
    assert amount(size) == shown
