"""The default sink: real BeaverDB files, and what is refused before anything is touched."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from beaver import BeaverDB
from support import batch, record

from ferret import Profiler, Report, StorageError
from ferret.sinks.beaver import BeaverSink, close_db
from ferret.sinks.beaver_reader import BeaverReader
from ferret.testing.patience import Flag, in_background


def test_a_file_is_made_for_its_owner_only(db: str) -> None:
    with Profiler(db) as profiler:
        profiler.start("x").end()
    assert stat.S_IMODE(Path(db).stat().st_mode) == 0o600
    assert [path.name for path in Path(db).parent.iterdir()] == ["trace.db"]


def test_a_batch_that_comes_again_is_stored_once(db: str) -> None:
    sink = BeaverSink(db)
    one = batch(record(1), record(2))
    for attempt in range(3):
        sink.write(batch(*one.records, attempt=attempt + 1))
    sink.write(batch(record(3), sequence=1))
    assert [len(segment) for segment in sink.segments()] == [2, 1]
    sink.close()


def test_what_is_in_a_file_stays_when_more_is_recorded(db: str) -> None:
    for run in ("first", "second", "first"):
        with Profiler(db, run_id=run) as profiler:
            profiler.start(run).end()
    assert [(run.run_id, run.spans, len(run.processes)) for run in Report(db).runs()] == [
        ("first", 2, 2), ("second", 1, 1),
    ]  # fmt: skip


def test_runs_whose_names_begin_alike_are_kept_apart(db: str) -> None:
    names = ["a", "a/b", "a/", "a0", "a%2F", "%", "ü"]
    for name in names:
        with Profiler(db, run_id=name) as profiler:
            profiler.start(name).end()
    report = Report(db)
    for name in names:
        assert [span.name for span in report.spans(name)] == [name]


def test_namespaces_share_a_file_without_mixing(db: str) -> None:
    with Profiler(db, namespace="one") as one, Profiler(db, namespace="two") as two:
        one.start("of one").end()
        two.start("of two").end()
    assert [span.name for span in Report(db, namespace="two").spans()] == ["of two"]


def test_an_open_beaverdb_is_used_and_left_open(db: str) -> None:
    database = BeaverDB(db)
    database.dict("mine")["key"] = "value"
    with Profiler(database) as profiler:
        assert profiler.db is database
        profiler.start("x").end()
    assert database.dict("mine")["key"] == "value"
    assert [span.name for span in Report(database).spans()] == ["x"]
    close_db(database)


def test_a_database_in_memory_can_be_read_while_it_lives() -> None:
    with Profiler() as profiler:
        for number in range(100):
            profiler.start("x", {"n": number}).end()
        assert Report(profiler).analyze_run()["x"].count == 100
        assert Report(profiler.db).analyze_run()["x"].count == 0 or profiler.flush()
        assert Report(profiler.db).analyze_run()["x"].count == 100


def test_the_process_writers_database_can_be_looked_at_from_here(db: str) -> None:
    with Profiler(db, writer="process") as profiler:
        profiler.start("x").end()
        profiler.flush()
        assert Report(profiler.db).analyze_run()["x"].count == 1


def test_batches_are_found_as_ordinary_blobs(db: str) -> None:
    with Profiler(db, run_id="r", namespace="n") as profiler:
        profiler.start("x").end()
    database = BeaverDB(db)
    (key,) = list(database.blob("n").keys())
    assert key.startswith("r/")
    assert database.blob("n")[key].startswith(b"FRT")
    (fact,) = [value for _, value in database.dict("n_runs").items()]
    assert fact["ledger"]["written"] == 1
    close_db(database)


def beaver_1(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE beaver_dicts (dict_name TEXT, key TEXT, value TEXT)")
    connection.close()


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE __beaver_dicts__ (x)")
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def truncated(path: Path) -> None:
    sink = BeaverSink(str(path))
    sink.write(batch(record(1)))
    sink.close()
    with path.open("r+b") as file:
        file.truncate(1000)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda path: path.write_text("dear diary"), "is not a database, and was left as it is"),
        (lambda path: path.write_bytes(os.urandom(5000)), "is not a database, and was left as it is"),
        (beaver_1, "written by beaver 1.x"),
        (foreign, "another program's SQLite database"),
        (newer, "newer beaver-db .*update"),
        (truncated, "cannot be read as a database|damaged|malformed"),
        (lambda path: path.mkdir(), "is a directory: name a file in it"),
    ],
    ids=["text", "noise", "beaver-1", "foreign", "newer", "truncated", "directory"],
)
@pytest.mark.parametrize("writer", ["threaded", "process"])
def test_a_file_that_cannot_be_used_is_refused_at_once_and_left_as_it_was(
    tmp_path: Path, prepare: Any, words: str, writer: str
) -> None:
    path = tmp_path / "thing"
    prepare(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StorageError, match=words) as caught:
        Profiler(path, writer=writer)
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert [one.name for one in tmp_path.iterdir()] == ["thing"]


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"there is no directory .*make it first"):
        Profiler(tmp_path / "no" / "such" / "trace.db")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(StorageError, match=r"/proc/trace\.db"):
        Profiler("/proc/trace.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.touch(0o400)
    with pytest.raises(StorageError, match="cannot be written"):
        Profiler(path)


def test_a_second_profiler_does_not_take_the_firsts_locks_away(db: str) -> None:
    """Closing any descriptor of a file drops a process's POSIX locks on it: only SQLite may open a database."""
    sink = BeaverSink(db)
    sink.write(batch(record(1)))
    BeaverSink(db).close()
    list(Report(db).spans())
    code = (
        "import sqlite3, sys\n"
        f"c = sqlite3.connect({db!r}, timeout=0)\n"
        "c.execute('PRAGMA locking_mode=EXCLUSIVE')\n"
        "try: c.execute('BEGIN EXCLUSIVE'); c.execute('PRAGMA wal_checkpoint'); c.close()\n"
        "except sqlite3.OperationalError: pass\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    sink.write(batch(record(2), sequence=1))
    reader = subprocess.run(
        [sys.executable, "-c",
         f"from ferret.sinks.beaver_reader import BeaverReader; print(sum(len(s) for s in BeaverReader({db!r}).segments()))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert reader.stdout.strip() == "2"
    sink.close()


def test_a_file_that_another_process_holds_locked_is_waited_for(db: str) -> None:
    with Profiler(db, close_timeout=30) as profiler:
        profiler.start("before").end()
        assert profiler.flush()
        holder = subprocess.Popen(
            [sys.executable, "-c",
             (f"import sqlite3, sys; c = sqlite3.connect({db!r}, isolation_level=None); c.execute('BEGIN IMMEDIATE'); "
             "print('locked', flush=True); sys.stdin.read()")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        profiler.start("while locked").end()
        assert not profiler.flush(timeout=0.3)
        holder.communicate("")
        assert profiler.flush(timeout=20)
    assert sum(1 for _ in Report(db).spans()) == 2


def test_a_file_can_be_read_while_it_grows(db: str) -> None:
    with Profiler(db, batch_size=10) as profiler:
        stop = threading.Event()

        def produce() -> None:
            while not stop.is_set():
                profiler.start("x").end()
                stop.wait(0.0005)

        producer = threading.Thread(target=produce)
        producer.start()
        counts = []
        for _ in range(20):
            counts.append(sum(len(segment) for segment in BeaverReader(db).segments()))
            profiler.flush()
        stop.set()
        producer.join()
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


@pytest.mark.parametrize("first", [True, False], ids=["that has recorded", "that has not recorded yet"])
def test_a_forked_child_outlives_its_parents_profiler(db: str, first: bool) -> None:
    """The parent closes as if it were the last that has the file open; the child's spans are in the file all the same."""
    profiler = Profiler(db, writer="sync", batch_size=1)
    profiler.start("before").end()
    folder = Path(db).parent
    closed, recorded = Flag(folder / "closed"), Flag(folder / "recorded")

    def live() -> None:
        if first:
            profiler.start("child").end()
        recorded.set()
        assert closed.wait()
        for _ in range(20):
            profiler.start("child").end()
        assert profiler.flush()
        assert profiler.close().written == 20 + first

    with in_background(live):
        assert recorded.wait()
        profiler.close()
        with Profiler(db, writer="sync", run_id="another") as another:
            another.start("another").end()
        closed.set()
    assert [span.name for span in Report(db).spans(profiler.run_id)] == ["before", *["child"] * (20 + first)]
    assert [span.name for span in Report(db).spans("another")] == ["another"]
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
