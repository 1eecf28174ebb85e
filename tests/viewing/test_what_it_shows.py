"""The page in a real browser, opened as a file and without a network: it shows what was recorded, all of it.

`window.ferret` is what the page keeps for the browser's console; the tests ask it where things are.
"""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from pages import frames, opened, page_of, search
from support import ORIGIN, batch, record

from ferret import Profiler, Report
from ferret.batch import Batch, Origin
from ferret.models import RunInfo
from ferret.sinks.beaver import BeaverSink
from ferret.view.page import write_page

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(180)]

EVERY_SPAN = """() => Promise.all(Array.from({ length: ferret.run.count }, async (_, i) => {
  const { run } = ferret;
  const track = run.tracks[run.track[i]];
  return {
    id: run.id(i), parent: run.parent[i] < 0 ? null : run.id(run.parent[i]), name: run.names[run.name[i]],
    start: run.start[i], duration: run.duration[i], self: run.self[i], outcome: run.outcomes[run.outcome[i]],
    thread: track.thread_name, task: track.task || null, process: track.process_id,
    row: ferret.laid.rows.row[i], tags: (await run.tags.of(i)) || "{}",
  };
}))"""


def test_it_has_every_span_as_the_report_has_it(tab: Page, shop: Path, shop_page: Path) -> None:
    shown = {one["id"]: one for one in opened(tab, shop_page).evaluate(EVERY_SPAN)}
    with Report(shop) as report:
        spans = list(report.spans())
    first = min(span.start_time for span in spans)
    assert len(shown) == len(spans) == tab.evaluate("ferret.run.count")
    for span in spans:
        one = shown[span.span_id]
        assert one["name"] == span.name
        assert one["parent"] == span.parent_id
        assert one["duration"] == round((span.duration or 0) * 1e9)
        assert abs(one["start"] / 1e9 - (span.start_time - first)) < 1e-6
        assert one["outcome"] == [span.status, span.error, span.error_type]
        assert (one["thread"], one["task"], one["process"]) == (span.thread_name, span.task_name, span.process_id)
        assert json.loads(one["tags"]) == span.tags


def test_no_span_is_drawn_over_another(tab: Page, shop_page: Path) -> None:
    rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    shown = {one["id"]: one for one in opened(tab, shop_page).evaluate(EVERY_SPAN)}
    for one in shown.values():
        rows[one["row"]].append(one)
        parent = shown.get(one["parent"])
        if parent and (parent["thread"], parent["task"]) == (one["thread"], one["task"]):
            assert one["row"] > parent["row"]
    for on_row in rows.values():
        on_row.sort(key=lambda one: one["start"])
        for one, after in pairwise(on_row):
            assert one["start"] + max(one["duration"], 1) <= after["start"]
    by_name = {one["name"]: one for one in shown.values()}
    assert by_name["first of two"]["row"] != by_name["second of two"]["row"]


def test_its_head_says_what_ran_and_what_went_wrong(tab: Page, shop_page: Path) -> None:
    facts = opened(tab, shop_page).text_content("#facts") or ""
    assert f"{tab.evaluate('ferret.run.count')} spans" in facts
    assert "1 error" in facts
    assert "lost" not in facts
    assert "clean" not in facts
    assert tab.text_content("#run-id") == "run the-run"


RESIZED = """() => new Promise((told) => {
  const { host, canvas } = ferret.timeline;
  let looks = 0;
  new ResizeObserver(() => { // told after the chart's own, and before the browser paints
    if (looks++) told([...canvas.getContext("2d").getImageData(2, 2, 1, 1).data]);
    else host.style.marginRight = "100px";
  }).observe(host);
})"""
"""What is seen in a corner of the timeline as it becomes narrower: black is a canvas that nobody drew on."""


def test_a_chart_is_never_seen_before_it_is_drawn(tab: Page, shop_page: Path) -> None:
    assert opened(tab, shop_page).evaluate(RESIZED) != [0, 0, 0, 255]


def test_a_run_that_was_killed_says_so(tab: Page, tmp_path: Path) -> None:
    path = tmp_path / "killed.db"
    profiler = Profiler(str(path), writer="sync", batch_size=1)
    with profiler.measure("work"):
        pass
    page = page_of(path)  # as it is while nothing has been closed
    profiler.close()
    assert "no clean end" in (opened(tab, page).text_content("#facts") or "")


def test_a_run_that_lost_spans_says_how_many(tab: Page, tmp_path: Path) -> None:
    page = tmp_path / "lost.html"
    with page.open("wb") as out:
        write_page(RunInfo(run_id="r", started_at=1_700_000_000.0, lost=3), [], out)
    assert "3 spans lost" in (opened(tab, page).text_content("#facts") or "")


def test_a_run_without_spans_is_a_page_too(tab: Page, tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    Profiler(str(path)).close()
    assert "0 spans" in (opened(tab, page_of(path)).text_content("#facts") or "")


def test_the_flame_graph_adds_up(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    whole = tab.evaluate("ferret.run.self.reduce((sum, one) => sum + one, 0)")
    assert tab.evaluate("ferret.flame().length") == whole
    nodes = tab.evaluate("ferret.flame().nodes")
    assert sum(nodes["count"]) == tab.evaluate("ferret.run.count")
    below: dict[int, int] = defaultdict(int)
    for parent, value in zip(nodes["parent"], nodes["value"], strict=True):
        below[parent] += value
    for node, (own, value) in enumerate(zip(nodes["self"], nodes["value"], strict=True)):
        assert own + below[node] == value
    names = tab.evaluate("ferret.run.names")
    paths = {(names[name], parent < 0) for name, parent in zip(nodes["name"], nodes["parent"], strict=True)}
    assert {("shop.request", True), ("shop.load", False), ("batch.job", True), ("batch.step", False)} <= paths


def test_self_times_and_call_paths_are_those_computed_by_hand(tab: Page, tmp_path: Path) -> None:
    opened(tab, page_of(record_by_hand(tmp_path / "hand.db")))
    names = tab.evaluate("ferret.run.names")
    spans = tab.evaluate("[...ferret.run.name].map((name, i) => [name, ferret.run.self[i], ferret.run.suspended[i]])")
    assert sorted([names[name], *times] for name, *times in spans) == [
        ["a", 250, 0], ["b", 150, 50], ["b", 300, 0], ["c", 200, 0], ["d", 400, 0], ["e", 40, 0],
    ]  # fmt: skip
    nodes = tab.evaluate("ferret.flame().nodes")
    paths: list[str] = []
    for name, parent in zip(nodes["name"], nodes["parent"], strict=True):
        paths.append(names[name] if parent < 0 else f"{paths[parent]}/{names[name]}")
    numbers = zip(nodes["count"], nodes["total"], nodes["self"], nodes["value"], nodes["errors"], strict=True)
    assert dict(zip(paths, numbers, strict=True)) == {
        "a": (1, 1000, 250, 1340, 0),
        "a/b": (2, 800, 450, 690, 0),
        "a/b/c": (1, 300, 200, 240, 0),
        "a/b/c/e": (1, 100, 40, 40, 1),
        "a/d": (1, 400, 400, 400, 0),
    }
    flame = tab.evaluate(
        "[...ferret.flame().node].map((node, i) =>"
        " [node, ferret.flame().rows.row[i], ferret.flame().rows.start[i], ferret.flame().rows.end[i]])"
    )
    assert {paths[node]: tuple(where) for node, *where in flame} == {
        "a": (0, 0, 1340), "a/b": (1, 0, 690), "a/d": (1, 690, 1090), "a/b/c": (2, 0, 240), "a/b/c/e": (3, 0, 40),
    }  # fmt: skip


def record_by_hand(path: Path) -> Path:
    """Four levels, one of them on another thread, one suspended, and one whose self time was measured."""
    sink = BeaverSink(str(path))
    records = [
        record(1, span_id=1, name="a", start_ns=0, end_ns=1000),
        record(2, span_id=2, parent_id=1, name="b", start_ns=100, end_ns=700),
        record(3, span_id=3, parent_id=2, name="c", start_ns=200, end_ns=500),
        record(4, span_id=4, parent_id=1, name="b", start_ns=700, end_ns=900, suspended_ns=50),
        record(5, span_id=5, parent_id=1, name="d", start_ns=0, end_ns=400, thread=1),
        record(
            6, span_id=6, parent_id=3, name="e", start_ns=250, end_ns=350, self_ns=40, outcome=b'["error",null,"E"]'
        ),
    ]
    sink.write(batch(*records))
    sink.close()
    return path


def test_at_every_zoom_each_span_in_sight_is_drawn_once_and_a_wide_one_alone(tab: Page, shop_page: Path) -> None:
    opened(tab, shop_page)
    checked = tab.evaluate(
        """() => {
        const { rows } = ferret.laid;
        let checked = 0;
        for (const pixel of [1, 50, 999, 20_000, 300_000, 5e6])
          for (const from of [0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95].map((part) => part * ferret.run.length))
            for (let row = 0; row < rows.rowCount; row++) {
              const to = from + 1000 * pixel;
              const drawn = [];
              let right = -Infinity;
              rows.visit(row, from, to, pixel, (first, beyond, start, end) => {
                const items = [...rows.order.subarray(first, beyond)];
                drawn.push(...items);
                const wide = items.filter((item) => rows.end[item] - rows.start[item] >= pixel);
                if (wide.length && items.length > 1) throw new Error("a wide one is merged");
                for (const item of items)
                  if (rows.start[item] < start - pixel * 1e-3 || rows.start[item] > end) throw new Error("drawn elsewhere");
                if (start < right - pixel * 1.001 && start >= from) throw new Error("over another by more than a pixel");
                right = end;
              });
              const wanted = [...rows.order.subarray(rows.first[row], rows.first[row + 1])]
                .filter((item) => rows.end[item] > from && rows.start[item] < to);
              if (drawn.join() !== wanted.join()) throw new Error(`row ${row} at ${from} by ${pixel}: ${drawn} / ${wanted}`);
              checked += wanted.length;
            }
        return checked;
        }"""
    )
    assert checked > 500


def test_the_table_has_the_report_s_numbers(tab: Page, shop: Path, shop_page: Path) -> None:
    opened(tab, shop_page)
    with Report(shop) as report:
        stats = report.analyze_run()
    sums = {tab.evaluate(f"ferret.run.names[{one['name']}]"): one for one in tab.evaluate("ferret.table().sums")}
    assert set(sums) == set(stats)
    for name, one in stats.items():
        assert sums[name]["count"] == one.count
        assert sums[name]["errors"] == one.error_count
        assert sums[name]["total"] == pytest.approx(one.total_duration * 1e9)
        assert sums[name]["max"] == pytest.approx(one.max_duration * 1e9)
        assert sums[name]["p50"] <= sums[name]["p95"] <= sums[name]["p99"] <= sums[name]["max"]


def test_a_million_spans_load_and_draw(tab: Page, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "million.db"
    spans = record_many(path, 1_000_000)
    opened(tab, page_of(path))
    loaded = tab.evaluate("performance.now()")
    assert tab.evaluate("ferret.run.count") == spans
    assert f"{spans:,} spans" in (tab.text_content("#facts") or "")
    drawn = []
    for _ in range(12):
        tab.keyboard.press("w")
        frames(tab)
        drawn.append(tab.evaluate("ferret.timeline.plugin.frame"))
    assert search(tab, '"app.outer"') == spans // 10
    with capsys.disabled():
        print(
            f"\n{spans:,} spans: ready after {loaded:,.0f} ms; a frame: {sorted(drawn)[6]:.0f} ms, at most {max(drawn):.0f}"
        )


def record_many(path: Path, count: int) -> int:
    """Spans of eight threads, ten deep, each with the next inside it; written straight into the file."""
    sink = BeaverSink(str(path))
    threads = [(number, f"worker-{number}") for number in range(8)]
    for sequence, first in enumerate(range(0, count, 5000)):
        records = [
            record(
                number, span_id=1 + number, parent_id=number if number % 10 else 0,
                name=f"app.f{number % 10}" if number % 10 else "app.outer", thread=number // 10 % 8,
                start_ns=number // 80 * 1000 + number % 10 * 20, end_ns=number // 80 * 1000 + 900 - number % 10 * 20,
            )
            for number in range(first, min(first + 5000, count))
        ]  # fmt: skip
        sink.write(Batch(Origin("many", ORIGIN.token, 1, ORIGIN.anchor_ns), sequence, records, threads))
    sink.close()
    return count
