"""Functions made of text, as `timeit` makes them: what is measured is a peer's own code, with nothing in between."""

from __future__ import annotations

from textwrap import dedent, indent
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peers.base import Span


def block(span: Span, name: str, inside: str = "pass", *, keyword: str = "with") -> str:
    """The source of a `with` block."""
    named = span.named(name)
    if not named.body:
        return f"{keyword} {named.expression}:\n{indent(inside, '    ')}"
    return f"{keyword} {named.expression} as span_:\n{indent(named.body, '    ')}\n{indent(inside, '    ')}"


def nested(spans: list[tuple[Span, str]], inside: str = "pass") -> str:
    """The source of blocks that are one within the other, the outermost first."""
    for span, name in reversed(spans):
        inside = block(span, name, inside)
    return inside


def function(source: str, names: dict[str, Any], name: str) -> Callable[..., Any]:
    """Compile a `def` and give what it defines.

    Args:
        source: the text; its common indentation does not matter.
        names: its globals. They are not changed.
        name: what it defines.
    """
    found = dict(names)
    exec(compile(dedent(source), f"<{name}>", "exec"), found)
    made: Callable[..., Any] = found[name]
    return made


def burst(statement: str, around: Span, names: dict[str, Any], *, awaited: bool = False) -> Callable[[int], Any]:
    """A function that executes a statement so many times within one span, with `n` counting from 0."""
    loop = f"for n in range(count):\n{indent(statement, '    ')}"
    source = (
        f"{'async ' if awaited else ''}def burst(count):\n    n = 0\n{indent(block(around, 'burst', loop), '    ')}"
    )
    return function(source, names, "burst")
