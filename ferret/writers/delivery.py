"""Handing batches to a sink: again and again while it fails, but not for ever, and without measuring itself."""

from __future__ import annotations

import os
import platform
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import tenacity

from ferret.ambient import delivering
from ferret.forkgate import ForkGate
from ferret.models import ProcessInfo
from ferret.sinks.base import KeepsRuns, Reopens
from ferret.tags import plain_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferret.batch import Batch, Origin
    from ferret.config import Settings
    from ferret.models import Ledger
    from ferret.plugins import SinkSpec
    from ferret.sinks.base import Sink

FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 2.0
"""Between attempts: doubling from the first to the longest, plus up to the first again at random, so that processes
that share a locked file do not knock in step."""

_inherited: list[object] = []
"""Sinks of a parent process: never touched, and never collected, in the child. An SQLite connection that is closed
in a forked child can damage the parent's file (sqlite.org/howtocorrupt.html, 2.6)."""


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

    @property
    def sink(self) -> Sink:
        """The sink itself."""
        if isinstance(self._sink, _Reopening):
            with self._gate:
                return self._sink.opened()
        return self._sink

    def deliver(self, batch: Batch) -> str | None:
        """Write the batch; None if the sink took it, or else the name of what it raised at last.

        Raises:
            KeyboardInterrupt, SystemExit: if the program itself waits; the batch is then as good as not tried.
        """
        with delivering(self._owner):
            self._store_facts()
            try:
                self._try_to_write(batch)
            except self._verdicts as error:
                self._failing = True
                self._write_to_fallback(batch)
                self._warn(f"a batch of {len(batch)} spans was not stored: {type(error).__name__}: {error}")
                return type(error).__name__
            self._failing = False
            return None

    def _try_to_write(self, batch: Batch) -> None:
        attempt = batch
        started = time.monotonic()
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(self._verdicts),
            stop=lambda _: self._time_is_up(started),
            wait=tenacity.wait_exponential(FIRST_DELAY_S, LONGEST_DELAY_S) + tenacity.wait_random(0, FIRST_DELAY_S),
            sleep=self._pause,
            reraise=True,
        )
        for one_try in tries:
            with one_try:
                sent, attempt = attempt, attempt.again()
                with self._gate:
                    self._sink.write(sent)

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
            try:
                with self._gate:
                    self._sink.flush()
            except Exception as error:  # noqa: BLE001
                self._warn(f"the sink could not flush: {type(error).__name__}: {error}")

    def finish(self, ledger: Ledger) -> None:
        """Store how the run ended, and close the sink."""
        self._info = self._info.model_copy(update={"ended_at": time.time(), "ledger": ledger})
        self._facts_stored = False
        with delivering(self._owner):
            self._store_facts()
            self.flush()
            for sink in (self._sink, self._fallback):
                try:
                    if sink is not None:
                        with self._gate:
                            sink.close()
                except Exception as error:  # noqa: BLE001
                    self._warn(f"the sink could not close: {type(error).__name__}: {error}")

    def _tell_facts(self, sink: Sink | None) -> None:
        if isinstance(sink, KeepsRuns):
            with self._gate:
                sink.write_run(self._info)

    def _store_facts(self) -> None:
        if self._facts_stored:
            return
        self._facts_stored = True
        try:
            self._tell_facts(self._sink)
            self._tell_facts(self._fallback)
        except Exception as error:  # noqa: BLE001 - the spans matter more
            self._facts_stored = self._info.ended_at is not None
            if self._facts_stored:
                self._warn(f"the end of the run was not stored: {type(error).__name__}: {error}")

    def _write_to_fallback(self, batch: Batch) -> None:
        if self._fallback_spec is None:
            return
        try:
            with self._gate:
                if self._fallback is None:
                    self._fallback = self._fallback_spec.open()
                    self._tell_facts(self._fallback)
                self._fallback.write(batch)
        except Exception as error:  # noqa: BLE001
            self._warn(f"the fallback sink failed too: {type(error).__name__}: {error}")

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
            self._sink = _Reopening(self._sink)


class _Reopening:
    """A sink that a child inherited, until its first use: then it is opened afresh.

    Opening is left to the first `write`, where failing is already provided for; a fork itself must not do I/O.
    """

    def __init__(self, inherited: Reopens) -> None:
        self._inherited = inherited
        self._opened: Sink | None = None

    def opened(self) -> Sink:
        if self._opened is None:
            self._opened = self._inherited.reopen()
        return self._opened

    def write(self, batch: Batch) -> None:
        self.opened().write(batch)

    def write_run(self, process: ProcessInfo) -> None:
        sink = self.opened()
        if isinstance(sink, KeepsRuns):
            sink.write_run(process)

    def reopen(self) -> Sink:
        return self._inherited.reopen()

    def flush(self) -> None:
        if self._opened is not None:
            self._opened.flush()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


def _fallback_spec(settings: Settings) -> SinkSpec | None:
    if settings.fallback_sink is None:
        return None
    from ferret.plugins import SinkSpec  # noqa: PLC0415 - only where a fallback is set

    spec = SinkSpec.parse(settings.fallback_sink)
    return SinkSpec(spec.name, spec.target, {"namespace": settings.namespace}) if spec.name == "beaver" else spec
