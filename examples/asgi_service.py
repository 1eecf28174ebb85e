"""Two Starlette services, one of which asks the other: a span a request, and one trace for both.

    python examples/asgi_service.py --db trace.db
    ferret analyze trace.db --tree

A real uvicorn serves both, and a few clients buy things. The shop sends a `traceparent` with each request to the
stockroom, so that what the stockroom does is below the shop's span, as it would be on another machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import tempfile
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import httpx
import typer
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from ferret import configure, measure
from ferret.integrations.asgi import FerretMiddleware
from ferret.integrations.traceparent import outgoing_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

CLIENTS = 4


# -- the stockroom -------------------------------------------------------------------------------------------------


async def stock(request: Request) -> JSONResponse:
    """How many there are, from a database that takes a millisecond. Of some items it knows nothing."""
    item = request.path_params["item"]
    with measure("query", tags={"table": "stock"}):
        await asyncio.sleep(0.001)
    if item % 13 == 0:
        raise LookupError(f"item {item} is on no shelf")
    return JSONResponse({"left": item % 5})


# -- the shop ------------------------------------------------------------------------------------------------------


async def buy(request: Request) -> PlainTextResponse:
    """Ask the stockroom, and print a receipt in a thread, which `asyncio.to_thread` gives the request's context."""
    item = request.path_params["item"]
    request.scope["ferret.span"].annotate(item=item)  # a tag of our own on the request's span
    with measure("ask the stockroom"):
        client: httpx.AsyncClient = request.app.state.client
        answer = await client.get(f"/stockroom/stock/{item}", headers=outgoing_headers())
    if answer.is_error:
        return PlainTextResponse("the stockroom is in disorder", status_code=503)
    if answer.json()["left"] == 0:
        return PlainTextResponse("sold out", status_code=409)
    return PlainTextResponse(await asyncio.to_thread(receipt, item))


@measure("print receipt")
def receipt(item: int) -> str:
    return f"item {item}, checksum {zlib.crc32(str(item).encode() * 1000)}"


async def catalogue(_request: Request) -> StreamingResponse:
    """A response in parts: its span ends with the last of them."""

    async def pages() -> AsyncIterator[str]:
        for number in range(3):
            with measure("page"):
                await asyncio.sleep(0.001)
                yield f"page {number}\n"

    return StreamingResponse(pages())


shop = Starlette(routes=[Route("/buy/{item:int}", buy), Route("/catalogue", catalogue)])
stockroom = Starlette(routes=[Route("/stock/{item:int}", stock)])
app = FerretMiddleware(Starlette(routes=[Mount("/shop", app=shop), Mount("/stockroom", app=stockroom)]))


# -- the server and its clients ------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The services, at a port of their own; yields the address."""
    # asyncio sends without delay on sockets that say they are TCP; the short way to make one does not say it
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws="none"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


async def serve_and_ask(requests: int) -> Counter[int]:
    """Ask so many times; returns how often each status came."""
    wishes = itertools.chain(["/shop/catalogue", "/shop/nothing"], (f"/shop/buy/{item}" for item in itertools.count(1)))
    todo = itertools.islice(wishes, requests)
    statuses: Counter[int] = Counter()

    async def ask(client: httpx.AsyncClient) -> None:
        for path in todo:  # all clients take from the one list
            statuses[(await client.get(path)).status_code] += 1

    async with serving() as url, httpx.AsyncClient(base_url=url) as client:
        shop.state.client = client
        await asyncio.gather(*(ask(client) for _ in range(CLIENTS)))
    return statuses


def main(
    requests: Annotated[int, typer.Option(min=2, help="How many requests to send.")] = 200,
    db: Annotated[Path | None, typer.Option(help="The file to record into; one in a new temporary folder.")] = None,
) -> None:
    """Serve, ask, and say what was recorded."""
    db = db or Path(tempfile.mkdtemp(prefix="ferret-")) / "trace.db"
    with configure(db) as profiler:
        statuses = asyncio.run(serve_and_ask(requests))
    report = profiler.close()
    print("answers: " + ", ".join(f"{count} times {status}" for status, count in sorted(statuses.items())))
    print(f"{report.written} spans are in {db}, {report.lost} lost. To look at them:")
    print(f"  ferret analyze {db}")
    print(f"  ferret analyze {db} --tree")


if __name__ == "__main__":
    typer.run(main)
