"""A conformance kit: inherit a class, say how your sink or writer is made, and pytest tries every promise of it.

Needs pytest, which nothing else of ferret does.
"""

from __future__ import annotations

try:
    import pytest
except ModuleNotFoundError as error:
    raise ImportError("ferret.testing needs pytest, which ferret does not bring: pip install pytest") from error

# Before the import: a failing assert of the kit then shows both sides, as one in the author's own tests would.
pytest.register_assert_rewrite("ferret.testing.sinks", "ferret.testing.writers")

from ferret.testing.gated import GatedSink  # noqa: E402
from ferret.testing.records import assert_spans, make_batch  # noqa: E402
from ferret.testing.sinks import SinkContract  # noqa: E402
from ferret.testing.writers import WriterContract  # noqa: E402

__all__ = ["GatedSink", "SinkContract", "WriterContract", "assert_spans", "make_batch"]
