"""A program that did a bit of everything, and its page."""

from __future__ import annotations

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from ferret import Profiler, Report
from ferret.testing.clock import ManualClock
from ferret.view.page import write_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

MARKUP = "</script><img src=x onerror=document.title='broken-out'>"
HOSTILE = [
    MARKUP,
    "<!--<script>",
    "two\nlines\r\x00\x1b[2J",
    "\u202egnp.exe",
    "\ud800 alone",
    "n" * 8000,
    "__proto__",
    "名前 🦦",
    "",
]
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
WAIT_MS = 60_000

WHERE = """(name) => {
  const { run, laid, timeline } = ferret;
  const span = run.name.findIndex((one) => run.names[one] === name);
  const { plugin, engine, offset, canvas } = timeline;
  const row = laid.rows.row[span];
  for (let y = 0; y < plugin.height; y++)
    if (plugin.under(y).row === row) {
      const box = canvas.getBoundingClientRect();
      return [box.x + engine.timeToPosition((run.start[span] + run.end[span]) / 2), box.y + offset + y + 8];
    }
}"""
"""Where on the screen the first span of a name is, on the timeline."""


class TickingClock(ManualClock):
    """Goes on by a microsecond whenever it is read: how wide spans are does not depend on how busy the machine is."""

    def __call__(self) -> int:
        with self._moving:
            self.now_ns += 1000
            return self.now_ns


def record_shop(path: str, clock: TickingClock) -> None:
    """Threads, tasks, errors, tags, spans that do not nest, and names that would do harm."""
    with Profiler(path, run_id="the-run") as profiler:

        async def request(user: int) -> None:
            with profiler.measure("shop.request", tags={"user": user, "path": f"/cart/{user}"}):
                await asyncio.sleep(0)  # the others begin
                clock.advance(0.0001)
                with profiler.measure("shop.load"):
                    await asyncio.sleep(0)
                    clock.advance(0.00005)
                if user == 3:
                    with pytest.raises(ValueError, match="declined"), profiler.measure("shop.pay"):
                        raise ValueError("the card was declined")

        async def serve(users: int) -> None:
            async with asyncio.TaskGroup() as group:
                for user in range(users):
                    group.create_task(request(user))

        def job(number: int) -> None:
            with profiler.measure("batch.job", tags={"number": number, "big": 2**70}):
                for _ in range(3):
                    with profiler.measure("batch.step"):
                        pass

        asyncio.run(serve(20))
        clock.advance(0.005)
        for name in HOSTILE:
            with profiler.measure(name, tags={name: name}):
                pass
        first, second = profiler.start("first of two"), profiler.start("second of two")
        first.end()
        second.end()
        with ThreadPoolExecutor(2, thread_name_prefix=MARKUP) as pool:
            list(pool.map(job, range(6)))


def page_of(path: Path) -> Path:
    """Write the page of a file's latest run beside it."""
    page = path.with_suffix(".html")
    with Report(path) as report, page.open("wb") as out:
        info = report.run()
        write_page(info, report.segments(info.run_id), out)
    return page


def opened(tab: Page, page: Path) -> Page:
    """The tab, with the page in it ready for use."""
    tab.goto(page.as_uri())
    tab.wait_for_selector("body[data-ready=yes]", timeout=WAIT_MS)
    return tab


def click(tab: Page, name: str) -> None:
    """Click the first span of that name on the timeline."""
    x, y = tab.evaluate(WHERE, name)
    tab.mouse.move(x, y)
    tab.mouse.click(x, y)


def search(tab: Page, text: str) -> int:
    """Search for something else than the time before, and how many spans match."""
    before = tab.evaluate("ferret.search.latest")
    tab.fill("#search", text)
    until(lambda: tab.evaluate("ferret.search.latest") != before and tab.evaluate("ferret.search.text"))
    return int(re.sub(r"\D", "", (tab.text_content("#found") or "").split("of")[-1]))


def window(tab: Page, chart: str = "timeline") -> list[float]:
    return [round(time) for time in tab.evaluate(f"ferret.{chart}.window")]


def width(tab: Page, chart: str = "timeline") -> float:
    """How much time is in sight."""
    start, end = window(tab, chart)
    return end - start


def frames(tab: Page) -> None:
    """Wait until what was asked for is drawn."""
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds, and fail if it never does."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.01)
