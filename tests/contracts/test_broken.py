"""Sinks and writers that break one promise each: the kit must find them out, by the name of that promise."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

BROKEN_SINKS = {
    "loses the last span": (
        "def write(self, batch): super().write(Batch(batch.origin, batch.sequence, batch.records[:-1], batch.threads))",
        {"test_what_is_written_is_found_unchanged", "test_a_batch_of_any_size_is_stored_whole"},
    ),
    "stores twice on retry": (
        "def write(self, batch): self.batches[f'{batch.id} {batch.attempt}'] = batch",
        {"test_a_batch_that_comes_again_is_stored_once"},
    ),
    "knows a batch by its number alone": (
        "def write(self, batch): self.batches.setdefault(batch.sequence, batch)",
        {"test_several_runs_share_a_target"},
    ),
    "drops tags": (
        (
            "def write(self, batch):\n"
            "        bare = [(*record[:7], None, record[8]) for record in batch.records]\n"
            "        super().write(Batch(batch.origin, batch.sequence, bare, batch.threads))"
        ),
        {"test_what_is_written_is_found_unchanged", "test_a_profiler_finds_in_it_what_its_ledger_says"},
    ),
    "swallows errors": (
        (
            "def write(self, batch):\n"
            "        try: ''.join(span.name for span in batch).encode('ascii'); super().write(batch)\n"
            "        except UnicodeError: pass"
        ),
        {"test_what_is_written_is_found_unchanged"},
    ),
    "reorders": (
        "def segments(self, run_id=None): yield from reversed(list(super().segments(run_id)))",
        {"test_batches_keep_their_order", "test_flush_makes_it_findable"},
    ),
    "empties the batch": (
        (
            "def write(self, batch):\n"
            "        super().write(Batch(batch.origin, batch.sequence, list(batch.records), batch.threads))\n"
            "        batch.records.clear()"
        ),
        {"test_it_leaves_the_batch_as_it_was"},
    ),
    "lives in its thread": (
        (
            "def __init__(self): super().__init__(); self.mine = threading.get_ident()\n"
            "    def write(self, batch): self.mine == threading.get_ident() and super().write(batch)"
        ),
        {"test_it_may_be_used_from_another_thread"},
    ),
    "forgets": (
        "persistent = True",
        {"test_what_was_closed_is_found_when_it_is_opened_again"},
    ),
}

BROKEN_WRITERS = {
    "loses the last span": (
        "def _handle(self, batch): batch.records.pop(); super()._handle(batch)",
        {"test_four_threads_have_everything_stored_once_and_in_their_order"},
    ),
    "stores twice on retry": (
        (
            "def _handle(self, batch):\n"
            "        try: self._delivery._sink.write(batch); failure = None\n"
            "        except Exception as error:\n"
            "            again = Batch(Origin.here(batch.origin.run_id), 0, batch.records, batch.threads)\n"
            "            failure = self._delivery.deliver(again)\n"
            "        self._books.settle(batch.sequence, failure)"
        ),
        {"test_a_sink_that_fails_for_a_while_gets_everything_once[after storing]"},
    ),
    "swallows errors": (
        "def _handle(self, batch):\n        self._delivery.deliver(batch); self._books.settle(batch.sequence, None)",
        {"test_what_a_broken_sink_does_not_take_is_counted_as_failed"},
    ),
    "counts wrong": (
        (
            "def stats(self):\n"
            "        ledger = super().stats()\n"
            "        return ledger.model_copy(update={'written': ledger.recorded})"
        ),
        {"test_the_ledger_adds_up_at_every_look"},
    ),
    "hangs on close": (
        "def close(self, timeout=None): threading.Event().wait(1.3); return super().close(timeout)",
        {"test_close_does_not_wait_for_a_sink_that_hangs", "test_closing_twice_gives_one_report"},
    ),
    "reorders": (
        "def _handle(self, batch): batch.records.reverse(); super()._handle(batch)",
        {"test_four_threads_have_everything_stored_once_and_in_their_order"},
    ),
    "promises too soon": (
        "def flush(self, timeout=None): threading.Thread(target=super().flush).start(); return True",
        {"test_flush_is_true_only_once_all_is_stored"},
    ),
    "raises after close": (
        "def rouse(self):\n        if self._report: raise RuntimeError('closed')\n        super().rouse()",
        {"test_a_span_after_close_is_counted_as_dropped"},
    ),
    "measures its own sink": (
        "def suppress(self): pass",
        {"test_the_sinks_own_spans_do_not_feed_back"},
    ),
    "leaves a thread": (
        (
            "def close(self, timeout=None):\n"
            "        threading.Thread(target=threading.Event().wait, args=[3]).start(); return super().close(timeout)"
        ),
        {"test_nothing_runs_after_close"},
    ),
    "inherits the queue": (
        "def after_fork(self): pass",
        {"test_a_forked_child_begins_empty"},
    ),
}

HEAD = """
    import threading
    from ferret.batch import Batch, Origin
    from ferret.sinks.memory import MemorySink
    from ferret.testing import SinkContract, WriterContract
    from ferret.writers.threaded import ThreadedWriter
"""
SINK = """
class Broken(MemorySink):
    {body}

class TestBroken(SinkContract):
    persistent = getattr(Broken, "persistent", False)
    def make_sink(self, tmp_path):
        return Broken()
"""
WRITER = """
class Broken(ThreadedWriter):
    {body}

class TestBroken(WriterContract):
    writer = Broken
    patience_s = 1.0
"""


def failures(tmp_path: Path, code: str) -> set[str]:
    """Run a file of tests as its author would; the tests that failed."""
    (tmp_path / "test_broken.py").write_text(textwrap.dedent(HEAD) + code)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir=."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert "error" not in done.stdout.splitlines()[-1], done.stdout
    failed = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert bool(failed) == bool(done.returncode), done.stdout + done.stderr
    return {line.partition("TestBroken::")[2] for line in failed}


def without_parameters(names: set[str]) -> set[str]:
    return names | {name.partition("[")[0] for name in names}


@pytest.mark.parametrize("fault", BROKEN_SINKS)
def test_a_broken_sink_fails_the_test_of_what_it_breaks(tmp_path: Path, fault: str) -> None:
    """A sink that breaks one promise fails, and by the name of that promise."""
    body, expected = BROKEN_SINKS[fault]
    assert expected <= without_parameters(failures(tmp_path, SINK.format(body=body)))


@pytest.mark.parametrize("fault", BROKEN_WRITERS)
def test_a_broken_writer_fails_the_test_of_what_it_breaks(tmp_path: Path, fault: str) -> None:
    """A writer that breaks one promise fails, and by the name of that promise."""
    body, expected = BROKEN_WRITERS[fault]
    assert expected <= without_parameters(failures(tmp_path, WRITER.format(body=body)))


@pytest.mark.parametrize("template", [SINK, WRITER], ids=["sink", "writer"])
def test_what_is_not_broken_fails_nothing(tmp_path: Path, template: str) -> None:
    """The templates of the broken ones pass as long as nothing is put into them."""
    assert failures(tmp_path, template.format(body="pass")) == set()
