"""The page in a real browser: nothing that a program recorded can break out of it, or reach anything."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import pytest
from pages import HOSTILE, MARKUP, WAIT_MS, opened, until

from ferret.view.page import policy
from ferret.view.server import PageServer

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(180)]


def test_no_name_or_tag_becomes_markup(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    title = tab.title()
    for name in HOSTILE:
        find = "(name) => ferret.run.name.findIndex((one) => ferret.run.names[one] === name)"
        span = tab.evaluate(find, name.replace("\ud800", "?"))
        assert span >= 0
        tab.evaluate("(span) => ferret.select(span)", span)
        tab.wait_for_selector("#tags:not(:empty)")
        attributes = tab.evaluate("[...document.querySelectorAll('*')].flatMap((one) => one.getAttributeNames())")
        assert not [one for one in attributes if one.startswith("on")]
        assert tab.locator("img, iframe, #details script").count() == 0
        shown = tab.inner_text("#details")
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    tab.keyboard.press("Escape")
    tab.keyboard.press("3")
    assert tab.locator("td", has_text=MARKUP).count() == 1
    assert tab.locator("img").count() == 0
    assert tab.title() == title
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_browser_refuses_what_the_policy_forbids(browser: Browser, shop_page: Path) -> None:
    context = browser.new_context(offline=True)
    try:
        tab = opened(context.new_page(), shop_page)
        refused: list[str] = []
        tab.on("console", lambda message: refused.append(message.text))
        tab.evaluate("() => { try { document.body.innerHTML = '<b>'; } catch { return; } throw new Error('allowed'); }")
        tab.evaluate("() => document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:9/x' }))")
        assert not tab.evaluate("fetch('http://127.0.0.1:9/').then(() => true, () => false)")
        marks = ("Content Security Policy", "TrustedHTML")  # the browser complains a moment later
        until(
            lambda: tab.evaluate("true") and len([text for text in refused if any(map(text.__contains__, marks))]) >= 3
        )
    finally:
        context.close()


def test_it_is_the_same_page_over_http_and_its_script_learns_no_path(browser: Browser, shop_page: Path) -> None:
    with shop_page.open("rb") as file, PageServer(file, policy()) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        context = browser.new_context()
        try:
            tab = context.new_page()
            asked: list[str] = []
            tab.on("request", lambda request: asked.append(request.url))
            tab.goto(server.url)
            tab.wait_for_selector("body[data-ready=yes]", timeout=WAIT_MS)
            assert asked == [server.url]
            assert tab.goto(server.url.rpartition("/")[0][:-3]).status == 404
        finally:
            context.close()
            server.shutdown()
            thread.join()
