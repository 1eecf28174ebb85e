"""Sinks and writers that break one promise each: the kit must find them out, by the name of that promise."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import SAME_EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterable

BROKEN_SINKS = {
    "loses the last batch": (
        (
            "persistent, held = True, None\n"
            "    def __init__(self, path): super().__init__(); self.file = JsonlSink(path)\n"
            "    def write(self, batch): self.flush(); self.held = batch\n"
            "    def flush(self): held, self.held = self.held, None; held is None or self.file.write(held)\n"
            "    def close(self): self.file.close()\n"
            "    def write_run(self, process): self.file.write_run(process)\n"
            "    def processes(self, run_id=None): return self.file.processes(run_id)\n"
            "    def segments(self, run_id=None): return self.file.segments(run_id)"
        ),
        {"test_what_was_closed_is_found_when_it_is_opened_again", "test_a_killed_process_leaves_whole_batches"},
    ),
    "swallows an error": (
        (
            "def write(self, batch):\n"
            "        try: super().write(Batch(batch.origin, batch.sequence, list(batch.records), batch.threads))\n"
            "        except Exception: pass"
        ),
        {"test_a_write_that_cannot_store_raises"},
    ),
    "blocks close": (
        "def close(self): threading.Event().wait(20)",
        {"test_close_returns", "test_close_may_follow_at_once"},
    ),
    "tears a batch": (
        (
            "def write(self, batch):\n"
            "        if batch.id in self.batches: return\n"
            "        records = []\n"
            "        self.batches[batch.id] = Batch(batch.origin, batch.sequence, records, batch.threads)\n"
            "        for record in batch.records: records.append(record)"
        ),
        {"test_a_write_that_fails_stores_nothing"},
    ),
    "loses the last span": (
        "def write(self, batch): super().write(Batch(batch.origin, batch.sequence, batch.records[:-1], batch.threads))",
        {"test_what_is_written_is_found_unchanged", "test_a_batch_of_any_size_is_stored_whole"},
    ),
    "writes twice": (
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
    "leaves out what it cannot encode": (
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
    "loses the last batch": (
        (
            "def _handle(self, batch):\n"
            "        if self._state is WriterState.OPEN: super()._handle(batch)\n"
            "        else: self._books.settle(batch.sequence, None)"
        ),
        {"test_what_is_recorded_last_is_stored"},
    ),
    "tears a batch": (
        (
            "def _handle(self, batch):\n"
            "        try: self._delivery._sink.write(batch); failure = None\n"
            "        except Exception as error:\n"
            "            rest = Batch(batch.origin, batch.sequence, batch.records[1:], batch.threads, 2)\n"
            "            failure = self._delivery.deliver(rest)\n"
            "        self._books.settle(batch.sequence, failure)"
        ),
        {"test_a_batch_comes_again_as_it_was"},
    ),
    "loses the last span": (
        "def _handle(self, batch): batch.records.pop(); super()._handle(batch)",
        {"test_four_threads_have_everything_stored_once_and_in_their_order"},
    ),
    "writes twice": (
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
    "swallows an error": (
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
    "blocks close": (
        "def close(self, timeout=None): threading.Event().wait(3); return super().close(timeout)",
        {"test_close_returns_while_the_sink_works", "test_close_does_not_wait_for_a_sink_that_hangs"},
    ),
    "reorders": (
        "def _handle(self, batch): batch.records.reverse(); super()._handle(batch)",
        {"test_four_threads_have_everything_stored_once_and_in_their_order"},
    ),
    "promises too soon": (
        "def flush(self, timeout=None): threading.Timer(0.05, super().flush).start(); return True",
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
    from ferret.sinks.jsonl import JsonlSink
    from ferret.sinks.memory import MemorySink
    from ferret.testing import SinkContract, WriterContract
    from ferret.writers.queueing import WriterState
    from ferret.writers.threaded import ThreadedWriter
"""
SINK = """
class Broken(MemorySink):
    {body}

class TestBroken(SinkContract):
    persistent = getattr(Broken, "persistent", False)
    patience_s, examples, shrink_s = {patience}, 200, 1.0
    def make_sink(self, tmp_path):
        return Broken(tmp_path / "spans.jsonl") if "file" in Broken.__init__.__code__.co_names else Broken()
"""
WRITER = """
class Broken(ThreadedWriter):
    {body}

class TestBroken(WriterContract):
    writer = Broken
    patience_s, examples, shrink_s = {patience}, 200, 1.0
"""

SINK_LAWS = {
    "loses the last batch": "what was written is found when it is opened again",
    "writes twice": "what was written is found after a flush: every batch whole, once, unchanged",
    "swallows an error": "a write that does not store a batch whole raises",
    "blocks close": "no call hangs",
    "reorders": "every batch whole, once, unchanged, in the order of its run",
    "tears a batch": "every batch whole, once, unchanged",
}
WRITER_LAWS = {
    "loses the last batch": "after close, the sink has exactly what the ledger calls written",
    "writes twice": "a span is stored once",
    "blocks close": "no call hangs",
    "reorders": "the spans of a thread are stored in the order in which they ended",
    "tears a batch": "a batch that comes again has the same spans as the first time",
    "promises too soon": "when flush says True, everything that was recorded before it is in the sink",
    "counts wrong": "recorded = written + dropped + failed + pending",
    "raises after close": "RuntimeError: closed",
}


def run(tmp_path: Path, code: str, only: Iterable[str] = ()) -> tuple[set[str], str]:
    """Run a file of tests as its author would; the tests that failed, and what was printed."""
    (tmp_path / "test_broken.py").write_text(textwrap.dedent(HEAD) + code)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir=."]
    if only:
        command += ["-k", " or ".join(name.partition("[")[0] for name in only)]
    # plugins take longer to import than the tests to run
    alone = {**os.environ, **SAME_EXAMPLES, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=100, check=False)
    assert "error" not in done.stdout.splitlines()[-1], done.stdout
    failed = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert bool(failed) == bool(done.returncode), done.stdout + done.stderr
    return {line.partition("TestBroken::")[2] for line in failed}, done.stdout


def without_parameters(names: set[str]) -> set[str]:
    return names | {name.partition("[")[0] for name in names}


@pytest.mark.parametrize("fault", BROKEN_SINKS)
def test_a_broken_sink_fails_the_test_of_what_it_breaks(tmp_path: Path, fault: str) -> None:
    """A sink that breaks one promise fails, and by the name of that promise."""
    body, expected = BROKEN_SINKS[fault]
    failed, _ = run(tmp_path, SINK.format(body=body, patience=0.8), expected)
    assert expected <= without_parameters(failed)


@pytest.mark.parametrize("fault", BROKEN_WRITERS)
def test_a_broken_writer_fails_the_test_of_what_it_breaks(tmp_path: Path, fault: str) -> None:
    """A writer that breaks one promise fails, and by the name of that promise."""
    body, expected = BROKEN_WRITERS[fault]
    failed, _ = run(tmp_path, WRITER.format(body=body, patience=0.8), expected)
    assert expected <= without_parameters(failed)


@pytest.mark.parametrize("fault", SINK_LAWS)
def test_random_lives_of_a_broken_sink_tell_the_law_that_it_breaks(tmp_path: Path, fault: str) -> None:
    """The failure says which law was broken, after what, what was expected, and what was found."""
    code = SINK.format(body=BROKEN_SINKS[fault][0], patience=0.8)
    failed, said = run(tmp_path, code, ["test_every_sequence_of_calls_keeps_the_laws"])
    assert failed == {"test_every_sequence_of_calls_keeps_the_laws"}
    assert_told(said, SINK_LAWS[fault])


@pytest.mark.parametrize("fault", WRITER_LAWS)
def test_random_programs_of_a_broken_writer_tell_a_law_that_it_breaks(tmp_path: Path, fault: str) -> None:
    """The failure says which law was broken, after what, what was expected, and what was found.

    Which one that is, chance decides, as one fault can break several: the tests of each law name it.
    """
    code = WRITER.format(body=BROKEN_WRITERS[fault][0], patience=0.8)
    failed, said = run(tmp_path, code, ["test_every_program_keeps_the_laws"])
    assert failed == {"test_every_program_keeps_the_laws"}
    assert_told(said, WRITER_LAWS[fault] if WRITER_LAWS[fault].startswith("RuntimeError") else "the law: ")


def assert_told(said: str, law: str) -> None:
    lines = [line.removeprefix("E").strip() for line in said.splitlines()]
    assert law in said, said
    if not law.startswith("RuntimeError"):
        told = lines[next(number for number, line in enumerate(lines) if line.startswith("the law: ")) :]
        assert told[1] == "what happened:", said
        assert told[2].startswith("1. "), said
        shown = [line.partition(":")[0] for line in told[2:] if line.startswith(("expected:", "found:"))]
        assert shown[:2] == ["expected", "found"], said
    assert "Falsifying example" not in said, "the story is enough"


@pytest.mark.parametrize("template", [SINK, WRITER], ids=["sink", "writer"])
def test_what_is_not_broken_fails_nothing(tmp_path: Path, template: str) -> None:
    """The templates of the broken ones pass as long as nothing is put into them."""
    assert run(tmp_path, template.format(body="pass", patience=20))[0] == set()
