"""Targets, comparisons and the page say what the figures say."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import compare, page
from benchmarks.results import BASELINE, Results, Row
from benchmarks.targets import TARGETS, judged

DOCS = Path(__file__).parents[2] / "docs"


def results(**changed: float) -> Results:
    """Three rounds of two kinds, whose figures differ a little from round to round."""
    figures = {"with": 3.5, "decorated call": 2.4, "two tags": 4.3} | changed
    ours = Row("threaded", [{name: value * by for name, value in figures.items()} for by in (0.98, 1.0, 1.03)])
    floor = Row("untraced", [{"with": 1.0}] * 3)
    lag = {
        "untraced": Row("untraced", [{"p99": 0.4, "p99.9": 1.0}] * 3),
        "ferret threaded": Row("threaded", [{"p99": 0.7, "p99.9": 3.5}] * 3),
        "Logfire": Row("logfire", missing="could not be installed: no registry"),
    }
    machine = dict.fromkeys(("processor", "cores", "python"), "1")
    return Results(
        "2026-01-31 12:00 UTC", 3, False, machine,
        {"ferret-trace": "1.0"}, 60.0,
        {"cost": {"spans": {"untraced": floor, "ferret threaded": ours}}, "lag": {"10,000 spans/s": lag}},
    )  # fmt: skip


def verdict(found: Results, what: str) -> tuple[bool, float, float]:
    (one,) = (one for one in judged(found) if one.target.what == what)
    return one.met, one.measured, one.allowed


def test_a_target_is_met_or_missed_by_its_figures() -> None:
    assert verdict(results(), "one span by `with`") == (True, 3.5, 4.0)
    assert verdict(results(**{"with": 4.1}), "one span by `with`")[0] is False
    assert verdict(results(), "two tags more")[0] is True
    assert verdict(results(**{"two tags": 4.6}), "two tags more")[0] is False


def test_a_target_beside_the_untraced_figure_of_the_same_round() -> None:
    met, measured, allowed = verdict(results(), "loop lag at 10,000 spans/s, p99, ms")
    assert (met, measured) == (True, 0.7)
    assert allowed == pytest.approx(0.4 * 1.5 + 0.2)
    assert verdict(results(), "loop lag at 10,000 spans/s, p99.9, ms") == (False, 3.5, 3.0)


def test_targets_without_figures_are_not_judged() -> None:
    assert len(judged(results())) == 5 < len(TARGETS)


def test_a_slow_down_beyond_the_spread_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = kept(tmp_path, results(), results(**{"with": 4.2}))
    with pytest.raises(SystemExit) as exit_:
        compare.main(paths)
    assert exit_.value.code == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "3 figures compared: 1 worse, 0 better." in shown
    assert "worse, 1.20 ×" in shown


def test_a_slow_down_within_the_spread_or_within_a_tenth_passes(tmp_path: Path) -> None:
    wide = results(**{"with": 4.2})
    wide.kinds["cost"]["spans"]["ferret threaded"].rounds[0]["with"] = 2.0
    for now in (wide, results(**{"with": 3.8}), results(**{"with": 2.0})):
        with pytest.raises(SystemExit) as exit_:
            compare.main(kept(tmp_path, results(), now))
        assert exit_.value.code == 0


def test_without_a_result_there_is_advice(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run `make bench` first"):
        compare.main(["--last", str(tmp_path / "none.json")])


def test_quick_figures_are_not_compared(tmp_path: Path) -> None:
    quick = results()
    quick.quick = True
    with pytest.raises(SystemExit, match="--quick"):
        compare.main(kept(tmp_path, results(), quick))


def kept(folder: Path, then: Results, now: Results) -> list[str]:
    then.save(folder / "then.json")
    now.save(folder / "now.json")
    return ["--baseline", str(folder / "then.json"), "--last", str(folder / "now.json")]


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    found = results()
    found.save(tmp_path / "kept.json")
    again = Results.load(tmp_path / "kept.json")
    assert again.kinds["lag"] == found.kinds["lag"]
    assert again.machine == found.machine


def test_the_page_is_what_the_baseline_makes_of_the_template() -> None:
    baseline = Results.load(BASELINE)
    assert (DOCS / page.PAGE).read_text(encoding="utf-8") == page.page(baseline), "run `python -m benchmarks.page`"
    charts = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / page.CHARTS).glob("*.svg")}
    assert charts == dict(page.all_charts(baseline))


def test_the_page_shows_what_was_measured_and_what_was_not(tmp_path: Path) -> None:
    found = results()
    text = page.page(found)
    assert "| ferret threaded | 3.50 (3.46–3.55) |" in text
    assert "Not measured: Logfire: could not be installed: no registry." in text
    assert "| loop lag at 10,000 spans/s, p99.9, ms | ≤ 2 × untraced + 1 ms | 3.50 of 3.00, **missed** |  |  |" in text
    assert "```{warning}" not in text
    other = deepcopy(found)
    other.quick = True
    assert "```{warning}" in page.page(other)


def test_writing_the_page_draws_its_charts_and_removes_old_ones(tmp_path: Path) -> None:
    (tmp_path / page.CHARTS).mkdir(parents=True)
    (tmp_path / page.CHARTS / "old.svg").write_text("<svg/>")
    page.write(results(), tmp_path)
    drawn = sorted(path.name for path in (tmp_path / page.CHARTS).iterdir())
    assert drawn == ["cost-spans-with.svg", "lag-10-000-spans-s-p99.svg"]
    for name in drawn:
        root = ET.parse(tmp_path / page.CHARTS / name).getroot()
        assert root.tag.endswith("svg")
        assert f"({page.CHARTS}/{name})" in (tmp_path / page.PAGE).read_text(encoding="utf-8")
