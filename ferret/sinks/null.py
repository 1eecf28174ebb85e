"""`null`: takes everything and keeps nothing; for measuring what recording itself costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferret.batch import Batch


class NullSink:
    """Throws every batch away. Safe from any thread, and after a fork."""

    def __init__(self, target: str | None = None) -> None:
        if target is not None:
            raise TypeError("it keeps nothing, and so has no target")

    def write(self, batch: Batch) -> None:
        """Forget the batch."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
