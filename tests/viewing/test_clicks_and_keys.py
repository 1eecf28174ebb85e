"""The page in a real browser: what clicks, keys and searches do."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from pages import MARKUP, WHERE, click, frames, opened, search, until, width, window

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(180)]


def test_a_click_on_a_span_shows_its_tags(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    click(tab, "shop.request")
    tab.wait_for_selector("#tags:text('user')")
    assert tab.text_content("#details h2") == "shop.request"
    assert json.loads(tab.text_content("#tags") or "") == {"user": 0, "path": "/cart/0"}
    details = tab.text_content("#details") or ""
    for fact in ("Duration", "Self", "MainThread", "none in this run", "1 span: shop.load"):
        assert fact in details


def test_escape_closes_what_a_click_showed(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    click(tab, "shop.request")
    assert tab.is_visible("#details")
    tab.keyboard.press("Escape")
    assert not tab.is_visible("#details")


def test_the_parent_is_a_click_away(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    search(tab, "shop.load")
    tab.keyboard.press("Enter")
    tab.click("#details .link:text('shop.request')")
    assert tab.text_content("#details h2") == "shop.request"


def test_pointing_at_a_span_says_what_it_is(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    x, y = tab.evaluate(WHERE, "shop.request")
    tab.mouse.move(x, y)
    assert "shop.request" in (tab.text_content("#tip") or "")
    assert tab.is_visible("#tip")
    tab.mouse.move(5, 5)
    assert not tab.is_visible("#tip")


def test_an_error_is_said_in_words_and_drawn_in_red(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    assert search(tab, "declined") == 1
    tab.keyboard.press("Enter")
    assert (tab.text_content(".failure") or "") == "error ValueError: the card was declined"
    until(lambda: colour_of(tab, "shop.pay") == (0xE5, 0x48, 0x4D))


def colour_of(tab: Page, name: str) -> tuple[int, ...]:
    """What colour the first span of that name has on the timeline."""
    x, y = tab.evaluate(WHERE, name)
    place = tab.evaluate(
        """([x, y]) => { const { canvas } = ferret.timeline; const box = canvas.getBoundingClientRect();
        return [...canvas.getContext("2d").getImageData(x - box.x, y - box.y - 5, 1, 1).data].slice(0, 3); }""",
        [x, y],
    )
    return tuple(place)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("shop.", 41), ("SHOP.LOAD", 20), ('"shop.load"', 20), ("user:7", 1), ("user:1", 1), ("path:/cart/3", 1),
        ("cart/1", 11), ("ValueError", 1), ("big:1180591620717411303424", 6), (MARKUP, 1), ("no such thing", 0),
    ],
)  # fmt: skip
def test_a_search_finds_names_errors_and_tags(tab: Page, shop_page: Path, text: str, matches: int) -> None:
    opened(tab, shop_page)
    assert search(tab, text) == matches


def test_a_search_marks_what_it_finds_in_all_three_views(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    search(tab, "shop.load")
    assert tab.evaluate("ferret.timeline.plugin.matches.at(-1)") == 20
    tab.click("#to-flame")
    assert tab.evaluate("ferret.flame().graph.plugin.matches.at(-1)") == 1
    tab.click("#to-table")
    assert tab.locator("tbody tr").all_text_contents()[0].startswith("shop.load20")
    assert tab.locator("tbody tr").count() == 1


def test_enter_and_n_go_from_match_to_match(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    search(tab, "user:")
    seen = []
    tab.press("#search", "Enter")
    for _ in range(20):
        seen.append((tab.text_content("#found"), tab.evaluate("ferret.timeline.plugin.selected")))
        tab.press("#search", "Enter")
    assert [text for text, _ in seen] == [f"{rank} of 20 spans" for rank in range(1, 21)]
    assert len({span for _, span in seen}) == 20
    tab.evaluate("document.activeElement.blur()")
    assert tab.text_content("#found") == "1 of 20 spans"  # round the end
    tab.keyboard.press("n")
    assert tab.text_content("#found") == "2 of 20 spans"
    tab.keyboard.press("Shift+N")
    tab.keyboard.press("Shift+N")
    assert tab.text_content("#found") == "20 of 20 spans"


def test_escape_ends_the_search(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    search(tab, "shop")
    tab.press("#search", "Escape")
    assert tab.input_value("#search") == ""
    assert tab.text_content("#found") == ""
    assert tab.evaluate("ferret.timeline.plugin.matches") is None


def test_keys_and_the_wheel_zoom_and_move(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    whole = window(tab)
    tab.keyboard.press("w")
    nearer = window(tab)
    assert whole[0] < nearer[0] < nearer[1] < whole[1]
    tab.keyboard.press("d")
    assert window(tab)[0] > nearer[0]
    tab.keyboard.press("a")
    assert window(tab) == pytest.approx(nearer, abs=2)
    tab.keyboard.press("s")
    tab.keyboard.press("s")
    assert window(tab) == pytest.approx(whole, abs=2)
    tab.mouse.move(640, 400)
    tab.mouse.wheel(0, -300)
    until(lambda: width(tab) < whole[1] - whole[0])
    tab.keyboard.press("0")
    assert window(tab) == whole


def test_one_can_zoom_in_until_a_nanosecond_is_wide_and_out_again(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    whole = window(tab)
    for _ in range(120):
        tab.keyboard.press("w")
        frames(tab)
    start, end = tab.evaluate("ferret.timeline.window")
    assert 0 < end - start < 100
    tab.keyboard.press("0")
    assert window(tab) == whole


def test_dragging_moves_the_timeline(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    tab.keyboard.press("w")
    before = window(tab)
    tab.mouse.move(700, 500)
    tab.mouse.down()
    tab.mouse.move(600, 500, steps=4)
    tab.mouse.up()
    until(lambda: window(tab)[0] > before[0])
    after = window(tab)
    assert after[1] - after[0] == pytest.approx(before[1] - before[0], abs=2)


def test_a_double_click_zooms_to_the_span(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    x, y = tab.evaluate(WHERE, "shop.request")
    tab.mouse.move(x, y)
    tab.mouse.dblclick(x, y)
    start, end = tab.evaluate("ferret.timeline.window")
    span = tab.evaluate("[0, ferret.run.end[ferret.run.name.findIndex((n) => ferret.run.names[n] === 'shop.request')]]")
    assert end - start == pytest.approx((span[1] - span[0]) * 1.3, rel=0.01)


def test_a_click_on_a_strip_closes_and_opens_it(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    height = tab.evaluate("ferret.timeline.plugin.contentHeight")
    box = tab.locator("#timeline canvas").bounding_box()
    assert box is not None
    x, y = box["x"] + 300, box["y"] + tab.evaluate("ferret.timeline.offset") + 8
    tab.mouse.move(x, y)
    tab.mouse.click(x, y)
    assert tab.evaluate("ferret.timeline.plugin.contentHeight") < height
    assert tab.evaluate("ferret.timeline.plugin.shown.length") == 1
    tab.mouse.click(x, y)
    assert tab.evaluate("ferret.timeline.plugin.contentHeight") == height


def test_what_was_closed_opens_for_a_match_inside(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    tab.evaluate("ferret.laid.strips.forEach((strip) => { strip.collapsed = true; }); ferret.timeline.plugin.arrange()")
    search(tab, "shop.pay")
    tab.press("#search", "Enter")
    assert tab.evaluate(WHERE, "shop.pay") is not None


def test_many_tasks_share_rows(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    strips = tab.evaluate("ferret.laid.strips")
    assert [(one["kind"], one["label"]) for one in strips[:3]] == [
        ("process", f"process {os.getpid()}"), ("thread", "MainThread"), ("tasks", "20 tasks"),
    ]  # fmt: skip


def test_a_bar_of_the_flame_graph_zooms_and_says_what_it_is(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    tab.keyboard.press("2")
    whole = width(tab, "flame().graph")
    place = tab.evaluate(
        """() => { const { run } = ferret; const flame = ferret.flame(); const { graph, nodes } = flame;
        const item = flame.node.findIndex((node) => run.names[nodes.name[node]] === "shop.load");
        const box = graph.canvas.getBoundingClientRect();
        return [box.x + graph.engine.timeToPosition((flame.rows.start[item] + flame.rows.end[item]) / 2),
                box.y + graph.offset + flame.rows.row[item] * 18 + 8]; }"""
    )
    tab.mouse.move(*place)
    assert "shop.load" in (tab.text_content("#tip") or "")
    tab.mouse.click(*place)
    assert tab.text_content("#details h2") == "shop.load"
    assert "Called by" in (tab.text_content("#details") or "")
    until(lambda: width(tab, "flame().graph") < whole)
    tab.click("text=Slowest span")
    assert tab.is_visible("#timeline")
    assert tab.text_content("#details h2") == "shop.load"


def test_the_table_sorts_by_what_is_clicked(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    tab.click("#to-table")
    tab.click("th button:text-is('Count')")
    counts = [int(text) for text in tab.locator("tbody td:nth-child(2)").all_text_contents()]
    assert counts == sorted(counts, reverse=True)
    tab.click("th button:text-is('Count')")
    assert [int(text) for text in tab.locator("tbody td:nth-child(2)").all_text_contents()] == counts[::-1]
    assert tab.get_attribute("th:nth-child(2)", "aria-sort") == "ascending"
    tab.click("tbody tr >> nth=0")
    assert tab.is_visible("#details")


def test_keys_are_explained(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    tab.keyboard.press("?")
    assert tab.is_visible("#keys")
    tab.keyboard.press("Escape")
    assert not tab.is_visible("#keys")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_the_system_s_choice(tab: Page, shop_page: Path, scheme: str) -> None:
    tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    opened(tab, shop_page)
    frames(tab)
    corner = """(({ canvas }) => canvas.getContext("2d").getImageData(canvas.width - 3, canvas.height - 3, 1, 1).data[0])
        (ferret.timeline)"""
    until(lambda: (tab.evaluate(corner) > 128) == (scheme == "light"))
    tab.emulate_media(color_scheme="light")
    until(lambda: tab.evaluate(corner) > 128)  # as soon as the system changes its mind
