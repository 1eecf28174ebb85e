"""Bar charts as SVG: a bar for each row, with the quarters around the median as a whisker. No library, no script, no font."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from benchmarks.results import in_digits

if TYPE_CHECKING:
    from benchmarks.kinds import Chart
    from benchmarks.results import Row, Spread

WIDTH, RIGHT, TOP, LINE = 760, 96, 52, 26
"""Pixels; RIGHT is for the figure behind the longest bar."""
OURS, OTHERS, FLOOR = "#d9622b", "#8fa3b5", "#c9ced3"
STYLE = (
    "text { font: 13px system-ui, sans-serif; fill: #2b3036 } .title { font-size: 15px; font-weight: 600 } "
    ".ours { font-weight: 600 } .quiet { fill: #6b747d }"
)


def bars(chart: Chart, rows: dict[str, Row]) -> str:
    """The chart as a document; empty where no row has the figure."""
    found = {
        name: spread
        for name, row in rows.items()
        if (not chart.rows or name in chart.rows) and (spread := row.spread(chart.figure)) is not None
    }
    if not found:
        return ""
    height = TOP + LINE * len(found) + 14
    left = 32 + round(7.2 * max(map(len, found)))
    scale = (WIDTH - left - RIGHT) / (max(spread.high for spread in found.values()) or 1)
    title, unit = escape(chart.title.replace("`", "")), escape(chart.unit)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}, {unit}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#fbfaf8"/>',
        f'<text class="title" x="20" y="30">{title}<tspan class="quiet" font-weight="400"> · {unit}</tspan></text>',
    ]
    for number, (name, spread) in enumerate(found.items()):
        parts += _bar(name, spread, left, TOP + LINE * number, scale)
    return "\n".join([*parts, "</svg>", ""])


def _bar(name: str, spread: Spread, left: int, top: int, scale: float) -> list[str]:
    middle = top + LINE / 2
    ours = name.startswith(("ferret ", "threaded ", "process ", "bounded ", "sync ")) or name.endswith(" spans")
    colour = OURS if ours else FLOOR if name in {"untraced", "bare interpreter"} else OTHERS
    length, low, high = (max(1.0, value * scale) for value in (spread.median, spread.low, spread.high))
    strong = ' class="ours"' if ours else ""
    return [
        f'<text{strong} x="{left - 12}" y="{middle + 4.5:g}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{left}" y="{top + 4}" width="{length:.1f}" height="{LINE - 8}" rx="2" fill="{colour}"/>',
        f'<path d="M{left + low:.1f} {middle:g}H{left + high:.1f}" stroke="#2b3036" stroke-opacity=".55" fill="none"/>',
        f'<text{strong} x="{left + max(length, high) + 8:.1f}" y="{middle + 4.5:g}">{in_digits(spread.median)}</text>',
    ]
