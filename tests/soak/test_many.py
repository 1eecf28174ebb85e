"""Very many spans through a sink that often fails; here fewer, `make soak-long` takes ten million."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import many

from ferret.writers import delivery


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
@pytest.mark.parametrize("spans", [80_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize(("writer", "sink"), [(one, many.SINKS[number % 2]) for number, one in enumerate(many.WRITERS)])
def test_nothing_is_unaccounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, sink: str, spans: int
) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(many, "KILL_EVERY_S", 0.5)
    outcome = many.through(writer, sink, spans, tmp_path, seed=31)
    assert outcome.wrong == []
    assert outcome.report.failed_by.keys() == {"RejectedError"}, "no fault befell it"


def test_a_span_that_is_missing_or_there_twice_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = many.through("sync", "jsonl", 8_000, tmp_path, seed=2)
    path = tmp_path / "sync.jsonl"
    assert many._account(path, 8_000, outcome.report) == outcome.wrong == []
    lines = path.read_text().splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if '"type":"batch"' in line)
    size = 1 + int(lines[start].rpartition(":")[2].strip("}\n"))
    path.write_text("".join(lines[:start] + lines[start + size :]))
    assert any("are stored, and" in one for one in many._account(path, 8_000, outcome.report))
    again = lines[start].replace('"sequence":', '"sequence":9999')
    path.write_text("".join([*lines, again, *lines[start + 1 : start + size]]))
    assert any("more than once" in one for one in many._account(path, 8_000, outcome.report))
