"""The Sentry SDK's tracing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.base import Books, Peer, Span

if TYPE_CHECKING:
    from pathlib import Path


class Sentry(Peer):
    title = "Sentry SDK"
    environment = "sentry"
    distributions = ("sentry-sdk",)
    import_line = "import sentry_sdk"
    plain = Span("span(name=NAME)")
    tagged = Span("span(name=NAME)", "span_.set_data('user', n); span_.set_data('items', 3)")
    decorator = "trace"
    root = Span("transaction(name=NAME)")
    measured_as = (
        "A dummy DSN, `traces_sample_rate=1`, no integrations, and a transport that drops: no sending. What it serializes "
        "when a transaction ends is on the caller's time, and in the figures."
    )
    does_more = (
        "Errors, releases, sessions and profiles in one hosted product; distributed traces; integrations that are on by "
        "themselves."
    )
    does_less = (
        "Spans live in a transaction, of which it keeps 1,000 and leaves out the rest; nothing stays on your machine."
    )

    def start(self, folder: Path, **_: Any) -> dict[str, Any]:
        del folder
        import sentry_sdk
        from sentry_sdk.transport import Transport

        class Dropping(Transport):
            spans = 0

            def capture_envelope(self, envelope: Any) -> None:
                event = envelope.get_transaction_event() or {}
                Dropping.spans += len(event.get("spans", ())) + 1

        self.transport = Dropping
        self.sdk = sentry_sdk
        sentry_sdk.init(
            dsn="http://nobody@127.0.0.1:9/1", transport=Dropping, traces_sample_rate=1.0, default_integrations=False,
            auto_enabling_integrations=False, auto_session_tracking=False,
        )  # fmt: skip
        return {"span": sentry_sdk.start_span, "transaction": sentry_sdk.start_transaction, "trace": sentry_sdk.trace}

    def stop(self) -> Books:
        self.sdk.get_client().close()
        return Books(self.transport.spans)
