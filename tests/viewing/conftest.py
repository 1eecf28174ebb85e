"""A recorded file, its page, and a browser to look at it with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pages import FLAGS, TickingClock, page_of, record_shop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded file."""
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    with pytest.MonkeyPatch.context() as patch:
        clock = TickingClock()
        clock.install(patch)
        record_shop(str(path), clock)
    return path


@pytest.fixture(scope="session")
def shop_page(shop: Path) -> Path:
    """Its page, as a file."""
    return page_of(shop)


@pytest.fixture(scope="module")
def browser(shop_page: Path) -> Iterator[Browser]:
    """Chromium, without a window. While it is there, an event loop runs in this thread, and none can be started."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as driver:
        if found is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("there is no Chromium: `make browser`, or install the package chromium")
        browser = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab without a network. Whatever it complains of, or tries to fetch, fails the test."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: "willReadFrequently" in message.text or complaints.append(message.text))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: request.url.startswith("file:") or complaints.append(request.url))
    yield page
    context.close()
    assert not complaints
