"""A span for each request of an ASGI service: Starlette, FastAPI, Litestar, Quart, Django, or none of them.

    app = FerretMiddleware(app)

Needs nothing but ferret.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from ferret.integrations.routes import route_of
from ferret.integrations.traceparent import Trace, came_with, current_trace, current_traceparent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, MutableMapping

    from ferret.core import Profiler
    from ferret.span import Span

    type Scope = MutableMapping[str, Any]
    type Message = MutableMapping[str, Any]
    type Receive = Callable[[], Awaitable[Message]]
    type Send = Callable[[Message], Awaitable[None]]
    type App = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["FerretMiddleware"]

SPAN = "ferret.span"
"""Where a scope holds the request's span, for tags of the program's own: `request.scope["ferret.span"].annotate(…)`."""

NO_ROUTE = "(no route)"

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
_LEFT = frozenset({"ClientDisconnect", "WebSocketDisconnect", "ClientDisconnected"})
"""What frameworks raise, and servers swallow, when a client goes away."""


class FerretMiddleware:
    """Records each HTTP request and each websocket connection of an ASGI application as a span.

    A span's name is the method and the route as the program wrote it, such as `GET /users/{user}`, where Starlette or
    FastAPI tells it, or `GET (no route)`; a method that HTTP does not know is `HTTP`. So there are never more names than
    routes. The span is the current one while the application works. It ends with the response's body: what runs
    afterwards, such as background tasks, is still below it. Errors are responses of 500 and more, and whatever the
    application raises. A client that goes away too early is no error, but a tag, `client.disconnected`; a request that
    the server cancels has the status `cancelled`.

    An incoming `traceparent` makes the caller's span the parent; `ferret.integrations.traceparent` has the header for
    what the application asks of others. Of the URL the path is kept, and not the query, where secrets may be.

    One middleware serves any number of requests at a time. It adds no delay and never changes a message, unless
    `response_headers` asks for it.

    Args:
        app: the application.
        profiler: who records; the process's own profiler, as it is at each request, unless given.
        read_traceparent: whether to believe the callers. Say False where anybody may call.
        response_headers: what to tell the caller of the span: `traceparent`, and `server-timing`, which browsers show.
        user_agent: whether to keep the caller's `User-Agent`.
        client: whether to keep the caller's address.
    """

    def __init__(
        self,
        app: App,
        profiler: Profiler | None = None,
        *,
        read_traceparent: bool = True,
        response_headers: Collection[Literal["traceparent", "server-timing"]] = (),
        user_agent: bool = False,
        client: bool = True,
    ) -> None:
        unknown = {response_headers} if isinstance(response_headers, str) else {*response_headers} - {*_HEADERS}
        if unknown:
            raise ValueError(f"response_headers is {response_headers!r}: give a list, of {' and '.join(_HEADERS)}")
        self.app = app
        self.profiler = profiler
        self.read_traceparent = read_traceparent
        self.response_headers = tuple(response_headers)
        self.user_agent = user_agent
        self.client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, a connection, or the server's own start and end, which pass as they are."""
        kind = scope["type"]
        if kind not in _KINDS or SPAN in scope:  # a lifespan, or what this middleware has seen further out
            await self.app(scope, receive, send)
            return
        profiler = self.profiler
        if profiler is None:
            from ferret.shared import get_profiler  # noqa: PLC0415 - recording is imported when it begins

            profiler = get_profiler()
        came, tracestate = came_with(scope["headers"]) if self.read_traceparent else (None, "")
        trace = Trace(profiler, came, tracestate)
        scope[SPAN] = span = profiler.measure(kind)
        exchange = _KINDS[kind](self, scope, receive, send, span, trace)
        outer = profiler.current.set(int(came.parent_id, 16)) if came else None
        outer_trace = current_trace.set(trace)
        try:
            with span:
                await exchange.run(self.app)
        finally:
            current_trace.reset(outer_trace)
            if outer is not None:
                profiler.current.reset(outer)


class _Exchange:
    """One request, or one connection: what is seen of it on its way through."""

    __slots__ = (
        "_receive", "_send", "code", "ended", "left", "middleware", "root", "scope", "span", "status", "trace", "trailers",
    )  # fmt: skip

    def __init__(
        self, middleware: FerretMiddleware, scope: Scope, receive: Receive, send: Send, span: Span, trace: Trace
    ) -> None:
        self.middleware = middleware
        self.scope = scope
        self.root = scope.get("root_path", "")  # a mount will change it
        self.span = span
        self.trace = trace
        self._receive = receive
        self._send = send
        self.status = 0
        self.code: int | None = None
        self.trailers = False
        self.ended = False
        self.left = False

    async def run(self, app: App) -> None:
        """Let the application answer, and end the span if the answer did not."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self.end("ok" if self.left else "cancelled")
            raise
        except BaseException as error:
            if self.left and (isinstance(error, OSError) or type(error).__name__ in _LEFT):
                self.end("ok")
            elif not self.ended:
                self.describe()  # and the span ends with the error, as it passes
            raise
        self.end(self.outcome())

    def outcome(self) -> str:
        """The status of the span, after an application that returned."""
        raise NotImplementedError

    async def receive(self) -> Message:
        """What the server gives to the application."""
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        """What the application gives to the server."""
        raise NotImplementedError

    def describe(self) -> None:
        """Name and tag the span by all that is known now."""
        raise NotImplementedError

    def end(self, status: str) -> None:
        """End the span now, once."""
        if not self.ended:
            self.ended = True
            self.describe()
            self.span.end(status)

    def route(self) -> str:
        """The route's template; empty if there is none, or if the framework is not as we know it."""
        try:
            return route_of(self.scope, self.root)
        except Exception:  # noqa: BLE001 - a stranger's objects, and the program must not fail over a name
            return ""

    def tags(self, route: str) -> dict[str, Any]:
        """What requests and connections have in common."""
        scope, middleware = self.scope, self.middleware
        tags: dict[str, Any] = {"url.path": scope.get("path", "")}
        if route:
            tags["http.route"] = route
        if self.status:
            tags["http.response.status_code"] = self.status
        if middleware.client and scope.get("client"):
            tags["client.address"] = scope["client"][0]
        if middleware.user_agent:
            agent = next((value for name, value in scope["headers"] if name == b"user-agent"), None)
            if agent is not None:
                tags["user_agent.original"] = agent.decode("latin-1")
        if self.trace.known_id:
            tags["trace_id"] = self.trace.known_id
        return tags

    async def pass_on(self, message: Message) -> None:
        """Give a message to the server, which raises an `OSError` if the client is gone."""
        try:
            await self._send(message)
        except OSError:
            self.left = True
            raise

    def with_headers(self, message: Message) -> Message:
        """The message that begins the response, with what the caller is to be told."""
        value = current_traceparent() if self.middleware.response_headers else None
        if value is None:
            return message
        told = [(name.encode(), _HEADERS[name].format(value).encode()) for name in self.middleware.response_headers]
        return {**message, "headers": [*message.get("headers", ()), *told]}


class _Request(_Exchange):
    """An HTTP request."""

    __slots__ = ()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":  # it comes after every response, too, when the span has ended
            self.left = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
            self.trailers = message.get("trailers", False)
            await self.pass_on(self.with_headers(message))
            return
        await self.pass_on(message)
        # A failure's text comes after its response: Starlette answers with a 500, and then lets the error pass.
        if self.status < 500 and self._is_last(kind, message):
            self.end("ok")

    def _is_last(self, kind: str, message: Message) -> bool:
        if kind == "http.response.body":
            return not (message.get("more_body", False) or self.trailers)
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        return kind == "http.response.pathsend" and not self.trailers

    def outcome(self) -> str:
        # without a whole response, the server will send a 500, or cut the client off
        return "ok" if self.left and self.status < 500 else "error"

    def describe(self) -> None:
        route = self.route()
        method = self.scope["method"]
        known = method in _METHODS
        tags = self.tags(route)
        tags["http.request.method"] = method if known else "_OTHER"
        if not known:
            tags["http.request.method_original"] = method
        if self.left:
            tags["client.disconnected"] = True
        self.span.name = f"{method if known else 'HTTP'} {route or NO_ROUTE}"
        self.span.annotate(**tags)


class _Connection(_Exchange):
    """A websocket connection, from the handshake to its end."""

    __slots__ = ()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.left = True
            self.code = message.get("code", 1005)
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self.status = 101
            message = self.with_headers(message)
        elif kind == "websocket.close":
            self.code = message.get("code", 1000)
            self.status = self.status or 403  # closed before it was accepted: the server refuses the handshake
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
            message = self.with_headers(message)
        await self.pass_on(message)

    def outcome(self) -> str:
        return "error" if self.status >= 500 or self.code == 1011 else "ok"

    def describe(self) -> None:
        route = self.route()
        tags = self.tags(route)
        if self.code is not None:
            tags["websocket.close_code"] = self.code
        self.span.name = f"WEBSOCKET {route or NO_ROUTE}"
        self.span.annotate(**tags)


_KINDS: dict[str, type[_Exchange]] = {"http": _Request, "websocket": _Connection}
_HEADERS = {"traceparent": "{}", "server-timing": 'traceparent;desc="{}"'}
