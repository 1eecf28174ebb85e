"""Programs that did something on several tracks, drawn by hypothesis, and what they recorded, in segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from support import record

from ferret.ambient import ThreadInfo
from ferret.batch import Batch, Origin
from ferret.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ferret.models import ProcessInfo
    from ferret.span import Record

TOKENS = ["a" * 16, "b" * 16]
THREADS = [ThreadInfo(1, "main"), ThreadInfo(2, "worker")]
TASKS = [None, "Task-1", "Task-2"]

type Track = tuple[str, int, str | None]
type Spans = list[tuple[str, Record]]
"""Each span with the token of its process, in the order in which they ended."""


@st.composite
def programs(draw: st.DrawFn) -> Spans:
    """What some tracks did in turns: functions called each other, were suspended, and handed work to other tracks."""
    tracks: list[Track] = draw(
        st.lists(
            st.tuples(st.sampled_from(TOKENS), st.sampled_from([0, 1]), st.sampled_from(TASKS)),
            min_size=1, max_size=4, unique=True,
        )
    )  # fmt: skip
    stacks: dict[Track, list[tuple[int, int, int, str]]] = {track: [] for track in tracks}
    done: Spans = []
    now, next_id = 0, 1

    def end(track: Track) -> None:
        span_id, parent_id, start_ns, name = stacks[track].pop()
        suspended_ns = draw(st.sampled_from([0, 0, (now - start_ns) // 2, now - start_ns]))
        token, thread, task = track
        self_ns = draw(st.sampled_from([-1, -1, -1, 0, 7]))
        done.append(
            (
                token,
                record(
                    span_id, span_id=span_id, parent_id=parent_id, name=name, start_ns=start_ns, end_ns=now,
                    thread=thread, task=task, suspended_ns=suspended_ns, self_ns=self_ns,
                ),
            )
        )  # fmt: skip

    for _ in range(draw(st.integers(0, 40))):
        track = draw(st.sampled_from(tracks))
        now += draw(st.integers(0, 1000))
        if stacks[track] and draw(st.booleans()):
            end(track)
        else:
            begun = [*stacks[track][-1:], *(stack[-1] for stack in stacks.values() if stack)]
            parent_id = draw(st.sampled_from([0, *(one[0] for one in begun)])) if begun else 0
            stacks[track].append((next_id, parent_id, now, draw(st.sampled_from("abc"))))
            next_id += 1
    for track in tracks if draw(st.booleans()) else []:  # or else it was killed: what was open is never stored
        while stacks[track]:
            now += 1
            end(track)
    return done


def stored(spans: Spans, cuts: Sequence[int]) -> Iterator[Segment]:
    """In segments from each cut to the next, and of one process each, as a file has them."""
    ends = sorted({min(cut, len(spans)) for cut in cuts} | {len(spans)})
    for sequence, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        for token in TOKENS:
            own = [one for whose, one in spans[start:end] if whose == token]
            if own:
                batch = Batch(Origin("run", token, 1, 0), sequence, own, THREADS)
                yield Segment.from_bytes(Segment.from_batch(batch).to_bytes())


class Held:
    """Segments to report on."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.held = segments

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        return iter(self.held)

    def processes(self, run_id: str | None = None) -> Iterator[ProcessInfo]:
        return iter(())
