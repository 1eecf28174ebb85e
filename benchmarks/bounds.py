"""What stands between ferret and the targets that it may miss, and what would lift it."""

from __future__ import annotations

from typing import Final

BOUNDS: Final[dict[str, str]] = {}
"""By how what is to be reached begins, as in `benchmarks.targets`. The page shows those that were missed."""


def bound_of(what: str) -> str | None:
    """What is known of that target."""
    return next((text for beginning, text in BOUNDS.items() if what.startswith(beginning)), None)
