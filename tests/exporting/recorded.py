"""Runs for exports to write, made without a recorder: whatever a file may hold, and to the nanosecond."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st
from support import tags_strategy

from ferret.export import named
from ferret.models import ProcessInfo, RunInfo
from ferret.segment import Segment
from ferret.tags import plain_text

EPOCH_NS = 1_700_000_000_123_456_789
TOKENS = ["0123456789abcdef", "fedcba9876543210"]
PIDS = [4242, 4243]
THREADS = [(140_000_000_000_001, "MainThread"), (140_000_000_000_002, "worker")]
TASKS = ["", "Task-1", "poll"]
OUTCOMES: list[tuple[str, str | None, str | None]] = [
    ("ok", None, None), ("error", "boom\x1b[31m", "ValueError"), ("error", None, None), ("skipped", "</script>", None),
]  # fmt: skip
HOSTILE = [
    "a", "b", "c", "two\nlines\r\n", "a;b", "\x1b[31mred\x9b5n", "</script><script>alert(1)//", "\ud800", "\u2028", "<!--",
    "\u202egnp.exe", "'\"\\", "", " ", "名前", "a 12", "\x00", "\x7f", "\U000e0041",
]  # fmt: skip


@dataclass
class One:
    """A span as it was recorded."""

    span_id: int
    parent_id: int = 0
    name: str = "a"
    start_ns: int = 0
    duration_ns: int = 0
    process: int = 0
    thread: int = 0
    task: int = 0
    outcome: int = 0
    tags: dict[str, Any] = field(default_factory=dict)
    suspended_ns: int = 0
    self_ns: int = -1

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.duration_ns

    @property
    def known_name(self) -> str:
        return plain_text(self.name)

    @property
    def track(self) -> tuple[int, int, int]:
        return self.process, self.thread, self.task


INFO = RunInfo(
    run_id="a run",
    program="</script>.py",
    started_at=EPOCH_NS / 1e9,
    processes=[
        ProcessInfo(run_id="a run", token=token, process_id=pid, program=f"</p>{pid}.py", argv=["x", "\x1b"], host="h")
        for token, pid in zip(TOKENS, PIDS, strict=True)
    ],
)
SOURCES = {"a": ("/srv/</script>\n.py", 3), "b": ("b.py", 0)}


def segments(spans: list[One], size: int = 7) -> list[Segment]:
    """Batches of a few spans of one process each, in the order in which those are given."""
    made = []
    for process in range(len(TOKENS)):
        own = [one for one in spans if one.process == process]
        for first in range(0, len(own), size):
            made.append(_segment(own[first : first + size], process, len(made)))
    return made


def _segment(spans: list[One], process: int, sequence: int) -> Segment:
    segment = Segment("a run", TOKENS[process], PIDS[process], sequence)
    segment.names = list(dict.fromkeys(one.name for one in reversed(spans)))
    segment.threads, segment.tasks, segment.outcomes = THREADS, TASKS, OUTCOMES
    segment.span_id = np.array([one.span_id for one in spans], dtype=np.uint64).view(np.int64)
    segment.parent_id = np.array([one.parent_id for one in spans], dtype=np.uint64).view(np.int64)
    segment.name = np.array([segment.names.index(one.name) for one in spans], dtype=np.int64)
    for column in ("start_ns", "duration_ns", "thread", "task", "outcome", "suspended_ns", "self_ns"):
        setattr(segment, column, np.array([getattr(one, column) for one in spans], dtype=np.int64))
    segment.tags = [msgspec.json.encode(one.tags) if one.tags else b"" for one in spans]
    segment.sources = {name: source for name, source in SOURCES.items() if name in segment.names}
    return segment


def exported(spans: list[One], format_name: str) -> bytes:
    """The run in a format."""
    out = io.BytesIO()
    assert named(format_name).write(INFO, segments(spans), out) == len(spans)
    return out.getvalue()


@st.composite
def runs(draw: st.DrawFn, *, circles: bool = True) -> list[One]:
    """Spans that nest, overlap, coincide and take no time; whose parents are earlier, later, elsewhere or themselves."""
    count = draw(st.integers(0, 24))
    ids = draw(st.lists(st.integers(1, 2**64 - 1), min_size=count, max_size=count, unique=True))
    base = draw(st.sampled_from([0, EPOCH_NS]))
    times = draw(st.sampled_from([6, 40, 10**6, 3 * 10**15, 2**61]))
    names = draw(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=5), min_size=1, max_size=4))
    few = st.sampled_from([0, 0, 0, 1])
    spans: list[One] = []
    for number, span_id in enumerate(ids):
        parents = [0, *(ids if circles else ids[:number])]
        inside = draw(st.sampled_from([None, *spans])) if draw(st.booleans()) else None
        start = base + draw(st.integers(0, times))
        end = start + draw(st.integers(0, times))
        if inside is not None:
            start = min(max(start, inside.start_ns), inside.end_ns)
            end = min(max(end, start), inside.end_ns)
        parent = inside.span_id if inside is not None else draw(st.sampled_from(parents))
        spans.append(
            One(
                span_id, parent, draw(st.sampled_from(names)), start, end - start,
                process=inside.process if inside else draw(few), thread=inside.thread if inside else draw(few),
                task=inside.task if inside else draw(st.sampled_from([0, 0, 1, 2])),
                outcome=draw(st.sampled_from([0, 0, 1, 2, 3])), tags=draw(st.just({}) | tags_strategy),
                suspended_ns=draw(st.integers(0, end - start)), self_ns=draw(st.sampled_from([-1, -1, 0, end - start])),
            )
        )  # fmt: skip
    return sorted(draw(st.permutations(spans)), key=lambda one: one.process)
