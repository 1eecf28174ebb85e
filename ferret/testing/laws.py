"""A law that did not hold, told such that one can see which, after what, and how."""

from __future__ import annotations

import time
from functools import wraps
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import pytest

from ferret.testing.records import facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ferret.batch import SpanData

try:
    import hypothesis
    from hypothesis import stateful
    from hypothesis.errors import HypothesisException
except ModuleNotFoundError:  # pragma: no cover - tried in an environment of its own
    hypothesis = stateful = None  # type: ignore[assignment]
    HypothesisException = ()  # type: ignore[assignment,misc]

RETURNS = "no call hangs"


class BrokenLawError(AssertionError):
    """A sink or writer broke one of its laws.

    Args:
        law: which one.
        story: what had happened, step by step.
        expected: what should have been.
        found: what was.
    """

    def __init__(self, law: str, story: Sequence[str], expected: object, found: object) -> None:
        steps = [f"  {number}. {step}" for number, step in enumerate(story, 1)]
        super().__init__(
            "\n".join([f"the law: {law}", "what happened:", *steps, f"expected: {expected}", f"found:    {found}"])
        )
        self.law = law
        self.steps = len(story)


class Story:
    """What happens in one try of a sink or a writer, as it is told if a law is broken."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def tell(self, step: str) -> None:
        """Add a step."""
        self.steps.append(step)

    def law(self, law: str, expected: object, found: object) -> None:
        """Raise `BrokenLawError` unless both are equal."""
        if expected != found:
            raise BrokenLawError(law, self.steps, expected, found)

    def same_spans(self, law: str, expected: Iterable[SpanData], found: Iterable[SpanData], within_s: float) -> None:
        """Raise `BrokenLawError` unless they are the same spans in the same order; it shows the first that differs."""
        want, have = [*map(facts, expected)], [*map(facts, found)]
        for number, (one, other) in enumerate(zip_longest(want, have)):
            if one is None or other is None:
                raise BrokenLawError(law, self.steps, _count(len(want), one), _count(len(have), other))
            differing = [name for name in one if not _equal(name, one[name], other[name], within_s)]
            if differing:
                shown, other_shown = (_shown({name: of[name] for name in differing}) for of in (one, other))
                where = f"span {number} of {len(want)}"
                raise BrokenLawError(law, self.steps, f"{where} with {shown}", f"{where} with {other_shown}")


def _equal(name: str, one: Any, other: Any, within_s: float) -> bool:
    if within_s and name in {"start_time", "end_time", "duration"}:
        return bool(abs(one - other) <= within_s)
    return bool(one == other)


def _count(count: int, extra: dict[str, Any] | None) -> str:
    also = "" if extra is None else f", the next being {extra['name']!r:.40} {extra['tags']:.60}"
    return f"{count} spans{also}"


def _shown(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value!r:.200}" for name, value in values.items())


def told[**P, R](step: Callable[P, R]) -> Callable[P, R]:
    """Decorates what a state machine does: what it raises is kept, with the story that led to it."""

    @wraps(step)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        machine: Any = args[0]
        try:
            return step(*args, **kwargs)
        except (Exception, pytest.fail.Exception) as raised:  # noqa: BLE001 - raised again
            hung = isinstance(raised, pytest.fail.Exception)  # `in_time` says what did not return
            error = BrokenLawError(RETURNS, machine.story.steps, "an answer", raised) if hung else raised
            if not isinstance(error, HypothesisException):
                machine.broken = True
                machine.trial.failed(error, machine.story)
            raise error from None

    return run


def run_laws(machine: Any, *, examples: int, steps: int, shrink_s: float) -> None:
    """Try random sequences of a state machine's rules; if one breaks a law, look for a shorter one and tell that.

    Its rules are decorated with `told`, and it has a `story`.
    """
    if hypothesis is None:
        pytest.skip("random sequences need hypothesis: pip install hypothesis")
    trial = Trial(shrink_s)

    class Tried(machine):  # type: ignore[misc]
        def __init__(self) -> None:
            trial.begin()
            super().__init__()
            self.trial = trial

    settings = hypothesis.settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None, report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck), verbosity=hypothesis.Verbosity.quiet,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )  # fmt: skip
    try:
        stateful.run_state_machine_as_test(Tried, settings=settings)
    except (Exception, pytest.fail.Exception):
        if trial.worst is None:
            raise
    if isinstance(trial.worst, BrokenLawError):
        pytest.fail(str(trial.worst), pytrace=False)
    if trial.worst is not None:
        raise trial.worst


class Trial:
    """What random sequences have found so far.

    Args:
        shrink_s: how long a shorter sequence is looked for, once one was found that breaks a law.
    """

    def __init__(self, shrink_s: float) -> None:
        self._shrink_s = shrink_s
        self.worst: BaseException | None = None
        self._steps = 0
        self._until = float("inf")

    def begin(self) -> None:
        """Before each sequence: none is tried any more when the time to look for shorter ones is over."""
        if time.monotonic() > self._until:
            hypothesis.reject()

    def failed(self, error: BaseException, story: Story) -> None:
        """Keep the failure with the shortest story."""
        if self.worst is None:
            self._until = time.monotonic() + self._shrink_s
        if self.worst is None or len(story.steps) <= self._steps:
            self._steps = len(story.steps)
            if not isinstance(error, BrokenLawError):
                error.add_note("\n".join(["raised after:", *(f"  {step}" for step in story.steps)]))
            self.worst = error
