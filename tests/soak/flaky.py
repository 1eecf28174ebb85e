"""A real file whose sink fails as a script says: before it stores, after it has stored, and at single spans for good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from around import Around

from ferret.batch import Batch
from ferret.errors import RejectedError
from ferret.hookspecs import hookimpl
from ferret.plugins import SinkSpec
from ferret.testing.gated import Script


class FlakySink(Around):
    """Stores in another sink, `flaky:SEED|beaver:FILE`, and fails at one batch in twenty."""

    def __init__(self, target: str) -> None:
        seed, _, self.target = target.partition("|")
        self.script = Script(int(seed), retryable=0.04, permanent=0.01)
        self.inner = SinkSpec.parse(self.target).open()
        self.tries: Counter[int] = Counter()

    def write(self, batch: Batch) -> None:
        if batch.part:
            self.inner.write(batch)
            return
        self.tries[batch.sequence] += 1
        keep, error = self.script.meet(batch.sequence, self.tries[batch.sequence] - 1)
        if keep:
            self.inner.write(batch)
        if error is RejectedError:
            raise RejectedError("will not take the first one", [0])
        if error is not None:
            raise error("fails, as the script says")


@hookimpl
def ferret_sinks() -> dict[str, Callable[..., Any]]:
    return {"flaky": FlakySink}
