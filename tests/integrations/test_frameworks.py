"""The middleware around Starlette and FastAPI, and behind a real server."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from support import WAIT_S

from ferret import Profiler
from ferret.integrations.asgi import FerretMiddleware
from ferret.integrations.traceparent import outgoing_headers
from tests.integrations.served import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(request.path_params))


def ask(app: Any, *paths: str, method: str = "GET", root_path: str = "", raises: bool = True) -> list[httpx.Response]:
    async def main() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, root_path=root_path, raise_app_exceptions=raises)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return [await client.request(method, path) for path in paths]

    return asyncio.run(main())


def names(profiler: Profiler) -> list[str]:
    return [span.name for span in profiler.sink.spans]  # type: ignore[union-attr]


INNER = Starlette(routes=[Route("/orders/{order:int}", page)])
STARLETTE = [
    Route("/", page),
    Route("/users/{user:int}", page, methods=["GET"]),
    Mount("/tenants/{tenant}", routes=[Route("/b/{y}", page), Mount("/c", routes=[Route("/{z:int}", page)])]),
    Mount("/old", app=INNER),
    Mount("/new", app=INNER),
    Mount("/plain", app=PlainTextResponse("no router")),
]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "GET /"),
        ("/users/7", "GET /users/{user}"),
        ("/tenants/7/b/8", "GET /tenants/{tenant}/b/{y}"),
        ("/tenants/b/b/c", "GET /tenants/{tenant}/b/{y}"),
        ("/tenants/7/c/8", "GET /tenants/{tenant}/c/{z}"),
        ("/tenants/7/c/x", "GET /tenants/{tenant}/c/{path}"),
        ("/tenants/7/x", "GET /tenants/{tenant}/{path}"),
        ("/old/orders/7", "GET /old/orders/{order}"),
        ("/new/orders/7", "GET /new/orders/{order}"),
        ("/plain/any/thing", "GET /plain/{path}"),
        ("/users/x", "GET (no route)"),
        ("/nowhere", "GET (no route)"),
    ],
)
@pytest.mark.parametrize("root", ["", "/api"])
def test_starlettes_route_is_the_name(profiler: Profiler, path: str, name: str, root: str) -> None:
    ask(FerretMiddleware(Starlette(routes=STARLETTE), profiler), root + path, root_path=root)
    assert names(profiler) == [name]


def test_a_wrong_method_has_the_route_too(profiler: Profiler) -> None:
    (response,) = ask(FerretMiddleware(Starlette(routes=STARLETTE), profiler), "/users/7", method="DELETE")
    assert response.status_code == 405
    assert names(profiler) == ["DELETE /users/{user}"]


def test_it_works_among_starlettes_middlewares(profiler: Profiler) -> None:
    class Outer(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            return await call_next(request)

    app = Starlette(routes=STARLETTE, middleware=[Middleware(Outer), Middleware(FerretMiddleware, profiler=profiler)])
    ask(app, "/users/7", "/tenants/1/c/2")
    assert names(profiler) == ["GET /users/{user}", "GET /tenants/{tenant}/c/{z}"]


def test_an_older_starlette_tells_the_endpoint_only(profiler: Profiler) -> None:
    async def other(request: Request) -> PlainTextResponse:
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/items", page), Route("/items/{item}", page), Route("/other", other), *STARLETTE])

    async def older(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        scope.pop("route", None)

    # in front of the answer's end, where the name is taken, the route would still be there
    class Older(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            return default if name == "route" else super().get(name, default)

    async def hide(scope: Any, receive: Any, send: Any) -> None:
        await FerretMiddleware(older, profiler)(Older(scope), receive, send)

    ask(hide, "/items", "/items/7", "/other", "/tenants/7/b/8", "/old/orders/3", "/nowhere")
    assert names(profiler) == [
        "GET /items",
        "GET /items/{item}",
        "GET /other",
        "GET /tenants/{tenant}/b/{y}",
        "GET /old/orders/{order}",
        "GET (no route)",
    ]


def test_fastapis_routers_are_named_with_their_prefixes(profiler: Profiler) -> None:
    router = APIRouter(prefix="/items")

    @router.get("/{item}")
    async def get_item(item: int) -> int:
        with profiler.measure("look up"):
            return item

    @router.put("/{item}")
    def put_item(item: int) -> int:
        with profiler.measure("store"):  # in a thread of Starlette's pool
            return item

    inner = FastAPI()
    inner.include_router(router)
    app = FastAPI()
    app.include_router(router, prefix="/v1")
    app.mount("/tenants/{tenant}", inner)
    served = FerretMiddleware(app, profiler)
    ask(served, "/v1/items/3", "/v1/items/x", "/tenants/9/items/4", "/docs", "/v1")
    ask(served, "/v1/items/5", method="PUT")
    spans = list(profiler.sink.spans)
    assert [span.name for span in spans] == [
        "look up", "GET /v1/items/{item}", "GET /v1/items/{item}", "look up", "GET /tenants/{tenant}/items/{item}",
        "GET /docs", "GET (no route)", "store", "PUT /v1/items/{item}",
    ]  # fmt: skip
    assert [span.tags.get("http.response.status_code") for span in spans if span.tags] == [200, 422, 200, 200, 404, 200]
    by_id = {span.span_id: span.name for span in spans}
    assert by_id[spans[-2].parent_id] == "PUT /v1/items/{item}"


def test_an_unhandled_exception_is_told_although_starlette_answers_first(profiler: Profiler) -> None:
    async def broken(request: Request) -> PlainTextResponse:
        raise LookupError("no such order")

    (response,) = ask(FerretMiddleware(Starlette(routes=[Route("/{x}", broken)]), profiler), "/1", raises=False)
    assert response.status_code == 500
    (span,) = profiler.sink.spans
    assert (span.name, span.status, span.error_type, span.error) == (
        "GET /{x}",
        "error",
        "LookupError",
        "no such order",
    )
    assert span.tags["http.response.status_code"] == 500


def test_a_stream_lasts_until_its_end_and_its_parts_are_below_it(profiler: Profiler) -> None:
    async def stream(request: Request) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(3):
                with profiler.measure(f"part {number}"):
                    yield b"x"

        def later() -> None:
            with profiler.measure("background"):
                pass

        return StreamingResponse(parts(), background=BackgroundTask(later))

    (response,) = ask(FerretMiddleware(Starlette(routes=[Route("/s", stream)]), profiler), "/s")
    assert response.content == b"xxx"
    spans = {span.name: span for span in profiler.sink.spans}
    assert list(spans) == ["part 0", "part 1", "part 2", "GET /s", "background"]
    request = spans.pop("GET /s")
    assert {span.parent_id for span in spans.values()} == {request.span_id}
    assert all(spans[f"part {number}"].end_time <= request.end_time + 1e-6 for number in range(3))


def test_a_websocket_is_one_span(profiler: Profiler) -> None:
    async def chat(socket: Any) -> None:
        await socket.accept()
        while await socket.receive_text() != "bye":
            with profiler.measure("answer"):
                await socket.send_text("hello")
        await socket.close(4000)

    app = FerretMiddleware(Starlette(routes=[WebSocketRoute("/chat/{room}", chat)]), profiler)
    said = [{"type": "websocket.receive", "text": text} for text in ("hi", "bye")]
    sent = asyncio.run(Server({"type": "websocket.connect"}, *said).serve(app, "/chat/1", type="websocket"))
    assert [message["type"].removeprefix("websocket.") for message in sent] == ["accept", "send", "close"]
    answer, connection = profiler.sink.spans
    assert (connection.name, connection.status) == ("WEBSOCKET /chat/{room}", "ok")
    assert connection.tags["websocket.close_code"] == 4000
    assert answer.parent_id == connection.span_id


def test_two_services_make_one_trace(profiler: Profiler) -> None:
    back = FerretMiddleware(Starlette(routes=[Route("/stock/{item}", page)]), profiler)

    async def front(request: Request) -> PlainTextResponse:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(back), base_url="http://back") as client:
            with profiler.measure("ask for stock"):
                await asyncio.create_task(client.get("/stock/7", headers=outgoing_headers()))
        return PlainTextResponse("")

    ask(FerretMiddleware(Starlette(routes=[Route("/buy/{item}", front)]), profiler), "/buy/7")
    stock, asking, buy = profiler.sink.spans
    assert (stock.name, buy.name) == ("GET /stock/{item}", "GET /buy/{item}")
    assert stock.parent_id == asking.span_id
    assert stock.tags["trace_id"] == buy.tags["trace_id"]


# -- a real server -------------------------------------------------------------------------------------------------


@contextmanager
def served(app: Any) -> Iterator[int]:
    """uvicorn in a thread; yields its port."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="on", ws="none")
    server = uvicorn.Server(config)
    sockets = [socket.create_server(("127.0.0.1", 0))]
    thread = threading.Thread(target=server.run, kwargs={"sockets": sockets}, name="uvicorn")
    thread.start()
    try:
        yield sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        assert not thread.is_alive()
        sockets[0].close()


def test_a_client_that_hangs_up_in_the_middle_of_a_stream(profiler: Profiler) -> None:
    ended = threading.Event()

    async def endless(request: Request) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 100_000
                    await asyncio.sleep(0)
            finally:
                ended.set()

        return StreamingResponse(parts())

    app = Starlette(routes=[Route("/endless", endless), Route("/hello/{who}", page)])
    with served(FerretMiddleware(app, profiler)) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/hello/you").status_code == 200
        with httpx.stream("GET", f"http://127.0.0.1:{port}/endless") as response:
            next(response.iter_raw())
        assert ended.wait(WAIT_S)
    hello, stream = profiler.sink.spans
    assert (hello.name, hello.status) == ("GET /hello/{who}", "ok")
    assert hello.tags["client.address"] == "127.0.0.1"
    assert (stream.name, stream.status, stream.error_type) == ("GET /endless", "ok", None)
    assert stream.tags["client.disconnected"] is True
    assert "client.disconnected" not in hello.tags
