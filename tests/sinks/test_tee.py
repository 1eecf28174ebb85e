"""The tee sink: each batch to all of its sinks, once each, whichever of them fail."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ScriptedSink

from ferret import Profiler, Report
from ferret.ambient import ThreadInfo
from ferret.batch import Batch, Origin
from ferret.errors import PluginError, StorageError
from ferret.models import ProcessInfo
from ferret.plugins import SinkSpec
from ferret.sinks.base import KeepsRuns, Readable, Reopens, Sink
from ferret.sinks.jsonl import JsonlSink
from ferret.sinks.memory import MemorySink
from ferret.sinks.null import NullSink
from ferret.sinks.tee import TeeSink

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "ab" * 8
INFO = ProcessInfo(run_id="run", token=TOKEN, process_id=123)


def batch(sequence: int = 0, attempt: int = 1) -> Batch:
    records = [(sequence + 1, 0, "x", 10, 20, 0, None, None, None, 0, -1)]
    return Batch(Origin("run", TOKEN, 123, 0), sequence, records, [ThreadInfo(1, "MainThread")], attempt)


class Picky:
    """A sink that fails whenever it is told to, and notes what it was asked for."""

    def __init__(self, failures: Iterator[bool] | None = None) -> None:
        self.failures = iter(()) if failures is None else failures
        self.calls: list[str] = []
        self.broken = False

    def write(self, batch: Batch) -> None:
        self._do(batch.id)

    def write_run(self, process: ProcessInfo) -> None:
        self._do(f"run {process.program}")

    def flush(self) -> None:
        self._do("flush")

    def close(self) -> None:
        self._do("close")

    def _do(self, what: str) -> None:
        if self.broken or next(self.failures, False):
            raise ConnectionError(f"no {what}")
        self.calls.append(what)


def test_it_has_all_that_a_sink_may_have() -> None:
    sink = SinkSpec.parse("tee:memory,null").open()
    assert isinstance(sink, TeeSink)
    for protocol in (Sink, KeepsRuns, Reopens, Readable):
        assert isinstance(sink, protocol)


def test_sinks_are_named_with_commas_between_them(tmp_path: Path) -> None:
    sink = SinkSpec.parse(f"tee:jsonl:{tmp_path / 'a.jsonl'}, jsonl:{tmp_path / 'b.jsonl.gz'},memory").open()
    assert isinstance(sink, TeeSink)
    sink.write(batch())
    sink.flush()
    sink.close()
    for name in ("a.jsonl", "b.jsonl.gz"):
        again = JsonlSink(tmp_path / name)
        assert [segment.id for segment in again.segments()] == [f"{TOKEN}-0"]
        again.close()


def test_one_sink_that_fails_does_not_keep_a_batch_from_the_others() -> None:
    first, broken, last = Picky(), Picky(), Picky()
    broken.broken = True
    tee = TeeSink(sinks=[first, broken, last])
    with pytest.raises(StorageError):
        tee.write(batch())
    assert first.calls == last.calls == [f"{TOKEN}-0"]


def test_the_error_names_each_sink_that_failed_and_why() -> None:
    broken = Picky()
    broken.broken = True
    tee = TeeSink(sinks=[MemorySink(), broken])
    reason = f"batch {TOKEN}-0 is not stored in Picky: ConnectionError: no {TOKEN}-0"
    with pytest.raises(StorageError, match=f"^{re.escape(reason)}$") as raised:
        tee.write(batch())
    assert isinstance(raised.value.__cause__, ExceptionGroup)
    assert [type(error) for error in raised.value.__cause__.exceptions] == [ConnectionError]


def test_the_error_has_the_names_that_were_given(tmp_path: Path) -> None:
    tee = TeeSink(f"null,jsonl:{tmp_path}/a.jsonl,jsonl:{tmp_path}/b.jsonl")
    tee.close()
    with pytest.raises(StorageError, match=r"not stored in jsonl:.*/a\.jsonl: .*; jsonl:.*/b\.jsonl: "):
        tee.write(batch())


def test_a_batch_that_comes_again_goes_only_to_those_that_lack_it() -> None:
    healthy, broken = Picky(), Picky()
    broken.broken = True
    tee = TeeSink(sinks=[healthy, broken])
    for attempt in (1, 2, 3):
        with pytest.raises(StorageError):
            tee.write(batch(attempt=attempt))
    broken.broken = False
    tee.write(batch(attempt=4))
    assert healthy.calls == broken.calls == [f"{TOKEN}-0"]


@given(failures=st.lists(st.lists(st.booleans(), max_size=8), min_size=1, max_size=4), batches=st.integers(1, 5))
def test_whatever_fails_each_sink_takes_each_batch_once(failures: list[list[bool]], batches: int) -> None:
    sinks = [Picky(iter(pattern)) for pattern in failures]
    tee = TeeSink(sinks=sinks)
    for sequence in range(batches):
        for attempt in range(1, 50):
            try:
                tee.write(batch(sequence, attempt))
                break
            except StorageError:
                continue
    for sink in sinks:
        assert sink.calls == [f"{TOKEN}-{sequence}" for sequence in range(batches)]


def test_an_interrupt_does_not_make_it_forget_who_has_the_batch() -> None:
    class Interrupted(Picky):
        def write(self, batch: Batch) -> None:
            if batch.attempt == 1:
                raise KeyboardInterrupt
            super().write(batch)

    first, second = Picky(), Interrupted()
    tee = TeeSink(sinks=[first, second])
    with pytest.raises(KeyboardInterrupt):
        tee.write(batch())
    tee.write(batch(attempt=2))
    assert first.calls == second.calls == [f"{TOKEN}-0"]


def test_batches_that_were_given_up_do_not_pile_up() -> None:
    broken = Picky()
    broken.broken = True
    tee = TeeSink(sinks=[broken])
    for sequence in range(3000):
        with pytest.raises(StorageError):
            tee.write(batch(sequence))
    assert len(tee._lacking) <= 1024


def test_flush_and_close_reach_every_sink_even_if_one_raises() -> None:
    sinks = [Picky(), Picky(), Picky()]
    sinks[1].broken = True
    tee = TeeSink(sinks=sinks)
    with pytest.raises(StorageError, match="not flushed in Picky: ConnectionError: no flush"):
        tee.flush()
    with pytest.raises(StorageError, match="not closed in Picky: ConnectionError: no close"):
        tee.close()
    assert sinks[0].calls == sinks[2].calls == ["flush", "close"]


def test_facts_go_to_every_sink_that_keeps_them_once_each() -> None:
    keeps, broken, memory = Picky(), Picky(), MemorySink()
    broken.broken = True
    tee = TeeSink(sinks=[NullSink(), keeps, broken, memory])
    for _ in range(2):
        with pytest.raises(StorageError, match="facts of the run are not stored in Picky"):
            tee.write_run(INFO)
    broken.broken = False
    tee.write_run(INFO)
    tee.write_run(INFO.model_copy(update={"program": "ended"}))
    assert keeps.calls == broken.calls == ["run ", "run ended"]
    assert [process.program for process in memory.processes()] == ["ended"]


def test_a_forked_child_opens_afresh_what_needs_it_and_shares_the_rest(tmp_path: Path) -> None:
    tee = TeeSink(f"jsonl:{tmp_path / 'spans.jsonl'},null")
    tee.write(batch(0))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            mine = tee.reopen()
            mine.write(batch(1))
            mine.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    tee.write(batch(2))
    assert [segment.sequence for segment in tee.segments()] == [0, 1, 2]
    tee.close()


def test_reopening_leaves_the_old_sinks_alone_and_one_that_cannot_be_opened_fails_by_itself(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    lost, kept = JsonlSink(tmp_path / "directory" / "spans.jsonl"), JsonlSink(tmp_path / "spans.jsonl")
    tee = TeeSink(sinks=[lost, kept])
    (tmp_path / "directory" / "spans.jsonl").unlink()
    (tmp_path / "directory").rmdir()
    reopened = tee.reopen()
    with pytest.raises(StorageError, match=r"not stored in JsonlSink: StorageError: .*there is no directory"):
        reopened.write(batch(0))
    assert len([*kept.segments()]) == 1
    reopened.flush()
    (tmp_path / "directory").mkdir()
    reopened.write(batch(0, attempt=2))
    reopened.close()
    kept.write(batch(1))
    assert len([*lost.segments()]) == 1
    assert len([*kept.segments()]) == 2
    tee.close()


def test_closing_what_was_never_written_to_in_a_child_leaves_the_parents_sinks_open(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "spans.jsonl")
    reopened = TeeSink(sinks=[sink]).reopen()
    reopened.flush()
    reopened.close()
    sink.write(batch())
    sink.close()


def test_it_is_read_from_the_first_sink_that_can_be() -> None:
    memory, other = MemorySink(), MemorySink()
    tee = TeeSink(sinks=[NullSink(), memory, other])
    tee.write(batch())
    tee.write_run(INFO)
    other.batches.clear()
    assert [segment.id for segment in tee.segments("run")] == [f"{TOKEN}-0"]
    assert [summary.spans for summary in tee.summaries()] == [1]
    assert [*tee.processes()] == [INFO]
    assert not [*tee.segments("another")]


def test_reading_from_sinks_that_cannot_be_read_is_told() -> None:
    tee = TeeSink("null,null")
    with pytest.raises(StorageError, match="none of null, null can be read back"):
        tee.segments()


def open_files(directory: Path) -> list[str]:
    links = [Path("/proc/self/fd") / descriptor for descriptor in os.listdir("/proc/self/fd")]
    targets = [str(link.readlink()) for link in links if link.is_symlink()]
    return [target for target in targets if target.startswith(str(directory))]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the open files of a process are listed on Linux")
def test_if_one_sink_cannot_be_opened_none_stays_open(tmp_path: Path) -> None:
    opened = f"jsonl:{tmp_path / 'a.jsonl'},jsonl:{tmp_path / 'b.jsonl'}"
    tee = TeeSink(opened)
    assert len(open_files(tmp_path)) == 2
    tee.close()
    with pytest.raises(StorageError, match="there is no directory"):
        TeeSink(f"{opened},jsonl:{tmp_path / 'missing' / 'c.jsonl'}")
    with pytest.raises(PluginError, match="there is no sink 'nonsense'"):
        TeeSink(f"{opened},nonsense")
    assert open_files(tmp_path) == []


@pytest.mark.parametrize("target", [None, ""])
def test_a_missing_target_is_told_with_an_example(target: str | None) -> None:
    with pytest.raises(StorageError, match=r"tee needs sinks: tee:beaver:trace\.db,jsonl:spans\.jsonl"):
        TeeSink(target)
    with pytest.raises(StorageError, match="tee needs sinks"):
        TeeSink(target, sinks=[])


def test_sinks_by_name_and_as_objects_at_once_are_refused() -> None:
    with pytest.raises(StorageError, match="not both"):
        TeeSink("memory", sinks=[MemorySink()])


def test_a_beaver_file_in_a_tee_has_the_profilers_namespace(tmp_path: Path) -> None:
    db, lines = tmp_path / "trace.db", tmp_path / "spans.jsonl"
    with Profiler(sink=f"tee:jsonl:{lines},beaver:{db}", namespace="mine") as profiler:
        profiler.start("x").end()
    assert [span.name for span in Report(str(db), "mine").spans()] == ["x"]
    assert list(Report(str(db)).spans()) == []


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
def test_a_beaver_file_in_a_fallback_tee_has_it_too(tmp_path: Path) -> None:
    db = tmp_path / "trace.db"
    sink = ScriptedSink()
    sink.broken = True
    options = {"fallback_sink": f"tee:beaver:{db}", "namespace": "mine", "close_timeout": 0.1}
    with Profiler(sink=sink, writer="sync", **options) as profiler:  # type: ignore[arg-type]
        profiler.start("x").end()
    assert [span.name for span in Report(str(db), "mine").spans()] == ["x"]
