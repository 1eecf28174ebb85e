"""speedscope's own format: an evented profile for each thread and task, that share a table of frames.

The format is https://www.speedscope.app/file-format-schema.json. Times are nanoseconds since the run's first span began:
a browser's numbers hold those exactly for 104 days, and nanoseconds since the epoch not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from ferret import __version__
from ferret.export.columns import chunks, collect
from ferret.export.text import json_bytes
from ferret.export.tracks import lay_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ferret.export.columns import Spans
    from ferret.export.tracks import Lane
    from ferret.models import RunInfo
    from ferret.segment import Segment

SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"

_EVENTS: Final = 1 << 16


def write(info: RunInfo, segments: Iterable[Segment], out: BinaryIO) -> int:
    """Write the run's spans; their number."""
    spans = collect(segments)
    layout = lay_out(spans)
    order, opens = layout.events()
    start = int(spans.start_ns.min()) if len(spans) else 0
    begin = {lane.track: int(spans.start_ns[layout.order[lane.first]]) for lane in reversed(layout.lanes)}
    lanes = sorted(layout.lanes, key=lambda lane: (begin[lane.track], lane.track, lane.number))
    fullest = max(range(len(lanes)), key=lambda index: lanes[index].last - lanes[index].first, default=0)
    titles = _titles(info, spans)
    head = {
        "$schema": SCHEMA,
        "exporter": f"ferret {__version__}",
        "name": f"{info.program} {info.run_id}".strip(),
        "activeProfileIndex": fullest,
        "shared": {"frames": [_frame(name, spans) for name in spans.names]},
    }
    out.write(json_bytes(head)[:-1] + b',"profiles":[')
    kinds = [f'{{"type":"{kind}","frame":{frame},"at":' for frame in range(len(spans.names)) for kind in "CO"]
    for number, lane in enumerate(lanes):
        first, last = 2 * lane.first, 2 * lane.last
        profile = {
            "type": "evented",
            "name": titles(lane),
            "unit": "nanoseconds",
            "startValue": int(spans.start_ns[order[first]]) - start,
            "endValue": int(layout.end_ns[order[last - 1]]) - start,
        }
        out.write((b"," if number else b"") + b"\n" + json_bytes(profile)[:-1] + b',"events":[')
        for part in chunks(last - first, _EVENTS):
            here = slice(first + part.start, first + part.stop)
            own, opening = order[here], opens[here]
            at = np.where(opening, spans.start_ns[own], layout.end_ns[own]) - start
            kind = 2 * spans.name[own] + opening
            events = [f"{kinds[one]}{when}}}" for one, when in zip(kind.tolist(), at.tolist(), strict=True)]
            out.write((("," if part.start else "") + ",".join(events)).encode())
        out.write(b"]}")
    out.write(b"\n]}\n")
    return len(spans)


def _frame(name: str, spans: Spans) -> dict[str, Any]:
    file, line = spans.sources.get(name, (None, 0))
    return {"name": name} if file is None else {"name": name, "file": file, "line": line}


def _titles(info: RunInfo, spans: Spans) -> Callable[[Lane], str]:
    """What tells the profiles apart: the thread, and where there are several of them the process, task and lane."""
    processes = len({track.token for track in spans.tracks}) > 1
    programs = {process.token: process.program for process in info.processes}

    def title(lane: Lane) -> str:
        track = spans.tracks[lane.track]
        program = programs.get(track.token, info.program)
        parts = [f"{program} {track.process_id}".strip()] if processes else []
        parts.append(track.thread_name or f"thread {track.thread_id}")
        parts += [track.task] if track.task else []
        return " · ".join(parts) + (f" ({lane.number + 1})" if lane.number else "")

    return title
