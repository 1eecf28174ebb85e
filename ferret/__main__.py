"""`python -m ferret` is the `ferret` command."""

from ferret.cli import app

app(prog_name="ferret")
