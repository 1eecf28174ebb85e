"""The promises of every sink, as ferret's own conformance kit tries them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from ferret_sink_sqlite import SqliteSink
from ferret_sink_sqlite.sink import SPAN_NAMES

from ferret.batch import SpanData
from ferret.testing import SinkContract

if TYPE_CHECKING:
    from pathlib import Path


class TestSqliteSink(SinkContract):
    def make_sink(self, tmp_path: Path) -> SqliteSink:
        return SqliteSink(tmp_path / "spans.db")

    def stored(self, tmp_path: Path, sink: SqliteSink) -> list[SpanData]:  # noqa: ARG002 - the sink knows its place
        with closing(sqlite3.connect(sink.path)) as db:
            rows = [dict(zip(SPAN_NAMES, row, strict=True)) for row in db.execute("SELECT * FROM spans ORDER BY rowid")]
        return [SpanData(**row | {"tags": json.loads(row["tags"])}) for row in rows]
