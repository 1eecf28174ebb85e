"""The oracle at work for some seconds, and what shows that it would notice."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harm import Happened, Running
from judge import judge
from plan import Harm, Plan, draw
from soak import Totals, accusation, soak

FIRST_SEED = 2_026
SECONDS = 20


@pytest.mark.timeout(400)
def test_random_programs_under_random_faults_keep_what_was_acknowledged(tmp_path: Path) -> None:
    """Conservation, integrity, the ledger and liveness, for as many programs as there is time for (`make soak`: longer)."""
    totals = soak(SECONDS, None, tmp_path, jobs=2, first=FIRST_SEED)
    assert not totals.guilty, "\n\n".join(accusation(one) for one in totals.guilty)
    assert totals.programs >= 2
    assert totals.owed > 100, totals.summary(SECONDS)


def calm(sink: str, **changes: Any) -> Plan:
    """A small program that nothing befalls."""
    fields: dict[str, Any] = {
        "seed": 1, "writer": "threaded", "sink": sink, "options": {"batch_size": 10, "flush_interval": 0.05}, "threads": 2,
        "spans": 40, "pause": 0.001, "children": [], "ending": "close", "sink_faults": {}, "harms": [], **changes,
    }  # fmt: skip
    return Plan(**fields)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Happened, bytes]:
    """A program that kept its promises, and the file that it wrote."""
    folder = tmp_path_factory.mktemp("sound")
    plan = calm("jsonl")
    happened = Running(plan, folder).run()
    file = (folder / "spans.jsonl").read_bytes()
    verdict = judge(plan, happened, folder)
    assert verdict.violations == [], happened.stderr
    assert verdict.stored == verdict.owed >= 80
    return plan, happened, file


def lines_of(file: bytes) -> list[Any]:
    return [json.loads(line) for line in file.splitlines()]


def first_span(lines: list[Any]) -> Any:
    return next(line for line in lines if line["type"] == "span")


def lose_a_batch(lines: list[Any]) -> None:
    start = next(number for number, line in enumerate(lines) if line["type"] == "batch")
    del lines[start : start + 1 + lines[start]["spans"]]


def store_a_batch_twice(lines: list[Any]) -> None:
    start = next(number for number, line in enumerate(lines) if line["type"] == "batch")
    again = [dict(line) for line in lines[start : start + 1 + lines[start]["spans"]]]
    again[0]["sequence"] = 9999
    lines += again


def change_a_tag(lines: list[Any]) -> None:
    first_span(lines)["tags"]["v"] += 1


def change_a_name(lines: list[Any]) -> None:
    first_span(lines)["name"] += "!"


def begin_too_early(lines: list[Any]) -> None:
    span = first_span(lines)
    span["start_time"] -= 0.001
    span["duration"] += 0.001


def end_too_early(lines: list[Any]) -> None:
    span = max(
        (line for line in lines if line["type"] == "span" and line["tags"]["c"]), key=lambda one: one["duration"]
    )
    assert span["duration"] > 1e-5
    span["end_time"], span["duration"] = span["start_time"], 0.0


def give_another_parent(lines: list[Any]) -> None:
    spans = [line for line in lines if line["type"] == "span"]
    root = next(span for span in spans if span["parent_id"] is None)
    root["parent_id"] = spans[-1]["span_id"]


def miscount(lines: list[Any]) -> None:
    ledger = next(line for line in reversed(lines) if line["type"] == "run" and line["ledger"])["ledger"]
    ledger["written"] -= 1
    ledger["failed"] += 1


def not_add_up(lines: list[Any]) -> None:
    ledger = next(line for line in reversed(lines) if line["type"] == "run" and line["ledger"])["ledger"]
    ledger["recorded"] += 1


@pytest.mark.parametrize(
    ("crime", "accused_of"),
    [
        (lose_a_batch, "acknowledged, and not in"), (store_a_batch_twice, "stored twice"),
        (change_a_tag, "name or tags"), (change_a_name, "name or tags"), (begin_too_early, "times"),
        (end_too_early, "times"), (give_another_parent, "parents"), (miscount, "close() of"), (not_add_up, "ledgers"),
    ],
)  # fmt: skip
def test_the_judge_notices(
    tmp_path: Path, sound: tuple[Plan, Happened, bytes], crime: Callable[[list[Any]], None], accused_of: str
) -> None:
    """Each thing that can be wrong with what is stored is found."""
    plan, happened, file = sound
    lines = lines_of(file)
    crime(lines)
    (tmp_path / "spans.jsonl").write_text("".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines))
    violations = judge(plan, happened, tmp_path).violations
    assert any(accused_of in one for one in violations), violations


def test_the_judge_notices_a_damaged_database(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    plan = calm("beaver", writer="sync")
    happened = Running(plan, tmp_path).run()
    sound = tmp_path_factory.mktemp("sound")  # judging records into the file
    shutil.copytree(tmp_path, sound, dirs_exist_ok=True, ignore=shutil.ignore_patterns("pipe"))
    assert judge(plan, happened, sound).violations == []
    with closing(sqlite3.connect(tmp_path / "trace.db")) as db:
        key = db.execute("SELECT key FROM __beaver_blobs__ WHERE key LIKE 'soak%' LIMIT 1").fetchone()[0]
        db.execute("DELETE FROM __beaver_blobs__ WHERE key = ?", [key])
        db.commit()
    assert any("acknowledged, and not in" in one for one in judge(plan, happened, tmp_path).violations)


def test_a_program_that_hangs_is_ended_and_accused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harm.LONGEST_S", 3.0)
    plan = calm("jsonl", spans=100_000, harms=[Harm("kill-fork", 0.0)])
    happened = Running(plan, tmp_path).run()
    assert any("did not end within 3 s" in one for one in happened.violations)
    assert "Thread 0x" in happened.stderr, "it says where its threads were"


def test_a_seed_is_a_plan(tmp_path: Path) -> None:
    """A program can be replayed, and the plans of many seeds have everything in them."""
    plans = [draw(seed) for seed in range(400)]
    assert plans == [draw(seed) for seed in range(400)]
    assert len({(plan.writer, plan.sink) for plan in plans}) == 20
    harms = {harm.kind for plan in plans for harm in plan.harms}
    assert harms == {"kill", "term", "int", "stop", "kill-child", "kill-fork", "full", "locked"}
    assert {kind for plan in plans for kind in plan.sink_faults} == {"raise", "doubt", "hang", "die"}
    assert {kind for plan in plans for kind in plan.children} == {"fork", "mp-fork", "spawn", "program"}
    assert not Totals().guilty
