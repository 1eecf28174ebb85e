"""Loss is in the data: when it was, how much and why; also of a run that was killed. And flush() says it in words."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ScriptedSink

from ferret import Profiler, Report
from ferret.batch import Batch
from ferret.ledger.gaps import MOST_GAPS, SEVERAL, Gaps
from ferret.models import Ledger, ProcessFate
from ferret.sinks.memory import MemorySink
from ferret.writers import delivery

SECOND = 1_000_000_000
LOSSES = st.lists(
    st.tuples(st.integers(0, 10**5), st.integers(0, 50), st.integers(1, 9), st.sampled_from(["overflow", "OSError"])),
    max_size=400,
)


@given(LOSSES)
def test_gaps_stay_few_and_account_for_every_loss(losses: list[tuple[int, int, int, str]]) -> None:
    gaps = Gaps(0)
    for since, lasted, count, reason in losses:
        gaps.add(since * SECOND, (since + lasted) * SECOND, count, reason)
    found = gaps.found()
    assert len(found) <= MOST_GAPS
    assert sum(gap.count for gap in found) == sum(count for _, _, count, _ in losses)
    for (
        since,
        lasted,
        _,
        reason,
    ) in losses:  # each lies inside a gap that says why, or that says that it had several reasons
        assert any(
            gap.since <= since and since + lasted <= gap.until and gap.reason in {reason, SEVERAL} for gap in found
        )


def test_more_gaps_than_are_kept_are_joined_and_none_is_forgotten() -> None:
    gaps = Gaps(0)
    for number in range(3 * MOST_GAPS):
        gaps.add(number * 10 * SECOND, (number * 10 + 1) * SECOND, 2, "OSError" if number % 3 else "overflow")
    found = gaps.found()
    assert len(found) == MOST_GAPS
    assert sum(gap.count for gap in found) == 6 * MOST_GAPS
    for number in range(3 * MOST_GAPS):
        assert any(gap.since <= number * 10 and number * 10 + 1 <= gap.until for gap in found)


def test_losses_of_one_reason_that_follow_each_other_are_one_gap_and_others_are_not() -> None:
    gaps = Gaps(0)
    gaps.add(0, SECOND, 5, "OSError")
    gaps.add(SECOND + SECOND // 2, 2 * SECOND, 5, "OSError")
    gaps.add(2 * SECOND, 3 * SECOND, 1, "overflow")
    gaps.add(9 * SECOND, 10 * SECOND, 2, "OSError")
    assert [(gap.since, gap.until, gap.count, gap.reason) for gap in gaps.found()] == [
        (0.0, 2.0, 10, "OSError"), (2.0, 3.0, 1, "overflow"), (9.0, 10.0, 2, "OSError"),
    ]  # fmt: skip


def test_drops_are_noticed_once_and_lie_between_two_looks() -> None:
    gaps = Gaps(0)
    gaps.notice({"overflow": 3})
    gaps.notice({"overflow": 3})
    gaps.notice({"overflow": 5, "closed": 1})
    assert [(gap.count, gap.reason) for gap in gaps.found()] == [(5, "overflow"), (1, "closed")]


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded"])
def test_a_gap_says_when_the_spans_of_a_failed_batch_ran(writer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY_S", 0.001)

    class Moody(MemorySink):
        def write(self, batch: Batch) -> None:
            if any(span.name == "bad" for span in batch):
                raise OSError("no")
            super().write(batch)

    sink = Moody()
    profiler = Profiler(sink=sink, writer=writer, batch_size=5, close_timeout=0.05)
    for name in ["good"] * 5 + ["bad"] * 5:
        profiler.start(name).end()
    profiler.flush()
    after = time.time()
    report = profiler.close()
    (gap,) = report.gaps
    assert (gap.count, gap.reason) == (5, "OSError")
    assert sink.spans[-1].end_time <= gap.since <= gap.until <= after
    assert (report.batches, report.void_batches) == (2, 1)


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
def test_a_full_queue_leaves_a_gap_in_the_stored_facts(db: str) -> None:
    before = time.time()
    with Profiler(db, writer="bounded", max_queue=10, batch_size=10, flush_interval=60) as profiler:
        with profiler.writer._books.settled:  # type: ignore[attr-defined]  # nothing can be taken meanwhile
            for _ in range(500):
                profiler.start("x").end()
    (fate,) = Report(db).run().processes
    assert isinstance(fate, ProcessFate)
    assert fate.ledger is not None
    (gap,) = fate.ledger.gaps
    assert gap.reason == "overflow"
    assert gap.count == fate.ledger.dropped >= 400
    assert before - 1 <= gap.since <= gap.until <= time.time()


@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded", "process"])
def test_a_killed_run_has_a_last_known_ledger_with_its_gaps(db: str, writer: str) -> None:
    body = f"""
    import os, signal, sys, time
    from ferret import Profiler, Report, StorageError
    from ferret.writers import delivery, process
    delivery.NOTE_EVERY_S = process.NOTE_EVERY_S = 0.05
    p = Profiler({db!r}, writer={writer!r}, batch_size=5)
    p.writer.suppress()
    def noted():
        try:
            return any(one.ledger and one.ledger.written for one in Report({db!r})._fresh().processes())
        except StorageError:  # there is nothing to read yet
            return False
    while not noted():
        for _ in range(5):
            p.start("x").end()
        time.sleep(0.01)
    p.flush()
    os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(body)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    (stored,) = Report(db)._fresh().processes()
    assert stored.ended_at is None
    assert stored.ledger is not None
    assert stored.ledger.dropped_by == {"suppressed": 1}
    assert [(gap.count, gap.reason) for gap in stored.ledger.gaps] == [(1, "suppressed")]
    assert stored.ledger.written > 0


def test_a_ledger_is_not_stored_again_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "NOTE_EVERY_S", 0.0)
    monkeypatch.setattr(delivery, "NOTE_EVERY_AT_MOST_S", 0.0)
    told: list[Ledger | None] = []

    class Noting(MemorySink):
        def write_run(self, process: object) -> None:
            told.append(process.ledger)  # type: ignore[attr-defined]

    with Profiler(sink=Noting(), writer="sync", batch_size=1) as profiler:
        for _ in range(3):
            profiler.start("x").end()
        assert [ledger and ledger.written for ledger in told] == [None, 1, 2, 3]
        profiler.writer._note()  # type: ignore[attr-defined]
        assert len(told) == 4


# -- batches that are missing ----------------------------------------------------------------------


def test_the_reader_finds_batches_that_were_written_and_are_gone(db: str) -> None:
    import sqlite3

    with Profiler(db, batch_size=10) as profiler:
        for _ in range(100):
            profiler.start("x").end()
            profiler.flush()
    whole = Report(db).run()
    made = whole.processes[0].ledger
    assert made is not None
    assert (whole.missing_batches, made.void_batches) == (0, 0)
    connection = sqlite3.connect(db)
    with connection:
        connection.execute("DELETE FROM __beaver_blobs__ WHERE key LIKE '%/0000000003' OR key LIKE '%/%99'")
    connection.close()
    assert Report(db).run().missing_batches == 2
    assert made.batches == 100


# -- flush says why ---------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded", "process"])
def test_flush_is_true_and_equal_to_true_when_all_is_there(db: str, writer: str) -> None:
    with Profiler(db, writer=writer) as profiler:
        profiler.start("x").end()
        done = profiler.flush()
        assert done
        assert done == True  # noqa: E712 - programs compare
        assert (done.reason, done.ledger.written, str(done)) == ("", 1, "<True: 1 spans written>")


def test_flush_says_how_many_are_still_on_their_way() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    profiler = Profiler(sink=sink)
    for _ in range(3):
        profiler.start("x").end()
    late = profiler.flush(timeout=0.01)
    sink.gate.set()
    profiler.close()
    assert not late
    assert late == False  # noqa: E712 - a user may write it so
    assert late.reason == "3 are still on their way"
    assert late.ledger.pending == 3


@pytest.mark.filterwarnings("ignore::ferret.LostSpansWarning")
def test_flush_says_what_was_lost_and_why() -> None:
    sink = ScriptedSink()
    sink.broken = True
    profiler = Profiler(sink=sink, close_timeout=0.01)
    for _ in range(3):
        profiler.start("x").end()
    lost = profiler.flush()
    assert (bool(lost), lost.reason) == (False, "3 of 3 spans were not stored (3 OSError)")
    profiler.close()
