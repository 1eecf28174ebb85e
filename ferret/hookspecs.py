"""What a plugin may provide. `docs/plugins.md` has the whole contract.

A plugin is any object (most often a module) with functions marked `@ferret.hookimpl` and named as below, registered
in the entry-point group `ferret` or by `ferret.plugins.register`. Both hooks are stable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ferret.sinks.base import Sink
    from ferret.writers.base import Writer

PROJECT = "ferret"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ferret_sinks() -> Mapping[str, Callable[..., Sink]]:  # type: ignore[empty-body]
    """Sinks by name: `{"parquet": ParquetSink}`.

    A sink's factory is called as `factory(target, **options)`. `target` is what the user wrote behind the colon in
    `sink="parquet:out/"`, or None; the options are the user's `sink_options`. Called once, in the thread that makes the
    `Profiler` (under the process writer: in the child). It raises `ferret.errors.StorageError` when it cannot work.
    """


@hookspec
def ferret_writers() -> Mapping[str, Callable[..., Writer]]:  # type: ignore[empty-body]
    """Writers by name: `{"mine": MyWriter}`.

    A writer's factory is called as `factory(sink, config)` with an open sink and the `ferret.config.Settings`, in the
    thread that makes the `Profiler`. A factory with a true attribute `opens_sink` gets a `ferret.plugins.SinkSpec`
    instead, and opens the sink where it likes.
    """
