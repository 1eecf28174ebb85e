"""W3C Trace Context: reading a `traceparent` strictly, and making one for the requests that a program sends.

Spans of several services are one trace because each sends the id of its span along, and the next takes it for its
parent. The header has the trace's id as well, which ferret keeps as the tag `trace_id` of a request's span.

https://www.w3.org/TR/trace-context-2/
"""

from __future__ import annotations

import re
import secrets
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2s
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ferret.core import Profiler

__all__ = ["TraceParent", "continued", "current_traceparent", "outgoing_headers", "parse_traceparent"]

_SAMPLED = 0x01
_RANDOM = 0x02
"""Whoever made the trace's id made it at random; to be passed on as it came."""

_fields = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?").fullmatch
_run_is_trace_id = re.compile(r"(?!0{32})[0-9a-f]{32}").fullmatch


class TraceParent(NamedTuple):
    """What a `traceparent` says: 32 hex digits, 16 hex digits, and 8 bits."""

    trace_id: str
    parent_id: str
    flags: int

    def __str__(self) -> str:
        """The header's value, in version 00."""
        return f"00-{self.trace_id}-{self.parent_id}-{self.flags:02x}"


class Trace:
    """The trace that the calling code works for, as far as it is known. Its id is made when it is first asked for."""

    __slots__ = ("_trace_id", "flags", "profiler", "tracestate")

    def __init__(self, profiler: Profiler, came: TraceParent | None = None, tracestate: str = "") -> None:
        self.profiler = profiler
        self.tracestate = tracestate
        self._trace_id = came.trace_id if came else ""
        # what is recorded is recorded: the sender's wish that it were not is its own affair
        self.flags = _SAMPLED | (came.flags & _RANDOM if came else _RANDOM)

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        if not self._trace_id:
            self._trace_id = secrets.token_hex(16)
        return self._trace_id

    @property
    def known_id(self) -> str:
        """The same, but empty if nobody has asked for it and none has come."""
        return self._trace_id


current_trace: ContextVar[Trace | None] = ContextVar("ferret_current_trace", default=None)


def parse_traceparent(text: str) -> TraceParent | None:
    """What a header says; None if it is not one, and a new trace is to begin.

    Version 00 has exactly four fields in lower case. Later versions may have more behind them. Version `ff`, and ids
    that are all zero, are refused. Never raises.
    """
    found = _fields(text.strip(" \t"))
    if found is None:
        return None
    version, trace_id, parent_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest is not None) or not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return TraceParent(trace_id, parent_id, int(flags, 16))


def came_with(headers: Iterable[tuple[bytes, bytes]]) -> tuple[TraceParent | None, str]:
    """The `traceparent` and `tracestate` of an ASGI scope's headers. Of two `traceparent`, neither counts."""
    found: list[bytes] = []
    states: list[bytes] = []
    for name, value in headers:
        length = len(name)  # looked at first, as most headers are others
        if length == 11 and name.lower() == b"traceparent":
            found.append(value)
        elif length == 10 and name.lower() == b"tracestate":
            states.append(value)
    if len(found) != 1:
        return None, ""
    came = parse_traceparent(found[0].decode("latin-1"))
    return came, b",".join(states).decode("latin-1") if came else ""


def current_traceparent() -> str | None:
    """The header that names the span which the calling code is in, for a request that it sends; None outside all spans.

    In a request that `FerretMiddleware` records, or a `continued` block, the trace is the one that came with it, or a new
    one. Elsewhere the trace is the run of the process's own profiler. May be called from any thread; one that a request
    handed work to belongs to its trace if it was given the context (`asyncio.to_thread` does that).
    """
    trace = current_trace.get()
    profiler = _process_profiler() if trace is None else trace.profiler
    span_id = profiler.current.get() if profiler is not None else 0
    if profiler is None or not span_id:
        return None
    if trace is None:
        return f"00-{_trace_of_run(profiler.run_id)}-{span_id:016x}-{_SAMPLED:02x}"
    return f"00-{trace.trace_id}-{span_id:016x}-{trace.flags:02x}"


def outgoing_headers() -> dict[str, str]:
    """`traceparent`, and the `tracestate` that came with the request, unchanged; empty outside all spans.

    For any HTTP client: `client.get(url, headers=outgoing_headers())`.
    """
    traceparent = current_traceparent()
    if traceparent is None:
        return {}
    trace = current_trace.get()
    state = {"tracestate": trace.tracestate} if trace is not None and trace.tracestate else {}
    return {"traceparent": traceparent, **state}


@contextmanager
def continued(traceparent: str | None, tracestate: str = "", *, profiler: Profiler | None = None) -> Iterator[str]:
    """Make what the block records a part of the trace that came with a message, such as a job from a queue.

    Args:
        traceparent: the header as it came. If it is none that can be used, the block is a trace of its own.
        tracestate: what came with it; `outgoing_headers` passes it on.
        profiler: who records; the process's own profiler unless given.

    Yields:
        The trace's id, 32 hex digits.
    """
    if profiler is None:
        from ferret.shared import get_profiler  # noqa: PLC0415 - recording is imported where somebody records

        profiler = get_profiler()
    came = parse_traceparent(traceparent) if traceparent else None
    trace = Trace(profiler, came, tracestate if came else "")
    trace_token = current_trace.set(trace)
    token = profiler.current.set(int(came.parent_id, 16) if came else profiler.current.get())
    try:
        yield trace.trace_id
    finally:
        profiler.current.reset(token)
        current_trace.reset(trace_token)


def _process_profiler() -> Profiler | None:
    """The process's own profiler, if there is one: to be asked is no reason to make it."""
    from ferret import shared  # noqa: PLC0415 - as above

    return shared._shared


def _trace_of_run(run_id: str) -> str:
    return run_id if _run_is_trace_id(run_id) else blake2s(run_id.encode(), digest_size=16).hexdigest()
