"""Two Sphinx directives whose content comes from the code: `{ferret-options}` and `{ferret-command} NAME`."""
# ruff: noqa: INP001 - a folder of Sphinx extensions is no package

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import generated
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class _Generated(SphinxDirective):
    what: ClassVar[str]
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = generated.generate(self.what, *self.arguments)
        holder = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), source=self.get_location()), self.content_offset, holder)
        return holder.children


class OptionsDirective(_Generated):
    """Every option, as a table."""

    what = "options"


class CommandDirective(_Generated):
    """A subcommand, or without an argument `ferret` itself."""

    what = "command"


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx."""
    app.add_directive("ferret-options", OptionsDirective)
    app.add_directive("ferret-command", CommandDirective)
    return {"parallel_read_safe": True}
