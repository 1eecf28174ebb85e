"""Tables in narrow terminals: numbers are whole or not there, and names are told apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text
from support import record
from typer.testing import CliRunner

from ferret.ambient import ThreadInfo
from ferret.batch import Batch, Origin
from ferret.cli.app import app
from ferret.cli.tables.cells import _shortened
from ferret.sinks.jsonl import JsonlSink

MS = 1_000_000
METHODS = [f"__main__.RegexLexerWithOptions.{one}" for one in ("get_tokens_unprocessed", "analyse_text", "get_tokens")]
LONG = [[], ["--sort", "p95"], ["--sort", "mean"], ["--slowest", "1"], ["--tree"]]


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of three methods of one class, in a call of another name; one of them has tags, and one failed."""
    path = tmp_path_factory.mktemp("narrow") / "spans.jsonl"
    records = [record(1, span_id=1, name="checkout", start_ns=0, end_ns=398 * MS, tags=None)]
    for number, name in enumerate(METHODS, 2):
        outcome = b'["error","no such item","LookupError"]' if number == 2 else None
        changes = {"start_ns": 5 * number * MS, "end_ns": (5 * number + 4) * MS, "outcome": outcome}
        records.append(record(number, span_id=number, parent_id=1, name=name, **changes))
    sink = JsonlSink(path)
    sink.write(Batch(Origin("f" * 32, "t", 1, 0), 0, records, [ThreadInfo(1, "MainThread")]))
    sink.close()
    return str(path)


def shown(columns: int | str, *arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments], env={"COLUMNS": str(columns)})
    assert done.exit_code == 0, done.output
    return done.output


def table(text: str) -> list[str]:
    """The lines of the table in it: heading, rule and rows."""
    lines = text.splitlines()
    rule = next(index for index, line in enumerate(lines) if set(line) == {"─"})
    end = lines.index("", rule) if "" in lines[rule:] else len(lines)
    return lines[rule - 1 : end]


@pytest.mark.parametrize("columns", [20, 30, 40, 50, 60, 70, 80, 100])
@pytest.mark.parametrize("options", LONG, ids=" ".join)
def test_numbers_and_headings_are_whole_and_no_line_is_wider_than_the_terminal(
    spans: str, columns: int, options: list[str]
) -> None:
    found = table(shown(columns, "analyze", spans, *options))
    if columns >= 30:
        assert max(map(len, found)) <= columns
    assert "…" not in found[0]
    assert len(found) == 6
    for row in found[2:]:
        cells = re.split(r" {2,}", row.strip())
        for cell in cells:  # a number with its unit, or no number
            assert re.fullmatch(r"[+]?[\d.,]+( (ns|µs|ms|s)|%)?|\D.*", cell), row
        assert re.search(r"\d (ns|µs|ms|s)(?! ?…)", row)


@pytest.mark.parametrize("columns", [40, 60, 80])
@pytest.mark.parametrize("options", LONG, ids=" ".join)
def test_methods_of_one_class_are_told_apart(spans: str, columns: int, options: list[str]) -> None:
    rows = table(shown(columns, "analyze", spans, *options))[2:]
    names = {re.split(r" {2,}", row.strip("│├└─ "))[0] for row in rows}
    assert len(names) == 4


def test_what_it_is_sorted_by_stays_and_what_matters_least_goes_first(spans: str) -> None:
    def headings(columns: int, *options: str) -> list[str]:
        return table(shown(columns, "analyze", spans, *options))[0].split()

    assert headings(40) == ["name", "count", "total"]
    assert headings(80) == ["name", "count", "total", "self", "p95", "errors"]
    assert headings(80, "--sort", "max") == ["name", "count", "total", "self", "p95", "max", "errors"]
    assert headings(40, "--sort", "p95") == ["name", "total", "p95"]


@pytest.mark.parametrize("columns", ["0", "", "wide", "-5"])
def test_a_width_that_is_none_counts_as_not_given(spans: str, columns: str) -> None:
    text = shown(columns, "analyze", spans)
    assert all(any(line.startswith(name) for line in text.splitlines()) for name in METHODS)
    assert "mean" in table(text)[0]


@pytest.mark.parametrize("columns", [30, 40, 60])
def test_runs_are_shown_with_their_ids(spans: str, columns: int, tmp_path: Path) -> None:
    found = table(shown(columns, "runs", spans))
    assert max(map(len, found)) <= columns
    assert "ffffffff" in found[2]
    assert "…" not in found[0]


@given(st.text("│ └─", max_size=60), st.text("ab.名é", min_size=1, max_size=80), st.integers(8, 60))
def test_a_name_keeps_both_ends_and_fits(guide: str, name: str, width: int) -> None:
    found = _shortened(Text(guide + name), width)
    assert found.cell_len <= width
    assert found.plain.endswith(name[-1])
    if Text(guide + name).cell_len <= width:
        assert found.plain == guide + name
