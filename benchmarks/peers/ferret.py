"""Ferret itself: the four writers, each into a BeaverDB file unless a measurement says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.base import Books, Peer, Span

if TYPE_CHECKING:
    from pathlib import Path

WRITERS = ("sync", "threaded", "bounded", "process")
NON_BLOCKING = ("threaded", "bounded", "process")
PURE = "threaded, pure Python"
"""The threaded writer without the native twin."""


class Ferret(Peer):
    import_line = "from ferret import Profiler"
    plain = Span("measure(NAME)")
    tagged = Span("measure(NAME, {'user': n, 'items': 3})")
    awaited = Span("measure(NAME)")
    decorator = "measure(NAME)"

    def __init__(self, subject: str) -> None:
        self.writer = "threaded" if subject == PURE else subject
        self.title = f"ferret {subject}"
        self.environ = {"FERRET_PURE": "1"} if subject == PURE else {}

    def start(self, folder: Path, **options: Any) -> dict[str, Any]:
        from ferret import Profiler

        if "sink" not in options:
            options["db_path"] = folder / "trace.db"
        self.profiler = Profiler(writer=self.writer, **options)
        return {"measure": self.profiler.measure}

    def stop(self) -> Books:
        return Books(self.profiler.close().written)
