"""`process`: another process delivers. The program's own only hands batches over, through a pipe."""

from __future__ import annotations

import operator
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from ferret.errors import ConfigError
from ferret.ledger import live
from ferret.plugins import SinkSpec, plugins
from ferret.tags import plain_text, type_name
from ferret.writers import frames
from ferret.writers.batching import Batcher
from ferret.writers.bounded import BoundedWriter
from ferret.writers.delivery import FIRST_DELAY_S, LONGEST_DELAY_S, NOTE_EVERY_S, process_info
from ferret.writers.frames import Kind
from ferret.writers.link import ChildLink, block_sigpipe, search_path
from ferret.writers.threaded import IDLE_WAIT_S

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from ferret.ambient import Source
    from ferret.batch import Batch, Origin
    from ferret.config import Settings
    from ferret.span import Record

HAND_OVER_S = 0.1
"""The longest that a span stays in the program, as long as the child keeps up: what a SIGKILL can take."""
MAX_DEATHS = 5
"""Children that may die one after another without storing anything, before the batches in flight count as failed."""


class ProcessWriter(BoundedWriter):
    """Delivers from a child process, which opens the sink itself.

    - Runs in: a child (`python -m ferret.writers.child`), and two daemon threads here that hand batches over and read
      what was stored. The sink must be given by name, and be one that another process can open.
    - Holds: `max_queue` spans that were not handed over, and a copy of each batch until the child has stored it.
    - When the queue is full: as `bounded`.
    - When the child dies: another takes its place, and gets what was not confirmed; the sink stores it once.
    - Lost on SIGKILL of the program: what was not handed over, 0.1 s of spans. The child stores the rest, then ends.
    """

    opens_sink = True

    def __init__(self, sink: SinkSpec, config: Settings) -> None:
        sink = _checked(sink)
        self._prepare(config)
        # Asked once: a forked child, or a child that replaces another, must find the same paths, even if the program has
        # changed its folder, or somebody has removed it.
        self._folder = os.getcwd()
        self._hello = frames.Hello(
            sys_path=search_path(),
            plugins=plugins().modules,
            sink=sink.name,
            target=sink.target,
            options=sink.options,
            settings=config.model_dump(mode="json"),
            origin=("", "", 0, 0),
            info={},
        )
        self._connect()
        self._place = _likely_place(sink)
        if self._place is not None:
            self._go_live(self._place, self._info)
        try:
            self._link.start(wait=config.check_sink)
        except BaseException:
            if self._live_file is not None:
                live.remove(self._live_file)
            raise

    def _begin(self) -> None:
        self._deaths = 0
        self._flush_sent = 0
        self._abandoned = False
        self._end_stored = False
        self._unsent: deque[Batch] = deque()
        self._note_due = time.monotonic() + NOTE_EVERY_S
        super()._begin()

    def _set_alarms(self) -> None:
        super()._set_alarms()
        self._batcher = Batcher(self._batcher.batch_size, min(HAND_OVER_S, self._config.flush_interval))

    def _connect(self) -> None:
        origin = self._books.origin
        self._info = process_info(origin, self._config.writer)
        hello = msgspec.structs.replace(
            self._hello,
            origin=(origin.run_id, origin.token, origin.process_id, origin.anchor_ns),
            info=self._info.model_dump(mode="json"),
        )
        self._link = ChildLink(hello, self._folder, self._on_answer, self._on_death, self._on_ready)

    def _on_ready(self, place: str | None) -> None:
        """The writing process says where the sink writes."""
        self._place = place
        if not self._asked_live:
            self._go_live(place, self._info)

    def _child_goes_live(self) -> None:
        """Begin before there is a writing process, if it is known without one where the sink writes."""
        if self._place is not None:
            self._go_live(self._place, self._info)

    @property
    def child_pid(self) -> int | None:
        """The process id of the child that writes; None before a forked process has recorded, and after `close`."""
        return self._link.pid

    # -- handing over, in the worker thread --------------------------------------------------------

    def _work(self, before: threading.Thread | None) -> None:
        block_sigpipe()
        super()._work(before)

    def _work_once(self) -> bool:
        if self._books.in_flight and not self._link.alive:
            self._replace_child()
        self._send_parts()
        return super()._work_once()

    def _send_parts(self) -> None:
        """Send what came of batches that the sink would not take whole."""
        while self._unsent:
            self._handle(self._unsent.popleft())

    def _note(self) -> None:
        now = time.monotonic()
        if now >= self._note_due:
            self._note_due = now + NOTE_EVERY_S
            self._link.send(Kind.LEDGER, self._books.ledger().model_dump())

    def _resume(self) -> None:
        """After an error of the worker's own, a batch may have been taken and not sent: begin with a new child."""
        self._books.discard_empty()
        if self._books.in_flight:
            self._link.stop(timeout=1.0)
            self._replace_child()

    def _handle(self, batch: Batch) -> None:
        if not self._send(batch):
            self._replace_child()

    def _send(self, batch: Batch) -> bool:
        try:
            return self._send_records(batch, batch.records)
        except UnicodeEncodeError:  # a lone surrogate, such as os.fsdecode gives
            return self._send_records(batch, [_as_text(record) for record in batch.records])

    def _send_records(self, batch: Batch, records: Sequence[Record]) -> bool:
        threads = {index: batch.threads[index] for index in set(map(_thread_of, records))}
        frame = (batch.sequence, batch.attempt, threads, records, _sources_of(batch), batch.part)
        try:
            return self._link.send(Kind.BATCH, frame)
        except frames.FrameTooLargeError as error:
            bad = range(len(batch)) if len(batch) == 1 else ()
            self._unsent.extend(self._books.split(batch.sequence, bad, type_name(type(error))))
            return True

    def _replace_child(self) -> None:
        """Start a child, the first or another, and give it everything that is not known to be stored."""
        self._books.discard_empty()  # a sink stores nothing of such a batch, and its number would seem to be missing
        while not self._abandoned and self._deaths < MAX_DEATHS:
            self._link.stop(timeout=1.0)
            if self._deaths:
                time.sleep(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**self._deaths))
            self._deaths += 1  # until it has stored something
            self._flush_sent = 0
            if self._abandoned:
                return
            self._link.start(wait=False)
            if self._abandoned:  # who gave up may have looked for a child just before there was one
                self._link.kill()
                return
            if all(self._send(batch.again()) for batch in list(self._books.in_flight)):
                return
        if not self._abandoned:
            why = f": {plain_text(self._link.refusal)}" if self._link.refusal else ""
            self._warn(f"{MAX_DEATHS} writing processes in a row died before they had stored anything{why}")
            self._books.fail_in_flight("child_died")
            self._deaths = 0

    def _answer_flushes(self) -> None:
        ticket = self._flush_ticket  # read once: another flush may be asked for while this one is sent
        if self._flush_sent < ticket and self._link.send(Kind.FLUSH, ticket):
            self._flush_sent = ticket
        elif not self._link.alive:
            self._answered(ticket)  # all is stored, and a child that is gone holds nothing back

    # -- answers, in the reading thread ------------------------------------------------------------

    def _on_answer(self, kind: Kind, answer: Any) -> None:
        if kind is Kind.STORED:
            sequence, failure, bad = answer
            self._deaths = 0
            if bad is None:
                self._books.settle(sequence, failure or None)
            else:
                self._unsent.extend(self._books.split(sequence, bad, failure))
                self._wake.put(None)
            if self._flushed < self._flush_ticket:
                self._wake.put(None)
        elif kind is Kind.FLUSHED:
            self._answered(answer)
        elif kind is Kind.WARNING:
            self._warn(answer)
        elif kind is Kind.DONE:
            self._end_stored = answer

    def _on_death(self) -> None:
        with self._books.settled:
            self._books.settled.notify_all()
        self._wake.put(None)

    # -- the end -----------------------------------------------------------------------------------

    def _is_worker(self) -> bool:
        return super()._is_worker() or self._link.is_listening_here()

    def _hurry(self, last_try: float) -> None:
        """Nothing: the child is killed at the deadline."""

    def _close(self, deadline: float, last_try: float) -> bool:
        done = super()._close(deadline, last_try)
        if not done:
            self._abandoned = True
            self._link.kill()
        return done

    def _finish_sink(self) -> bool:
        books, link = self._books, self._link
        while books.in_flight and not self._abandoned:
            if not link.alive:
                self._replace_child()
            self._send_parts()
            with books.settled:
                books.settled.wait_for(lambda: not (books.in_flight and link.alive) or self._unsent, IDLE_WAIT_S)
        if not self._abandoned:
            if not link.alive:
                link.start(wait=False)
            link.send(Kind.BYE, books.ledger().model_dump())
        link.stop(timeout=1.0 if self._abandoned else None)  # after it has read the last answer
        return self._end_stored

    # -- fork --------------------------------------------------------------------------------------

    def _reopen(self, origin: Origin) -> None:  # noqa: ARG002 - the books have it
        self._link.forget()
        self._connect()


_name_of, _thread_of = operator.itemgetter(2), operator.itemgetter(5)


def _sources_of(batch: Batch) -> dict[str, Source]:
    sources = batch.sources
    if not sources:
        return {}
    return {name: sources[name] for name in set(map(_name_of, batch.records)) if name in sources}


def _likely_place(sink: SinkSpec) -> str | None:
    """The file that the sink will write to, as far as that can be told without opening it."""
    if sink.name == "tee":
        return next((_likely_place(part) for part in sink.parts if part.name != "null"), None)
    return os.path.realpath(sink.target) if sink.name in {"beaver", "jsonl"} and sink.target else None


def _as_text(record: Record) -> Record:
    task = record[6]
    return (*record[:2], plain_text(record[2]), *record[3:6], None if task is None else plain_text(task), *record[7:])


def _checked(sink: object) -> SinkSpec:
    """The sink, if another process can open it.

    Raises:
        ConfigError: it cannot; the message says what would work.
    """
    advice = "give a file, such as Profiler('trace.db', writer='process'), or choose another writer"
    if not isinstance(sink, SinkSpec):
        raise ConfigError(
            f"option 'writer' is 'process', which opens the sink in another process: {sink!r} is an object of this one; "
            "give the sink by name, such as sink='jsonl:spans.jsonl', or choose another writer"
        )
    if sink.name == "memory" or (sink.name == "beaver" and sink.target in {None, ":memory:"}):
        raise ConfigError(
            f"option 'writer' is 'process', and spans that another process keeps in its memory could never be read: {advice}"
        )
    try:
        msgspec.msgpack.encode(sink.options)
    except TypeError as error:
        raise ConfigError(
            f"option 'sink_options' is {sink.options!r}: the process writer needs plain values"
        ) from error
    return sink
