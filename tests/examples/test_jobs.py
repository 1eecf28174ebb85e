"""The smaller examples, run as their users run them: what the files hold afterwards must be what happened."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ferret.report import Report

if TYPE_CHECKING:
    from ferret.models import RunInfo, SpanModel

EXAMPLES = Path(__file__).parents[2] / "examples"


class Recorded:
    """One run of an example, as its file tells it."""

    def __init__(self, example: str, folder: Path, *options: str, given: bool = True) -> None:
        self.folder = folder
        command = [sys.executable, "-W", "error", str(EXAMPLES / f"{example}.py"), *options]
        command += ["--db", "trace.db"] if given else []
        plain = {key: value for key, value in os.environ.items() if not key.startswith("FERRET_")}
        plain["TMPDIR"] = str(folder)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=plain, cwd=folder)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        self.said = done.stdout
        self.look = re.findall(r"^  (ferret .*)$", self.said, re.MULTILINE)
        with Report(folder / self.look[0].split()[2]) as report:
            self.run: RunInfo = report.run()
            self.spans: list[SpanModel] = list(report.spans())
        assert self.run.lost == 0
        assert not self.run.unclean
        self.by_id = {span.span_id: span for span in self.spans}

    def parents(self) -> Counter[tuple[str, str | None]]:
        """How often a name is directly below another; every parent must be there."""
        return Counter((span.name, self.by_id[span.parent_id].name if span.parent_id else None) for span in self.spans)

    def named(self, name: str) -> list[SpanModel]:
        return [span for span in self.spans if span.name == name]


@pytest.mark.parametrize("example", ["thread_pool", "multiprocess", "asgi_service"])
def test_without_a_file_it_keeps_to_a_temporary_folder_and_says_how_to_look(example: str, tmp_path: Path) -> None:
    recorded = Recorded(example, tmp_path, given=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("ferret-")
    assert {path.name.partition("-")[0] for path in left.iterdir()} == {"trace.db"}
    for command in recorded.look:
        words = [sys.executable, "-m", *command.split()]
        shown = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
        assert recorded.run.run_id[:8] in shown


def test_every_file_is_packed_by_a_thread_of_the_pool(tmp_path: Path) -> None:
    recorded = Recorded("thread_pool", tmp_path, "--files", "12", "--threads", "3")
    assert recorded.parents() == {
        ("pack folder", None): 1,
        ("list files", "pack folder"): 1,
        ("pack file", "pack folder"): 12,
        ("read", "pack file"): 12,
        ("hash", "pack file"): 11,
        ("compress", "pack file"): 11,
        ("write", "pack file"): 11,
    }
    packed = recorded.named("pack file")
    assert {span.tags["file"] for span in packed} == {f"{number:02}.log" for number in range(12)}
    assert all(span.thread_name.startswith("packer") for span in packed)
    assert all(recorded.by_id[span.parent_id or ""].thread_id == span.thread_id for span in recorded.named("read"))
    failed = [span for span in recorded.spans if span.status != "ok"]
    assert {(span.name, span.error_type) for span in failed} == {
        ("pack file", "FileNotFoundError"),
        ("read", "FileNotFoundError"),
    }
    assert {span.tags.get("file", "07.log") for span in failed} == {"07.log"}
    assert "packed 11 files with 3 threads; gone before their turn: 07.log" in recorded.said


def test_the_pools_processes_share_the_run_and_the_tree(tmp_path: Path) -> None:
    recorded = Recorded("multiprocess", tmp_path, "--texts", "8", "--processes", "2")
    assert recorded.parents() == {
        ("count words", None): 1,
        ("hand out", "count words"): 1,
        ("count text", "count words"): 8,
        ("find words", "count text"): 8,
        ("tally", "count text"): 8,
        ("add up", "count words"): 8,
    }
    (root,) = recorded.named("count words")
    workers = {span.process_id for span in recorded.named("count text")}
    assert root.process_id not in workers
    assert {process.process_id for process in recorded.run.processes if process.ledger and process.ledger.written} == {
        root.process_id,
        *workers,
    }
    words = sum(span.tags["words"] for span in recorded.named("count text"))
    assert f"{words:,} words in 8 texts" in recorded.said


def test_what_the_stockroom_does_is_below_the_shop_that_asked(tmp_path: Path) -> None:
    recorded = Recorded("asgi_service", tmp_path, "--requests", "60")
    buys = recorded.named("GET /shop/buy/{item}")
    answers = Counter(span.tags["http.response.status_code"] for span in buys)
    # 58 items, from 1 on: every fifth is sold out, every thirteenth is unknown
    assert answers == {200: 43, 409: 11, 503: 4}
    assert recorded.parents() == {
        ("GET /shop/buy/{item}", None): 58,
        ("ask the stockroom", "GET /shop/buy/{item}"): 58,
        ("GET /stockroom/stock/{item}", "ask the stockroom"): 58,
        ("query", "GET /stockroom/stock/{item}"): 58,
        ("print receipt", "GET /shop/buy/{item}"): answers[200],
        ("GET /shop/catalogue", None): 1,
        ("page", "GET /shop/catalogue"): 3,
        ("GET /shop/{path}", None): 1,
    }
    for asked in recorded.named("GET /stockroom/stock/{item}"):
        buy = recorded.by_id[recorded.by_id[asked.parent_id or ""].parent_id or ""]
        assert asked.tags["url.path"] == f"/stockroom/stock/{buy.tags['item']}"
        assert asked.tags["trace_id"] == buy.tags["trace_id"]
        failed = buy.tags["item"] % 13 == 0
        expected = ("error", "LookupError") if failed else ("ok", None)
        assert (asked.status, asked.error_type) == expected
        assert buy.status == ("error" if failed else "ok")
    assert len({span.tags["trace_id"] for span in buys}) == 58, "each purchase is a trace of its own"
    assert all(span.thread_name != buys[0].thread_name for span in recorded.named("print receipt"))
