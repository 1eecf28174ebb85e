"""The page as one file: markup, styles and scripts of ours, one library, and the run as compressed columns.

Nothing that a program chose, such as a name or a tag, is ever written as markup. It is in blocks of base64, which the
page's script turns into arrays and texts, and shows as texts. The policy in the page's head forbids all else: other
scripts than those that are here, every connection, and turning a text into markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from importlib import resources
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from ferret.view.columns import gather

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ferret.models import RunInfo
    from ferret.packing import Int64
    from ferret.segment import Segment
    from ferret.view.columns import RunColumns

SCRIPTS: Final = (
    "text.js", "data.js", "rows.js", "lanes.js", "totals.js", "search.js", "theme.js", "chart.js", "table.js",
    "details.js", "app.js",
)  # fmt: skip
"""The page's own scripts, in the order in which they build on each other."""

LIBRARY: Final = "vendor/flame-chart.min.js"

_BLOCK: Final = 3 << 20
"""Bytes of a column that are put into one element: a browser takes no text of any length. A multiple of 3, for base64."""


def write_page(info: RunInfo, segments: Iterable[Segment], out: BinaryIO, level: int = 6) -> int:
    """Write the page of one run: a file that a browser opens, with or without a network.

    Args:
        info: the run.
        segments: its spans. All of them are held as columns meanwhile, about 200 bytes a span.
        out: where the page goes, a piece at a time.
        level: how hard to compress, from 1, which is the quickest, to 9.

    Returns:
        How many spans are in the page.
    """
    columns = gather(segments)
    before, after = _frame()
    out.write(before)
    for name, content in _blocks(info, columns, level):
        for start in range(0, len(content), _BLOCK):
            text = base64.b64encode(content[start : start + _BLOCK])
            out.write(b'<script type="application/octet-stream" data-block="%s">' % name.encode())
            out.write(text + b"</script>\n")
    out.write(after)
    return len(columns.start_ns)


def policy() -> str:
    """The page's Content-Security-Policy: its own scripts and styles, by their hashes, and nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, _scripts()))}",
            f"style-src {_hash(_asset('page.css'))}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _frame() -> tuple[bytes, bytes]:
    """The page before and after its blocks."""
    before, after = _asset("page.html").split("<!-- blocks -->")
    before = before.replace("<!-- policy -->", f'<meta http-equiv="Content-Security-Policy" content="{policy()}">')
    before = before.replace("<!-- styles -->", f"<style>{_asset('page.css')}</style>")
    scripts = "\n".join(f"<script>{script}</script>" for script in _scripts())
    return before.encode(), after.replace("<!-- scripts -->", scripts).encode()


def _scripts() -> tuple[str, str]:
    """The library, and the page's own scripts in a scope of their own."""
    own = "\n".join(map(_asset, SCRIPTS))
    return _asset(LIBRARY), f'"use strict";\n(() => {{\n{own}\n}})();\n'


def _asset(name: str) -> str:
    return resources.files("ferret.view").joinpath("assets", *name.split("/")).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _blocks(info: RunInfo, columns: RunColumns, level: int) -> Iterator[tuple[str, bytes]]:
    """Each block's name and bytes, the facts first. The page reads them by name."""
    widths: dict[str, int] = {}
    packed: list[tuple[str, bytes]] = []
    for name, column in _columns(columns):
        widths[name], shuffled = pack(column)
        packed.append((name, zlib.compress(shuffled, level)))
    facts = json.dumps(_facts(info, columns, widths)).encode()  # ASCII only, a lone surrogate is \udXXX
    yield "facts", zlib.compress(facts, level)
    yield from packed
    yield "tags", b"".join(columns.tag_blocks)


def _columns(columns: RunColumns) -> Iterator[tuple[str, Int64]]:
    """What the page reads, each column made small first: distances instead of places, remainders instead of wholes."""
    count = len(columns.start_ns)
    index = np.arange(count)
    yield "start", np.diff(columns.start_ns, prepend=0)
    yield "duration", columns.duration_ns
    yield "inner", columns.duration_ns - columns.self_ns
    yield "suspended", columns.suspended_ns
    yield "parent", np.where(columns.parent < 0, 0, _unsigned(index - columns.parent))
    yield "name", columns.name
    yield "track", columns.track
    yield "outcome", columns.outcome
    yield "id", columns.span_id
    if any(columns.tag_blocks):
        yield "stored", _unsigned(columns.stored - index)
        yield "tag_lengths", columns.tag_lengths


def _unsigned(values: Int64) -> Int64:
    """0, -1, 1, -2, 2, … as 0, 1, 2, 3, 4, …: small numbers of either sign as small numbers."""
    zigzag: Int64 = (values << 1) ^ (values >> 63)
    return zigzag


def pack(column: Int64) -> tuple[int, bytes]:
    """A column as bytes: how many bytes each value takes, then all the lowest bytes, all the next, and so on."""
    plain = column.astype("<i8", copy=False).view(np.uint64)
    most = int(plain.max()) if len(plain) else 0
    width = (most.bit_length() + 7) // 8
    planes = plain.view(np.uint8).reshape(-1, 8)[:, :width]
    return width, planes.T.tobytes()


def _facts(info: RunInfo, columns: RunColumns, widths: dict[str, int]) -> dict[str, Any]:
    return {
        "run": _run_facts(info),
        "count": len(columns.start_ns),
        "origin_ns": str(columns.origin_ns),  # more digits than a number has in JavaScript
        "widths": widths,
        "names": columns.names,
        "sources": columns.sources,
        "tracks": [track._asdict() for track in columns.tracks],
        "outcomes": columns.outcomes,
        "tag_blocks": [
            {"bytes": len(block), "spans": spans}
            for block, spans in zip(columns.tag_blocks, columns.tag_spans, strict=True)
        ],
    }


def _run_facts(info: RunInfo) -> dict[str, Any]:
    """What the page says of the run, and no more: a page is passed on, and arguments or a host name may be private."""
    processes = [{"token": one.token, "program": one.program, "ended_at": one.ended_at} for one in info.processes]
    shown = {"run_id", "program", "started_at", "ended_at", "lost"}
    return {**info.model_dump(mode="json", include=shown), "unclean": info.unclean, "processes": processes}
