"""What the command says of runs that did not come to their end."""

from __future__ import annotations

from collections import Counter

import pytest

from ferret.cli.tables import ledger_line, runs_table
from ferret.ledger.counts import BLOCK, CLAIMED, DROPPED, FAILED, WRITTEN, Counts
from ferret.ledger.fates import UNTOLD, last_ledger
from ferret.ledger.live import Life
from ferret.models import Ledger, ProcessFate, ProcessInfo, RunInfo


def fate(state: str, pending: int = 0, uncertain: int = 0, **facts: object) -> ProcessFate:
    ledger = Ledger(recorded=100 + pending, written=100, pending=pending, uncertain=uncertain)
    return ProcessFate(run_id="r", token=f"{state}{pending}", process_id=1, state=state, ledger=ledger, **facts)  # type: ignore[arg-type]


def run_of(*processes: ProcessInfo, spans: int = 100) -> RunInfo:
    return RunInfo(run_id="r", started_at=0.0, spans=spans, processes=list(processes))


@pytest.mark.parametrize(
    ("processes", "line"),
    [
        ([fate("killed", 5)], "killed, with 5 spans that were recorded and not yet stored"),
        ([fate("killed", 1)], "killed, with 1 span that was recorded and not yet stored"),
        ([fate("killed", 1234, 34)], "killed, with 1,200 to 1,234 spans that were recorded and not yet stored"),
        ([fate("killed")], "killed, with nothing lost"),
        ([fate("running", 7)], "still running"),
        ([fate("unknown")], "unclean: the program was killed or still runs"),
        (
            [fate("killed", 5), fate("killed", 2), fate("ended", ended_at=1.0)],
            "2 of 3 processes killed, with 7 spans that were recorded and not yet stored",
        ),
        (
            [fate("killed"), fate("running"), fate("unknown")],
            (
                "1 of 3 processes killed, with nothing lost; 1 of 3 processes still run; "
                "unclean: 1 of 3 processes was killed or still runs"
            ),
        ),
        (
            [fate("unknown", missing_batches=2)],
            "unclean: the program was killed or still runs; 2 batches that were written are not in this file",
        ),
    ],
)
def test_the_last_line_says_what_became_of_the_processes(processes: list[ProcessFate], line: str) -> None:
    assert ledger_line(run_of(*processes)).plain == line


@pytest.mark.parametrize(
    ("states", "mark"),
    [(["ended"], None), (["running"], "running"), (["running", "killed"], "killed"), (["unknown"], "unclean")],
)
def test_a_line_of_the_list_is_marked(states: list[str], mark: str | None) -> None:
    processes = [fate(state, ended_at=1.0 if state == "ended" else None) for state in states]
    table = runs_table([run_of(*processes)])
    last = next(iter(table.columns[-1].cells))
    assert (str(last) if mark else None) == mark


def life(**cells: int) -> Life:
    numbers = {"claimed": CLAIMED, "block": BLOCK, "written": WRITTEN, "failed": FAILED, **DROPPED}
    counts = Counts()
    for name, value in cells.items():
        counts.cells[numbers[name]] = value
    return Life("t", False, tuple(counts.cells), b"{}", True, "")


def test_a_last_ledger_adds_up_and_keeps_the_reasons_that_were_told() -> None:
    stored = Ledger(recorded=50, written=40, failed=10, failed_by={"OSError": 10})
    ledger = last_ledger(life(claimed=200, block=8, written=100, failed=25, overflow=5, suppressed=3), stored)
    assert (ledger.recorded, ledger.written, ledger.uncertain) == (203, 100, 7)
    assert ledger.failed_by == {"OSError": 10, UNTOLD: 15}
    assert ledger.dropped_by == {"overflow": 5, "suppressed": 3}
    assert ledger.recorded == ledger.written + ledger.dropped + ledger.failed + ledger.pending
    assert Counter(ledger.failed_by).total() == ledger.failed


def test_lost_by_kill_is_unknown_if_one_process_is() -> None:
    run = run_of(fate("killed", 5), fate("unknown"))
    assert run.lost_by_kill is None
    assert run_of(fate("killed", 5, 2), fate("ended", ended_at=1.0)).lost_by_kill == 5
    assert run_of(fate("killed", 5, 2)).uncertain == 2
