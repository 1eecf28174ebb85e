"""`traceparent` is read as the W3C says (Trace Context, level 2), and sent on with the id of the span that sends it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

import ferret
from ferret import Profiler, configure
from ferret.integrations.traceparent import (
    TraceParent,
    came_with,
    continued,
    current_traceparent,
    outgoing_headers,
    parse_traceparent,
)

TRACE, PARENT = "12345678901234567890123456789012", "1234567890123456"
CAME = f"00-{TRACE}-{PARENT}-01"

GOOD = {
    CAME: 1,
    f"00-{TRACE}-{PARENT}-00": 0,
    f"00-{TRACE}-{PARENT}-ff": 255,
    f" \t{CAME} ": 1,
    f"cc-{TRACE}-{PARENT}-01": 1,
    f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like": 1,
    f"01-{TRACE}-{PARENT}-01-": 1,
    f"fe-{TRACE}-{PARENT}-03": 3,
}

BAD = [
    "",
    "-",
    f"00-{TRACE}-{PARENT}",
    f"00-{TRACE}-{PARENT}-",
    f"00-{TRACE}-{PARENT}-1",
    f"00-{TRACE}-{PARENT}-001",
    f"{CAME}.",
    f"{CAME}-",
    f"{CAME}-what-the-future-will-be-like",
    f"cc-{TRACE}-{PARENT}-01.what-the-future-will-be-like",
    f"cc-{TRACE}-{PARENT}-012",
    f"cc-{TRACE}-{PARENT}",
    f"ff-{TRACE}-{PARENT}-01",
    f"ff-{TRACE}-{PARENT}-01-more",
    f".0-{TRACE}-{PARENT}-01",
    f"0.-{TRACE}-{PARENT}-01",
    f"000-{TRACE}-{PARENT}-01",
    f"0-{TRACE}-{PARENT}-01",
    f"CC-{TRACE}-{PARENT}-01",
    f"00-{'0' * 32}-{PARENT}-01",
    f"00-.{TRACE[1:]}-{PARENT}-01",
    f"00-{TRACE[:-1]}.-{PARENT}-01",
    f"00-{TRACE}3-{PARENT}-01",
    f"00-{TRACE[1:]}-{PARENT}-01",
    f"00-{'A' * 32}-{PARENT}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE}-.{PARENT[1:]}-01",
    f"00-{TRACE}-{PARENT}7-01",
    f"00-{TRACE}-{PARENT[1:]}-01",
    f"00-{TRACE}-{'B' * 16}-01",
    f"00-{TRACE}-{PARENT}-.0",
    f"00-{TRACE}-{PARENT}-0x",
    f"00-{TRACE}-{PARENT}-0A",
    f"00-{'\u0661' * 32}-{PARENT}-01",
    f"{CAME}\n",
    f"00_{TRACE}_{PARENT}_01",
    CAME * 1000,
]


@pytest.mark.parametrize("text", GOOD)
def test_a_good_header_is_read(text: str) -> None:
    assert parse_traceparent(text) == TraceParent(TRACE, PARENT, GOOD[text])


@pytest.mark.parametrize("text", BAD)
def test_a_bad_header_is_as_good_as_none(text: str) -> None:
    assert parse_traceparent(text) is None


def test_it_is_written_as_it_was_read() -> None:
    assert str(parse_traceparent(CAME)) == CAME


def test_headers_have_any_case_and_states_are_joined_in_order() -> None:
    headers = [(b"host", b"x"), (b"TraceParent", CAME.encode()), (b"TRACESTATE", b"a=1"), (b"tracestate", b"b=2")]
    assert came_with(headers) == (TraceParent(TRACE, PARENT, 1), "a=1,b=2")


@pytest.mark.parametrize("values", [[CAME, CAME], ["nonsense"], []])
def test_without_one_good_parent_there_is_no_state(values: list[str]) -> None:
    headers = [(b"traceparent", value.encode()) for value in values]
    assert came_with([*headers, (b"tracestate", b"a=1")]) == (None, "")


def test_a_continued_trace_has_the_senders_span_for_its_parent() -> None:
    with Profiler(sink="memory", writer="sync") as profiler:
        with continued(CAME, "a=1,b=2", profiler=profiler) as trace_id, profiler.measure("job") as span:
            sent = outgoing_headers()
        profiler.flush()
        (job,) = profiler.sink.spans
    assert trace_id == TRACE
    assert (job.parent_id, job.span_id) == (PARENT, f"{span.span_id:016x}")
    assert sent == {"traceparent": f"00-{TRACE}-{job.span_id}-01", "tracestate": "a=1,b=2"}
    assert profiler.current_span_id() is None
    assert current_traceparent() is None


@pytest.mark.parametrize(("came", "sends"), [("00", "01"), ("01", "01"), ("02", "03"), ("ff", "03")])
def test_what_is_recorded_is_sampled_and_who_made_the_id_is_passed_on(came: str, sends: str) -> None:
    with Profiler(sink="null", writer="sync") as profiler:
        with continued(f"{CAME[:-2]}{came}", profiler=profiler), profiler.measure("job"):
            assert (current_traceparent() or "").endswith(f"-{sends}")


@pytest.mark.parametrize("came", [None, "nonsense"])
def test_without_a_good_header_a_block_is_a_trace_of_its_own(came: str | None) -> None:
    ids = set()
    with Profiler(sink="memory", writer="sync", batch_size=1) as profiler:
        for _ in range(2):
            with continued(came, "a=1", profiler=profiler) as trace_id, profiler.measure("job"):
                ids.add(trace_id)
                sent = outgoing_headers()
            read = parse_traceparent(sent["traceparent"])
            assert read is not None
            assert (read.trace_id, read.flags) == (trace_id, 3)
            assert "tracestate" not in sent, "a state without its parent is not to be looked at"
        assert {span.parent_id for span in profiler.sink.spans} == {None}
    assert len(ids) == 2


def test_outside_a_request_the_run_is_the_trace() -> None:
    with configure(sink="null", writer="sync") as profiler:
        assert current_traceparent() is None
        assert outgoing_headers() == {}
        with profiler.measure("job") as span:
            assert current_traceparent() == f"00-{profiler.run_id}-{span.span_id:016x}-01"


@pytest.mark.parametrize("run_id", ["nightly", "0" * 32, "A" * 32])
def test_a_run_whose_id_is_no_trace_id_has_one_all_the_same(run_id: str) -> None:
    sent = set()
    for _ in range(2):
        with configure(sink="null", writer="sync", run_id=run_id) as profiler, profiler.measure("job"):
            read = parse_traceparent(current_traceparent() or "")
            assert read is not None
            sent.add(read.trace_id)
    assert len(sent) == 1
    assert sent != {run_id}


def test_work_that_is_handed_to_a_thread_with_its_context_belongs_to_the_trace() -> None:
    async def main(profiler: Profiler) -> tuple[str | None, str | None]:
        with continued(CAME, profiler=profiler), profiler.measure("job"):
            return await asyncio.to_thread(current_traceparent), current_traceparent()

    with Profiler(sink="null", writer="sync") as profiler:
        there, here = asyncio.run(main(profiler))
    assert there == here
    assert here is not None
    seen: list[str | None] = []
    thread = threading.Thread(target=lambda: seen.append(current_traceparent()))
    thread.start()
    thread.join()
    assert seen == [None]


def test_asking_makes_no_profiler() -> None:
    assert current_traceparent() is None
    assert ferret.shared._shared is None


def test_reading_a_header_imports_nothing_that_records() -> None:
    code = (
        "import sys; from ferret.integrations.traceparent import parse_traceparent; "
        f"assert parse_traceparent({CAME!r}); "
        "print(sorted({'ferret.core', 'ferret.plugins', 'numpy', 'pydantic', 'beaver'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
