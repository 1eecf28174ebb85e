"""The benchmark suite measures what it says, and goes on where a peer cannot be measured."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import environments, run
from benchmarks.kinds import NAMES, Case, Scale, cost, kind
from benchmarks.peers import ALL, STRANGERS, peer
from benchmarks.peers.base import Peer, Span
from benchmarks.peers.ferret import PURE
from benchmarks.results import Results, Spread
from ferret import Report

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("writer", ["sync", "threaded"])
def test_each_form_of_a_span_records_what_it_should(writer: str, tmp_path: Path) -> None:
    ferret = peer(writer)
    forms = cost._forms(ferret, ferret.start(tmp_path))
    assert set(forms) == {*cost.FORMS, "floor"}
    for form, burst in forms.items():
        if form == "async with":
            asyncio.run(burst(5))
        else:
            burst(5)
    ferret.stop()

    spans = list(Report(tmp_path / "trace.db").spans())

    bursts = {span.span_id for span in spans if span.name == "burst"}
    assert len(bursts) == len(cost.FORMS)
    assert sum(span.parent_id in bursts for span in spans) == 5 * len(cost.FORMS)
    assert sum(span.name == "z" for span in spans) == 5
    assert [span.tags for span in spans if span.tags] == [{"user": n, "items": 3} for n in range(5)]
    assert sum(span.status == "error" for span in spans) == 5


def test_a_quick_run_of_the_cheapest_kind_finds_figures(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", "growth", "--quick", "--ours", "--output", str(output)],
        capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "As a run grows" in done.stdout

    results = Results.load(output)
    rows = results.kinds["growth"]["growth"]
    assert list(rows) == ["1,000 spans", "10,000 spans"]
    for row in rows.values():
        (figures,) = row.rounds
        assert all(value > 0 for value in figures.values()), figures
        assert figures["caller, × empty with"] > 1
    assert 1 < rows["10,000 spans"].rounds[0]["bytes/span"] < 100
    assert results.quick


def test_the_row_of_pure_python_is_measured_without_the_native_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def start(command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(env.get("FERRET_PURE"))
        return subprocess.CompletedProcess(command, 0, "{}", "")

    monkeypatch.setattr(subprocess, "run", start)
    for case in cost.cases(Scale(ours=True)):
        run.probe("cost", case, sys.executable)
    subjects = [case.subject for case in cost.cases(Scale())]
    assert [subject for subject, pure in zip(subjects, seen, strict=True) if pure] == [PURE]


def test_an_unknown_kind_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run.main(["costs"])
    assert exit_.value.code == 2
    assert "no such kind: costs; there are cost, lag" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_every_case_of_a_kind_can_be_told_apart(name: str) -> None:
    cases = kind(name).cases(Scale())
    assert len({(case.table, run._row(case)) for case in cases}) == len(cases)
    assert {case.subject for case in cases} <= {*ALL, *STRANGERS, PURE}


@pytest.mark.parametrize("name", STRANGERS)
def test_every_peer_says_what_it_does_and_what_it_does_not(name: str) -> None:
    one = peer(name)
    assert one.does_more.endswith(".")
    assert one.does_less.endswith(".")
    assert one.measured_as.endswith(".")


class Unheard(Peer):
    """A peer that no registry has."""

    title = "Unheard"
    environment = "unheard"
    distributions = ("a-peer-that-does-not-exist",)
    plain = Span("")


def test_a_peer_that_cannot_be_installed_has_a_line_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "VENVS", tmp_path)
    monkeypatch.setattr(environments, "PROGRAMS", ())
    monkeypatch.setattr(run, "peer", lambda name: Unheard() if name == "unheard" else peer(name))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    pythons = {name: run._environment(name) for name in ("unheard", "untraced")}
    cases = [Case("t", "unheard", 1, {"times": 1}), Case("t", "untraced", 1, {"times": 1, "line": "pass"})]

    tables = run._tables("imports", cases, 2, pythons, lambda _: None)

    assert tables["t"]["Unheard"].rounds == []
    assert tables["t"]["Unheard"].missing.startswith("could not be installed: ")
    assert "a-peer-that-does-not-exist" in tables["t"]["Unheard"].missing
    assert len(tables["t"]["untraced"].rounds) == 2


def test_a_peer_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def probe(name: str, case: Case, python: str) -> dict[str, float]:
        del name, python
        asked.append(case.subject)
        if case.subject == "threaded":
            raise run.FailedError("failed: no room")
        return {"import, ms": 1.0}

    monkeypatch.setattr(run, "probe", probe)
    cases = [Case("t", subject, 1) for subject in ("threaded", "sync")]

    tables = run._tables("imports", cases, 3, dict.fromkeys(("threaded", "sync"), ""), lambda _: None)

    assert tables["t"]["ferret threaded"].missing == "failed: no room"
    assert len(tables["t"]["ferret sync"].rounds) == 3
    assert asked.count("threaded") == 1


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(run.FailedError, match=r"failed: .*no_such_option"):
        run.probe("growth", Case("growth", "threaded", 1, {"no_such_option": 1}), sys.executable)


def test_a_probe_needs_the_standard_library_alone_and_does_not_see_this_ferret() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROBED, str(ROOT / "benchmarks" / "probe.py")],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["benchmarks"]
    assert str(ROOT) not in found["path"]


PROBED = """
import importlib.util, json, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
spec = importlib.util.spec_from_file_location("probe", sys.argv[1])
probe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(probe)
probe.make_importable()
import benchmarks.peers
print(json.dumps({"benchmarks": bool(benchmarks.peers.ALL), "path": sys.path}))
"""


def test_the_middle_of_rounds_and_the_quarters_around_it() -> None:
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0)
    assert Spread.of([1.0, 9.0, 2.0, 3.0, 4.0]) == Spread(3.0, 2.0, 4.0)
