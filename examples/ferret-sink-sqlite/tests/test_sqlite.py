"""What the sink promises, tried against a real ferret and read back with nothing but SQLite."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from ferret_sink_sqlite import SqliteSink

from ferret import Profiler, StorageError
from ferret.sinks.base import KeepsRuns, Reopens, Sink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ferret.batch import Batch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spans.db"


@pytest.fixture
def sink(path: Path) -> Iterator[SqliteSink]:
    with closing(SqliteSink(path)) as sink:
        yield sink


@pytest.fixture
def batch() -> Batch:
    """Two spans, `first` and `second`, as a sink gets them: ferret's own `memory` sink keeps what it is given."""
    with Profiler(sink="memory", writer="sync") as profiler:
        for name in ("first", "second"):
            with profiler.measure(name):
                pass
    [batch] = profiler.sink.batches.values()
    return batch


def query(path: Path, sql: str) -> list[Any]:
    """The rows, as any other program would get them; the values alone where there is one column."""
    with closing(sqlite3.connect(path)) as db:
        return [row[0] if len(row) == 1 else row for row in db.execute(sql)]


def test_it_has_all_that_ferret_asks_of_a_sink(sink: SqliteSink) -> None:
    assert isinstance(sink, Sink)
    assert isinstance(sink, KeepsRuns)
    assert isinstance(sink, Reopens)


@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded", "process"])
def test_its_name_is_enough_under_every_writer(path: Path, writer: str) -> None:
    with Profiler(sink=f"sqlite:{path}", writer=writer) as profiler:
        for _ in range(100):
            with profiler.measure("step"):
                pass
    assert profiler.close().written == 100
    assert query(path, "SELECT count(*) FROM spans WHERE name = 'step'") == [100]


def test_a_row_has_what_the_span_had(path: Path) -> None:
    profiler = Profiler(sink=f"sqlite:{path}", writer="sync", run_id="monday")
    with profiler.measure("checkout", tags={"user": 7}) as outer, pytest.raises(KeyError), profiler.measure("look up"):
        raise KeyError("gone")
    profiler.close()
    outer_id = outer.model.span_id
    columns = "span_id, parent_id, status, error_type, tags"
    [parent] = query(path, f"SELECT {columns} FROM spans WHERE name = 'checkout'")
    [child] = query(path, f"SELECT {columns} FROM spans WHERE name = 'look up'")
    assert parent == (outer_id, None, "ok", None, '{"user": 7}')
    assert child[1:] == (outer_id, "error", "KeyError", "{}")
    assert query(path, "SELECT DISTINCT run_id, process_id FROM spans") == [("monday", os.getpid())]
    assert query(path, "SELECT count(*) FROM spans WHERE abs(end_time - start_time - duration) < 1e-6") == [2]


def test_a_batch_that_comes_again_is_stored_once(sink: SqliteSink, batch: Batch) -> None:
    sink.write(batch)
    sink.write(batch.again())
    assert query(sink.path, "SELECT name FROM spans") == ["first", "second"]


def test_a_batch_is_stored_whole_or_not_at_all(sink: SqliteSink, batch: Batch) -> None:
    with closing(sqlite3.connect(sink.path)) as db:
        db.execute(
            "CREATE TRIGGER full BEFORE INSERT ON spans WHEN new.name = 'second' BEGIN SELECT raise(ABORT, 'full'); END"
        )
        with pytest.raises(sqlite3.Error, match="full"):
            sink.write(batch)
        assert query(sink.path, "SELECT name FROM spans") == []
        db.execute("DROP TRIGGER full")
    sink.write(batch.again())
    assert query(sink.path, "SELECT name FROM spans") == ["first", "second"]


def test_a_forked_child_writes_to_the_same_file(sink: SqliteSink) -> None:
    profiler = Profiler(sink=sink, writer="sync")

    def record(name: str) -> None:
        with profiler.measure(name):
            pass

    def live() -> None:
        record("in the child")
        profiler.close()

    record("before")
    child = multiprocessing.get_context("fork").Process(target=live)
    child.start()
    child.join()
    record("after")
    profiler.close()
    assert query(sink.path, "SELECT name, process_id FROM spans ORDER BY start_time") == [
        ("before", os.getpid()),
        ("in the child", child.pid),
        ("after", os.getpid()),
    ]


def test_a_reopened_sink_is_on_the_same_file_wherever_the_program_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(SqliteSink("spans.db")) as sink:
        monkeypatch.chdir("/")
        with closing(sink.reopen()) as again:
            assert again.path == sink.path == tmp_path / "spans.db"


def test_the_facts_of_a_run_end_with_its_ledger(path: Path) -> None:
    profiler = Profiler(sink=f"sqlite:{path}", writer="sync", batch_size=1)
    with profiler.measure("step"):
        pass
    assert query(path, "SELECT run_id, ended_at, ledger FROM processes") == [(profiler.run_id, None, None)]
    profiler.close()
    [(ended_at, ledger)] = query(path, "SELECT ended_at, ledger FROM processes")
    assert ended_at > 0
    assert json.loads(ledger)["written"] == 1


def test_only_the_owner_may_read_a_new_file(sink: SqliteSink) -> None:
    assert stat.S_IMODE(sink.path.stat().st_mode) == 0o600


def test_a_database_of_ones_own_can_hold_spans_too(path: Path, batch: Batch) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE orders (id)")
    with closing(SqliteSink(path)) as sink:
        sink.write(batch)
    assert query(path, "SELECT count(*) FROM orders") == [0]
    assert query(path, "SELECT count(*) FROM spans") == [2]


def test_a_file_that_others_write_to_for_too_long_is_an_error_that_names_it(sink: SqliteSink) -> None:
    with closing(sqlite3.connect(sink.path)) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match=r"spans\.db cannot hold spans: database is locked"):
            SqliteSink(sink.path, timeout=0)


def test_a_missing_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no directory .*/nowhere"):
        SqliteSink(tmp_path / "nowhere" / "spans.db")


def test_a_directory_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot hold spans"):
        SqliteSink(tmp_path)


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_text("a letter\n" * 100)
    with pytest.raises(StorageError, match=r"spans\.db cannot hold spans: file is not a database"):
        SqliteSink(path)
    assert path.read_text() == "a letter\n" * 100


def test_somebody_elses_table_of_spans_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE spans (bridge, metres)")
    with pytest.raises(StorageError, match="no such column: span_id"):
        SqliteSink(path)
    assert query(path, "SELECT name FROM sqlite_master") == ["spans"]


@pytest.mark.parametrize("target", [None, ""])
def test_a_sink_without_a_target_says_how_to_give_one(target: str | None) -> None:
    with pytest.raises(StorageError, match=r"sqlite:spans\.db"):
        SqliteSink(target)
