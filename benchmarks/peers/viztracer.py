"""VizTracer: its events by hand, and its command that traces every function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.base import Books, Peer, Span

if TYPE_CHECKING:
    from pathlib import Path


class VizTracer(Peer):
    title = "VizTracer"
    environment = "viztracer"
    distributions = ("viztracer",)
    import_line = "from viztracer import VizTracer"
    plain = Span("event(NAME)")
    measured_as = "`log_event` without function tracing; as a command, with its defaults, and without C functions."
    does_more = (
        "It traces C functions, arguments, return values and garbage collections, patches what you name, attaches to a "
        "running process, and comes with Perfetto's viewer."
    )
    does_less = (
        "Events have no tags and no parents; a ring of a million of them is kept in memory and saved at the end, so that a "
        "crash takes all, and the oldest are lost without a number."
    )

    def start(self, folder: Path, **_: Any) -> dict[str, Any]:
        from viztracer import VizTracer as Tracer

        self.tracer = Tracer(log_sparse=True, verbose=0, output_file=str(folder / "trace.json"))
        self.tracer.enable = True
        return {"event": self.tracer.log_event}

    def stop(self) -> Books:
        delivered: int = self.tracer.parse()
        self.tracer.save()
        return Books(delivered)
