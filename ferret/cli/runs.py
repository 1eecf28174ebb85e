"""`ferret runs`: what was recorded, and when."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ferret.cli.common import File, Json, Namespace, no_runs, print_json, reading, run_facts
from ferret.cli.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferret.models import RunInfo


def runs(file: File, namespace: Namespace = "_ferret_trace", as_json: Json = False) -> None:
    """List the runs in FILE, the latest last.

    [yellow]killed[/yellow] marks a run that did not come to its end, [yellow]running[/yellow] one that still
    records, and [yellow]unclean[/yellow] one of which nobody knows.
    """
    with reading(file, namespace) as (report, watched):
        found = report.runs()
        if as_json:
            print_json([run_facts(run) for run in found])
        elif found:
            _show_runs(found)
        else:
            print(printable(f"{file}: {no_runs(watched, namespace) or 'no runs yet'}"), file=sys.stderr)


def _show_runs(found: Sequence[RunInfo]) -> None:
    from ferret.cli import tables, terminal

    console = terminal.output()
    table = tables.runs_table(found, short=terminal.has_width(console), width=terminal.width_of(console))
    terminal.show(console, table)
