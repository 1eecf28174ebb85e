"""Who is measured. A subject is the name of one way to record: a writer of ferret's, a peer, or nothing at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.peers.ddtrace import Ddtrace
from benchmarks.peers.ferret import PURE, WRITERS, Ferret
from benchmarks.peers.ferret_io import FerretIo
from benchmarks.peers.logfire import Logfire
from benchmarks.peers.opentelemetry import OpenTelemetry
from benchmarks.peers.profilers import CProfile, Pyinstrument
from benchmarks.peers.sentry import Sentry
from benchmarks.peers.untraced import Untraced
from benchmarks.peers.viztracer import VizTracer

if TYPE_CHECKING:
    from benchmarks.peers.base import Peer

UNTRACED = "untraced"

SPAN_RECORDERS = ("viztracer", "opentelemetry", "sentry", "ddtrace", "logfire", "ferret-io")
"""The peers that record spans that a program marks, in the order in which tables show them."""

ALL = (UNTRACED, *WRITERS, *SPAN_RECORDERS)
"""Everybody that records spans."""

STRANGERS = (*SPAN_RECORDERS, "pyinstrument", "cprofile")
"""Everybody but ferret, for the page's notes."""


def peer(subject: str) -> Peer:
    """The adapter of a subject. Importing it needs nothing of the peer's; `start` does."""
    if subject in {*WRITERS, PURE}:
        return Ferret(subject)
    found: dict[str, type[Peer]] = {
        UNTRACED: Untraced, "opentelemetry": OpenTelemetry, "logfire": Logfire, "sentry": Sentry, "ddtrace": Ddtrace,
        "viztracer": VizTracer, "ferret-io": FerretIo, "cprofile": CProfile, "pyinstrument": Pyinstrument,
    }  # fmt: skip
    return found[subject]()
