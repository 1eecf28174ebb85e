"""speedscope files, by speedscope's own schema and rules."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
from hypothesis import given
from recorded import INFO, SOURCES, TASKS, THREADS, One, exported, runs

SCHEMA = json.loads((Path(__file__).parent / "speedscope_format" / "file-format-schema.json").read_text())


def parsed(spans: list[One]) -> Any:
    return json.loads(exported(spans, "speedscope"))


def stacks_of(profile: Any) -> list[tuple[int, int, int, int]]:
    """Frame, begin, end and depth of each span of a profile, by speedscope's rules for events."""
    stack: list[tuple[int, int]] = []
    found = []
    now = profile["startValue"]
    for event in profile["events"]:
        assert event["at"] >= now, "not in the order of time"
        now = event["at"]
        if event["type"] == "O":
            stack.append((event["frame"], now))
        else:
            frame, begin = stack.pop()
            assert frame == event["frame"], "closes another frame than the last that opened"
            found.append((frame, begin, now, len(stack)))
    assert not stack, "left open"
    assert now == profile["endValue"]
    return found


def title(one: One, several: bool) -> str:
    parts = [f"</p>{INFO.processes[one.process].process_id}.py {INFO.processes[one.process].process_id}"] * several
    parts += [THREADS[one.thread][1], *([TASKS[one.task]] if one.task else [])]
    return " · ".join(parts)


@given(runs())
def test_every_span_is_there_once_in_a_profile_of_its_thread_and_task(spans: list[One]) -> None:
    file = parsed(spans)
    jsonschema.validate(file, SCHEMA)
    first = min((one.start_ns for one in spans), default=0)
    several = len({one.process for one in spans}) > 1
    frames = [frame["name"] for frame in file["shared"]["frames"]]
    found = Counter(
        (profile["name"].partition(" (")[0], frames[frame], begin + first, end + first)
        for profile in file["profiles"]
        for frame, begin, end, _ in stacks_of(profile)
    )
    assert found == Counter((title(one, several), one.known_name, one.start_ns, one.end_ns) for one in spans)
    assert len({profile["name"] for profile in file["profiles"]}) == len(file["profiles"])


@given(runs())
def test_no_name_breaks_out_of_a_page_a_terminal_or_a_line(spans: list[One]) -> None:
    text = exported(spans, "speedscope").decode()
    assert not set("<>&") & set(text)
    assert text.replace("\n", "").isprintable()
    assert len(text.splitlines()) == 2 + len(json.loads(text)["profiles"])


def test_frames_have_file_and_line_and_are_shared() -> None:
    file = parsed([One(1, 0, "a", 0, 9), One(2, 1, "b", 1, 1), One(3, 1, "a", 3, 1), One(4, 0, "c", 0, 1, thread=1)])
    assert sorted(file["shared"]["frames"], key=lambda frame: frame["name"]) == [
        {"name": "a", "file": SOURCES["a"][0], "line": 3}, {"name": "b", "file": "b.py", "line": 0}, {"name": "c"},
    ]  # fmt: skip


def test_profiles_come_as_they_begin_and_the_fullest_is_shown_first() -> None:
    late = [One(n, 0, "a", 100 + n, 1) for n in range(1, 5)]
    file = parsed([*late, One(9, 0, "a", 0, 5, thread=1)])
    assert [profile["name"] for profile in file["profiles"]] == ["worker", "MainThread"]
    assert file["activeProfileIndex"] == 1


def test_a_run_without_spans_is_a_valid_file() -> None:
    file = parsed([])
    jsonschema.validate(file, SCHEMA)
    assert file["profiles"] == []
