"""A `GatedSink` whose batches are written in another process: a test and the sink meet in the files of a folder."""

from __future__ import annotations

import builtins
import fcntl
import json
import math
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ferret.batch import SpanData
from ferret.hookspecs import hookimpl
from ferret.testing.gated import Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferret.batch import Batch
    from ferret.models import ProcessInfo

NAME: Final = "ferret-testing-far"
_POLL_S: Final = 0.002
_WAIT_S: Final = 20.0


class Interruption(BaseException):
    """What a sink should not raise. None of pytest's own, which would end the whole session."""


class FarGate:
    """The test's side. Has what `GatedSink` has, but for `write`, `flush` and the like."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.entered = _Entered(self)

    @property
    def spec(self) -> str:
        """The sink, by name."""
        return f"{NAME}:{self.folder}"

    def hold(self) -> None:
        """Let every write wait, from now on."""
        (self.folder / "held").touch()

    def release(self) -> None:
        """Let writes through again."""
        (self.folder / "held").unlink(missing_ok=True)

    def fail(
        self, times: float = math.inf, *, error: type[BaseException] = OSError, after_storing: bool = False
    ) -> None:
        """Let the next writes raise."""
        most = times if times < math.inf else 1 << 30
        self._tell({"times": most, "error": error.__name__, "after_storing": after_storing})

    def follow(self, script: Script) -> None:
        """Let writes fail as the script says."""
        self._tell({"script": script._asdict()})

    def _tell(self, orders: dict[str, Any]) -> None:
        unfinished = self.folder / "orders.new"
        unfinished.write_text(json.dumps(orders), encoding="utf-8")
        unfinished.replace(self.folder / "orders")

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What the sink has told so far."""
        try:
            lines = (self.folder / "events").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [event for line in lines if (event := json.loads(line))["event"] == kind]

    @property
    def spans(self) -> list[SpanData]:
        """All spans, in the order in which their batches came."""
        batches = {event["id"]: event["spans"] for event in reversed(self.events("stored"))}
        return [msgspec.convert(span, SpanData) for spans in reversed(batches.values()) for span in spans]

    @property
    def writes(self) -> int:
        """The writes that began."""
        return len(self.events("write"))

    @property
    def attempts(self) -> dict[str, list[list[str]]]:
        """The spans of each batch, by its id, each time that it came."""
        found: dict[str, list[list[str]]] = {}
        for event in self.events("write"):
            found.setdefault(event["id"], []).append(event["spans"])
        return found

    @property
    def closes(self) -> int:
        """The calls of `close`."""
        return len(self.events("close"))

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self.closes > 0


class _Entered:
    """Tells a test that a write has begun."""

    def __init__(self, gate: FarGate) -> None:
        self._gate = gate
        self._seen = 0

    def acquire(self, timeout: float = _WAIT_S) -> bool:
        """Wait for one more write; whether it came in time."""
        deadline = time.monotonic() + timeout
        while self._gate.writes <= self._seen:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        self._seen += 1
        return True


class FarSink:
    """The sink's side."""

    def __init__(self, target: str | None = None) -> None:
        self._folder = Path(str(target))
        self._tries: Counter[int] = Counter()
        self._known = {event["id"] for event in FarGate(self._folder).events("stored")}

    def write(self, batch: Batch) -> None:
        """Keep the batch, unless told otherwise."""
        spans = list(batch)
        self._append({"event": "write", "id": batch.id, "spans": [span.span_id for span in spans]})
        self._pass_the_gate()
        keep, error = self._verdict(spans[0])
        if keep and batch.id not in self._known:
            self._known.add(batch.id)
            self._append({"event": "stored", "id": batch.id, "spans": msgspec.to_builtins(spans)})
        if error is not None:
            raise error("the sink fails, as it was told to")

    def _pass_the_gate(self) -> None:
        deadline = time.monotonic() + _WAIT_S
        while (self._folder / "held").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the test never released the sink")
            time.sleep(_POLL_S)

    def _verdict(self, first: SpanData) -> tuple[bool, type[BaseException] | None]:
        try:
            file = (self._folder / "orders").open("r+", encoding="utf-8")
        except FileNotFoundError:
            return True, None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            orders = json.load(file)
            if "script" in orders:
                number = first.tags["n"]
                self._tries[number] += 1
                return Script(**orders["script"]).meet(number, self._tries[number] - 1)
            if orders["times"] <= 0:
                return True, None
            orders["times"] -= 1
            file.seek(0)
            file.truncate()
            json.dump(orders, file)
        error = Interruption if orders["error"] == Interruption.__name__ else getattr(builtins, orders["error"])
        return orders["after_storing"], error

    def write_run(self, process: ProcessInfo) -> None:
        """Tell the facts."""
        self._append({"event": "run", "facts": process.model_dump(mode="json")})

    def _append(self, event: dict[str, Any]) -> None:
        file = os.open(self._folder / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, json.dumps(event).encode() + b"\n")
        finally:
            os.close(file)

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Tell that it was called."""
        self._append({"event": "close"})

    def reopen(self) -> FarSink:
        """Another on the same folder."""
        return FarSink(str(self._folder))


@hookimpl
def ferret_sinks() -> dict[str, Callable[..., Any]]:
    """The sink, for the process that writes."""
    return {NAME: FarSink}
