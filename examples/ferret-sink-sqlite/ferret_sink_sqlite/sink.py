"""`sqlite`: one row per span in a plain SQLite table, for anything that speaks SQL.

Ferret calls a sink from one thread at a time, tries again when it raises, and counts what became of every span. What
is left for a sink is to store a batch whole or not at all, and once; here, one transaction does both.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ferret import StorageError

if TYPE_CHECKING:
    from ferret.batch import Batch
    from ferret.models import ProcessInfo

# The columns have the names of ferret's attributes. Times are seconds since the epoch; tags, argv and ledger are JSON.
SPANS: Final = """
    span_id TEXT, parent_id TEXT, run_id TEXT, name TEXT, start_time REAL, end_time REAL, duration REAL, tags TEXT,
    status TEXT, error TEXT, error_type TEXT, process_id INTEGER, thread_id INTEGER, thread_name TEXT, task_name TEXT
"""
PROCESSES: Final = """
    run_id TEXT, token TEXT, process_id INTEGER, program TEXT, argv TEXT, python TEXT, host TEXT, writer TEXT,
    started_at REAL, ended_at REAL, ledger TEXT
"""
SPAN_NAMES: Final = [column.split()[0] for column in SPANS.split(",")]
PROCESS_NAMES: Final = [column.split()[0] for column in PROCESSES.split(",")]


class SqliteSink:
    """Writes to an SQLite file, which several processes and profilers may share, and anyone may read meanwhile.

    Args:
        target: the file; made, for its owner only, where it is missing.
        timeout: seconds to wait for others who write. After that a batch is refused, and ferret tries again.

    Raises:
        StorageError: there is no target, or it cannot be used; nothing in it was changed.
    """

    def __init__(self, target: str | os.PathLike[str] | None, *, timeout: float = 5.0) -> None:
        if not target:
            raise StorageError("sqlite needs a file: sqlite:spans.db")
        self.path = Path(target).absolute()  # the program may change its folder before a forked child reopens this
        self.timeout = timeout
        _make_file(self.path)
        try:
            self._db = self._connect()
        except sqlite3.Error as error:
            raise StorageError(f"{self.path} cannot hold spans: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        # The sink is made in one thread, and most writers use it from another.
        db = sqlite3.connect(self.path, timeout=self.timeout, check_same_thread=False)
        try:
            with db:
                db.execute("BEGIN IMMEDIATE")  # so that no two processes make the tables at the same time
                db.execute("CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY)")
                db.execute(f"CREATE TABLE IF NOT EXISTS spans ({SPANS})")
                db.execute(f"CREATE TABLE IF NOT EXISTS processes ({PROCESSES}, PRIMARY KEY (run_id, token))")
                # Tables of these names that are somebody else's show now, rather than at the first write.
                db.execute(f"SELECT {', '.join(SPAN_NAMES)} FROM spans LIMIT 0")
        except BaseException:
            db.close()
            raise
        return db

    def write(self, batch: Batch) -> None:
        """Store the batch. Whatever is raised here says that it was not stored, and ferret hands it over again."""
        columns = batch.columns()
        columns["tags"] = [json.dumps(tags) for tags in columns["tags"]]
        rows = zip(*(columns[name] for name in SPAN_NAMES), strict=True)
        with self._db:  # one transaction: if anything in it raises, nothing of it happened
            new = self._db.execute("INSERT OR IGNORE INTO batches VALUES (?)", [batch.id]).rowcount
            if new:  # or else an earlier attempt did store it, and only its answer was lost
                self._db.executemany(f"INSERT {_into('spans', SPAN_NAMES)}", rows)

    def write_run(self, process: ProcessInfo) -> None:
        """Store the facts of a process, in place of earlier ones. Optional: ferret calls it where there is one."""
        facts: dict[str, Any] = process.model_dump(mode="json")
        facts |= {name: json.dumps(facts[name]) for name in ("argv", "ledger") if facts[name] is not None}
        with self._db:
            values = [facts[name] for name in PROCESS_NAMES]
            self._db.execute(f"REPLACE {_into('processes', PROCESS_NAMES)}", values)

    def flush(self) -> None:
        """Do nothing: each batch is committed as it is written, and so can be read."""

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def reopen(self) -> SqliteSink:
        """A sink for a forked child, which may neither use nor close the connection that it inherited.

        Optional: ferret calls it in the child, and keeps the old sink as it is (sqlite.org/howtocorrupt.html, 2.6).
        """
        return SqliteSink(self.path, timeout=self.timeout)


def _make_file(path: Path) -> None:
    """Make the file if it is missing, for its owner only: spans tell what a program does, and with what."""
    if not path.parent.is_dir():
        raise StorageError(f"{path} cannot be made: there is no directory {path.parent}")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass  # Left to SQLite: closing it here would drop the locks of other connections (howtocorrupt.html, 2.2).
    except OSError as error:
        raise StorageError(f"{path} cannot be made: {error.strerror}") from error


def _into(table: str, names: list[str]) -> str:
    return f"INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
