"""Datadog's ddtrace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from benchmarks.peers.base import Books, Peer, Span

if TYPE_CHECKING:
    from pathlib import Path

QUIET = {
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_TRACE_STARTUP_LOGS": "false",
    "DD_TRACE_AGENT_URL": "http://127.0.0.1:9",
}


class Ddtrace(Peer):
    title = "ddtrace"
    environment = "ddtrace"
    distributions = ("ddtrace",)
    import_line = "from ddtrace.trace import tracer"
    plain = Span("span(NAME)")
    tagged = Span("span(NAME)", "span_.set_tag('user', n); span_.set_tag('items', 3)")
    decorator = "wrap(NAME)"
    measured_as = "Only `ddtrace.trace.tracer`, with a trace processor that drops: no encoding, no sending, no agent."
    does_more = (
        "Zero-code instrumentation of most libraries, a continuous profiler, sampling rules, distributed traces, security "
        "products, a hosted interface."
    )
    does_less = (
        "It needs an agent, and keeps nothing that you can read without one; a trace is held until its root ends."
    )

    def start(self, folder: Path, **_: Any) -> dict[str, Any]:
        del folder
        os.environ.update(QUIET)
        from ddtrace.trace import TraceFilter, tracer

        class Dropping(TraceFilter):
            spans = 0

            def process_trace(self, trace: Any) -> None:
                Dropping.spans += len(trace)

        self.dropping, self.tracer = Dropping, tracer
        tracer.configure(trace_processors=[Dropping()])
        return {"span": tracer.trace, "wrap": tracer.wrap}

    def stop(self) -> Books:
        self.tracer.shutdown()
        return Books(self.dropping.spans)
