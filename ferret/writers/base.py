"""What a writer is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ferret.models import DeliveryReport, Ledger
    from ferret.span import Record


@runtime_checkable
class Writer(Protocol):
    """Takes finished spans from the program and sees them into a sink. A runtime-checkable protocol.

    `ferret.writers.queueing.QueueWriter` does most of the work of one; a writer that inherits from it decides only
    who consumes the queue, and when.
    """

    def record(self, record: Record) -> None:
        """Take a finished span.

        Called from any thread, from signal handlers, from `__del__`, while the interpreter shuts down, and after `close`
        (then it counts as dropped). Never raises. Whether it may block is what the writer promises its users.
        """

    def suppress(self) -> None:
        """Count a span as dropped that the writer's own sink recorded."""

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was recorded before the call is in the sink.

        Args:
            timeout: seconds; None waits as long as the sink takes.

        Returns:
            Whether all of it is there: False after a timeout, and if anything was ever dropped or failed.
        """

    def stats(self) -> Ledger:
        """The ledger as it is now. Never waits for the sink."""

    def close(self, timeout: float | None = None) -> DeliveryReport:
        """Stop, and wait until everything queued is stored. May be called again, from any thread: one report.

        Args:
            timeout: seconds after which what the sink has not confirmed counts as failed; `close_timeout` unless given.
        """

    def after_fork(self) -> None:
        """Start afresh in a forked child: the parent keeps what is queued, and the child begins empty.

        Called in the child, where no other thread of the parent exists. Takes no lock that another thread may have held.
        """
