"""What an adapter says about a peer."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Span:
    """How the peer writes a span: `with EXPRESSION as span_:`, and what its block begins with.

    In both, `NAME` stands for the span's name, and `n` is a number that differs from span to span. They are text, so that
    the measured loop is the peer's own code, with no adapter in between, and so that the page can show it.
    """

    expression: str
    body: str = ""

    def named(self, name: str) -> Span:
        """The same with the name filled in."""
        return Span(self.expression.replace("NAME", repr(name)), self.body)


@dataclass(frozen=True)
class Books:
    """What became of the spans, as far as the peer tells: -1 where it does not."""

    delivered: int = -1


class Peer:
    """One way to record spans. The class says how; an instance records, between `start` and `stop`, once a process."""

    title: str
    """Its name in tables."""
    environment: str | None = None
    """The virtual environment that it needs; None for ferret's own."""
    distributions: tuple[str, ...] = ()
    """What to install there: names that the extra `bench` gives a range, or whole requirements."""
    environ: Mapping[str, str] = MappingProxyType({})
    """What its process has in its environment besides."""
    import_line: str = "pass"
    """What a program that uses it imports."""

    plain: Span
    """A span without tags."""
    tagged: Span | None = None
    """The same with two tags, of which one differs from span to span; None where there are no tags."""
    awaited: Span | None = None
    """The same for `async with`; None where a coroutine uses `with`."""
    decorator: str | None = None
    """An expression that decorates a function; None where there is none."""
    root: Span | None = None
    """A span that is around others, if that is written in another way."""

    does_more: str = ""
    """What it does that ferret does not: a sentence for the page."""
    does_less: str = ""
    """What ferret does that it does not."""
    measured_as: str = ""
    """How it was set up here."""

    def start(self, folder: Path, **options: Any) -> dict[str, Any]:
        """Begin to record.

        Args:
            folder: empty, for what it stores.
            options: ferret's; no other peer gets any.

        Returns:
            What the expressions use.
        """
        raise NotImplementedError

    def stop(self) -> Books:
        """Bring everything to where it rests, and end."""
        raise NotImplementedError

    @property
    def outer(self) -> Span:
        """The span that is around others."""
        return self.root or self.plain

    @property
    def richest(self) -> Span:
        """With tags where there are tags."""
        return self.tagged or self.plain
