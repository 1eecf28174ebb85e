"""The page as a file: nothing in it comes from elsewhere, and nothing that a program chose is markup."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from importlib import resources
from typing import TYPE_CHECKING

import pytest
from pages import HOSTILE
from support import batch, record

from ferret.models import RunInfo
from ferret.segment import Segment
from ferret.view import page as page_module
from ferret.view.page import policy, write_page

if TYPE_CHECKING:
    from pathlib import Path

INFO = RunInfo(run_id="run-of-somebody", program="program-of-somebody", started_at=1_700_000_000.0)


class Elements(HTMLParser):
    """Every element's name and attributes, and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside = ""
        self.texts: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside in ("script", "style"):
            self.texts.append((*self.found[-1], data))


def written(*segments: Segment, info: RunInfo = INFO) -> str:
    out = io.BytesIO()
    assert write_page(info, segments, out) == sum(map(len, segments))
    return out.getvalue().decode("utf-8")


def test_nothing_in_it_is_fetched(shop_page: Path) -> None:
    elements = Elements(shop_page.read_text(encoding="utf-8"))
    references = [
        value
        for _, attributes in elements.found
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "poster", "srcset")
    ]
    assert references == ["data:,"]  # the icon that there is not
    styles = "".join(text for tag, _, text in elements.texts if tag == "style")
    assert "url(" not in styles
    assert "@import" not in styles


def test_no_name_or_tag_stands_in_the_page_as_it_is() -> None:
    empty = Elements(written()).found
    names = [record(number, name=name, tags=None) for number, name in enumerate(HOSTILE)]
    text = written(Segment.from_batch(batch(*names)))
    kinds = [(tag, {**attributes, "data-block": None}) for tag, attributes in Elements(text).found]
    assert [one for one in kinds if one not in [(tag, {**each, "data-block": None}) for tag, each in empty]] == []
    for name in [*HOSTILE[:6], INFO.run_id, INFO.program]:
        assert name not in text


def test_what_a_program_chose_is_base64() -> None:
    text = written(Segment.from_batch(batch(record(1))))
    blocks = [(attributes, data) for _, attributes, data in Elements(text).texts if attributes.get("data-block")]
    assert {attributes["data-block"] for attributes, _ in blocks} >= {"facts", "start", "duration", "name", "tags"}
    for attributes, data in blocks:
        assert attributes["type"] == "application/octet-stream"
        assert re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", data)


def test_a_large_block_comes_in_several_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Segment.from_batch(batch(*map(record, range(100))))
    whole = [data for _, each, data in Elements(written(one)).texts if each.get("data-block") == "facts"]
    monkeypatch.setattr(page_module, "_BLOCK", 30)
    parts = [data for _, each, data in Elements(written(one)).texts if each.get("data-block") == "facts"]
    assert len(parts) > 1
    assert base64.b64decode("".join(parts)) == base64.b64decode(whole[0])


def test_the_policy_allows_the_page_s_own_scripts_and_styles_and_nothing_else(shop_page: Path) -> None:
    elements = Elements(shop_page.read_text(encoding="utf-8"))
    stated = [each["content"] for tag, each in elements.found if each.get("http-equiv") == "Content-Security-Policy"]
    assert stated == [policy()]
    rules = dict(rule.split(" ", 1) for rule in policy().split("; "))
    assert rules["default-src"] == "'none'"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        texts = [data for one, each, data in elements.texts if one == tag and "data-block" not in each]
        hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in texts]
        assert rules[rule].split() == hashes


def test_what_need_not_be_known_of_the_machine_is_not_passed_on(shop: Path) -> None:
    from ferret import Report

    with Report(shop) as report:
        facts = page_module._run_facts(report.run())
    assert {"argv", "host", "python"}.isdisjoint(set(facts) | set(facts["processes"][0]))


def test_every_bundled_package_has_its_licence_beside_it() -> None:
    vendor = resources.files("ferret.view").joinpath("assets", "vendor")
    listed = re.findall(
        r"^\| (\S+) \| \S+ \| \w+, `licences/(\S+)` \|$", vendor.joinpath("README.md").read_text(), re.MULTILINE
    )
    assert {package for package, _ in listed} >= {"flame-chart-js", "color", "events"}
    assert {file for _, file in listed} == {one.name for one in vendor.joinpath("licences").iterdir()}
    for _, file in listed:
        text = vendor.joinpath("licences", file).read_text(encoding="utf-8")
        assert "Permission is hereby granted" in text
        assert "Copyright" in text or "copyright" in text
