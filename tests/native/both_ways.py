"""Programs of spans, made at random, and what they leave behind, so that two ways to run them can be compared."""

from __future__ import annotations

import asyncio
import contextvars
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from ferret import Profiler
from ferret.span import Record

ADDRESS = re.compile(rb"0x[0-9a-f]+")


class Text(str):
    """A text that is not quite one."""

    __slots__ = ()


class Hostile:
    """Nothing can be made of it."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Mapping(dict[Any, Any]):
    """A dictionary that is not quite one."""


def named(*_: Any) -> str:
    return "by a function"


def misnamed(*_: Any) -> str:
    raise KeyError("no name")


texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["null", "a\nb", 'a"b', "a\\b", "\x7f", "é", "\udce9", "n" * 300]),
    st.builds(str.__mul__, st.just("v"), st.sampled_from([9_000, 70_000])),
)  # fmt: skip
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(), texts, st.binary(max_size=5),
        st.dates(), st.builds(Text, texts), st.builds(Hostile), st.builds(pow, st.just(10), st.just(5000)),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)  # fmt: skip
keys = st.one_of(st.sampled_from(["user", "items", "a"]), texts, st.integers(), st.builds(Text, texts), st.none())
tags = st.one_of(
    st.none(), st.dictionaries(st.sampled_from(["user", "items"]), st.one_of(st.integers(), st.text(max_size=8))),
    st.dictionaries(keys, values, max_size=4), st.dictionaries(texts, values, max_size=3).map(Mapping),
)  # fmt: skip
names = st.one_of(
    st.sampled_from(["a", "b"]), texts, st.just(named), st.just(misnamed), st.integers(), st.builds(Text, texts)
)
steps = st.sampled_from(
    ["raise", "exit", "end", "end badly", "annotate", "model", "rename", "unname", "unstart", "untoken", "strange id",
     "strange end", "ended", "reset", "enter again", "again at once", "leave early", "tags away", "no recorder"]
)  # fmt: skip


@dataclass
class Node:
    """A block or a call, what happens in it, and the blocks in it."""

    kind: str
    name: Any
    tags: Any
    steps: list[str]
    inner: list[Node] = field(default_factory=list)


kinds = st.sampled_from(
    ["with"] * 4 + ["call"] * 3 + ["start", "generator", "coroutine", "thread", "tagged call", "async"]
)
few_steps = st.lists(steps, max_size=2)
nodes: st.SearchStrategy[Node] = st.recursive(
    st.builds(Node, kinds, names, tags, few_steps),
    lambda inner: st.builds(Node, kinds, names, tags, few_steps, st.lists(inner, max_size=3)),
    max_leaves=8,
)
programs = st.lists(nodes, min_size=1, max_size=4)


class Left(BaseException):
    """What a block is left by."""


class Run:
    """One run of a program."""

    def __init__(self) -> None:
        self.profiler = Profiler(sink="null", writer="sync", batch_size=10**6, flush_interval=3600)
        self.seen: list[Any] = []

    def of(self, program: list[Node]) -> tuple[list[Any], list[Any]]:
        """What it recorded, and what it saw."""
        try:
            contextvars.copy_context().run(self.all_of, program)
            records = list(self.profiler.writer.queue)  # type: ignore[attr-defined]
        finally:
            self.profiler.writer.queue.clear()  # type: ignore[attr-defined]
            self.profiler.close()
        return plain(records), self.seen

    def all_of(self, program: list[Node]) -> None:
        for node in program:
            self.attempt(lambda node=node: self.do(node))
        self.seen.append(self.profiler.current.get() == 0)

    def attempt(self, what: Callable[[], Any]) -> None:
        try:
            self.seen.append(what())
        except BaseException as error:
            said = ADDRESS.sub(b"", str(error).encode("utf-8", "replace"))
            self.seen.append((type(error), said, type(error.__context__)))

    def do(self, node: Node) -> Any:
        return getattr(self, "do_" + node.kind.replace(" ", "_"))(node)

    def body(self, node: Node, span: Any) -> None:
        for one in node.inner:
            self.attempt(lambda one=one: self.do(one))
        for step in node.steps:
            if span is not None or step in {"raise", "exit"}:
                self.attempt_step(step, span)

    def attempt_step(self, step: str, span: Any) -> None:
        if step == "raise":
            raise ValueError("no such user")
        if step == "exit":
            raise Left
        with suppress(AttributeError):
            getattr(self, "step_" + step.replace(" ", "_"))(span)

    def do_with(self, node: Node) -> None:
        span = self.profiler.measure(node.name, node.tags)
        with span:
            self.body(node, span)
        self.seen.append((span.end_ns > 0, repr(span)[:20] if isinstance(span.name, str) else ""))

    def do_start(self, node: Node) -> None:
        span = self.profiler.start(node.name, node.tags)
        self.body(node, span)
        span.end()

    def do_call(self, node: Node) -> Any:
        @self.profiler.measure(node.name if not callable(node.name) else "a")
        def work(*args: Any, **kwargs: Any) -> Any:
            self.body(node, None)
            return args, kwargs

        return work(1, 2, three=3)

    def do_tagged_call(self, node: Node) -> Any:
        @self.profiler.measure(node.name, node.tags)
        def work(number: int) -> int:
            self.body(node, None)
            return number

        return work(7)

    def do_generator(self, node: Node) -> Any:
        @self.profiler.measure(node.name, node.tags)
        def work() -> Any:
            yield 1
            self.body(node, None)
            yield 2

        return list(work())

    def do_coroutine(self, node: Node) -> None:
        @self.profiler.measure(node.name, node.tags)
        async def work() -> None:
            self.body(node, None)

        with suppress(StopIteration):
            work().send(None)

    def do_async(self, node: Node) -> None:
        async def main() -> None:
            async with self.profiler.measure(node.name, node.tags) as span:
                await asyncio.create_task(self.one(node), name="task")
                self.body(node, span)

        self.in_thread(lambda: asyncio.run(main()))

    async def one(self, node: Node) -> None:
        with suppress(BaseException):
            self.do_with(Node("with", node.name, node.tags, node.steps))
        with suppress(BaseException):
            self.do_call(Node("call", node.name, node.tags, node.steps))

    def do_thread(self, node: Node) -> None:
        self.in_thread(lambda: self.do_with(node))

    def in_thread(self, what: Callable[[], Any]) -> None:
        thread = threading.Thread(target=self.attempt, args=(what,), name="another")
        thread.start()
        thread.join()

    # -- what may happen to a span in its block --

    def step_end(self, span: Any) -> None:
        span.end()

    def step_end_badly(self, span: Any) -> None:
        span.end("bad")

    def step_annotate(self, span: Any) -> None:
        span.annotate(more=1)

    def step_model(self, span: Any) -> None:
        span.model.status = "warned"

    def step_rename(self, span: Any) -> None:
        span.name = ["a list"]

    def step_unname(self, span: Any) -> None:
        del span.name

    def step_unstart(self, span: Any) -> None:
        del span.start_ns

    def step_untoken(self, span: Any) -> None:
        del span._token

    def step_strange_id(self, span: Any) -> None:
        span.span_id = None

    def step_strange_end(self, span: Any) -> None:
        span.end_ns = 0.0

    def step_ended(self, span: Any) -> None:
        span.end_ns = 5

    def step_reset(self, span: Any) -> None:
        self.profiler.current.reset(span._token)

    def step_enter_again(self, span: Any) -> None:
        span.__exit__(None, None, None)
        span.__enter__()

    def step_again_at_once(self, span: Any) -> None:
        with span:
            pass

    def step_leave_early(self, span: Any) -> None:
        span.__exit__(None, None, None)

    def step_tags_away(self, span: Any) -> None:
        span._tags = {"now": "others"}

    def step_no_recorder(self, span: Any) -> None:
        del span._recorder


def plain(records: list[Record]) -> list[Any]:
    """The records without what differs from run to run: ids and threads by their order, and no times."""
    order: dict[Any, int] = {0: 0, None: -1}
    threads: dict[Any, int] = {}
    for record in sorted(records, key=lambda one: one[0] or 0):
        order.setdefault(record[0], len(order))
    found = []
    for span_id, parent_id, name, start_ns, end_ns, thread, task, data, outcome, suspended_ns, self_ns in records:
        times = (type(start_ns), type(end_ns), end_ns >= start_ns > 0, suspended_ns > 0, self_ns)
        said = outcome and ADDRESS.sub(b"", outcome)
        where = (threads.setdefault(thread, len(threads)), None if task is None else task.startswith("Task-") or task)
        found.append((order[span_id], order.get(parent_id, "lost"), name, times, *where, data, said))
    return found
