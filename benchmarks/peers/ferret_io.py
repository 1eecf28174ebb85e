"""The older ferret, published as ferret-io, with the BeaverDB that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.base import Books, Peer, Span

if TYPE_CHECKING:
    from pathlib import Path


class FerretIo(Peer):
    title = "ferret-io 0.3.1"
    environment = "ferret-io"
    distributions = ("ferret-io==0.3.1", "beaver-db==1.3.0")  # they cannot stand beside ferret: one import name
    import_line = "from ferret import Profiler"
    plain = Span("measure(NAME)")
    tagged = Span("measure(NAME, {'user': n, 'items': 3})")
    awaited = Span("measure(NAME)")
    decorator = "measure(NAME)"
    measured_as = "With beaver-db 1.3.0, into a file, 100 spans a flush, as it comes."
    does_more = "Nothing; it is where ferret comes from, and a program written for it runs unchanged."
    does_less = (
        "Every hundredth span waits for a hundred transactions; spans of one microsecond, or of threads, are lost."
    )

    def start(self, folder: Path, **_: Any) -> dict[str, Any]:
        from ferret import Profiler

        self.profiler = Profiler(str(folder / "trace.db"))
        return {"measure": self.profiler.measure}

    def stop(self) -> Books:
        self.profiler.flush()
        stored = sum(1 for _ in self.profiler.log_manager)
        self.profiler.close()
        return Books(stored)
