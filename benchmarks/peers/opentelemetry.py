"""The OpenTelemetry SDK, with its batch processor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.base import Books, Peer, Span

if TYPE_CHECKING:
    from pathlib import Path


def dropping_exporter() -> Any:
    """An exporter that counts what it gets, and drops it."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Dropping(SpanExporter):
        exported = 0

        def export(self, spans: Any) -> Any:
            self.exported += len(spans)
            return SpanExportResult.SUCCESS

    return Dropping()


class OpenTelemetry(Peer):
    title = "OpenTelemetry SDK"
    environment = "opentelemetry"
    distributions = ("opentelemetry-sdk",)
    import_line = "from opentelemetry import trace; from opentelemetry.sdk.trace import TracerProvider"
    plain = Span("span(NAME)")
    tagged = Span("span(NAME, attributes={'user': n, 'items': 3})")
    decorator = "span(NAME)"
    measured_as = "`BatchSpanProcessor` as it comes, and an exporter that drops: no encoding, no sending."
    does_more = (
        "It is the standard: hundreds of ready instrumentations, OTLP to any backend, samplers, links, events, context "
        "that travels between services, metrics and logs."
    )
    does_less = (
        "It keeps no file that you can analyse by itself; its queue drops the oldest spans, with a count only in its "
        "own metrics; a span is built as objects on your program's time."
    )

    def start(self, folder: Path, **_: Any) -> dict[str, Any]:
        del folder
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self.exporter = dropping_exporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(BatchSpanProcessor(self.exporter))
        return {"span": self.provider.get_tracer("benchmark").start_as_current_span}

    def stop(self) -> Books:
        self.provider.shutdown()
        return Books(self.exporter.exported)
