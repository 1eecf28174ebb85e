"""`beaver`, the default: a BeaverDB file, one blob a batch.

Batches are BeaverDB blobs (`db.blob(namespace)`), keyed by their identity, so that writing one again changes nothing; the
facts of each process are in `db.dict(namespace + "_runs")`. `docs/segment-format.md` has the details.

They are not written by `blob.put()`: that takes an inter-process lock by four transactions and a 0.1 s poll (2 ms alone, and
time-outs among several processes), and has no "insert or ignore". Nor, where there is a file, by BeaverDB's engine: its
transaction passes eight times from thread to thread, and each time a busy program keeps the GIL for 5 ms before it lets go
(0.2 ms of CPU a batch, and up to 47 ms until it is stored). BeaverDB makes the file, and a connection of this module's own
inserts (0.04 ms). A database in memory, or one that was handed over open, is written to through its engine.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import tenacity

from ferret.errors import StorageError
from ferret.segment import Segment
from ferret.sinks.beaver_file import check_target, has_tables, make_file
from ferret.sinks.beaver_reader import BeaverReader, run_prefix, runs_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from beaver import AsyncBeaverDB, BeaverDB

    from ferret.batch import Batch
    from ferret.models import ProcessInfo
    from ferret.sinks.summary import SegmentSummary

__all__ = ["BeaverReader", "BeaverSink", "open_db"]

MEMORY = ":memory:"

LOCKED_S = 30.0
"""How long an insert waits for a file that another connection has locked; as long as BeaverDB's own."""

BUSY_S = 0.1
"""The longest pause before a file is opened again whose tables another process makes."""

LETTING_GO_S = 1.0
"""How long a forked child waits until SQLite has closed what it inherited."""

INSERT_SEGMENT = "INSERT OR IGNORE INTO __beaver_blobs__ (store_name, key, data, metadata) VALUES (?, ?, ?, ?)"
INSERT_RUN = "INSERT OR REPLACE INTO __beaver_dicts__ (dict_name, key, value) VALUES (?, ?, ?)"


class BeaverSink:
    """Stores batches in a BeaverDB file. Several processes and profilers may write one file at once.

    Args:
        target: the file; made, readable for its owner only, where it is missing. `:memory:` stays in this process.
        namespace: the name of the blob store.

    Raises:
        StorageError: the file cannot be used; nothing was changed.
    """

    def __init__(self, target: str | None = None, *, namespace: str = "_ferret_trace") -> None:
        # absolute, as a forked child opens it again, and the program may have changed its folder by then
        self._path: str = MEMORY if target in {None, "", MEMORY} else os.path.abspath(str(target))
        self._namespace = namespace
        self._process_id = os.getpid()
        self._owns_db = True
        self._opening = threading.RLock()
        self._db: BeaverDB | None = None
        self._connection: sqlite3.Connection | None = None
        if self._path == MEMORY:
            self._db = open_db(MEMORY)
        else:
            self._connection = _connect(self._path)

    @classmethod
    def of(cls, db: BeaverDB, *, namespace: str = "_ferret_trace") -> BeaverSink:
        """A sink in an open BeaverDB, which stays open when the sink closes.

        Raises:
            StorageError: it is not a BeaverDB.
        """
        from beaver import BeaverDB  # noqa: PLC0415 - whoever has one has imported it

        if not isinstance(db, BeaverDB):
            raise StorageError(f"{db!r} is no database: give a path, or a beaver.BeaverDB")
        sink = cls.__new__(cls)
        sink._path = _engine(db)._db_path
        sink._owns_db = False
        sink._namespace = namespace
        sink._process_id = os.getpid()
        sink._db = db
        sink._connection = None
        return sink

    @property
    def db(self) -> BeaverDB:
        """The BeaverDB, which is opened when it is first asked for. May be called from any thread."""
        if self._db is None:
            with self._opening:
                if self._db is None:
                    self._db = open_db(self._path)
        return self._db

    def write(self, batch: Batch) -> None:
        """Store the batch as one row, unless it is there already."""
        segment = Segment.from_batch(batch)
        facts = {
            "process_id": segment.process_id,
            "spans": len(segment),
            "errors": segment.errors,
            "start_ns": int(segment.start_ns.min()),
            "end_ns": int((segment.start_ns + segment.duration_ns).max()),
        }
        origin = batch.origin
        key = f"{run_prefix(origin.run_id)}{origin.token}/{batch.sequence:010d}"
        self._execute(INSERT_SEGMENT, (self._namespace, key, segment.to_bytes(), json.dumps(facts)))

    def write_run(self, process: ProcessInfo) -> None:
        """Store the facts of a process."""
        key = f"{run_prefix(process.run_id)}{process.token}"
        self._execute(INSERT_RUN, (runs_name(self._namespace), key, process.model_dump_json()))

    def flush(self) -> None:
        """Do nothing: each batch is committed as it is written."""

    def close(self) -> None:
        """Close the database, if the sink opened it."""
        if self._connection is not None:
            self._connection.close()
        if self._owns_db and self._db is not None:
            close_db(self._db)

    def reopen(self) -> BeaverSink:
        """The same file, opened afresh; a forked child of an in-memory database begins an empty one."""
        if self._process_id != os.getpid():
            for connection in (
                self._connection,
                None if self._db is None else _engine(self._db)._connection._connection,
            ):
                if connection is not None:
                    _let_go(connection)
        return BeaverSink(self._path, namespace=self._namespace)

    @property
    def place(self) -> str | None:
        """The file; None for a database in memory."""
        return None if self._path == MEMORY else os.path.abspath(self._path)

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        """The stored batches."""
        return self._reader().segments(run_id)

    def newest_first(self, run_id: str | None = None) -> Iterator[Segment]:
        """The stored batches, those that were stored last before the others."""
        return self._reader().newest_first(run_id)

    def processes(self, run_id: str | None = None) -> Iterator[ProcessInfo]:
        """The stored facts."""
        return self._reader().processes(run_id)

    def summaries(self, run_id: str | None = None) -> Iterator[SegmentSummary]:
        """What each segment holds, without unpacking it."""
        return self._reader().summaries(run_id)

    def _reader(self) -> BeaverReader:
        return BeaverReader(self._path, self._namespace) if self._connection else reader_of(self.db, self._namespace)

    def _execute(self, sql: str, values: tuple[Any, ...]) -> None:
        if self._connection is not None:
            self._connection.execute(sql, values)
            return
        engine = _engine(self.db)

        async def store() -> None:
            async with engine.transaction():
                await engine.connection.execute(sql, values)

        _run(self.db, store)


def _connect(path: str) -> sqlite3.Connection:
    """A connection of our own to a BeaverDB file, which BeaverDB makes if it is not there."""
    if not check_target(path):
        make_file(path, _make_tables)
    if not has_tables(path):
        _make_tables(path)
    # one thread at a time writes, but not always the same
    connection = sqlite3.connect(path, timeout=LOCKED_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")  # as BeaverDB's own; the file is in WAL mode
    except sqlite3.Error as error:
        connection.close()
        beside = f"{os.path.basename(path)}-wal"
        raise StorageError(
            f"{path!r} cannot be written: {error}. SQLite makes files beside it, such as {beside!r}: see whether "
            f"{os.path.dirname(path)!r} lets it"
        ) from error
    return connection


def _let_go(connection: sqlite3.Connection) -> None:
    """In a forked child: have SQLite forget the parent's connection, before it opens one to the same file.

    What SQLite knows of a file, it knows once for a process: a child that inherits a connection believes that it has locks
    which only its parent has, and nobody else sees the child. When the parent closes, it takes itself for the last one, and
    removes the write-ahead log that the child goes on writing to.
    """
    if connection.in_transaction:  # a sink that was at work for longer than a fork waits: closing would roll that back
        return
    # `close()` is for the thread that made it, which is the parent's; making it anew closes it, too. In a thread, as one that
    # was inside SQLite at the fork may have held a lock that nobody will let go of.
    closer = threading.Thread(target=connection.__init__, args=(MEMORY,), name="ferret-closer", daemon=True)  # type: ignore[misc]
    with suppress(RuntimeError):  # no thread starts any more: then this process ends before its parent matters
        closer.start()
        closer.join(LETTING_GO_S)


def _engine(db: BeaverDB) -> AsyncBeaverDB:
    # The facade has no public way to its engine, whose transaction() and connection are public.
    engine: AsyncBeaverDB = db._async_db
    return engine


def _run(db: BeaverDB, work: Callable[[], Any]) -> Any:
    """Run a coroutine function on the thread that BeaverDB's engine lives in, and wait for it."""
    if db._closed:
        raise StorageError(f"the database {_engine(db)._db_path!r} was closed")
    return asyncio.run_coroutine_threadsafe(work(), db._loop).result()


def reader_of(db: BeaverDB, namespace: str) -> BeaverReader:
    """A reader of an open BeaverDB: of its file, where it has one, or else through its own connection."""
    path = _engine(db)._db_path
    if path != MEMORY:
        return BeaverReader(path, namespace)

    def query(sql: str, values: tuple[Any, ...], _: int) -> list[tuple[Any, ...]]:
        async def fetch() -> list[tuple[Any, ...]]:
            cursor = await _engine(db).connection.execute(sql, values)
            return [tuple(row) for row in await cursor.fetchall()]

        rows: list[tuple[Any, ...]] = _run(db, fetch)
        return rows

    return BeaverReader(path, namespace, query=query)


def open_db(path: str) -> BeaverDB:
    """Open a BeaverDB file, or make one.

    Raises:
        StorageError: the path cannot be used; the message says why, and what would be right. Nothing was changed.
    """
    if path != MEMORY and not check_target(path):
        make_file(path, _make_tables)
    return _open(path)


def _make_tables(path: str) -> None:
    close_db(_open(path))


def _open(path: str) -> BeaverDB:
    """Open a file, or make the tables in it, where several may do that at once."""
    from beaver import BeaverDB  # noqa: PLC0415 - 0.2 s

    tries = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_busy),
        stop=tenacity.stop_after_delay(LOCKED_S),
        wait=tenacity.wait_random(0, BUSY_S),
        reraise=True,
    )
    try:
        return tries(BeaverDB, path)
    except Exception as error:
        raise StorageError(f"{path!r} cannot be opened as a database: {error}") from error


def _is_busy(error: BaseException) -> bool:
    """Whether somebody else is at the file: SQLite does not wait for its turn where it turns on a write-ahead log."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it says more precisely what it is
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def close_db(db: BeaverDB) -> None:
    """Close a BeaverDB, and the event loop that it leaves open (beaver-db 2.4)."""
    db.close()
    if not db._thread.is_alive():
        db._loop.close()
