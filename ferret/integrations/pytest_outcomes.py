"""How a test goes, as its span tells it: in pytest's words, and as an error where it is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from ferret.span import Span


class RunningTest:
    """A test that runs: its span, that of the phase it is in, and what is known of its outcome."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.running = False
        """Whether the phase's own code runs; its span is open until its report is there."""
        self.failed_subtests = 0
        self._phase: Span | None = None
        self._durations: dict[str, float] = {}
        self._outcome = ""
        self._reason = ""
        self._error: BaseException | None = None

    def begin(self, phase: Span) -> None:
        """Enter a phase, whose span this is."""
        self._end_phase("ok")
        self._phase = phase.__enter__()
        self.running = True

    def reported(self, report: pytest.TestReport, call: pytest.CallInfo[Any]) -> None:
        """End the phase as its report says."""
        error = call.excinfo.value if call.excinfo is not None else None
        outcome = outcome_of(report)
        if report.when == "setup":  # also the second time, when a plugin runs a test again
            self._outcome, self._error, self.failed_subtests = "", None, 0
        if outcome in {"failed", "error"}:
            self._error = self._error or error or AssertionError(report.longreprtext)
            self._end_phase("error", self._error if error is None else error)
        else:
            self._end_phase("ok")
        if report.when == "call" or outcome != "passed":
            self._outcome = outcome if self._outcome != "failed" else "failed"
            self._reason = _reason(report) or self._reason
        self._durations[report.when or "?"] = round(report.duration, 6)

    def interrupted(self) -> None:
        """The session ends in the middle of the test."""
        self.running = False
        self._end_phase("interrupted")
        self._tell("interrupted")
        self.span.end("interrupted")

    def end(self) -> None:
        """Tell the outcome, and end as an error if it is one."""
        self._end_phase("ok")
        if self.failed_subtests and self._outcome == "passed":  # pytest will say so, too, but not before it counts
            plural = "s" if self.failed_subtests > 1 else ""
            self._outcome = "failed"
            self._error = AssertionError(f"contains {self.failed_subtests} failed subtest{plural}")
        self._tell(self._outcome or "?")
        if self._error is not None and self._outcome in {"failed", "error"}:
            self.span.fail(self._error)

    def _tell(self, outcome: str) -> None:
        reason = {"reason": self._reason} if self._reason else {}
        self.span.annotate(outcome=outcome, durations=self._durations, **reason)

    def _end_phase(self, status: str, error: BaseException | None = None) -> None:
        phase, self._phase = self._phase, None
        if phase is not None:
            if error is not None:
                phase.fail(error)
            else:
                phase.end(status)
            phase.__exit__(None, None, None)


def outcome_of(report: pytest.TestReport) -> str:
    """In pytest's words: passed, failed, skipped, xfailed, xpassed; error for a failure of setup or teardown."""
    if hasattr(report, "wasxfail"):
        return {"skipped": "xfailed", "passed": "xpassed"}.get(report.outcome, report.outcome)
    return "error" if report.failed and report.when != "call" else report.outcome


def mark_failed(span: Span, kind: str, text: str) -> None:
    """Make an open span an error, where there is no exception to end it with."""
    model = span.model
    model.status, model.error, model.error_type = "error", text, kind or None


def _reason(report: pytest.TestReport) -> str:
    """Why it was skipped, or expected to fail."""
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail).removeprefix("reason: ")  # pytest 8 has it there
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return ""
