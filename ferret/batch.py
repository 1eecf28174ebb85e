"""A batch: finished spans on their way to a sink, with an identity that stays the same when it comes again."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

import msgspec

from ferret import ambient
from ferret.ambient import Source, ThreadInfo, format_id
from ferret.tags import decode_tags, plain_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ferret.span import Record


class SpanData(msgspec.Struct, frozen=True, omit_defaults=False):
    """A finished span as a sink sees it; the attributes are those of `ferret.models.SpanModel`.

    Ids are 16 hex digits; times are seconds since the epoch, `duration` is in seconds and never negative.
    `suspended` and `self_time` are in seconds; `self_time` is None where the recorder did not measure it.
    """

    span_id: str
    parent_id: str | None
    run_id: str
    name: str
    start_time: float
    end_time: float
    duration: float
    tags: dict[str, Any] = {}
    status: str = "ok"
    error: str | None = None
    error_type: str | None = None
    process_id: int = 0
    thread_id: int = 0
    thread_name: str = ""
    task_name: str | None = None
    suspended: float = 0.0
    self_time: float | None = None
    file: str | None = None
    line: int | None = None


class Origin(msgspec.Struct, frozen=True):
    """Where batches come from: one profiler in one process. A forked child is an origin of its own.

    Attributes:
        run_id: the run, shared by all processes that record into it.
        token: 16 random hex digits, unlike those of any other profiler or process.
        process_id: the operating system's number, which may come again within a run.
        anchor_ns: what to add to a record's times for nanoseconds since the epoch.
    """

    run_id: str
    token: str
    process_id: int
    anchor_ns: int

    @classmethod
    def here(cls, run_id: str) -> Origin:
        """This process, now."""
        return cls(run_id, secrets.token_hex(8), os.getpid(), ambient.clock.anchor_ns)


class Batch:
    """Finished spans, in the order in which they were handed over. Immutable; may be read from any thread.

    Attributes:
        origin: the profiler and process that recorded them.
        sequence: the batch's number within its origin, counted from 0 without a gap.
        records: the spans as tuples (`ferret.span.Record`).
        threads: the threads that records name by index.
        sources: where the functions are that names stand for, as far as that is known.
        attempt: 1 the first time; more when the batch comes again because it is not known to be stored.
        part: whether it was part of a batch that the sink would not take.
        before: how many spans its profiler had handed over before these; only known where it is in flight.
        urgent: whether somebody waits for it, or many more wait behind it. A sink may rest while it stores one that is not.
    """

    __slots__ = ("attempt", "before", "origin", "part", "records", "sequence", "sources", "threads", "urgent")

    def __init__(
        self,
        origin: Origin,
        sequence: int,
        records: Sequence[Record],
        threads: Mapping[int, ThreadInfo] | Sequence[ThreadInfo] | None = None,
        attempt: int = 1,
        sources: Mapping[str, Source] | None = None,
        *,
        part: bool = False,
    ) -> None:
        self.part = part
        self.before = 0
        self.urgent = True
        self.origin = origin
        self.sequence = sequence
        self.records = records
        self.threads = ambient.threads if threads is None else threads
        self.attempt = attempt
        self.sources = ambient.sources if sources is None else sources

    @property
    def id(self) -> str:
        """The same for the same batch, however often it comes: a sink stores an id once."""
        return f"{self.origin.token}-{self.sequence}"

    def again(self) -> Batch:
        """The same batch, for another attempt."""
        return Batch(
            self.origin, self.sequence, self.records, self.threads, self.attempt + 1, self.sources, part=self.part
        )

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[SpanData]:
        origin, threads, sources = self.origin, self.threads, self.sources
        for (
            span_id, parent_id, name, start_ns, end_ns, thread,
            task, tags, outcome, suspended_ns, self_ns,
        ) in self.records:  # fmt: skip
            status, error, error_type = ("ok", None, None) if outcome is None else msgspec.json.decode(outcome)
            start_time = (origin.anchor_ns + start_ns) / 1e9
            duration = (end_ns - start_ns) / 1e9
            thread_id, thread_name = threads[thread]
            file, line = sources.get(name, (None, None))
            yield SpanData(
                span_id=format_id(span_id),
                parent_id=format_id(parent_id) if parent_id else None,
                run_id=origin.run_id,
                name=plain_text(name),
                start_time=start_time,
                end_time=start_time + duration,
                duration=duration,
                tags={} if tags is None else decode_tags(tags),
                status=status,
                error=error,
                error_type=error_type,
                process_id=origin.process_id,
                thread_id=thread_id,
                thread_name=thread_name,
                task_name=None if task is None else plain_text(task),
                suspended=suspended_ns / 1e9,
                self_time=None if self_ns < 0 else self_ns / 1e9,
                file=file,
                line=line,
            )

    def columns(self) -> dict[str, list[Any]]:
        """The spans by attribute, `{"span_id": [...], "name": [...], ...}`, each list as long as the batch."""
        rows = list(self)
        return {field: [getattr(row, field) for row in rows] for field in SpanData.__struct_fields__}

    def __repr__(self) -> str:
        return f"<Batch {self.id} of {len(self)} spans>"
