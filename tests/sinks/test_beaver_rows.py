"""The rows of a BeaverDB file: each batch is one, found once, in its order, however many there are."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import closing, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import beaver
import pytest
from support import ORIGIN, batch, record

import ferret.sinks.beaver
from ferret import Profiler, Report, StorageError
from ferret.batch import Origin
from ferret.errors import FormatError
from ferret.models import ProcessInfo
from ferret.sinks.beaver import BeaverSink
from ferret.sinks.beaver_file import TRIES
from ferret.sinks.beaver_reader import PAGE, BeaverReader
from ferret.sinks.memory import MemorySink
from ferret.sinks.summary import summaries
from ferret.testing.patience import in_child


def write(db: str, *sequences: int) -> None:
    sink = BeaverSink(db)
    for sequence in sequences:
        sink.write(batch(record(sequence), record(sequence + 1_000_000), sequence=sequence))
    sink.close()


@pytest.mark.parametrize("count", [1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE + 5])
def test_every_batch_is_found_once_and_in_order_wherever_a_page_ends(db: str, count: int) -> None:
    write(db, *range(count))
    reader = BeaverReader(db)
    for run_id in (None, ORIGIN.run_id):
        assert [segment.sequence for segment in reader.segments(run_id)] == list(range(count))
        assert [summary.sequence for summary in reader.summaries(run_id)] == list(range(count))
    assert list(reader.segments("another run")) == []


def test_reading_by_pages_passes_over_other_runs_and_namespaces(db: str) -> None:
    profilers = [Profiler(db, run_id=run, namespace=name, batch_size=1) for run in "ab" for name in ("one", "two")]
    for number in range(PAGE + 3):
        for profiler in profilers:
            profiler.start(f"{profiler.run_id} {profiler.settings.namespace}", {"n": number}).end()
    for profiler in profilers:
        profiler.close()
    for profiler in profilers:
        found = list(Report(db, namespace=profiler.settings.namespace).spans(profiler.run_id))
        assert {span.name for span in found} == {f"{profiler.run_id} {profiler.settings.namespace}"}
        assert sorted(span.tags["n"] for span in found) == list(range(PAGE + 3))


def test_a_batch_that_comes_again_keeps_its_place(db: str) -> None:
    write(db, 0, 1, 2, 0, 1)
    assert [segment.sequence for segment in BeaverReader(db).segments()] == [0, 1, 2]


def test_a_summary_spans_from_the_earliest_start_to_the_latest_end(db: str) -> None:
    sink = BeaverSink(db)
    sink.write(batch(record(1, start_ns=50, end_ns=900), record(2, start_ns=10, end_ns=20), record(3, start_ns=60)))
    (summary,) = sink.summaries()
    assert (summary.start_ns - ORIGIN.anchor_ns, summary.end_ns - ORIGIN.anchor_ns) == (10, 900)
    sink.close()


def test_a_damaged_batch_is_named_and_not_passed_over(db: str) -> None:
    write(db, 0, 1, 2)
    with sqlite3.connect(db) as connection:
        connection.execute("UPDATE __beaver_blobs__ SET data = substr(data, 1, 40) WHERE key LIKE '%0000000001'")
    connection.close()
    with pytest.raises(FormatError, match=r"trace\.db.*0000000001.*damaged"):
        list(BeaverReader(db).segments())


def test_reading_makes_no_file_in_place_of_one_that_is_gone(db: str) -> None:
    write(db, 0)
    reader = BeaverReader(db)
    os.unlink(db)
    with pytest.raises(StorageError, match="cannot be read"):
        list(reader.segments())
    assert not Path(db).exists()


def test_a_file_that_was_made_in_vain_is_taken_away_again_but_no_other(
    db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> Any:
        raise RuntimeError("no database today")

    existing = f"{db}-existing"
    Path(existing).touch()
    monkeypatch.setattr("beaver.BeaverDB", fail)
    for path in (db, existing):
        with pytest.raises(StorageError, match="no database today"):
            BeaverSink(path)
    assert (Path(db).exists(), Path(existing).exists()) == (False, True)


@pytest.mark.parametrize("times", [1, 100])
def test_a_file_that_sqlite_still_has_open_after_it_was_made_is_made_again(
    db: str, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    make_tables, cursors = ferret.sinks.beaver._make_tables, []

    def make_and_keep_a_cursor(path: str) -> None:
        make_tables(path)
        if len(cursors) < times:
            with closing(sqlite3.connect(path)) as connection:
                cursors.append(connection.execute("SELECT name FROM sqlite_master"))

    monkeypatch.setattr(ferret.sinks.beaver, "_make_tables", make_and_keep_a_cursor)
    if times > TRIES:
        with pytest.raises(StorageError, match="still open"):
            BeaverSink(db)
        assert os.listdir(os.path.dirname(db)) == []
        return
    write(db, 1)
    assert [segment.sequence for segment in BeaverReader(db).segments()] == [1]
    assert os.listdir(os.path.dirname(db)) == [os.path.basename(db)]
    del cursors[:]
    write(db, 2)
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("fails", [True, False])
def test_a_file_that_another_process_made_meanwhile_is_used_and_never_taken_away(
    db: str, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Processes that begin together: one that failed took the file away from under the others, and their spans with it."""
    real = beaver.BeaverDB

    def after_another(path: str) -> Any:
        monkeypatch.setattr("beaver.BeaverDB", real)
        write(db, 0)  # as a process beside this one would
        if fails:
            raise RuntimeError("no database today")
        return real(path)

    monkeypatch.setattr("beaver.BeaverDB", after_another)
    with pytest.raises(StorageError, match="no database today") if fails else nullcontext():
        write(db, 1)
    assert [segment.sequence for segment in BeaverReader(db).segments()] == ([0] if fails else [0, 1])
    assert [path.name for path in Path(db).parent.iterdir()] == ["trace.db"]


def test_where_there_are_no_hard_links_a_file_is_made_in_its_place(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write(db, 0)
    assert [segment.sequence for segment in BeaverReader(db).segments()] == [0]
    assert stat.S_IMODE(Path(db).stat().st_mode) == 0o600
    assert [path.name for path in Path(db).parent.iterdir()] == ["trace.db"]


def test_a_file_whose_tables_another_process_is_making_is_waited_for(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite says so at once, instead of waiting, where two connections turn on the write-ahead log of a file."""
    real, tries = beaver.BeaverDB, list[str]()

    def busy_at_first(path: str) -> Any:
        tries.append(path)
        if len(tries) < 3:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
            raise error
        return real(path)

    Path(db).touch()
    monkeypatch.setattr("beaver.BeaverDB", busy_at_first)
    write(db, 0)
    assert tries == [db] * 3
    assert [segment.sequence for segment in BeaverReader(db).segments()] == [0]


def test_tables_of_beaver_1_beside_those_of_beaver_2_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "both.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE beaver_dicts (dict_name TEXT, key TEXT, value TEXT)")
        connection.execute("CREATE TABLE __beaver_dicts__ (dict_name TEXT, key TEXT, value TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"beaver 1\.x"):
        BeaverSink(str(path))
    assert path.read_bytes() == before


def test_a_forked_child_writes_into_the_namespace_of_its_parent(db: str) -> None:
    def live() -> None:
        profiler.start("child").end()
        assert profiler.close().written == 1

    with Profiler(db, namespace="mine") as profiler:
        profiler.start("parent").end()
        in_child(live)
    assert sorted(span.name for span in Report(db, namespace="mine").spans()) == ["child", "parent"]


# -- reading one run of several ---------------------------------------------------------------------


def facts(run_id: str, token: str = "0" * 16) -> ProcessInfo:
    return ProcessInfo(run_id=run_id, token=token, process_id=1)


def sinks(tmp_path: Path) -> dict[str, Any]:
    return {"beaver": lambda: BeaverSink(str(tmp_path / "trace.db")), "memory": MemorySink}


@pytest.mark.parametrize("kind", ["beaver", "memory"])
def test_a_run_is_read_without_the_others_whatever_their_names(tmp_path: Path, kind: str) -> None:
    sink = sinks(tmp_path)[kind]()
    runs = ["a", "a/b", "a b", "zoë", "%2F"]
    for number, run in enumerate(runs):
        origin = Origin(run, f"{number:016x}", 1, ORIGIN.anchor_ns)
        sink.write(batch(record(number), origin=origin))
        sink.write_run(facts(run, origin.token))
        sink.write_run(facts(run, "f" * 16))
    for run in runs:
        assert [segment.run_id for segment in sink.segments(run)] == [run]
        assert [summary.run_id for summary in summaries(sink, run)] == [run]
        assert [process.run_id for process in sink.processes(run)] == [run, run]
    assert (
        {process.run_id for process in sink.processes()} == {summary.run_id for summary in summaries(sink)} == set(runs)
    )
    sink.close()


@pytest.mark.parametrize("kind", ["beaver", "memory"])
def test_whatever_attempt_a_batch_is_of_it_is_stored_once(tmp_path: Path, kind: str) -> None:
    sink = sinks(tmp_path)[kind]()
    one = batch(record(1))
    for again in (one, one.again(), one.again().again()):
        sink.write(again)
    assert [len(segment) for segment in sink.segments()] == [1]
    sink.close()


def test_the_memory_sink_takes_no_target() -> None:
    with pytest.raises(TypeError, match="no target"):
        MemorySink("somewhere")


def cells(file: bytes, root: int) -> list[tuple[int, int]]:
    """Where the pointers of a table's rows are in a file of SQLite, and where each row's id is (sqlite.org/fileformat)."""
    size = int.from_bytes(file[16:18])
    at = (root - 1) * size
    leaf = file[at] == 13
    first = at + (8 if leaf else 12)
    pointers = range(first, first + 2 * int.from_bytes(file[at + 3 : at + 5]), 2)
    places = [at + int.from_bytes(file[pointer : pointer + 2]) for pointer in pointers]
    if leaf:
        # a row begins with its length, of one byte or two
        return [
            (pointer, place + (2 if file[place] & 128 else 1)) for pointer, place in zip(pointers, places, strict=True)
        ]
    children = [*(file[place : place + 4] for place in places), file[at + 8 : at + 12]]
    return [cell for child in children for cell in cells(file, int.from_bytes(child))]


def test_rows_that_are_in_the_wrong_place_are_read_once_and_told_of(db: str) -> None:
    count = 2 * PAGE + 3
    write(db, *range(count))
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = '__beaver_blobs__'").fetchone()
    file = Path(db).read_bytes()
    rows = cells(file, root)
    assert [file[row_id] for _, row_id in rows] == list(range(1, count + 1))
    for pointer, row_id in rows:
        near = [other for other, _ in rows if other != pointer and abs(other - pointer) < 100]
        harms = [(pointer, file[other : other + 2]) for other in near] + [
            (row_id, bytes([one])) for one in range(count + 2)
        ]
        for at, harm in harms:
            Path(db).write_bytes(file[:at] + harm + file[at + len(harm) :])
            for backwards in (False, True):
                told: list[str] = []
                reader = BeaverReader(db)
                reader.on_damage = lambda what, why, told=told: told.append(f"{what}: {why}")
                found = [one.sequence for one in islice(reader.newest_first() if backwards else reader.segments(), 99)]
                assert len(found) == len(set(found)), f"{harm!r} at {at}: read twice"
                if len(found) < count and not told:
                    report = Report(db, skip_damaged=True)
                    assert report.runs()[0].missing_batches or report.damaged, f"{harm!r} at {at}: lost without a word"
