"""The parts of the docs that are made from the code, as Markdown. Without Sphinx, so that tests can look at them."""
# ruff: noqa: INP001 - a folder of Sphinx extensions is no package

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import typer

from ferret import cli, config
from ferret.config import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMITS = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}
_LENGTHS = {"min_length": "not empty", "max_length": "at most {} characters"}
_MADE = {"run_id": "a new one", "sink_options": "`{}`"}
"""What the defaults are called that are made anew for each profiler."""


def options_table() -> str:
    """Every option of `ferret.config.Settings`: name and variable, type, default, and its docstring."""
    lines = ["| option, variable | type | default | meaning |", "|---|---|---|---|"]
    for name, meaning in option_meanings().items():
        default = _MADE[name] if name in _MADE else f"`{Settings.model_fields[name].default!r}`".replace("'", '"')
        cells = [f"`{name}` <br> `{ENV_PREFIX}{name.upper()}`", _type(name), default, meaning]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def option_meanings() -> dict[str, str]:
    """The docstring under each option; empty where there is none."""
    tree = ast.parse(inspect.getsource(Settings)).body[0]
    assert isinstance(tree, ast.ClassDef)
    meanings: dict[str, str] = {}
    for statement, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        said = following.value if isinstance(following, ast.Expr) else None
        text = said.value if isinstance(said, ast.Constant) and isinstance(said.value, str) else ""
        meanings[statement.target.id] = " ".join(text.split())
    return meanings


def _type(name: str) -> str:
    field = Settings.model_fields[name]
    annotation = inspect.get_annotations(Settings)[name]
    annotation = getattr(config, annotation, annotation)
    choices = getattr(annotation, "__value__", None)
    if getattr(choices, "__origin__", None) is Literal:
        return " or ".join(f'`"{one}"`' for one in get_args(choices))
    limits = [
        text.format(f"{limit:,}" if isinstance(limit, int) else limit)
        for one in field.metadata
        for key, text in (_LIMITS | _LENGTHS).items()
        if (limit := getattr(one, key, None)) is not None
    ]
    return ", ".join([f"`{annotation}`", *limits])


def command_help(name: str) -> str:
    """A subcommand of `ferret`: what it does, how it is called, and each argument and option; "" is `ferret` itself."""
    command, context = _command(name)
    usage = " ".join(["$ ferret", *([name] if name else []), *_usage(command, context)])
    lines = [*_prose(command.help or ""), "", "```text", usage, "```", "", "| | |", "|---|---|"]
    lines += [f"| `{flags}` | {_marked(meaning).replace('|', chr(92) + '|')} |" for flags, meaning in parameters(name)]
    return "\n".join(lines)


def commands() -> list[str]:
    """The names of the subcommands."""
    return list(_app().commands)


def parameters(name: str) -> Iterator[tuple[str, str]]:
    """The arguments and options of a subcommand, as its own help has them."""
    command, context = _command(name)
    for one in command.get_params(context):
        record = one.get_help_record(context)
        if record is not None:
            yield (one.metavar or record[0]) if one.param_type_name == "argument" else record[0], record[1]


def _command(name: str) -> tuple[Any, Any]:
    whole = _app()
    outer = whole.make_context("ferret", [], resilient_parsing=True)
    if not name:
        return whole, outer
    return whole.commands[name], whole.commands[name].make_context(name, [], parent=outer, resilient_parsing=True)


def _app() -> Any:
    return typer.main.get_command(cli.app)


def _usage(command: Any, context: Any) -> list[str]:
    names = [one.metavar or one.name for one in command.get_params(context) if one.param_type_name == "argument"]
    return ["[OPTIONS]", *(["COMMAND"] if hasattr(command, "commands") else names)]


def _prose(text: str) -> Iterator[str]:
    """Help text as Markdown: rich's markup becomes emphasis."""
    for line in inspect.cleandoc(text).splitlines():
        for tag in ("yellow", "bold"):
            line = line.replace(f"[{tag}]", "*").replace(f"[/{tag}]", "*")  # noqa: PLW2901
        yield _marked(line)


def _marked(text: str) -> str:
    """Options in running text as code, or else `--` would become a dash."""
    return re.sub(r"(?<![\w-])--[\w-]+", r"`\g<0>`", text)


def generate(what: str, argument: str = "") -> str:
    """The text for one directive."""
    return {"options": lambda _: options_table(), "command": command_help}[what](argument)


def pages() -> list[Path]:
    """The Markdown files that are written by hand."""
    return sorted(Path(__file__).parent.parent.glob("*.md"))
