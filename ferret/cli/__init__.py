"""The command `ferret`."""

from ferret.cli.app import app

__all__ = ["app"]
