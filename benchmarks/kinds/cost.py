"""The caller's time for one span."""

from __future__ import annotations

import asyncio
import statistics
import time
from textwrap import indent
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from benchmarks.kinds import Case, Chart, Column, Figures, Scale, no_more
from benchmarks.loops import block, burst, function, nested
from benchmarks.peers import ALL, peer
from benchmarks.peers.ferret import PURE, WRITERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.peers.base import Peer

TITLE = "What one span costs the caller"
ABOUT = """\
The time that the calling thread spends on one span, as a multiple of an empty `with` block in plain Python that the
same process measures in turns. Bursts of 300 spans within a surrounding span, 4 ms apart, so that a writer has time
to deliver, as in a program that also does something else; the median of all bursts. *async with* is a block in a
coroutine, by `with` where a peer has nothing else; *nested* is three blocks one in the other, for each of them;
*exception* is a block that raises, with the `raise` and the `except`, which the first row has too.
"""
TABLE = "spans"
_ours = ALL.index(WRITERS[-1]) + 1
SUBJECTS = (*ALL[:_ours], PURE, *ALL[_ours:])
BURST = 300

FORMS = ("with", "async with", "decorated call", "nested three deep", "two tags", "exception")
COLUMNS = (
    *(Column(form, form, ratio=True) for form in FORMS),
    Column("empty with, ns", "empty `with`, ns", better=""),
)
CHARTS = (Chart(TABLE, "with", "One span by `with`, the caller's time", "× an empty with"),)
derive = no_more


def cases(scale: Scale) -> list[Case]:
    bursts = 5 if scale.quick else 50
    return [Case(TABLE, subject, 1.2 if scale.quick else 4, {"bursts": bursts}) for subject in SUBJECTS]


def probe(peer: Peer, folder: Path, bursts: int) -> Figures:
    names = peer.start(folder)
    found = asyncio.run(_measured(_forms(peer, names), bursts))
    peer.stop()
    floor = found.pop("floor")
    return {form: ns / floor for form, ns in found.items()} | {"empty with, ns": floor}


def _forms(peer: Peer, names: dict[str, Any]) -> dict[str, Callable[[int], Any]]:
    """A function for each form that the peer has; `floor` among them."""
    plain, around = peer.plain, peer.outer
    raising = block(plain, "x", "raise ValueError('no such user')")
    statements = {
        "with": block(plain, "x"),
        "nested three deep": nested([(plain, "x"), (plain, "y"), (plain, "z")]),
        "exception": f"try:\n{indent(raising, '    ')}\nexcept ValueError:\n    pass",
    }
    if peer.tagged is not None:
        statements["two tags"] = block(peer.tagged, "x")
    if peer.decorator is not None:
        decorator = peer.decorator.replace("NAME", "'x'")
        names = names | {"work": function(f"@{decorator}\ndef work(): pass", names, "work")}
        statements["decorated call"] = "work()"
    made = {form: burst(statement, around, names) for form, statement in statements.items()}
    keyword = "async with" if peer.awaited else "with"
    made["async with"] = burst(block(peer.awaited or plain, "x", keyword=keyword), around, names, awaited=True)
    return made | {"floor": _floor()}


def _floor() -> Callable[[int], Any]:
    empty = peer("untraced")
    names = empty.start(None)  # type: ignore[arg-type]
    return burst(block(empty.plain, "x"), empty.plain, names)


async def _measured(forms: dict[str, Callable[[int], Any]], bursts: int) -> Figures:
    """Nanoseconds a span of each form, which take turns."""
    times: dict[str, list[float]] = {form: [] for form in forms}
    for _ in range(bursts):
        for form, run in forms.items():
            started = perf_counter_ns()
            if form == "async with":
                await run(BURST)
            else:
                run(BURST)
            times[form].append((perf_counter_ns() - started) / BURST)
            time.sleep(0.004)  # noqa: ASYNC251 - nothing else runs in this loop
    per_span = {form: statistics.median(found) for form, found in times.items()}
    per_span["nested three deep"] /= 3
    return per_span
