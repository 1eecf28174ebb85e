"""A web shop under load, recorded by ferret: asyncio tasks, a thread pool, a process pool, and requests that fail.

A real aiohttp server and its aiohttp clients share one event loop, and a prober measures how late that loop wakes:
what tracing costs a service shows there first. The file then holds the whole run, pool processes included:

    python examples/service.py --seconds 5 --rate 12000 --writer threaded --db trace.db
    ferret analyze trace.db --tree
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import random
import signal
import time
import zlib
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer
from aiohttp import ClientSession, web
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ferret import FerretError, Report, configure, get_profiler, in_context, measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp.typedefs import Handler

    from ferret import DeliveryReport, Profiler

CLIENTS = 16
WARM_UP = 60
THREADS = web.AppKey("threads", Executor)
PROCESSES = web.AppKey("processes", Executor)
CONSOLE = Console(highlight=False, soft_wrap=True)


# -- the service: where the spans are ------------------------------------------------------------------------------


class NoSuchOrderError(LookupError):
    """Somebody wants the money back for an order that nobody placed."""


@web.middleware
async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A span for each request. What a handler raises ends the span as an error, and outside of it becomes a 500."""
    resource = request.match_info.route.resource
    name = f"{request.method} {resource.canonical if resource else '(no route)'}"
    try:
        with measure(name, tags={"path": request.path}) as span:
            response = await handler(request)
            span.annotate(status=response.status)
            return response
    except NoSuchOrderError as error:
        return web.json_response({"error": str(error)}, status=500)


async def checkout(request: web.Request) -> web.Response:
    """Awaits, gathers tasks, computes, and hands work to a thread and now and then to another process."""
    user = int(request.match_info["user"])
    await authorise(user)
    cart, *_ = await asyncio.gather(load("cart", user), load("prices", user), load("address", user))
    with measure("price cart", tags={"items": len(cart)}) as span:
        total = sum(price(item) for item in cart)
        span.annotate(total=total)
    loop = asyncio.get_running_loop()
    # tasks know which span they were made in, threads of a pool do not: in_context tells them
    size = await loop.run_in_executor(request.app[THREADS], in_context(print_receipt), user, cart)
    if user % 8 == 0:  # another process is told with an argument
        parent = get_profiler().current_span_id()
        await loop.run_in_executor(request.app[PROCESSES], assess_risk, user, parent)
    return web.json_response({"total": total, "receipt_bytes": size})


async def refund(request: web.Request) -> web.Response:
    """Fails: there is no such order."""
    order = int(request.match_info["order"])
    await authorise(order)
    return web.json_response(find_order(order))


@measure("authorise")
async def authorise(number: int) -> bool:
    """Who may do what: everybody everything, after a turn of the loop."""
    await asyncio.sleep(0)
    return number >= 0


@measure(lambda args: f"load {args[0]}")
async def load(what: str, user: int) -> list[int]:
    """Fetch something of the user's from a database that takes a millisecond."""
    with measure("query", tags={"table": what, "user": user}):
        await asyncio.sleep(0.001)
    return [user + number for number in range(16)]


@measure("price item")
def price(item: int) -> int:
    """What one item costs."""
    return 100 + item % 7


@measure("find order")
def find_order(order: int) -> dict[str, int]:
    """Look in vain."""
    raise NoSuchOrderError(f"no order {order}")


def print_receipt(user: int, cart: list[int]) -> int:
    """What a thread of the pool does for a request."""
    with measure("print receipt", tags={"user": user}):
        with measure("format"):
            text = "".join(f"{item:>8}\n" for item in cart).encode()
        with measure("compress"):
            return len(zlib.compress(text))


def join_run(db: str, writer: str, run_id: str) -> None:
    """What a process of the pool does first: record into the same file and run. Its profiler closes when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which ends its pool
    configure(db, writer=writer, run_id=run_id)


def assess_risk(user: int, parent: str | None) -> float:
    """What a process of the pool does for a request, whose span is in the process that asked."""
    span = get_profiler().start("assess risk", tags={"user": user}, parent=parent)
    try:
        return random.Random(user).random()
    finally:
        span.end()


# -- the load: clients, and how late the loop wakes meanwhile ------------------------------------------------------


@dataclass
class LoopLag:
    """How much later than it asked for the event loop wakes a task, in seconds, a thousand times a second."""

    samples: list[float] = field(default_factory=list)

    async def probe(self) -> None:
        """Measure until cancelled."""
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            self.samples.append(max(0.0, time.perf_counter() - due))

    def at(self, share: float, last: int = 0) -> str:
        """A percentile of the last samples, or of all of them, in milliseconds."""
        ordered = sorted(self.samples[-last:]) or [0.0]
        return f"{1000 * ordered[int(share * (len(ordered) - 1))]:.2f} ms"


def wishes(seed: int) -> Iterator[str]:
    """What a client asks for; every twentieth wish cannot be granted."""
    rng = random.Random(seed)
    for turn in itertools.count(seed):
        yield f"/checkout/{rng.randrange(1000)}" if turn % 20 else f"/refund/{rng.randrange(1000)}"


async def ask(session: ClientSession, path: str) -> None:
    async with session.get(path) as response:
        await response.read()


async def client(session: ClientSession, number: int, pace: float, seconds: float) -> None:
    """Ask every `pace` seconds, the clients one after another; a client that is late does not wait."""
    start = time.perf_counter() + pace * number / CLIENTS
    for turn, wish in enumerate(wishes(number)):
        await asyncio.sleep(start + turn * pace - time.perf_counter())
        if time.perf_counter() - start >= seconds:
            return
        await ask(session, wish)


async def warm_up(session: ClientSession, profiler: Profiler) -> float:
    """Ask a little, one after another; returns how many spans a request records."""
    before = profiler.stats().recorded
    for wish in itertools.islice(wishes(0), WARM_UP):
        await ask(session, wish)
    return (profiler.stats().recorded - before) / WARM_UP


async def show(profiler: Profiler, lag: LoopLag, seconds: float) -> None:
    """A bar with live numbers, four times a second until cancelled: drawing it takes the loop's time, too."""
    numbers = "{task.fields[rate]:>6,.0f} spans/s  {task.fields[pending]:>5,} pending  loop lag p99 {task.fields[lag]}"
    columns = (TextColumn("recording"), BarColumn(None), TextColumn(numbers), TimeRemainingColumn(compact=True))
    start, before = time.perf_counter(), profiler.stats().recorded
    with Progress(
        *columns, console=CONSOLE, auto_refresh=False, transient=True, disable=not CONSOLE.is_terminal
    ) as bar:
        task = bar.add_task("", total=seconds, rate=0, pending=0, lag="")
        while True:
            await asyncio.sleep(0.25)
            elapsed, ledger = time.perf_counter() - start, profiler.stats()
            rate, p99 = (ledger.recorded - before) / elapsed, lag.at(0.99, last=1000)
            bar.update(task, completed=elapsed, rate=rate, pending=ledger.pending, lag=p99, refresh=True)


async def keep_busy(url: str, profiler: Profiler, lag: LoopLag, seconds: float, rate: float) -> float:
    """Ask for so many seconds; returns the spans per second that the service recorded."""
    async with ClientSession(url) as session:
        pace = CLIENTS * await warm_up(session, profiler) / rate
        watchers = [asyncio.create_task(lag.probe()), asyncio.create_task(show(profiler, lag, seconds))]
        start, before = time.perf_counter(), profiler.stats().recorded
        await asyncio.gather(*(client(session, number, pace, seconds) for number in range(CLIENTS)))
        reached = (profiler.stats().recorded - before) / (time.perf_counter() - start)
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
    return reached


async def serve(app: web.Application, profiler: Profiler, lag: LoopLag, seconds: float, rate: float) -> float:
    """Serve on a free port of this machine, as long as its clients ask; returns what `keep_busy` does."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        CONSOLE.print(
            f"A shop at http://{host}:{port}, {CLIENTS} clients, {seconds:g} seconds, {profiler.settings.writer} writer."
        )
        return await keep_busy(f"http://{host}:{port}", profiler, lag, seconds, rate)
    finally:
        await runner.cleanup()


# -- the whole -----------------------------------------------------------------------------------------------------


def main(
    seconds: Annotated[float, typer.Option(help="How long to keep the service busy.", min=0.1)] = 5.0,
    rate: Annotated[float, typer.Option(help="Spans per second to aim at.", min=1)] = 12_000,
    writer: Annotated[str, typer.Option(help="How spans leave: sync, threaded, bounded or process.")] = "threaded",
    db: Annotated[str, typer.Option(help="The file to record into.")] = "trace.db",
) -> None:
    """Record a busy web shop with ferret; tell what that cost, and whether every span arrived."""
    try:
        profiler = configure(db, writer=writer)
    except FerretError as error:
        raise typer.BadParameter(str(error)) from None
    lag = LoopLag()
    spawn = multiprocessing.get_context("spawn")  # to fork a program that has threads is to risk a deadlock
    pool = ProcessPoolExecutor(2, spawn, initializer=join_run, initargs=(db, writer, profiler.run_id))
    with ThreadPoolExecutor(2) as threads, pool as processes:
        wait([processes.submit(time.sleep, 0.2) for _ in range(2)])  # both start now, and not during the load
        app = web.Application(middlewares=[traced])
        app.add_routes([web.get("/checkout/{user}", checkout), web.get("/refund/{order}", refund)])
        app[THREADS], app[PROCESSES] = threads, processes
        reached = asyncio.run(serve(app, profiler, lag, seconds, rate))
    report = profiler.close()
    CONSOLE.print(f"{reached:,.0f} spans a second; the event loop woke {lag.at(0.5)} late (p50), {lag.at(0.99)} (p99).")
    if reached < 10_000 < rate:
        CONSOLE.print("That is less than the 10,000 that it should be: this machine is slow, or had more to do.")
    CONSOLE.print(f"The service recorded {in_words(report)}.")
    with Report(db) as stored:
        run = stored.run(profiler.run_id)
    missing = run.lost + sum(one.ledger.written for one in run.processes if one.ledger) - run.spans
    CONSOLE.print(f"{db} holds {run.spans:,} spans of {len(run.processes)} processes; {missing or 'none'} missing.")
    if report.lost or missing or run.unclean:
        raise typer.Exit(1)


def in_words(report: DeliveryReport) -> str:
    """Where every span went."""
    reasons = [f"{count:,} {reason}" for reason, count in (report.dropped_by | report.failed_by).items()]
    why = f" ({', '.join(reasons)})" if reasons else ""
    return f"{report.recorded:,} spans: {report.written:,} written, {report.dropped:,} dropped, {report.failed:,} failed{why}"


if __name__ == "__main__":
    typer.run(main)
