"""What a sink that misbehaves does well: it hands on to the sink inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ferret.sinks.base import KeepsRuns

if TYPE_CHECKING:
    from ferret.models import ProcessInfo


class Around:
    """Around a sink `inner`, which is set by whoever inherits; `write` is theirs, too."""

    inner: Any

    @property
    def place(self) -> str | None:
        place: str | None = getattr(self.inner, "place", None)
        return place

    def write_run(self, process: ProcessInfo) -> None:
        if isinstance(self.inner, KeepsRuns):
            self.inner.write_run(process)

    def flush(self) -> None:
        self.inner.flush()

    def close(self) -> None:
        self.inner.close()
