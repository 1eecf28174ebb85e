"""What the command shows, as tables and lines of text. A module for each kind of thing."""

from ferret.cli.tables.diff import diff_table
from ferret.cli.tables.ledger import ledger_line, run_line
from ferret.cli.tables.names import names_table
from ferret.cli.tables.plugins import clash, failure_lines, plugins_table
from ferret.cli.tables.runs import runs_table
from ferret.cli.tables.traces import trace_line, trace_table
from ferret.cli.tables.tree import tree_table

__all__ = [
    "clash",
    "diff_table",
    "failure_lines",
    "ledger_line",
    "names_table",
    "plugins_table",
    "run_line",
    "runs_table",
    "trace_line",
    "trace_table",
    "tree_table",
]
