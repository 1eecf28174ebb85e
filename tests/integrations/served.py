"""An ASGI server and client in one, and what was recorded meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferret import Profiler
    from ferret.batch import SpanData


def spans_of(profiler: Profiler) -> dict[str, SpanData]:
    """The spans by name; a name that comes twice is an error of the test."""
    profiler.flush()
    spans = list(profiler.sink.spans)  # type: ignore[union-attr]
    assert len({span.name for span in spans}) == len(spans), [span.name for span in spans]
    return {span.name: span for span in spans}


class Server:
    """An ASGI server of one request: what it gives the application, and what that sends back.

    Args:
        gives: the messages that `receive` returns, one after another; then it waits for ever, as a quiet client does.
        gone_after: from so many sent messages on, the client is gone, and `send` raises as uvicorn's does.
    """

    def __init__(self, *gives: dict[str, Any], gone_after: int | None = None) -> None:
        self.gives = list(gives)
        self.gone_after = gone_after
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        if not self.gives:
            await asyncio.Event().wait()
        return self.gives.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        if self.gone_after is not None and len(self.sent) >= self.gone_after:
            raise OSError("the client is gone")
        self.sent.append(message)

    async def serve(self, app: Any, path: str = "/", method: str = "GET", **scope: Any) -> list[dict[str, Any]]:
        given = {
            "type": "http",
            "method": method,
            "path": path,
            "root_path": "",
            "headers": [],
            "client": ("9.9.9.9", 1),
        }
        await app(given | scope, self.receive, self.send)
        return self.sent
