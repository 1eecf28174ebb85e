"""The floor: an empty context manager in plain Python, and the call of an empty function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.base import Books, Peer, Span

if TYPE_CHECKING:
    from pathlib import Path


class Empty:
    """Does nothing, and is made anew each time, as a span is."""

    def __enter__(self) -> Empty:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> Empty:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class Untraced(Peer):
    title = "untraced"
    plain = Span("Empty()")
    awaited = Span("Empty()")
    decorator = "undecorated"

    def start(self, folder: Path, **_: Any) -> dict[str, Any]:
        del folder
        return {"Empty": Empty, "undecorated": lambda function: function}

    def stop(self) -> Books:
        return Books()
