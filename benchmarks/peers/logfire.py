"""Logfire, which sits on the OpenTelemetry SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.base import Books, Peer, Span
from benchmarks.peers.opentelemetry import dropping_exporter

if TYPE_CHECKING:
    from pathlib import Path


class Logfire(Peer):
    title = "Logfire"
    environment = "logfire"
    distributions = ("logfire",)
    import_line = "import logfire"
    plain = Span("span(NAME)")
    tagged = Span("span(NAME, user=n, items=3)")
    decorator = "instrument(NAME)"
    measured_as = (
        "`send_to_logfire=False`, no console, and OpenTelemetry's `BatchSpanProcessor` with an exporter that drops."
    )
    does_more = (
        "A hosted product with SQL over the spans, message templates, arguments captured and schemas noted, scrubbing of "
        "secrets, pending spans that show work which has not ended, and integrations for most of the ecosystem."
    )
    does_less = "Nothing stays on your machine to analyse; a span costs what several hundred empty `with` blocks do."

    def start(self, folder: Path, **_: Any) -> dict[str, Any]:
        import logfire
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self.exporter = dropping_exporter()
        self.instance = logfire.configure(
            local=True, send_to_logfire=False, console=False, metrics=False, data_dir=folder, inspect_arguments=False,
            additional_span_processors=[BatchSpanProcessor(self.exporter)],
        )  # fmt: skip
        return {"span": self.instance.span, "instrument": self.instance.instrument}

    def stop(self) -> Books:
        self.instance.shutdown()
        return Books(self.exporter.exported)
