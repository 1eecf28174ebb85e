"""The process writer's child: `python -m ferret.writers.child`. Reads batches, stores them, says so.

It is a fresh interpreter: the program's `__main__` is never imported in it. It ends when its input does, after it has
stored everything that came, so that it outlives neither a clean program nor a killed one by more than that takes.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from ferret.ledger import live
from ferret.ledger.live import Hold
from ferret.writers import frames
from ferret.writers.frames import Kind

if TYPE_CHECKING:
    from ferret.writers.delivery import Delivery


def main() -> int:
    """Serve one parent."""
    _ignore_signals()
    requests, answers = _take_pipes()
    incoming = frames.receive(requests)
    kind, payload = next(incoming, (None, b""))
    if kind is not Kind.HELLO:
        return 2
    hello = frames.decode_hello(payload)
    sys.path[:] = hello.sys_path
    try:
        server = _Server(answers, hello)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        with suppress(OSError):
            frames.send(answers, Kind.READY, (type(error).__name__, str(error)))
        return 1
    server.ready()
    for kind, payload in incoming:
        if server.serve(kind, payload):
            return 0
    server.abandoned()
    return 0


def _ignore_signals() -> None:
    # Ctrl-C goes to every process of the terminal: the program's spans are still to come. The end of input is what
    # ends this process.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _take_pipes() -> tuple[int, int]:
    """Keep the two pipes to ourselves: what a sink prints goes to stderr."""
    requests, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return requests, answers


class _Server:
    """Stores what the parent sends."""

    def __init__(self, answers: int, hello: frames.Hello) -> None:
        from ferret.batch import Origin  # noqa: PLC0415 - sys.path is the parent's only now
        from ferret.config import Settings  # noqa: PLC0415 - as above
        from ferret.models import ProcessInfo  # noqa: PLC0415 - as above
        from ferret.plugins import SinkSpec, register  # noqa: PLC0415 - as above
        from ferret.writers.delivery import Delivery  # noqa: PLC0415 - as above

        self._answers = answers
        self._origin = Origin(*hello.origin)
        self._parent_lives = True
        for module in hello.plugins:
            register(importlib.import_module(module))
        sink = SinkSpec(hello.sink, hello.target, hello.options).open()
        settings = Settings.model_validate(hello.settings)
        info = ProcessInfo.model_validate(hello.info)
        self._delivery: Delivery = Delivery(self, sink, settings, info, self._warn)
        self._hold: Hold | None = None

    @property
    def place(self) -> str:
        """The file that the sink writes to, or an empty text."""
        return self._delivery.place or ""

    def ready(self) -> None:
        """Say that the sink is open; to nobody, if the parent is gone already. What it had sent is still to be stored."""
        self._answer(Kind.READY, ("", self.place))

    def _hold_on(self) -> None:
        """Keep the parent's counts alive, which it begins to map once it knows the place."""
        if self._hold is None and self.place:
            hold = Hold(self._origin.token)
            self._hold = hold if hold.held else None

    def serve(self, kind: Kind, payload: bytes) -> bool:
        """Do what one frame asks for; whether it was the last."""
        from ferret.models import Ledger  # noqa: PLC0415 - see above

        if kind is Kind.BATCH:
            self._store(payload)
        elif kind is Kind.FLUSH:
            self._delivery.flush()
            self._answer(Kind.FLUSHED, frames.decode(payload))
        elif kind is Kind.LEDGER:
            self._delivery.note_now(Ledger.model_validate(frames.decode(payload)))
        elif kind is Kind.BYE:
            stored = self._delivery.finish(Ledger.model_validate(frames.decode(payload)))
            self._answer(Kind.DONE, stored)
            return True
        return False

    def _store(self, payload: bytes) -> None:
        from ferret.ambient import ThreadInfo  # noqa: PLC0415 - see above
        from ferret.batch import Batch  # noqa: PLC0415 - as above
        from ferret.writers.delivery import Refusal  # noqa: PLC0415 - as above

        self._hold_on()
        frame = frames.decode_batch(payload)
        threads = {index: ThreadInfo(*info) for index, info in frame.threads.items()}
        origin, sources = self._origin, frame.sources
        batch = Batch(origin, frame.sequence, frame.records, threads, frame.attempt, sources, part=frame.part)
        verdict = self._delivery.deliver(batch)
        if isinstance(verdict, Refusal):
            self._answer(Kind.STORED, (frame.sequence, verdict.failure, verdict.bad))
        else:
            self._answer(Kind.STORED, (frame.sequence, verdict or "", None))

    def abandoned(self) -> None:
        """The parent is gone without a word: the run keeps no end, but what the parent had counted."""
        from ferret.ledger.fates import last_ledger  # noqa: PLC0415 - see above

        self._hold_on()
        life = None if self._hold is None else self._hold.read()
        if life is None:
            self._delivery.finish_unclean(None)
        elif self._delivery.finish_unclean(last_ledger(life, self._delivery.info.ledger)):
            live.remove(life.path)

    def _answer(self, kind: Kind, payload: object) -> None:
        if not self._parent_lives:
            return
        try:
            frames.send(self._answers, kind, payload)
        except OSError:  # the parent died; what it had sent is still to be stored
            self._parent_lives = False

    def _warn(self, what: str) -> None:
        self._answer(Kind.WARNING, what)


def run() -> NoReturn:
    """End the process with `main`'s status, without waiting for threads that a sink may have left."""
    status = main()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
