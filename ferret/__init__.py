"""Ferret: a tracing profiler whose recording never gets in the way of the program that it watches.

Everything that users rely on is here; the modules behind it are imported when a name is first used, so that
`import ferret` alone costs next to nothing.

pytest is not to rewrite it, as it would with a package that has a plugin: PYTEST_DONT_REWRITE. It may be imported already,
and then pytest warns that it cannot.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ferret.config import Settings
    from ferret.core import Profiler
    from ferret.errors import ConfigError, FerretError, LostSpansWarning, PluginError, RejectedError, StorageError
    from ferret.hookspecs import hookimpl
    from ferret.models import AggregatedStats, DeliveryReport, FlushResult, Ledger, RunInfo, SpanModel, TraceNode
    from ferret.report import Report
    from ferret.shared import configure, get_profiler, in_context, measure
    from ferret.span import Span, native

_HOMES = {
    "AggregatedStats": "models",
    "ConfigError": "errors",
    "DeliveryReport": "models",
    "FerretError": "errors",
    "FlushResult": "models",
    "Ledger": "models",
    "LostSpansWarning": "errors",
    "PluginError": "errors",
    "Profiler": "core",
    "RejectedError": "errors",
    "Report": "report",
    "RunInfo": "models",
    "Settings": "config",
    "Span": "span",
    "SpanModel": "models",
    "StorageError": "errors",
    "TraceNode": "models",
    "configure": "shared",
    "get_profiler": "shared",
    "hookimpl": "hookspecs",
    "in_context": "shared",
    "measure": "shared",
    "native": "span",
}

__all__ = [
    "AggregatedStats",
    "ConfigError",
    "DeliveryReport",
    "FerretError",
    "FlushResult",
    "Ledger",
    "LostSpansWarning",
    "PluginError",
    "Profiler",
    "RejectedError",
    "Report",
    "RunInfo",
    "Settings",
    "Span",
    "SpanModel",
    "StorageError",
    "TraceNode",
    "configure",
    "get_profiler",
    "hookimpl",
    "in_context",
    "measure",
    "native",
]


if not TYPE_CHECKING:  # a type checker is to tell what is not there

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'ferret' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"ferret.{home}"), name)
        globals()[name] = value
        return value


def load_ipython_extension(shell: Any) -> None:
    """Called by `%load_ext ferret` in IPython and Jupyter: there is a cell magic `%%ferret` from then on."""
    importlib.import_module("ferret.integrations.ipython").load(shell)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
