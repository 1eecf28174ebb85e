"""A web service under load, five spans a request."""

from __future__ import annotations

import asyncio
import hmac
import json
import shutil
import sqlite3
import statistics
import sys
import time
from html import escape
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

from benchmarks.kinds import Case, Chart, Column, Figures, Scale, no_more
from benchmarks.loops import block, function
from benchmarks.peers import ALL, UNTRACED, peer
from benchmarks.peers.ferret import WRITERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.peers.base import Peer, Span

TITLE = "A web service under load"
ABOUT = """\
An aiohttp service that checks a signature, reads 20 rows from SQLite, and renders them as HTML. Its handler records five
spans: the request, and in it three steps, of which one has a query with two tags that gives way to other requests. First as
fast as it can, with 16 connections that ask again as soon as they are answered (by `wrk` where it is installed, else by a
Python process): *requests/s*, and the latencies under that full load. Then at a steady 400 requests a second: *steady*
latencies, each from when its request was due. Service and load share the machine, and so does the other process of the
`process` writer. *× untraced* is beside the same handler without spans, which the same process serves in turns with it, a
second each; the untraced row's is what the noise is. *CPU* does not mind other programs: it says what the throughput can be
at best. The second table is of a handler that does nothing but record its five spans: the worst
that can happen.
"""
PAGE, EMPTY = "a page from a database", "a handler that does nothing"
CONNECTIONS, STEADY_RATE = 16, 400
SETTLE_S = 0.6
"""After a turn, for what was recorded in it to be written: longer than `flush_interval`."""
derive = no_more
HERE = Path(__file__).parent.parent
COLUMNS = (
    Column("requests/s", "requests/s", better="more"),
    Column("requests/s, × untraced", "× untraced", better="more", ratio=True),
    Column("p50", "p50, ms"),
    Column("p99", "p99, ms"),
    Column("p99, × untraced", "× untraced", ratio=True),
    Column("p99.9", "p99.9, ms"),
    Column("steady p50", "steady p50, ms"),
    Column("steady p99", "steady p99, ms"),
    Column("CPU, µs/request", "CPU, µs/request"),
    Column("CPU, µs/request, × untraced", "× untraced", ratio=True),
)
CHARTS = (Chart(PAGE, "requests/s", "A web service with five spans a request", "requests/s"),)


def cases(scale: Scale) -> list[Case]:
    seconds, turns, steady = (0.4, 1, 0.4) if scale.quick else (1, 3, 2)
    both = {"seconds": seconds, "turns": turns, "steady_seconds": steady, "empty": False}
    full = {"seconds": seconds, "turns": turns, "steady_seconds": 0, "empty": True}
    took = turns * 2 * (seconds + SETTLE_S) + 1.5
    return [
        *(Case(PAGE, subject, took + steady, both) for subject in ALL),
        *(Case(EMPTY, subject, took, full) for subject in (UNTRACED, *WRITERS)),
    ]


def probe(subject: Peer, folder: Path, seconds: float, turns: int, steady_seconds: float, empty: bool) -> Figures:
    work = {} if empty else WORK
    untraced = peer(UNTRACED)
    plain = _handler(untraced, untraced.start(folder), work)
    handler = _handler(subject, subject.start(folder), work)
    figures = asyncio.run(_serve(handler, plain, seconds, turns, steady_seconds))
    subject.stop()
    return figures


WORK = {
    "authorise": "check(request.path)",
    "query": "rows = find(n)\nawait sleep(0)",
    "render": "answer = render(rows)",
}
"""What the steps do, where they do something."""


def _handler(peer: Peer, names: dict[str, Any], work: dict[str, str]) -> Callable[..., Awaitable[Any]]:
    """The service, in the peer's own words."""
    from aiohttp import web

    def step(name: str, span: Span = peer.plain, inside: str = "") -> str:
        return block(span, name, inside or work.get(name, "pass"))

    steps = [step("authorise"), step("load", inside=step("query", peer.richest)), step("render")]
    request = block(peer.outer, "request", "\n".join(steps))
    source = f"""\
async def handle(request):
    n = int(request.match_info['number'])
    answer = 'nothing'
{indent(request, "    ")}
    return Response(text=answer, content_type='text/html')
"""
    names = names | {"sleep": asyncio.sleep, "check": check, "find": Orders().find, "render": render}
    return function(source, names | {"Response": web.Response}, "handle")


def check(path: str) -> None:
    """What a service does to know who asks: a signature."""
    signed = hmac.digest(b"secret", path.encode(), "sha256")
    if not hmac.compare_digest(signed, hmac.digest(b"secret", path.encode(), "sha256")):
        raise PermissionError(path)


class Orders:
    """A small database in memory."""

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:")
        self._database.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, number INTEGER, name TEXT, price REAL)")
        rows = [(number % 50, f"item <{number}>", number * 1.25) for number in range(1000)]
        self._database.executemany("INSERT INTO items (number, name, price) VALUES (?, ?, ?)", rows)
        self._database.execute("CREATE INDEX by_number ON items (number)")

    def find(self, number: int) -> list[tuple[int, str, float]]:
        """The items of an order, the dearest first."""
        query = "SELECT id, name, price FROM items WHERE number = ? ORDER BY price DESC"
        return self._database.execute(query, (number,)).fetchall()


def render(rows: list[tuple[int, str, float]]) -> str:
    """A table."""
    lines = "".join(f"<tr><td>{key}</td><td>{escape(name)}</td><td>{price:,.2f}</td></tr>" for key, name, price in rows)
    return f"<!doctype html><title>Order</title><table>{lines}</table><p>{sum(price for *_, price in rows):,.2f}</p>"


async def _serve(
    handler: Callable[..., Awaitable[Any]],
    plain: Callable[..., Awaitable[Any]],
    seconds: float,
    turns: int,
    steady_seconds: float,
) -> Figures:
    """Serve, have a process ask for a while, and tell what it found: the medians of all turns."""
    from aiohttp import web

    app = web.Application()
    app.router.add_get("/orders/{number}", handler)
    app.router.add_get("/plain/{number}", plain)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        url, plain_url = (f"http://{host}:{port}/{name}/7" for name in ("orders", "plain"))
        found, floors = [], []
        for one in (url, plain_url):
            await _asked(one, 0.3, STEADY_RATE)
        for _ in range(turns):
            floors.append(await _turn(plain_url, seconds))
            found.append(await _turn(url, seconds))
        steady = await _asked(url, steady_seconds, STEADY_RATE) if steady_seconds else {}
    finally:
        await runner.cleanup()
    full = {figure: statistics.median(one[figure] for one in found) for figure in found[0]}
    for figure in ("requests/s", "p99", "CPU, µs/request"):
        ratios = (one[figure] / floor[figure] for one, floor in zip(found, floors, strict=True))
        full[f"{figure}, × untraced"] = statistics.median(ratios)
    return full | {f"steady {figure}": steady[figure] for figure in ("p50", "p99") if figure in steady}


async def _turn(url: str, seconds: float) -> Figures:
    """As fast as it can, and what CPU this process used for it, with what it delivers a little later."""
    cpu = time.process_time()
    figures = await _asked(url, seconds)
    await asyncio.sleep(SETTLE_S)
    figures["CPU, µs/request"] = (time.process_time() - cpu) / figures["requests"] * 1e6
    return figures


async def _asked(url: str, seconds: float, rate: int | None = None) -> Figures:
    """What the load generator found."""
    wrk = shutil.which("wrk")
    if rate is None and wrk and seconds >= 1:  # it counts in whole seconds
        command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{round(seconds)}s", "-s", str(HERE / "wrk.lua"), url]
    else:
        command = [sys.executable, "-I", str(HERE / "load.py"), url, str(seconds), str(CONNECTIONS)]
        command += [str(rate)] if rate else []
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {errors.decode()}")
    found: Figures = json.loads(out.decode().splitlines()[-1])
    if found.pop("failed", 0):
        raise RuntimeError("requests failed")
    return found
