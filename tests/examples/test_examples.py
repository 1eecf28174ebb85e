"""examples/service.py, run as its user runs it: what the file holds afterwards must be what happened."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ferret.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferret.models import RunInfo, SpanModel, TraceNode

SERVICE = Path(__file__).parents[2] / "examples" / "service.py"
CHECKOUT, REFUND = "GET /checkout/{user}", "GET /refund/{order}"


class Recorded:
    """One run of the service, as its file tells it."""

    def __init__(self, writer: str, db: Path) -> None:
        command = [
            sys.executable,
            str(SERVICE),
            "--seconds",
            "1",
            "--rate",
            "3000",
            "--writer",
            writer,
            "--db",
            str(db),
        ]
        plain = {key: value for key, value in os.environ.items() if not key.startswith("FERRET_")}
        self.done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=plain)
        assert self.done.returncode == 0, self.done.stdout + self.done.stderr
        with Report(db) as report:
            self.run: RunInfo = report.run()
            self.spans: list[SpanModel] = list(report.spans())
            self.trees: list[TraceNode] = report.build_trees()

    def edges(self, name: str) -> Iterator[tuple[SpanModel, SpanModel, SpanModel]]:
        """Each span of the name, with its parent and its root."""
        for root in self.trees:
            above = [root]
            while above:
                node = above.pop()
                yield from ((child.span, node.span, root.span) for child in node.children if child.span.name == name)
                above.extend(node.children)


# a group is one xdist worker's, so that each writer's service runs once
WRITERS = [
    pytest.param(writer, marks=pytest.mark.xdist_group(f"service-{writer}")) for writer in ("threaded", "process")
]


@pytest.fixture(scope="module", params=WRITERS)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(request.param, tmp_path_factory.mktemp("service") / "trace.db")


def test_every_span_has_the_parent_that_the_code_gave_it(recorded: Recorded) -> None:
    shape = Counter((root.span.name, child.span.name) for root in recorded.trees for child in root.children)
    checkouts = sum(root.span.name == CHECKOUT for root in recorded.trees)
    refunds = sum(root.span.name == REFUND for root in recorded.trees)
    assert checkouts + refunds == len(recorded.trees), "every other span has a parent"
    assert checkouts > refunds > 0
    once = ("authorise", "load cart", "load prices", "load address", "price cart", "print receipt")
    expected = {(CHECKOUT, name): checkouts for name in once}
    expected |= {(REFUND, "authorise"): refunds, (REFUND, "find order"): refunds}
    at_times = shape.pop((CHECKOUT, "assess risk"))
    assert shape == expected
    assert 0 < at_times < checkouts


@pytest.mark.parametrize("name", ["query", "print receipt", "assess risk"])
def test_a_span_is_under_the_request_that_it_worked_for(recorded: Recorded, name: str) -> None:
    edges = list(recorded.edges(name))
    assert len(edges) == sum(span.name == name for span in recorded.spans)
    assert edges
    for span, _, root in edges:
        assert root.tags["path"] == f"/checkout/{span.tags['user']}"
        assert root.start_time <= span.start_time
        # two processes' clocks are anchored apart
        assert span.end_time <= root.end_time + (0.005 if span.process_id != root.process_id else 1e-6)


def test_gathered_tasks_are_children_of_the_request(recorded: Recorded) -> None:
    for table in ("cart", "prices", "address"):
        for load, parent, _ in recorded.edges(f"load {table}"):
            assert parent.name == CHECKOUT
            assert load.task_name != parent.task_name
    for query, load, _ in recorded.edges("query"):
        assert load.name == f"load {query.tags['table']}"
        assert query.task_name == load.task_name


def test_the_thread_pool_works_in_threads_of_its_own(recorded: Recorded) -> None:
    for receipt, request, _ in recorded.edges("print receipt"):
        assert receipt.process_id == request.process_id
        assert receipt.thread_id != request.thread_id
        assert receipt.thread_name.startswith("ThreadPoolExecutor")
        assert receipt.task_name is None
    for name in ("format", "compress"):
        assert {parent.name for _, parent, _ in recorded.edges(name)} == {"print receipt"}


def test_the_process_pool_records_into_the_same_run(recorded: Recorded) -> None:
    workers = {risk.process_id for risk, _, _ in recorded.edges("assess risk")}
    services = {request.process_id for _, request, _ in recorded.edges("assess risk")}
    assert len(services) == 1
    assert not workers & services
    assert workers | services == {one.process_id for one in recorded.run.processes if one.ledger and one.ledger.written}


def test_a_failing_request_is_an_error(recorded: Recorded) -> None:
    for span in recorded.spans:
        failing = span.name in {REFUND, "find order"}
        assert (span.status, span.error_type) == (("error", "NoSuchOrderError") if failing else ("ok", None))
    for find, request, _ in recorded.edges("find order"):
        assert find.error == request.error == f"no order {request.tags['path'].rpartition('/')[2]}"
    assert {span.tags["status"] for span in recorded.spans if span.name == CHECKOUT} == {200}


def test_what_is_stored_is_what_the_ledgers_say(recorded: Recorded) -> None:
    ledgers = {process.process_id: process.ledger for process in recorded.run.processes}
    stored = Counter(span.process_id for span in recorded.spans)
    assert stored == {process: ledger.written for process, ledger in ledgers.items() if ledger and ledger.written}
    assert all(ledger and ledger.recorded == ledger.written for ledger in ledgers.values())
    assert len({span.span_id for span in recorded.spans}) == len(recorded.spans) == recorded.run.spans
    assert not recorded.run.unclean


def test_it_says_how_it_went(recorded: Recorded) -> None:
    said = recorded.done.stdout
    assert f"holds {recorded.run.spans:,} spans of {len(recorded.run.processes)} processes; none missing" in said
    assert "0 dropped, 0 failed" in said
    assert recorded.done.stderr == ""
