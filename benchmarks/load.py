"""A load generator for one HTTP address of this machine, in a process of its own. Standard library only.

`python benchmarks/load.py URL SECONDS CONNECTIONS [RATE]` prints JSON: without a rate, each connection asks again as soon as
it was answered; with one, requests are due at a steady pace, and a late answer counts from when its request was due.
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter
from urllib.parse import urlsplit


class Connection(asyncio.Protocol):
    """Sends one request at a time, and tells when its answer is there."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = b""
        self._answered: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def ask(self) -> None:
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(self._request)
        await self._answered

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        self._received = b""
        if self._answered is not None and not self._answered.done():
            if b" 200 " in head[:16]:
                self._answered.set_result(None)
            else:
                self._answered.set_exception(RuntimeError(head.decode()))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error or ConnectionError("closed"))

    def close(self) -> None:
        self._transport.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


async def main(url: str, seconds: float, connections: int, rate: float = 0.0) -> dict[str, float]:
    """Ask; latencies in milliseconds."""
    where = urlsplit(url)
    request = f"GET {where.path or '/'} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(lambda: Connection(request), where.hostname, where.port))[1]
        for _ in range(connections)
    ]
    latencies: list[float] = []
    begun = perf_counter()

    async def keep_asking(connection: Connection, number: int) -> None:
        pace = connections / rate if rate else 0.0
        due = begun + pace * number / connections
        while perf_counter() - begun < seconds:
            if rate:
                await asyncio.sleep(due - perf_counter())
            else:
                due = perf_counter()
            await connection.ask()
            latencies.append(perf_counter() - due)
            due += pace

    await asyncio.gather(*(keep_asking(connection, number) for number, connection in enumerate(opened)))
    lasted = perf_counter() - begun
    for connection in opened:
        connection.close()
    latencies.sort()
    found = {
        f"p{share * 100:g}": latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1e3
        for share in (0.5, 0.99, 0.999)
    }
    return {"requests": float(len(latencies)), "requests/s": len(latencies) / lasted, **found}


if __name__ == "__main__":
    url, *numbers = sys.argv[1:]
    seconds, connections, *rate = map(float, numbers)
    print(json.dumps(asyncio.run(main(url, seconds, int(connections), *rate))))
