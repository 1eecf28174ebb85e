"""An asyncio service on a Unix socket, and the clients that ask it, so many requests in all."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

CLIENTS = 20
STOCK = {number: {"price": 100 + number % 7, "left": number % 13} for number in range(500)}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer line by line."""
    while line := await reader.readline():
        writer.write(json.dumps(await answer(json.loads(line))).encode() + b"\n")
        await writer.drain()
    writer.close()


async def answer(order: dict[str, list[int]]) -> dict[str, int]:
    """Look everything up at once, and add up."""
    parts = await asyncio.gather(*(look_up(item) for item in order["items"]))
    return {"total": sum(total(part) for part in parts)}


async def look_up(item: int) -> dict[str, int]:
    """One item, after a turn of the loop."""
    await asyncio.sleep(0)
    return STOCK[item % len(STOCK)]


def total(part: dict[str, int]) -> int:
    """What there is of it, in money."""
    return part["price"] * part["left"]


async def client(path: str, requests: int, seed: int) -> int:
    """Ask one thing after another."""
    reader, writer = await asyncio.open_unix_connection(path)
    earned = 0
    for number in range(requests):
        writer.write(json.dumps({"items": list(range(seed + number, seed + number + 5))}).encode() + b"\n")
        earned += json.loads(await reader.readline())["total"]
    writer.close()
    await writer.wait_closed()
    return earned


async def main(requests: int) -> None:
    """Print what was earned."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "socket"))
        async with await asyncio.start_unix_server(serve, path):
            asked = (client(path, requests // CLIENTS, 31 * number) for number in range(CLIENTS))
            print(sum(await asyncio.gather(*asked)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
