"""A plugin for ferret: the sink `sqlite`, as in `Profiler(sink="sqlite:spans.db")`."""

from __future__ import annotations

from ferret import hookimpl
from ferret_sink_sqlite.sink import SqliteSink

__all__ = ["SqliteSink", "ferret_sinks"]


@hookimpl
def ferret_sinks() -> dict[str, type[SqliteSink]]:
    """The sinks that this package gives, by the names that users write."""
    return {"sqlite": SqliteSink}
