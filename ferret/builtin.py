"""Ferret's own writers and sinks, registered by the same hooks as anybody's. Each is imported when it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ferret.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable


class Lazy:
    """A factory that imports its module when it is called, or when its `opens_sink` is asked for."""

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make the writer or sink."""
        return self._factory()(*args, **kwargs)

    @property
    def opens_sink(self) -> bool:
        """Whether the writer opens its sink itself."""
        return bool(getattr(self._factory(), "opens_sink", False))

    def _factory(self) -> Callable[..., Any]:
        factory: Callable[..., Any] = getattr(importlib.import_module(self._module), self._name)
        return factory


@hookimpl
def ferret_writers() -> dict[str, Callable[..., Any]]:
    """The four writers."""
    return {
        "sync": Lazy("ferret.writers.sync", "SyncWriter"),
        "threaded": Lazy("ferret.writers.threaded", "ThreadedWriter"),
        "bounded": Lazy("ferret.writers.bounded", "BoundedWriter"),
        "process": Lazy("ferret.writers.process", "ProcessWriter"),
    }


@hookimpl
def ferret_sinks() -> dict[str, Callable[..., Any]]:
    """The five sinks."""
    return {
        "beaver": Lazy("ferret.sinks.beaver", "BeaverSink"),
        "memory": Lazy("ferret.sinks.memory", "MemorySink"),
        "jsonl": Lazy("ferret.sinks.jsonl", "JsonlSink"),
        "tee": Lazy("ferret.sinks.tee", "TeeSink"),
        "null": Lazy("ferret.sinks.null", "NullSink"),
    }
