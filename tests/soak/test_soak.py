"""The oracle at work for some seconds, and what shows that it would notice."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harm import Happened, Running
from judge import Verdict, judge
from losses import Losses
from plan import Harm, Plan, draw
from soak import Totals, accusation, soak

from ferret.ledger import live
from ferret.ledger.counts import CELLS_AT, CLAIMED, COUNTS

FIRST_SEED = 2_026
PROGRAMS = 16


@pytest.mark.timeout(400)
def test_random_programs_under_random_faults_keep_what_was_acknowledged(tmp_path: Path) -> None:
    """Conservation, integrity, the ledger and liveness, of some programs (`make soak`: of as many as there is time for)."""
    totals = soak(0, list(range(FIRST_SEED, FIRST_SEED + PROGRAMS)), tmp_path, jobs=2, first=FIRST_SEED)
    assert not totals.guilty, "\n\n".join(accusation(one) for one in totals.guilty)
    assert totals.programs == PROGRAMS
    assert totals.owed > 100, totals.summary(0)


def calm(sink: str, **changes: Any) -> Plan:
    """A small program that nothing befalls."""
    fields: dict[str, Any] = {
        "seed": 1, "writer": "threaded", "sink": sink, "options": {"batch_size": 10, "flush_interval": 0.05}, "threads": 2,
        "spans": 40, "pause": 0.001, "children": [], "ending": "close", "poison": "", "sink_faults": {}, "harms": [],
        **changes,
    }  # fmt: skip
    return Plan(**fields)


class Innocent(NamedTuple):
    """A program that kept its promises, and what it wrote."""

    plan: Plan
    happened: Happened
    verdict: Verdict
    file: bytes
    quarantine: bytes

    def with_crime(self, crime: Callable[[list[Any]], None], folder: Path) -> list[str]:
        """Of what it is accused once somebody has tampered with the file."""
        lines = lines_of(self.file)
        crime(lines)
        (folder / "spans.jsonl").write_bytes(written(lines))
        (folder / "spans.jsonl-quarantine.jsonl").write_bytes(self.quarantine)
        (folder / "spans.jsonl-quarantine.jsonl").chmod(0o600)
        return judge(self.plan, self.happened, folder).violations


def innocent(folder: Path, plan: Plan) -> Innocent:
    happened = Running(plan, folder).run()
    file = (folder / "spans.jsonl").read_bytes()
    quarantine = folder / "spans.jsonl-quarantine.jsonl"
    set_aside = quarantine.read_bytes() if quarantine.exists() else b""
    verdict = judge(plan, happened, folder)
    assert verdict.violations == [], happened.stderr
    return Innocent(plan, happened, verdict, file, set_aside)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Innocent:
    """A program that lost nothing."""
    found = innocent(tmp_path_factory.mktemp("sound"), calm("jsonl"))
    assert found.verdict.stored == found.verdict.owed >= 80
    return found


def lines_of(file: bytes) -> list[Any]:
    return [json.loads(line) for line in file.splitlines()]


def written(lines: list[Any]) -> bytes:
    return "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines).encode()


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
    tmp_path: Path, sound: Innocent, crime: Callable[[list[Any]], None], accused_of: str
) -> None:
    """Each thing that can be wrong with what is stored is found."""
    violations = sound.with_crime(crime, tmp_path)
    assert any(accused_of in one for one in violations), violations


# -- crimes of loss ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Innocent:
    """A program that was killed in a quiet moment; its writing process put its last counts into the facts."""
    plan = calm("jsonl", writer="process", ending="kill", options={"batch_size": 30, "flush_interval": 0.05})
    found = innocent(tmp_path_factory.mktemp("killed"), plan)
    assert found.verdict.killed == 1
    return found


@pytest.fixture(scope="module")
def overrun(tmp_path_factory: pytest.TempPathFactory) -> Innocent:
    """A program whose queue was too small, and that counted what it dropped."""
    options = {"batch_size": 10, "flush_interval": 0.05, "max_queue": 10}
    plan = calm("jsonl", writer="bounded", options=options, sink_faults={"hang": 0.9})
    found = innocent(tmp_path_factory.mktemp("overrun"), plan)
    assert last_ledger(lines_of(found.file))["gaps"], "it dropped nothing"
    return found


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Innocent:
    """A program some of whose spans the sink refused."""
    found = innocent(tmp_path_factory.mktemp("poisoned"), calm("jsonl", spans=150, poison="names"))
    assert len(found.quarantine.splitlines()) == found.verdict.set_aside >= 2
    return found


def last_ledger(lines: list[Any]) -> Any:
    return next(line for line in reversed(lines) if line["type"] == "run" and line["ledger"])["ledger"]


def changed(**by: int) -> Callable[[list[Any]], None]:
    def change(lines: list[Any]) -> None:
        ledger = last_ledger(lines)
        for name, number in by.items():
            ledger[name] += number

    return change


def be_uncertain(lines: list[Any]) -> None:
    """Of what a kill took, which is nothing where the writing process was quick: so a batch is lost, too."""
    lose_a_batch(lines)
    last_ledger(lines)["uncertain"] += 1


def forget_the_kill(lines: list[Any]) -> None:
    for line in lines:
        if line["type"] == "run":
            line["killed"] = False


def forget_the_process(lines: list[Any]) -> None:
    lines[:] = [line for line in lines if line["type"] != "run"]


@pytest.mark.parametrize(
    ("crime", "accused_of"),
    [
        (changed(recorded=1, pending=1), "killed in a quiet moment"), (changed(recorded=-1, pending=-1), "at least"),
        (be_uncertain, "killed in a quiet moment"), (changed(failed=1), "reasons do not add up"),
        (lose_a_batch, "batches are said to be missing"),
        (forget_the_kill, "it is gone, and unknown"), (forget_the_process, "is not known"),
    ],
)  # fmt: skip
def test_the_judge_notices_what_is_said_of_a_kill(
    tmp_path: Path, killed: Innocent, crime: Callable[[list[Any]], None], accused_of: str
) -> None:
    violations = killed.with_crime(crime, tmp_path)
    assert any(accused_of in one for one in violations), violations


@pytest.mark.parametrize("by", [-1, 1])
def test_the_judge_notices_a_count_that_survived_and_is_wrong(tmp_path: Path, by: int) -> None:
    """Nobody puts it into the facts here: the reader takes it from the memory that the kernel kept."""
    plan = calm("jsonl", ending="kill")
    happened = Running(plan, tmp_path).run()
    (life,) = live.look(str(tmp_path / "spans.jsonl")).values()
    cells = list(life.counts)
    cells[CLAIMED] += by
    with open(life.path, "r+b") as file:
        file.seek(CELLS_AT)
        file.write(COUNTS.pack(*cells))
    violations = judge(plan, happened, tmp_path).violations
    assert any("killed in a quiet moment" in one for one in violations), violations


def no_gaps(lines: list[Any]) -> None:
    last_ledger(lines)["gaps"].clear()


def another_time(lines: list[Any]) -> None:
    for gap in last_ledger(lines)["gaps"]:
        gap["since"] -= 100
        gap["until"] -= 100


def one_gap_for_all_time(lines: list[Any]) -> None:
    gaps = last_ledger(lines)["gaps"]
    gaps.insert(0, {**gaps[0], "since": gaps[0]["since"] - 100, "until": gaps[0]["since"] - 99, "count": 1})
    gaps[-1]["count"] -= 1


def another_reason(lines: list[Any]) -> None:
    last_ledger(lines)["gaps"][0]["reason"] = "OSError"


@pytest.mark.parametrize(
    ("crime", "accused_of"),
    [
        (no_gaps, "its gaps count 0"), (another_time, "are in none of"), (one_gap_for_all_time, "are missing there"),
        (another_reason, "its gaps say"), (changed(written=1, dropped=-1), "reasons do not add up"),
    ],
)  # fmt: skip
def test_the_judge_notices_what_is_said_of_gaps(
    tmp_path: Path, overrun: Innocent, crime: Callable[[list[Any]], None], accused_of: str
) -> None:
    violations = overrun.with_crime(crime, tmp_path)
    assert any(accused_of in one for one in violations), violations


def nothing_set_aside(lines: list[Any]) -> None:
    lines.clear()


def set_aside_otherwise(lines: list[Any]) -> None:
    lines[0]["span"]["tags"]["v"] += 1


def set_aside_twice(lines: list[Any]) -> None:
    lines.append(lines[0])


def set_aside_what_is_sound(lines: list[Any]) -> None:
    lines[0]["span"]["tags"]["n"] += 1


@pytest.mark.parametrize(
    ("crime", "accused_of"),
    [
        (nothing_set_aside, "and not set aside"), (set_aside_otherwise, "is not what was issued"),
        (set_aside_twice, "was set aside 2 times"), (set_aside_what_is_sound, "and nobody refused it"),
    ],
)  # fmt: skip
def test_the_judge_notices_what_is_in_quarantine(
    tmp_path: Path, poisoned: Innocent, crime: Callable[[list[Any]], None], accused_of: str
) -> None:
    lines = lines_of(poisoned.quarantine)
    crime(lines)
    violations = poisoned._replace(quarantine=written(lines)).with_crime(lambda _: None, tmp_path)
    assert any(accused_of in one for one in violations), violations


def test_the_judge_notices_a_quarantine_that_others_may_read(tmp_path: Path, poisoned: Innocent) -> None:
    quarantine = tmp_path / "spans.jsonl-quarantine.jsonl"
    poisoned.with_crime(lambda _: None, tmp_path)
    quarantine.chmod(0o644)
    case = Losses(poisoned.plan, poisoned.happened, verdict := Verdict(), tmp_path / "spans.jsonl", placed=True)
    case.judge_quarantine([])
    assert "has mode 644" in verdict.violations[0]


# -- other crimes -----------------------------------------------------------------------------------


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
    assert {plan.poison for plan in plans} == {"", "names", "raises"}
    assert {plan.ending for plan in plans} == {"close", "return", "raise", "exit", "os._exit", "kill"}
    assert not Totals().guilty
