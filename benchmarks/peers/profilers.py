"""The profilers of whole programs that record no spans: cProfile and pyinstrument. They are run as commands."""

from __future__ import annotations

from benchmarks.peers.base import Peer, Span


class CProfile(Peer):
    title = "cProfile"
    plain = Span("")
    measured_as = "`python -m cProfile -o`."
    does_more = "It comes with Python, counts calls of C functions too, and writes a file of a few kilobytes."
    does_less = "It keeps sums only: no order, no threads, no tasks, no single slow call."


class Pyinstrument(Peer):
    title = "pyinstrument"
    environment = "pyinstrument"
    distributions = ("pyinstrument",)
    plain = Span("")
    measured_as = "Its command, with its defaults (a sample a millisecond)."
    does_more = (
        "It samples, so that it costs next to nothing, whatever the program calls, and its HTML report is a joy."
    )
    does_less = "It sees what is often on the stack, and no single call; it follows one thread."
