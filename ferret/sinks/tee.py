"""`tee`: several sinks at once."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ferret.errors import StorageError
from ferret.plugins import SinkSpec
from ferret.sinks.backwards import newest_first
from ferret.sinks.base import KeepsRuns, Readable, Reopens, place_of
from ferret.sinks.summary import summaries
from ferret.tags import error_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ferret.batch import Batch
    from ferret.models import ProcessInfo
    from ferret.segment import Segment
    from ferret.sinks.base import Sink
    from ferret.sinks.summary import SegmentSummary

_EXAMPLE = "tee:beaver:trace.db,jsonl:spans.jsonl"
_REMEMBERED = 1024
"""Batches that some sinks lack. One that is forgotten goes to all sinks again, which store it once anyway."""


class TeeSink:
    """Writes each batch to several sinks, one after the other; one that fails does not keep it from the others.

    A batch is stored once all have it. If it comes again, it goes only to those that lack it. One thread at a time
    may write. What is read comes from the first sink that can be read, and is as safe from other threads as that.

    Args:
        target: the sinks by name, with commas between them; for a target that has a comma in it, use `sinks`.
        sinks: the sinks themselves, in place of names.
        namespace: the name that the spans have in BeaverDB files among the targets.

    Raises:
        StorageError: no sinks are given, or one cannot be opened (then none stays open); from the methods, what was not
            done, by which sinks and why. Its cause is a group of what they raised.
        PluginError: there is no sink of one of the names.
    """

    def __init__(
        self, target: str | None = None, *, sinks: Sequence[Sink] | None = None, namespace: str | None = None
    ) -> None:
        if not target and not sinks:
            raise StorageError(f"tee needs sinks: {_EXAMPLE}")
        if target and sinks:
            raise StorageError("tee takes sinks by name or as objects, not both")
        branches = (
            _open_all(SinkSpec("tee", target).parts, namespace)
            if target
            else [_Branch(type(one).__name__, one) for one in sinks or ()]
        )
        self._take(branches)

    def _take(self, branches: list[_Branch]) -> None:
        self._branches = branches
        self._lacking: dict[str, dict[int, _Branch]] = {}
        self._facts: dict[int, ProcessInfo] = {}

    def write(self, batch: Batch) -> None:
        """Write the batch to every sink that does not have it."""
        lacking = self._lacking.setdefault(batch.id, dict(enumerate(self._branches)))
        failures = _Failures()
        for index, branch in list(lacking.items()):
            with failures.of(branch):
                branch.sink.write(batch)
                del lacking[index]
        if not lacking:
            del self._lacking[batch.id]
        elif len(self._lacking) > _REMEMBERED:
            del self._lacking[next(iter(self._lacking))]
        failures.tell(f"batch {batch.id} is not stored")

    def write_run(self, process: ProcessInfo) -> None:
        """Give the facts to every sink that keeps them and does not have them."""
        failures = _Failures()
        for index, branch in enumerate(self._branches):
            with failures.of(branch):
                sink = branch.sink
                if isinstance(sink, KeepsRuns) and self._facts.get(index) != process:
                    sink.write_run(process)
                    self._facts[index] = process
        failures.tell("the facts of the run are not stored")

    def flush(self) -> None:
        """Flush every sink."""
        failures = _Failures()
        for branch in self._branches:
            with failures.of(branch):
                branch.flush()
        failures.tell("not flushed")

    def close(self) -> None:
        """Close every sink."""
        failures = _Failures()
        for branch in self._branches:
            with failures.of(branch):
                branch.close()
        failures.tell("not closed")

    def reopen(self) -> TeeSink:
        """A new sink for a forked child; those of its sinks that need it are opened afresh when first written to."""
        reopened = TeeSink.__new__(TeeSink)
        reopened._take([branch.inherited() for branch in self._branches])
        return reopened

    @property
    def place(self) -> str | None:
        """The file of the first sink that can be read: the one that is read."""
        return next((place_of(one.inner) for one in self._branches if isinstance(one.inner, Readable)), None)

    def segments(self, run_id: str | None = None) -> Iterator[Segment]:
        """The stored batches, from the first sink that can be read."""
        return self._readable().segments(run_id)

    def newest_first(self, run_id: str | None = None) -> Iterator[Segment]:
        """The stored batches from the last to the first, from the first sink that can be read."""
        return newest_first(self._readable(), run_id)

    def summaries(self, run_id: str | None = None) -> Iterator[SegmentSummary]:
        """The stored batches in brief, from the first sink that can be read."""
        return summaries(self._readable(), run_id)

    def processes(self, run_id: str | None = None) -> Iterator[ProcessInfo]:
        """The stored facts, from the first sink that can be read."""
        return self._readable().processes(run_id)

    def _readable(self) -> Readable:
        for branch in self._branches:
            if isinstance(sink := branch.sink, Readable):
                return sink
        raise StorageError(f"none of {', '.join(branch.name for branch in self._branches)} can be read back")


class _Branch:
    """One of the sinks. An inherited one is opened afresh when it is first needed, so that it fails by itself."""

    def __init__(self, name: str, sink: Sink, stale: bool = False) -> None:
        self.name = name
        self._sink = sink
        self._stale = stale

    @property
    def inner(self) -> Sink:
        """The sink as it is, perhaps inherited: only to be asked what it is."""
        return self._sink

    @property
    def sink(self) -> Sink:
        if self._stale and isinstance(self._sink, Reopens):
            self._sink = self._sink.reopen()
            self._stale = False
        return self._sink

    def flush(self) -> None:
        if not self._stale:
            self._sink.flush()

    def close(self) -> None:
        if not self._stale:  # closing what a child inherited may damage its parent's file
            self._sink.close()

    def inherited(self) -> _Branch:
        return _Branch(self.name, self._sink, isinstance(self._sink, Reopens))


class _Failures:
    """What sinks raised, until all have had their turn."""

    def __init__(self) -> None:
        self._errors: list[tuple[str, Exception]] = []

    @contextmanager
    def of(self, branch: _Branch) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a sink may raise anything to say "not stored"
            self._errors.append((branch.name, error))

    def tell(self, what: str) -> None:
        if self._errors:
            reasons = "; ".join(f"{name}: {error_text(error)}" for name, error in self._errors)
            cause = ExceptionGroup(what, [error for _, error in self._errors])
            raise StorageError(f"{what} in {reasons}") from cause


def _open_all(specs: Iterable[SinkSpec], namespace: str | None) -> list[_Branch]:
    branches: list[_Branch] = []
    try:
        for spec in specs:
            options = {"namespace": namespace} if spec.name == "beaver" and namespace is not None else {}
            branches.append(_Branch(spec.text, SinkSpec(spec.name, spec.target, options).open()))
    except BaseException:
        for branch in branches:
            with suppress(Exception):
                branch.close()
        raise
    return branches
