"""OTLP as JSON lines, parsed by protobuf's own JSON reader into OpenTelemetry's own messages."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from opentelemetry.proto.trace.v1 import trace_pb2
from recorded import INFO, OUTCOMES, PIDS, SOURCES, TASKS, THREADS, TOKENS, One, exported, runs

from ferret import __version__

HEX = re.compile(r"[0-9a-f]+")
IDS = {"traceId": 32, "spanId": 16, "parentSpanId": 16}


def parsed(data: bytes) -> list[Any]:
    """The lines as messages. OTLP has ids in hexadecimal, where protobuf's JSON has base64."""
    messages = []
    for line in data.decode().split("\n")[:-1]:
        raw = json.loads(line)
        for resource in raw["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    for key, digits in IDS.items():
                        if key in span:
                            assert HEX.fullmatch(span[key])
                            assert len(span[key]) == digits
                            span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
        messages.append(json_format.ParseDict(raw, trace_pb2.TracesData()))
    return messages


def value_of(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return attributes(value.kvlist_value.values)
    if kind == "array_value":
        return [value_of(one) for one in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def attributes(pairs: Any) -> dict[str, Any]:
    found = {pair.key: value_of(pair.value) for pair in pairs}
    assert len(found) == len(pairs), "a key stands there twice"
    return found


def spans_of(data: bytes) -> dict[int, tuple[Any, dict[str, Any]]]:
    """Each span with its resource's attributes, by id."""
    found: dict[int, tuple[Any, dict[str, Any]]] = {}
    for message in parsed(data):
        (resource_spans,) = message.resource_spans
        (scope_spans,) = resource_spans.scope_spans
        assert (scope_spans.scope.name, scope_spans.scope.version) == ("ferret", __version__)
        for span in scope_spans.spans:
            span_id = int.from_bytes(span.span_id)
            assert span_id not in found
            found[span_id] = span, attributes(resource_spans.resource.attributes)
    return found


def kept(value: Any) -> Any:
    """A tag's value as OTLP has a form for it."""
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, dict):
        unnamed = next(name for name in ("(empty)", "((empty))", "(((empty)))") if name not in value)
        return {key or unnamed: kept(item) for key, item in value.items()}
    return [kept(item) for item in value] if isinstance(value, list) else value


def expected_attributes(one: One) -> dict[str, Any]:
    thread_id, thread_name = THREADS[one.thread]
    found = {"thread.id": thread_id, "thread.name": thread_name}
    if one.task:
        found["ferret.task"] = TASKS[one.task]
    if one.name in SOURCES:
        found["code.file.path"], found["code.line.number"] = SOURCES[one.name]
    if one.suspended_ns:
        found["ferret.suspended_ns"] = one.suspended_ns
    if one.self_ns >= 0:
        found["ferret.self_ns"] = one.self_ns
    if OUTCOMES[one.outcome][0] == "skipped":
        found["ferret.status"] = "skipped"
    return {**found, **kept(one.tags)}


@given(runs())
def test_every_span_is_there_once_with_all_that_is_known_of_it(spans: list[One]) -> None:
    found = spans_of(exported(spans, "otlp-json"))
    assert set(found) == {one.span_id for one in spans}
    for one in spans:
        span, resource = found[one.span_id]
        assert (span.name, span.start_time_unix_nano, span.end_time_unix_nano) == (
            one.known_name,
            one.start_ns,
            one.end_ns,
        )
        assert int.from_bytes(span.parent_span_id) == one.parent_id
        assert span.kind == trace_pb2.Span.SPAN_KIND_INTERNAL
        assert attributes(span.attributes) == expected_attributes(one)
        status, error, error_type = OUTCOMES[one.outcome]
        assert span.status.code == (0 if status == "ok" else trace_pb2.Status.STATUS_CODE_ERROR)
        assert span.status.message == (error or "")
        assert [(event.name, event.time_unix_nano, attributes(event.attributes)) for event in span.events] == (
            [("exception", one.end_ns, {"exception.type": error_type, "exception.message": error})]
            if error_type
            else []
        )
        assert (resource["process.pid"], resource["service.instance.id"]) == (PIDS[one.process], TOKENS[one.process])


def test_a_tag_without_a_name_takes_no_other_s() -> None:
    tags = {"": 1, "(empty)": 2, "inner": {"": 3, "(empty)": 4, "((empty))": 5}}
    ((span, _),) = spans_of(exported([One(1, tags=tags)], "otlp-json")).values()
    found = attributes(span.attributes)
    assert (found["((empty))"], found["(empty)"]) == (1, 2)
    assert found["inner"] == {"(((empty)))": 3, "(empty)": 4, "((empty))": 5}


@given(runs())
def test_the_spans_of_a_tree_are_a_trace(spans: list[One]) -> None:
    traces = {span_id: span.trace_id for span_id, (span, _) in spans_of(exported(spans, "otlp-json")).items()}
    for one in spans:
        if one.parent_id in traces:
            assert traces[one.span_id] == traces[one.parent_id]
    roots = [one for one in spans if one.parent_id == 0]
    assert len({traces[one.span_id] for one in roots}) == len(roots)


def test_children_of_one_parent_elsewhere_share_its_trace_and_another_run_s_are_others() -> None:
    spans = [One(1, 77, "a", 0, 1), One(2, 77, "b", 0, 1), One(3, 2, "c", 0, 1), One(4, 0, "d", 0, 1)]
    traces = [span.trace_id for span, _ in spans_of(exported(spans, "otlp-json")).values()]
    assert traces[0] == traces[1] == traces[2] != traces[3]


@given(runs())
def test_no_name_breaks_out_of_a_page_a_terminal_or_a_line(spans: list[One]) -> None:
    text = exported(spans, "otlp-json").decode()
    assert not set("<>&") & set(text)
    assert all(line.isprintable() for line in text.split("\n"))


def test_the_resource_says_what_ran_where() -> None:
    ((_, resource),) = spans_of(exported([One(1, 0, "a", 0, 1)], "otlp-json")).values()
    assert resource == {
        "service.name": "</p>4242.py", "service.instance.id": TOKENS[0], "process.pid": 4242, "host.name": "h",
        "process.command_args": ["x", "\x1b"], "telemetry.sdk.name": "ferret", "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__, "ferret.run_id": INFO.run_id,
    }  # fmt: skip


def test_a_tag_takes_the_place_of_a_fact_of_its_name() -> None:
    one = One(1, 0, "a", 0, 9, suspended_ns=4, tags={"thread.name": "mine", "ferret.suspended_ns": "mine"})
    ((span, _),) = spans_of(exported([one], "otlp-json")).values()
    assert {key: value for key, value in attributes(span.attributes).items() if value == "mine"} == one.tags


@pytest.mark.parametrize("size", [10, 3_000, 60_000])
def test_no_line_is_longer_than_the_collector_reads(size: int) -> None:
    spans = [One(n, 0, "a", n, 1, tags={"text": "<" * (size // 6)}) for n in range(1, 300)]
    data = exported(spans, "otlp-json")
    assert max(map(len, data.splitlines())) < 1 << 20
    assert len(spans_of(data)) == 299


def test_deep_tags_are_within_what_protobuf_reads() -> None:
    value: Any = 1
    for _ in range(200):
        value = {"in": value}
    ((span, _),) = spans_of(exported([One(1, 0, "a", 0, 1, tags={"deep": value})], "otlp-json")).values()
    found = attributes(span.attributes)["deep"]
    while isinstance(found, dict):
        found = found["in"]
    assert found.startswith('{"in":{"in":')


def test_a_run_without_spans_is_an_empty_file() -> None:
    assert exported([], "otlp-json") == b""
