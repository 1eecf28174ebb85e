"""Reading spans from a BeaverDB file, without BeaverDB: opening one with it writes, and takes a third of a second."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import msgspec

from ferret.errors import FormatError, NewerFormatError, StorageError
from ferret.models import ProcessInfo
from ferret.segment import MAX_SEGMENT_BYTES, Segment
from ferret.sinks.sqlite_file import look_inside, opened
from ferret.sinks.summary import SegmentSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    type Query = Callable[[str, tuple[Any, ...], int], list[tuple[Any, ...]]]
    """Runs SQL; may end once the rows take more than so many bytes together."""

PAGE = 16
"""Segments fetched at a time, at most."""
PAGE_BYTES = 1 << 24
"""No more are fetched once they take so much together."""
NEIGHBOURS = 128
"""So many rows at most are in one page of SQLite, whose order a changed byte may change."""
MAX_FACTS_BYTES = 1 << 22
"""No larger facts of a process are read."""
MAX_ROW_BYTES = MAX_SEGMENT_BYTES
"""No larger value is fetched: a damaged or hostile file must not fill the memory."""

# NOT INDEXED: by rowid a page costs what it holds, by the key's index each page would sort the whole run again.
# "0" is the character after "/": the range holds exactly the keys that begin with "<run>/"
_SEGMENTS = (
    "SELECT rowid, key, CASE rowid WHEN ? THEN NULL ELSE {what} END FROM __beaver_blobs__ NOT INDEXED "
    "WHERE store_name = ? AND key >= ? AND key < ? AND rowid >= ? ORDER BY rowid LIMIT ?"
)
_SEGMENTS_BACKWARDS = _SEGMENTS.replace("rowid >= ?", "rowid <= ?").replace("ORDER BY rowid", "ORDER BY rowid DESC")
_LAST_ROW = 2**63 - 1
_NAMESPACES = (
    "SELECT DISTINCT dict_name FROM __beaver_dicts__ WHERE dict_name LIKE '%!_runs' ESCAPE '!' ORDER BY 1 LIMIT 9"
)
_RUNS = "SELECT key, value FROM __beaver_dicts__ WHERE dict_name = ? AND key >= ? AND key < ? ORDER BY rowid"


class _Facts(msgspec.Struct):
    """A segment's metadata. What a later version adds is passed over."""

    process_id: int
    spans: int
    errors: int
    start_ns: int
    end_ns: int


def runs_name(namespace: str) -> str:
    """The BeaverDB dict in which the facts of each process are."""
    return f"{namespace}_runs"


def run_prefix(run_id: str) -> str:
    """What the keys of a run begin with; no run's is the beginning of another's."""
    return quote(run_id, safe="") + "/"


class BeaverReader:
    """Reads the spans of one namespace. Never writes. Safe to use from any thread; each iteration goes its own way.

    Rows are read in the order in which they were stored (by rowid), a few at a time, so that a file may grow meanwhile.

    Args:
        path: the file.
        namespace: the name of the blob store.
        query: runs SQL; on the file, unless given.

    Attributes:
        on_damage: called with what is damaged, such as a segment by its key, and the reason, after which reading goes on;
            while it is None, reading ends with a `FormatError`. What a newer ferret wrote is not damaged: it always ends
            the reading.

    Raises:
        StorageError: there is no such file, or it holds no BeaverDB.
    """

    def __init__(self, path: str, namespace: str = "_ferret_trace", *, query: Query | None = None) -> None:
        self._path = path
        self._namespace = namespace
        self._query = self._query_file if query is None else query
        self.on_damage: Callable[[str, str], None] | None = None
        if query is None:
            self._check()

    @property
    def place(self) -> str | None:
        """The file; None for a database in memory."""
        return None if self._path == ":memory:" else os.path.abspath(self._path)

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        """The stored batches.

        Raises:
            StorageError: a segment is damaged, or of a newer version; the message names it.
        """
        return self._unpacked(self._rows("data", run_id))

    def newest_first(self, run_id: str | None = None) -> Iterator[Segment]:
        """The stored batches, those that were stored last before the others; raises as `segments`."""
        return self._unpacked(self._rows("data", run_id, backwards=True))

    def _unpacked(self, rows: Iterator[tuple[str, Any]]) -> Iterator[Segment]:
        for key, data in rows:
            try:
                segment = Segment.from_bytes(data)
            except FormatError as error:
                self._damaged(f"segment {key!r}", error, type(error))
                continue
            yield segment

    def summaries(self, run_id: str | None = None) -> Iterator[SegmentSummary]:
        """What each segment holds, without unpacking it."""
        for key, metadata in self._rows("metadata", run_id):
            try:
                run, token, sequence = str(key).rsplit("/", 2)
                facts = msgspec.json.decode(metadata, type=_Facts)
                summary = SegmentSummary(
                    run_id=unquote(run), token=token, sequence=int(sequence), **msgspec.structs.asdict(facts)
                )
            except (ValueError, TypeError, msgspec.MsgspecError) as error:
                self._damaged(f"segment {key!r}", FormatError(f"damaged facts: {error}"))
                continue
            yield summary

    def processes(self, run_id: str | None = None) -> Iterator[ProcessInfo]:
        """The stored facts."""
        low, high = _key_range(run_id)
        for key, value in self._query(_RUNS, (runs_name(self._namespace), low, high), sys.maxsize):
            try:
                if not isinstance(value, str | bytes) or len(value) > MAX_FACTS_BYTES:
                    raise ValueError(f"neither a text nor of {MAX_FACTS_BYTES} bytes at most")
                process = ProcessInfo.model_validate_json(value)
            except ValueError as error:
                self._damaged(f"facts of process {key!r}", FormatError(_first_line(error)))
                continue
            yield process

    def namespaces(self) -> list[str]:
        """Under which names there are runs, as far as can be told; nine at most."""
        names = [name for (name,) in self._query(_NAMESPACES, (), PAGE_BYTES)]
        return [name.removesuffix(runs_name("")) for name in names if isinstance(name, str)]

    def _damaged(self, what: str, error: FormatError, kind: type[FormatError] = FormatError) -> None:
        if self.on_damage is None or isinstance(error, NewerFormatError):
            raise kind(f"{self._path!r}, {what}: {error}") from error
        self.on_damage(what, str(error))

    def _rows(self, what: str, run_id: str | None, *, backwards: bool = False) -> Iterator[tuple[str, Any]]:
        """Keys and values, each once.

        In a damaged file a row may be in the place of another, so that one is found twice, or not at all, and whoever goes
        on after the last row never comes to an end. So each page begins with the last row of the one before.
        """
        low, high = _key_range(run_id)
        sql, last, sign = (_SEGMENTS_BACKWARDS, _LAST_ROW, -1) if backwards else (_SEGMENTS, -1, 1)
        recent: deque[Any] = deque(maxlen=NEIGHBOURS)
        start, in_order = None, True
        while start != last:
            start = last
            rows = self._query(sql.format(what=what), (start, self._namespace, low, high, start, PAGE + 1), PAGE_BYTES)
            if recent:
                in_order &= bool(rows) and rows.pop(0)[:2] == (start, recent[-1])
            for row, key, value in rows:
                in_order &= sign * row > sign * last
                if sign * row > sign * start and key not in recent:
                    recent.append(key)
                    last = row
                    yield key, value
        if not in_order:
            self._damaged("rows out of order", FormatError("each segment is shown once, and some may be missing"))

    def _query_file(self, sql: str, values: tuple[Any, ...], room: int) -> list[tuple[Any, ...]]:
        try:
            with opened(self._path) as connection:
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES)
                return _page(connection.execute(sql, values), room)
        except sqlite3.Error as error:
            raise StorageError(f"{self._path!r} cannot be read: {error}") from error

    def _check(self) -> None:
        if not os.path.exists(self._path):
            raise StorageError(f"there is no file {self._path!r}")
        try:
            tables, _ = look_inside(self._path)
        except sqlite3.Error as error:
            raise StorageError(f"{self._path!r} cannot be read: {error}") from error
        if "beaver_dicts" in tables:
            raise StorageError(f"{self._path!r} was written by beaver 1.x, which ferret cannot read: migrate it first")
        if "__beaver_blobs__" not in tables:
            raise StorageError(f"{self._path!r} holds no BeaverDB, and so no spans")


def _page(cursor: sqlite3.Cursor, room: int) -> list[tuple[Any, ...]]:
    """The rows, as long as they do not take too much together; the last is where to go on."""
    rows = []
    for row in cursor:
        rows.append(row)
        room -= sum(len(value) for value in row if isinstance(value, str | bytes))
        if room < 0:
            break
    return rows


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _key_range(run_id: str | None) -> tuple[str, str]:
    if run_id is None:
        return "", "\U0010ffff"
    prefix = run_prefix(run_id)
    return prefix, prefix[:-1] + "0"
