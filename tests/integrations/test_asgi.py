"""The ASGI middleware, by messages alone: no framework, no server, no client."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import Any

import pytest

import ferret
from ferret import Profiler, configure
from ferret.integrations.asgi import FerretMiddleware
from ferret.integrations.traceparent import current_trace, current_traceparent, outgoing_headers
from tests.integrations.served import Server, spans_of

START = {"type": "http.response.start", "status": 200, "headers": []}
LAST = {"type": "http.response.body", "body": b"hello"}
MORE = {"type": "http.response.body", "body": b"hello", "more_body": True}
GONE = {"type": "http.disconnect"}
CAME = "00-12345678901234567890123456789012-ffffffffffffffff-01"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(LAST)


def answering(*messages: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


def test_a_request_is_a_span_and_passes_unchanged(profiler: Profiler) -> None:
    sent = asyncio.run(Server().serve(FerretMiddleware(hello, profiler), "/hello", query_string=b"secret=1"))
    assert sent == [START, LAST]
    assert sent[0] is START
    (span,) = profiler.sink.spans
    assert span.name == "GET (no route)"
    assert span.tags == {
        "url.path": "/hello",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "client.address": "9.9.9.9",
    }
    assert (span.status, span.parent_id) == ("ok", None)


def test_what_the_application_records_is_below_the_request(profiler: Profiler) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with profiler.measure("work"):
            await asyncio.gather(*(one(number) for number in range(2)))
        await hello(scope, receive, send)

    async def one(number: int) -> None:
        with profiler.measure(f"part {number}"):
            await asyncio.sleep(0)

    async def two_at_once() -> None:
        served = FerretMiddleware(app, profiler)
        await asyncio.gather(Server().serve(served, "/1"), Server().serve(served, "/2"))

    asyncio.run(two_at_once())
    spans = {span.span_id: span for span in profiler.sink.spans}
    parents = sorted((span.name, spans[span.parent_id].name) for span in spans.values() if span.parent_id)
    assert parents == sorted([("work", "GET (no route)"), ("part 0", "work"), ("part 1", "work")] * 2)
    assert len({span.parent_id for span in spans.values() if span.name == "work"}) == 2
    assert profiler.current_span_id() is None


def test_the_method_and_the_path_make_no_new_names(profiler: Profiler) -> None:
    app = FerretMiddleware(hello, profiler)
    asyncio.run(Server().serve(app, "/users/1", method="FROB-1"))
    (span,) = profiler.sink.spans
    assert span.name == "HTTP (no route)"
    assert span.tags["http.request.method"] == "_OTHER"
    assert span.tags["http.request.method_original"] == "FROB-1"


@pytest.mark.parametrize(("status", "outcome"), [(200, "ok"), (404, "ok"), (499, "ok"), (500, "error"), (503, "error")])
def test_a_server_error_is_an_error_and_a_clients_is_not(profiler: Profiler, status: int, outcome: str) -> None:
    asyncio.run(Server().serve(FerretMiddleware(answering(START | {"status": status}, LAST), profiler)))
    (span,) = profiler.sink.spans
    assert (span.status, span.tags["http.response.status_code"]) == (outcome, status)


@pytest.mark.parametrize("first", [(), (START,), (START | {"status": 500}, LAST)])
def test_an_exception_is_an_error_and_goes_on(profiler: Profiler, first: tuple[dict[str, Any], ...]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering(*first)(scope, receive, send)
        raise LookupError("no such order")

    with pytest.raises(LookupError, match="no such order"):
        asyncio.run(Server().serve(FerretMiddleware(app, profiler)))
    (span,) = profiler.sink.spans
    assert (span.status, span.error_type, span.error) == ("error", "LookupError", "no such order")
    assert span.tags.get("http.response.status_code") == (first[0]["status"] if first else None)


@pytest.mark.parametrize("messages", [(), (START,), (START, MORE)])
def test_an_application_that_does_not_finish_its_answer_is_an_error(profiler: Profiler, messages: Any) -> None:
    asyncio.run(Server().serve(FerretMiddleware(answering(*messages), profiler)))
    (span,) = profiler.sink.spans
    assert (span.name, span.status) == ("GET (no route)", "error")


@pytest.mark.parametrize(
    "messages",
    [
        (START, MORE, MORE, LAST),
        (START | {"trailers": True}, MORE, LAST, {"type": "http.response.trailers", "headers": []}),
        (START, {"type": "http.response.pathsend", "path": "/f"}),
    ],
)
def test_the_span_ends_with_the_body_and_what_follows_is_below_it(profiler: Profiler, messages: Any) -> None:
    ended: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            ended.append(len(profiler.sink.spans))
            await send(message)
        ended.append(len(profiler.sink.spans))
        with profiler.measure("background"):
            pass

    asyncio.run(Server().serve(FerretMiddleware(app, profiler)))
    assert ended == [0] * len(messages) + [1]
    spans = spans_of(profiler)
    assert spans["background"].parent_id == spans["GET (no route)"].span_id
    assert spans["background"].start_time >= spans["GET (no route)"].end_time


def test_what_fails_after_the_answer_does_not_undo_it(profiler: Profiler) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)
        raise ValueError("the background task")

    with pytest.raises(ValueError, match="background"):
        asyncio.run(Server().serve(FerretMiddleware(app, profiler)))
    (span,) = profiler.sink.spans
    assert span.status == "ok"


# -- somebody goes away --------------------------------------------------------------------------------------------


class ClientDisconnect(Exception):  # noqa: N818 - the name is what counts
    """As Starlette raises it."""


@pytest.mark.parametrize("error", [None, ClientDisconnect])
def test_a_client_that_goes_while_it_is_waited_for(profiler: Profiler, error: type[Exception] | None) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        assert await receive() == GONE
        if error:
            raise error

    task = Server(GONE).serve(FerretMiddleware(app, profiler))
    if error:
        with pytest.raises(error):
            asyncio.run(task)
    else:
        asyncio.run(task)
    (span,) = profiler.sink.spans
    assert (span.status, span.error_type, span.tags["client.disconnected"]) == ("ok", None, True)


def test_a_client_that_goes_while_it_is_sent_to(profiler: Profiler) -> None:
    app = FerretMiddleware(answering(START, *[MORE] * 5, LAST), profiler)
    with pytest.raises(OSError, match="gone"):
        asyncio.run(Server(gone_after=3).serve(app))
    (span,) = profiler.sink.spans
    assert (span.status, span.tags["client.disconnected"]) == ("ok", True)
    assert span.tags["http.response.status_code"] == 200


def test_an_oserror_of_the_applications_own_is_an_error(profiler: Profiler) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="space"):
        asyncio.run(Server().serve(FerretMiddleware(app, profiler)))
    (span,) = profiler.sink.spans
    assert (span.status, span.error_type) == ("error", "OSError")


def test_a_bug_that_comes_after_the_client_went_is_an_error(profiler: Profiler) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise KeyError("bug")

    with pytest.raises(KeyError):
        asyncio.run(Server(GONE).serve(FerretMiddleware(app, profiler)))
    (span,) = profiler.sink.spans
    assert (span.status, span.error_type) == ("error", "KeyError")


def test_the_disconnect_after_a_whole_answer_is_none(profiler: Profiler) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)
        await receive()

    asyncio.run(Server(GONE).serve(FerretMiddleware(app, profiler)))
    (span,) = profiler.sink.spans
    assert (span.status, "client.disconnected" in span.tags) == ("ok", False)


@pytest.mark.parametrize(("gives", "status"), [([], "cancelled"), ([GONE], "ok")])
def test_a_cancelled_request_is_recorded_as_such(profiler: Profiler, gives: list[Any], status: str) -> None:
    async def main() -> None:
        entered = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if gives:  # the server tells that the client went, and cancels what is left
                await receive()
            entered.set()
            await receive()

        task = asyncio.create_task(Server(*gives).serve(FerretMiddleware(app, profiler)))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    (span,) = profiler.sink.spans
    assert (span.name, span.status, span.error_type) == ("GET (no route)", status, None)


# -- traces of several services ------------------------------------------------------------------------------------


def test_the_callers_span_is_the_parent_and_the_trace_goes_on(profiler: Profiler) -> None:
    sent: dict[str, str] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with profiler.measure("ask another service"):
            sent.update(outgoing_headers())
        await hello(scope, receive, send)

    headers = [(b"traceparent", CAME.encode()), (b"tracestate", b"congo=t61")]
    asyncio.run(Server().serve(FerretMiddleware(app, profiler), headers=headers))
    spans = spans_of(profiler)
    request, asking = spans["GET (no route)"], spans["ask another service"]
    assert request.parent_id == "f" * 16
    assert request.tags["trace_id"] == "12345678901234567890123456789012"
    assert sent == {
        "traceparent": f"00-12345678901234567890123456789012-{asking.span_id}-01",
        "tracestate": "congo=t61",
    }
    assert profiler.current_span_id() is None
    assert current_traceparent() is None


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_a_request_is_left_in_the_task_that_served_it(profiler: Profiler, fails: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (answering()(scope, receive, send) if fails else hello(scope, receive, send))
        if fails:
            raise ValueError

    async def main() -> None:
        with profiler.measure("the server's own") as span:
            served = FerretMiddleware(app, profiler)
            with contextlib.suppress(ValueError):
                await Server().serve(served, headers=[(b"traceparent", CAME.encode())])
            assert profiler.current_span_id() == f"{span.span_id:016x}"
            assert current_trace.get() is None
            with contextlib.suppress(ValueError):
                await Server().serve(served)

    asyncio.run(main())
    first, second, _ = profiler.sink.spans
    assert first.parent_id == "f" * 16
    assert "trace_id" not in second.tags


def test_a_request_without_a_parent_begins_a_trace_when_one_is_needed(profiler: Profiler) -> None:
    sent: list[str | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/asks":
            sent.append(current_traceparent())
        await hello(scope, receive, send)

    served = FerretMiddleware(app, profiler)
    for path in ("/asks", "/does not"):
        asyncio.run(Server().serve(served, path, headers=[(b"traceparent", b"nonsense")]))
    asks, does_not = profiler.sink.spans
    assert sent == [f"00-{asks.tags['trace_id']}-{asks.span_id}-03"]
    assert asks.parent_id is None
    assert "trace_id" not in does_not.tags


def test_a_caller_need_not_be_believed(profiler: Profiler) -> None:
    app = FerretMiddleware(hello, profiler, read_traceparent=False)
    asyncio.run(Server().serve(app, headers=[(b"traceparent", CAME.encode())]))
    (span,) = profiler.sink.spans
    assert (span.parent_id, "trace_id" in span.tags) == (None, False)


def test_the_caller_is_told_only_if_that_is_asked_for(profiler: Profiler) -> None:
    app = FerretMiddleware(hello, profiler, response_headers=["traceparent", "server-timing"])
    start, _ = asyncio.run(Server().serve(app, headers=[(b"traceparent", CAME.encode())]))
    (span,) = profiler.sink.spans
    value = f"00-12345678901234567890123456789012-{span.span_id}-01"
    assert start["headers"] == [
        (b"traceparent", value.encode()),
        (b"server-timing", f'traceparent;desc="{value}"'.encode()),
    ]
    assert START["headers"] == [], "the application's own message stays as it was"


@pytest.mark.parametrize("wrong", ["traceparent", ["x-trace"]])
def test_an_unknown_response_header_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="traceparent and server-timing"):
        FerretMiddleware(hello, response_headers=wrong)


# -- what else there is --------------------------------------------------------------------------------------------


def test_the_programs_own_tags_are_kept(profiler: Profiler) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["ferret.span"].annotate(tenant="blue")
        await hello(scope, receive, send)

    headers = [(b"user-agent", b"curl/8")]
    asyncio.run(Server().serve(FerretMiddleware(app, profiler, user_agent=True, client=False), headers=headers))
    (span,) = profiler.sink.spans
    assert span.tags["tenant"] == "blue"
    assert span.tags["user_agent.original"] == "curl/8"
    assert "client.address" not in span.tags


def test_the_lifespan_passes_untouched(profiler: Profiler) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope, receive, send])

    server, scope = Server(), {"type": "lifespan"}
    asyncio.run(FerretMiddleware(app, profiler)(scope, server.receive, server.send))
    assert seen == [scope, server.receive, server.send]
    assert seen[0] is scope
    assert scope == {"type": "lifespan"}
    assert profiler.sink.spans == []


def test_two_middlewares_make_one_span(profiler: Profiler) -> None:
    asyncio.run(Server().serve(FerretMiddleware(FerretMiddleware(hello, profiler), profiler)))
    assert len(profiler.sink.spans) == 1


def test_without_a_profiler_it_is_the_processs_own_at_the_time_of_the_request() -> None:
    app = FerretMiddleware(hello)
    assert ferret.shared._shared is None
    with configure(sink="memory", writer="sync", batch_size=1) as profiler:
        asyncio.run(Server().serve(app))
        assert [span.name for span in profiler.sink.spans] == ["GET (no route)"]


class Hostile:
    """A route as no framework has it."""

    path = path_format = None

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_a_framework_that_is_otherwise_costs_a_name_and_nothing_else(profiler: Profiler) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Hostile()
        await hello(scope, receive, send)

    asyncio.run(Server().serve(FerretMiddleware(app, profiler)))
    (span,) = profiler.sink.spans
    assert (span.name, span.status) == ("GET (no route)", "ok")


# -- websockets ----------------------------------------------------------------------------------------------------

CONNECT, ACCEPT = {"type": "websocket.connect"}, {"type": "websocket.accept"}
CLOSE, CLIENT_CLOSES = {"type": "websocket.close"}, {"type": "websocket.disconnect", "code": 1001}


class WebSocketDisconnect(Exception):  # noqa: N818 - as above
    """As Starlette raises it."""


@pytest.mark.parametrize(
    ("sends", "error", "status", "code", "outcome"),
    [
        ([ACCEPT, CLOSE], None, 101, 1000, "ok"),
        ([ACCEPT, CLOSE | {"code": 1011}], None, 101, 1011, "error"),
        ([CLOSE], None, 403, 1000, "ok"),
        ([{"type": "websocket.http.response.start", "status": 503}], None, 503, None, "error"),
        ([ACCEPT, "receive"], None, 101, 1001, "ok"),
        ([ACCEPT, "receive"], WebSocketDisconnect, 101, 1001, "ok"),
        ([ACCEPT, "receive"], OSError, 101, 1001, "ok"),
        ([ACCEPT], WebSocketDisconnect, 101, None, "error"),
        ([ACCEPT, "receive"], KeyError, 101, 1001, "error"),
    ],
)
def test_a_websocket_is_a_span_until_it_closes(
    profiler: Profiler, sends: list[Any], error: type[Exception] | None, status: int, code: int | None, outcome: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == CONNECT
        for message in sends:
            await (receive() if message == "receive" else send(message))
        with profiler.measure("inside"):
            pass
        if error:
            raise error("x")

    async def main() -> None:
        server = Server(CONNECT, CLIENT_CLOSES)
        scope = {"type": "websocket", "path": "/chat", "headers": [], "client": None}
        await FerretMiddleware(app, profiler)(scope, server.receive, server.send)

    if error:
        with pytest.raises(error):
            asyncio.run(main())
    else:
        asyncio.run(main())
    spans = spans_of(profiler)
    span = spans["WEBSOCKET (no route)"]
    assert spans["inside"].parent_id == span.span_id
    expected = {"url.path": "/chat", "http.response.status_code": status, "websocket.close_code": code}
    assert span.tags == {name: value for name, value in expected.items() if value is not None}
    assert span.status == outcome


def test_importing_it_imports_nothing_that_records() -> None:
    code = (
        "import sys; import ferret.integrations.asgi; "
        "heavy = {'ferret.core', 'ferret.span', 'ferret.plugins', 'numpy', 'pydantic', 'beaver', 'starlette'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
