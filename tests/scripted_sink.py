"""A sink that misbehaves as a test tells it, through files: it may live in another process. A plugin, `scripted:FOLDER`."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ferret.batch import SpanData
from ferret.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferret.batch import Batch


class Control:
    """The test's side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults = folder / "faults"
        self.spans = folder / "spans"

    def misbehave(self, faults: list[str]) -> None:
        """What the next writes do: `fail` raises before storing, `doubt` stores and raises, `die` kills the process,
        `die-after` stores and kills it."""
        with self.faults.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.writelines(f"{fault}\n" for fault in faults)

    def next_fault(self) -> str | None:
        if not self.faults.exists():
            return None
        with self.faults.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            waiting = file.read().split()
            file.seek(0)
            file.truncate()
            file.writelines(f"{fault}\n" for fault in waiting[1:])
        return waiting[0] if waiting else None

    def batches(self) -> dict[str, list[SpanData]]:
        found: dict[str, list[SpanData]] = {}
        if self.spans.exists():
            for line in self.spans.read_text().splitlines():
                name, spans = json.loads(line)
                assert name not in found, f"batch {name} is stored twice"
                found[name] = [msgspec.convert(span, SpanData) for span in spans]
        return found

    def stored(self) -> list[SpanData]:
        return [span for spans in self.batches().values() for span in spans]


class FileScriptedSink:
    """The sink's side: a batch is a line, written by one `write`; a batch that comes again is looked up."""

    def __init__(self, target: str | None = None) -> None:
        assert target is not None
        self.control = Control(Path(target))
        self.known = set(self.control.batches())

    def write(self, batch: Batch) -> None:
        fault = self.control.next_fault()
        if fault == "fail":
            raise OSError("the sink fails")
        if fault == "die":
            os.kill(os.getpid(), 9)
        if batch.id not in self.known:
            self.known.add(batch.id)
            line = json.dumps([batch.id, [msgspec.to_builtins(span) for span in batch]]) + "\n"
            with self.control.spans.open("a") as file:
                file.write(line)
        if fault == "doubt":
            raise OSError("the sink stored the batch, but does not say so")
        if fault == "die-after":
            os.kill(os.getpid(), 9)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def reopen(self) -> FileScriptedSink:
        return FileScriptedSink(str(self.control.folder))


@hookimpl
def ferret_sinks() -> dict[str, Callable[..., Any]]:
    return {"scripted": FileScriptedSink}
