"""A conformance kit: inherit a class, say how your sink or writer is made, and pytest tries every promise of it.

Needs pytest, which nothing else of ferret does. What is in it is imported when it is first asked for: `ferret.testing.plugin`
is loaded at every start of pytest.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

if find_spec("pytest") is None:
    raise ImportError("ferret.testing needs pytest, which ferret does not bring: pip install pytest")

if TYPE_CHECKING:
    from ferret.testing.clock import ManualClock
    from ferret.testing.gated import GatedSink
    from ferret.testing.laws import BrokenLawError
    from ferret.testing.leaks import no_leaks
    from ferret.testing.records import assert_spans, make_batch
    from ferret.testing.sinks import SinkContract
    from ferret.testing.writers import WriterContract

__all__ = [
    "BrokenLawError", "GatedSink", "ManualClock", "SinkContract", "WriterContract", "assert_spans", "make_batch",
    "no_leaks",
]  # fmt: skip

_HOMES: Final = {
    "BrokenLawError": "laws",
    "GatedSink": "gated",
    "ManualClock": "clock",
    "SinkContract": "sinks",
    "WriterContract": "writers",
    "assert_spans": "records",
    "make_batch": "records",
    "no_leaks": "leaks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest  # noqa: PLC0415 - who only wants the plugin's options does not pay

    # Before the import: a failing assert of the kit then shows both sides, as one in the author's own tests would.
    pytest.register_assert_rewrite("ferret.testing.sinks", "ferret.testing.writers")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
