"""Batches that break while they are read: what a sink does then shows whether it stores them whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from ferret.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferret.sinks.base import Sink
    from ferret.span import Record


class BrittleError(Exception):
    """A span of a batch could not be read."""


class _Brittle(Sequence["Record"]):
    """Records of which those from one on cannot be had, until they are healed."""

    def __init__(self, records: Sequence[Record], sound: int) -> None:
        self._records = records
        self._sound = sound
        self.met = False

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        yield from self._records[: self._sound]
        if self._sound < len(self):
            self._break()

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice) or index % len(self) >= self._sound:
            self._break()
        return self._records[index]

    def heal(self) -> None:
        self._sound = len(self)

    def _break(self) -> None:
        self.met = True
        raise BrittleError(f"span {self._sound} of {len(self)} cannot be read, as the test wants it")


class BrittleBatch(Batch):
    """A batch of which only the first `sound` spans can be read."""

    __slots__ = ()

    def __init__(self, batch: Batch, sound: int) -> None:
        records = _Brittle(batch.records, sound)
        super().__init__(batch.origin, batch.sequence, records, batch.threads, batch.attempt, batch.sources)

    def write_to(self, sink: Sink) -> str:
        """Have it written, and heal it; what came of it.

        Returns:
            `raised`; `lied` if the sink met the break and said nothing; `kept` if it keeps the batch without reading it.
        """
        assert isinstance(self.records, _Brittle)
        try:
            sink.write(self)
        except Exception:  # noqa: BLE001 - any exception says "not stored"
            return "raised"
        finally:
            met = self.records.met
            self.records.heal()
        return "lied" if met else "kept"
