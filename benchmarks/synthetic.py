"""A ferret file of as many spans as wanted, in seconds: a service's requests, 20 spans each, made as columns.

`python benchmarks/synthetic.py FILE SPANS` makes one to look at. Spans stand in the order of their ends, as recorded ones
do; a segment's end cuts requests in two. The same numbers make the same spans.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from typing import TYPE_CHECKING

import numpy as np

from ferret.models import Ledger, ProcessInfo
from ferret.segment import Segment
from ferret.sinks.beaver import INSERT_SEGMENT, BeaverSink

if TYPE_CHECKING:
    from pathlib import Path

    from ferret.packing import Int64

RUN, TOKEN = "synthetic", "0123456789abcdef"
SPANS_A_SEGMENT = 4096
START_NS = 1_700_000_000_000_000_000
FIRST_ID = 0x0123456789AB0000
THREADS, ROUTES = 8, 12
PARENTS = np.array([-1, 0, 1, 1, 0, 4, 5, 4, 7, 4, 9, 4, 11, 0, 13, 13, 13, 13, 0, 18])
"""A request's spans in the order of their starts: the place of each one's parent among them."""
ENDS = np.array([2, 3, 1, 6, 5, 8, 7, 10, 9, 12, 11, 4, 14, 15, 16, 17, 13, 19, 18, 0])
"""The same spans in the order of their ends."""
NAMES = [
    "request", "authenticate", "session.load", "token.check", "handler", "db.query", "db.fetch", "db.query", "db.fetch",
    "db.query", "db.fetch", "cache.get", "cache.decode", "render", "template", "template", "template", "filter", "log",
    "json.dumps",
]  # fmt: skip


def write(path: str | Path, spans: int) -> None:
    """Make the file. One run, one process, none lost."""
    sink = BeaverSink(str(path))
    facts = {"process_id": 4242, "program": "service.py", "started_at": START_NS / 1e9, "ended_at": START_NS / 1e9 + 60}
    sink.write_run(
        ProcessInfo(run_id=RUN, token=TOKEN, **facts, ledger=Ledger(recorded=spans, written=spans))  # type: ignore[arg-type]
    )
    sink.close()
    database = sqlite3.connect(path)
    for sequence, first in enumerate(range(0, spans, SPANS_A_SEGMENT)):
        segment = a_segment(sequence, first, min(SPANS_A_SEGMENT, spans - first))
        ends = segment.start_ns + segment.duration_ns
        brief = {
            "process_id": 4242, "spans": len(segment), "errors": segment.errors,
            "start_ns": int(segment.start_ns.min()), "end_ns": int(ends.max()),
        }  # fmt: skip
        key = f"{RUN}/{TOKEN}/{sequence:010d}"
        database.execute(INSERT_SEGMENT, ("_ferret_trace", key, segment.to_bytes(), json.dumps(brief)))
    database.commit()
    database.close()


def a_segment(sequence: int, first: int, count: int) -> Segment:
    """The spans from `first` on."""
    size = len(PARENTS)
    number = np.arange(first, first + count)
    request, place = number // size, ENDS[number % size]
    segment = Segment(RUN, TOKEN, 4242, sequence)
    segment.span_id = FIRST_ID + request * size + place
    parent = PARENTS[place]
    segment.parent_id = np.where(parent < 0, 0, FIRST_ID + request * size + parent)
    names = [f"{name} /route/{route}" if name == "request" else f"app.route{route}.{name}" for route in range(ROUTES)
             for name in NAMES]  # fmt: skip
    segment.names = names
    segment.name = request % ROUTES * size + place
    segment.threads = [(140_000 + thread, f"worker-{thread}") for thread in range(THREADS)]
    segment.thread = request % THREADS
    segment.tasks, segment.task = [""], np.zeros(count, dtype=np.int64)
    segment.outcomes = [("ok", None, None), ("error", "boom", "ValueError")]
    segment.outcome = (request % 97 == 0).astype(np.int64) * (place == 4)
    begin, end = _times(request)
    segment.start_ns = START_NS + begin[np.arange(count), place]
    segment.duration_ns = end[np.arange(count), place] - begin[np.arange(count), place]
    segment.tags = [b'{"user":%d}' % one if root else b"" for one, root in zip(request, place == 0, strict=True)]
    segment.suspended_ns, segment.self_ns = np.zeros(count, dtype=np.int64), np.full(count, -1, dtype=np.int64)
    segment.sources = {}
    return segment


def _times(request: Int64) -> tuple[Int64, Int64]:
    """Starts and ends of a request's 20 spans, such that each lies within its parent: 40 events, some time apart."""
    size = len(PARENTS)
    order = _events()
    event = (request[:, None] * 2 * size + np.arange(2 * size)).astype(np.uint64)
    event = (event ^ (event >> np.uint64(7))) * np.uint64(0x9E3779B97F4A7C15)
    noise = (event >> np.uint64(48)).astype(np.int64)
    steps = 200 + noise + np.where(request % 50 == 0, 400_000, 0)[:, None]
    when = np.cumsum(steps, axis=1) + request[:, None] * 1_000_000
    return when[:, order[:size]], when[:, order[size:]]


def _events() -> Int64:
    """Of each span the place of its start among a request's events, then of its end."""
    size = len(PARENTS)
    events: list[int] = []

    def visit(one: int) -> None:
        events.append(one)
        for child in np.flatnonzero(one == PARENTS).tolist():
            visit(child)
        events.append(size + one)

    visit(0)
    return np.argsort(events)


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2].replace("_", "")))
