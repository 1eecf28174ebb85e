"""Handing batches to a sink: again and again while it fails, but not for ever, and without measuring itself."""

from __future__ import annotations

import itertools
import os
import platform
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import tenacity

from ferret.ambient import delivering
from ferret.batch import Batch
from ferret.forkgate import ForkGate
from ferret.ledger.fates import settle
from ferret.models import ProcessInfo
from ferret.sinks.base import KeepsRuns, Reopens, place_of
from ferret.tags import plain_text
from ferret.writers import quarantine
from ferret.writers.failure import Failure
from ferret.writers.reopening import Reopening

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferret.batch import Origin
    from ferret.config import Settings
    from ferret.models import Ledger
    from ferret.plugins import SinkSpec
    from ferret.sinks.base import Sink

FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 2.0
"""Between attempts: doubling from the first to the longest, plus up to the first again at random, so that processes
that share a locked file do not knock in step."""

NOTE_EVERY_S = 5.0
NOTE_EVERY_AT_MOST_S = 60.0
"""How often the ledger is stored while the run goes on: ever more seldom."""

DATA_TRIES = 3
"""How often a batch is tried that meets with an error of the data: it seldom goes away."""
HOPELESS = 1024
"""After so many such errors in a row, it is the sink that is at fault: batches are not taken apart until one is stored."""

_inherited: list[object] = []
"""Sinks of a parent process: never written to or closed by a writer, and never collected, in the child. An SQLite
connection that is closed in a forked child can damage the parent's file (sqlite.org/howtocorrupt.html, 2.6)."""


def process_info(origin: Origin, writer: str) -> ProcessInfo:
    """The facts of this process, as they stand beside its spans."""
    return ProcessInfo(
        run_id=origin.run_id,
        token=origin.token,
        process_id=origin.process_id,
        program=_program(),
        argv=[plain_text(argument) for argument in sys.argv],
        python=platform.python_version(),
        host=socket.gethostname(),
        writer=writer,
        started_at=time.time(),
    )


def _program() -> str:
    """The script's name, or the module's behind `python -m`."""
    words = getattr(sys, "argv", [])
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if words[:1] == ["-m"] and "-m" in sys.orig_argv:  # Python is still starting
        return plain_text(sys.orig_argv[sys.orig_argv.index("-m") + 1])
    if spec is not None and words[:1] == [spec.origin]:
        return plain_text(spec.name.removesuffix(".__main__"))
    return plain_text(Path(words[0]).name) if words and words[0] else "python"


class Refusal(NamedTuple):
    """The sink will never take the batch as it is."""

    bad: list[int]
    """The spans that are to blame, which were set aside; none if that is not known."""
    failure: str


class Delivery:
    """A sink, and the manners to use it with. Used by one thread at a time.

    Args:
        owner: the writer: what this sink's own code records with it is left out.
        sink: an open sink.
        settings: `close_timeout` bounds how long a batch is tried; `fallback_sink` takes what failed.
        info: the facts of this process.
        warn: tells the program that something was lost.
        in_caller: whether the program itself waits for this sink. Then only the first batch after a success is tried
            again and again (a broken sink must not hold up the program for each), and a KeyboardInterrupt passes.
    """

    def __init__(
        self,
        owner: object,
        sink: Sink,
        settings: Settings,
        info: ProcessInfo,
        warn: Callable[[str], None],
        *,
        in_caller: bool = False,
    ) -> None:
        self._owner = owner
        self._sink = sink
        self._settings = settings
        self._info = info
        self._warn = warn
        self._in_caller = in_caller
        self._verdicts = Exception if in_caller else BaseException
        self._fallback_spec = _fallback_spec(settings)
        self._fallback: Sink | None = None
        self._gate = ForkGate()
        self._new_process()

    def _new_process(self) -> None:
        self._deadline: float | None = None
        self._hurry = threading.Event()
        self._failing = False
        self._facts_stored = False
        self._finishing = False
        self._closed: list[Sink] = []
        self._dead_settled = False
        self._refused_in_a_row = 0
        self._note_every = NOTE_EVERY_S
        self._note_due = time.monotonic() + NOTE_EVERY_S

    @property
    def place(self) -> str | None:
        """The file that the sink writes to, if it says that there is one. Asking opens nothing."""
        return place_of(self._sink)

    @property
    def info(self) -> ProcessInfo:
        """The facts of this process, as they were last stored."""
        return self._info

    @property
    def sink(self) -> Sink:
        """The sink itself."""
        if isinstance(self._sink, Reopening):
            with self._gate:
                return self._sink.opened()
        return self._sink

    def deliver(self, batch: Batch) -> str | Refusal | None:
        """Write the batch; None if the sink took it, or else the name of what it raised at last.

        A `Refusal` says that it did not take the batch because of spans in it: take it apart, and deliver the parts.

        Raises:
            KeyboardInterrupt, SystemExit: if the program itself waits; the batch is then as good as not tried.
        """
        with delivering(self._owner):
            self._store_facts()
            if not self._dead_settled:
                self._settle_the_dead()
            failure = self._try_to_write(batch)
            if failure is None:
                self._failing = False
                self._refused_in_a_row = 0
                return None
            if failure.rejected is not None:
                return self._refused(batch, failure)
            self._failing = True
            if failure.of_the_data and self._refused_in_a_row < HOPELESS:
                self._refused_in_a_row += 1
                return self._refused(batch, failure)
            self._write_to_fallback(batch)
            self._warn(f"a batch of {len(batch)} spans was not stored: {failure.text}")
            return failure.kind

    def _refused(self, batch: Batch, failure: Failure) -> Refusal:
        bad = sorted({index for index in failure.rejected or () if 0 <= index < len(batch)})
        if len(batch) == 1:
            bad = [0]
        if bad:
            spans = f"{len(bad)} of {len(batch)} spans" if len(batch) > 1 else "a span"
            self._set_aside(batch, bad, failure.text)
            self._warn(f"the sink would not take {spans}: {failure.text}")
        return Refusal(bad, failure.kind)

    def _set_aside(self, batch: Batch, bad: Sequence[int], why: str) -> None:
        records = [batch.records[index] for index in bad]
        aside = Batch(batch.origin, batch.sequence, records, batch.threads, batch.attempt, batch.sources, part=True)
        if self._fallback_spec is not None and self._write_to_fallback(aside):
            return
        place = self.place
        if place is not None and not quarantine.put(place, aside, why):
            self._warn(f"what the sink would not take could not be written to {quarantine.path_of(place)} either")

    def _try_to_write(self, batch: Batch) -> Failure | None:
        """Write it, again and again; what the sink raised at last. What goes wrong here is not the sink's, and raises."""
        started, part = time.monotonic(), batch.part
        first = self._write(batch)
        if not _is_worth_a_try(first):
            # Most often it ends here, without tenacity, whose objects are cycles: each would wait for the garbage collector,
            # which lets go of it in the program's time. So none of them may refer to the batch: 0.3 ms, again and again.
            return first
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_result(_is_worth_a_try),
            stop=lambda state: self._time_is_up(started) or _is_hopeless(state, part),
            wait=tenacity.wait_exponential(FIRST_DELAY_S, LONGEST_DELAY_S) + tenacity.wait_random(0, FIRST_DELAY_S),
            sleep=self._pause,
            retry_error_callback=_last_failure,
        )
        again = itertools.accumulate(itertools.repeat(batch.again()), lambda last, _: last.again())
        outcomes = itertools.chain([first], map(self._write, again))
        return tries(lambda: next(outcomes))

    def _write(self, batch: Batch) -> Failure | None:
        handled = sys.exception()
        try:
            with self._gate:
                self._sink.write(batch)
        except self._verdicts as error:
            return Failure.of(error, handled)
        return None

    def _time_is_up(self, started: float) -> bool:
        if self._failing and self._in_caller:
            return True
        now = time.monotonic()
        return now - started >= self._settings.close_timeout or (self._deadline is not None and now >= self._deadline)

    def _pause(self, seconds: float) -> None:
        if self._deadline is None:
            if self._hurry.wait(seconds):
                return
        else:
            time.sleep(max(0.0, min(seconds, self._deadline - time.monotonic())))

    def hurry(self, deadline: float) -> None:
        """Give up on failing batches at `deadline` (of `time.monotonic`), and cut a pause that is under way short."""
        self._deadline = deadline
        self._hurry.set()

    def flush(self) -> None:
        """Flush the sink; a failure is told, but loses nothing that was written."""
        with delivering(self._owner):
            failure = self._ask(self._sink.flush)
            if failure is not None:
                self._warn(f"the sink could not flush: {failure.text}")

    def finish(self, ledger: Ledger) -> bool:
        """Store how the run ended, and close the sink; whether it was stored, if the sink keeps such facts."""
        self._facts_stored = False
        return self._finish({"ended_at": time.time(), "ledger": ledger})

    def finish_unclean(self, ledger: Ledger | None) -> bool:
        """As `finish`, for a program that was killed: the run has no end.

        Args:
            ledger: what is known of the program's last one.
        """
        self._facts_stored = not (self._facts_stored or (ledger and ledger.recorded))  # or else it leaves no trace
        return self._finish({"killed": ledger is not None, "ledger": ledger or self._info.ledger})

    def note(self, ledger: Callable[[], Ledger]) -> None:
        """Store the ledger with the facts, if it has changed and that is due: a killed run then has a last one."""
        now = time.monotonic()
        if now < self._note_due:
            return
        self._note_every = min(NOTE_EVERY_AT_MOST_S, self._note_every * 1.1)
        self._note_due = now + self._note_every
        self.note_now(ledger())

    def note_now(self, ledger: Ledger) -> None:
        """Store the ledger with the facts, if it has changed."""
        if ledger == self._info.ledger or not self._facts_stored or self._failing:
            return
        self._info = self._info.model_copy(update={"ledger": ledger})
        self._facts_stored = False
        with delivering(self._owner):
            self._store_facts()

    def _finish(self, facts: dict[str, object]) -> bool:
        self._info = self._info.model_copy(update=facts)
        self._finishing = True
        with delivering(self._owner):
            stored = self._store_facts()
            self.flush()
            for sink in (self._sink, self._fallback):
                if sink is not None and not any(sink is one for one in self._closed):
                    self._close(sink)
                    self._closed.append(sink)
        return stored

    def _close(self, sink: Sink) -> None:
        failure = self._ask(sink.close)
        if failure is not None:
            self._warn(f"the sink could not close: {failure.text}")

    def _ask(self, what: Callable[[], None]) -> Failure | None:
        """Have the sink do something; what it raised, or None.

        Twice, if that is no `Exception`: it may be meant for this thread, and have come before the sink was asked.
        """
        raised: Failure | None = None
        handled = sys.exception()
        for _ in range(2):
            try:
                with self._gate:
                    what()
            except Exception as error:  # noqa: BLE001 - any sink may raise anything
                return Failure.of(error, handled)
            except self._verdicts as error:
                raised = Failure.of(error, handled)
            else:
                return None
        return raised

    def _tell_facts(self, *sinks: Sink | None) -> None:
        for sink in sinks:
            if isinstance(sink, KeepsRuns):
                sink.write_run(self._info)

    def _settle_the_dead(self) -> None:
        self._dead_settled = True
        place = self.place
        if place is not None:
            with suppress(Exception), self._gate:  # the next profiler will try again
                settle(self.sink, place)

    def _store_facts(self) -> bool:
        if self._facts_stored:
            return True
        self._facts_stored = True
        failure = self._ask(lambda: self._tell_facts(self._sink, self._fallback))
        if failure is not None:  # the spans matter more
            self._facts_stored = self._finishing
            if self._finishing:
                self._warn(f"the end of the run was not stored: {failure.text}")
        return failure is None

    def _write_to_fallback(self, batch: Batch) -> bool:
        if self._fallback_spec is None:
            return False
        handled = sys.exception()
        try:
            with self._gate:
                if self._fallback is None:
                    self._fallback = self._fallback_spec.open()
                    self._tell_facts(self._fallback)
                self._fallback.write(batch)
        except self._verdicts as error:
            self._warn(f"the fallback sink failed too: {Failure.of(error, handled).text}")
            return False
        return True

    def after_fork(self, origin: Origin) -> None:
        """Turn to a sink of one's own in a forked child. Reopening may raise, as opening may."""
        _inherited.append((self._sink, self._fallback))
        self._fallback = None
        self._info = self._info.model_copy(
            update={"token": origin.token, "process_id": os.getpid(), "started_at": time.time(),
                    "ended_at": None, "ledger": None}
        )  # fmt: skip
        self._new_process()
        if isinstance(self._sink, Reopens):
            self._sink = Reopening(self._sink)


def _last_failure(state: tenacity.RetryCallState) -> Failure | None:
    failure: Failure | None = None if state.outcome is None else state.outcome.result()
    return failure


def _is_worth_a_try(failure: Failure | None) -> bool:
    return failure is not None and failure.rejected is None


def _is_hopeless(state: tenacity.RetryCallState, part: bool) -> bool:
    failure = _last_failure(state)
    return failure is not None and failure.of_the_data and (part or state.attempt_number >= DATA_TRIES)


def _fallback_spec(settings: Settings) -> SinkSpec | None:
    if settings.fallback_sink is None:
        return None
    from ferret.plugins import SinkSpec  # noqa: PLC0415 - only where a fallback is set

    spec = SinkSpec.parse(settings.fallback_sink)
    named = spec.name in {"beaver", "tee"}
    return SinkSpec(spec.name, spec.target, {"namespace": settings.namespace}) if named else spec
