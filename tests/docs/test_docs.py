"""The docs cannot drift: what is public is on a page, and what a page links to or names is there.

What the pages show is run by `conftest.py` in the top folder; that they build is for `make docs`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import ferret
import ferret.errors
import ferret.report
from ferret import FerretError, Settings, hookspecs
from ferret.plugins import Plugins

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]

FENCE = re.compile(r"^ *```(\S*)", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
DIRECTIVE = re.compile(r"^\.\. auto\w+:: (ferret\.[\w.]+)", re.MULTILINE)

RUN = {"python", "console"}
NOT_RUN = {"text", "toml", "sql"}


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    """docs/_ext/generated.py, which has what the docs take from the code."""
    spec = importlib.util.spec_from_file_location("generated", DOCS / "_ext" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documented() -> set[str]:
    """What the reference has an entry for, by its full name."""
    return set(DIRECTIVE.findall(page("reference.md")))


def public_of(module: ModuleType) -> list[str]:
    """The public classes and functions that a module defines itself."""
    return [
        f"{module.__name__}.{name}"
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def known_errors(kind: type[BaseException] = FerretError) -> set[type[BaseException]]:
    """The base of all errors, and every error made from it."""
    return {kind}.union(*(known_errors(one) for one in kind.__subclasses__()))


# -- what is public is on a page -----------------------------------------------------------------------------------


@pytest.mark.parametrize("option", Settings.model_fields)
def test_every_option_is_in_the_table(option: str, generated: ModuleType) -> None:
    assert "```{ferret-options}" in page("configuration.md")
    assert generated.option_meanings()[option], f"{option} has no docstring in ferret/config.py"
    row = f"| `{option}` <br> `FERRET_{option.upper()}` |"
    assert row in generated.options_table()


def test_the_table_tells_type_and_default(generated: ModuleType) -> None:
    table = generated.options_table()
    assert "| `int`, at least 1, at most 1,000,000 | `4096` |" in table
    assert '| `"drop_newest"` or `"drop_oldest"` or `"block"` | `"drop_newest"` |' in table


@pytest.mark.parametrize("hook", ["ferret_sinks", "ferret_writers"])
def test_every_hook_has_its_signature_on_the_page(hook: str) -> None:
    signature = str(inspect.signature(getattr(hookspecs, hook))).replace("'", "")
    assert f"```text\n{hook}{signature}\n```" in page("plugins.md")
    assert f"### {hook}\n" in page("plugins.md")


def test_there_are_no_other_hooks() -> None:
    assert [name for name in vars(hookspecs) if name.startswith("ferret_")] == ["ferret_sinks", "ferret_writers"]


@pytest.mark.parametrize("kind", ["writer", "sink"])
def test_every_writer_and_sink_has_a_section(kind: str) -> None:
    ours = [one.name for one in Plugins(found=[]).provided() if one.kind == kind]
    assert ours
    for name in ours:
        assert f"\n## {name}\n" in page(f"{kind}s.md")


def test_every_command_is_in_the_reference_and_shown_at_work(generated: ModuleType) -> None:
    everywhere = "".join(one.read_text(encoding="utf-8") for one in PAGES)
    assert generated.commands()
    for command in generated.commands():
        assert f"```{{ferret-command}} {command}\n" in page("reference.md")
        assert f"$ ferret {command}" in everywhere


def test_every_argument_and_option_of_a_command_is_explained(generated: ModuleType) -> None:
    for command in ["", *generated.commands()]:
        text = generated.command_help(command)
        names = {one for flags, _ in generated.parameters(command) for one in re.findall(r"--?[\w-]+|[A-Z]+$", flags)}
        assert "--help" in names
        assert all(re.search(rf"\| `[^`]*{re.escape(name)}", text) for name in names)
        assert all(meaning.strip() for _, meaning in generated.parameters(command))


@pytest.mark.parametrize("name", ferret.__all__)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    assert f"ferret.{name}" in documented()


@pytest.mark.parametrize("module", ["sinks.base", "writers.base", "hookspecs", "batch", "segment", "plugins"])
def test_everything_for_plugin_authors_is_in_the_reference(module: str) -> None:
    assert set(public_of(importlib.import_module(f"ferret.{module}"))) <= documented()


@pytest.mark.parametrize("error", sorted(known_errors() | {ferret.LostSpansWarning}, key=lambda one: one.__name__))
def test_every_error_is_in_the_reference(error: type[BaseException]) -> None:
    assert {f"ferret.{error.__name__}", f"{error.__module__}.{error.__name__}"} & documented()


def test_the_reference_names_nothing_that_is_gone() -> None:
    for name in documented():
        home, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(home), attribute), name


# -- what a page names is there ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(without_code(path)):
        if re.match(r"\w+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_block_has_a_language_that_is_run_or_known_not_to_be(path: Path) -> None:
    fences = FENCE.findall(path.read_text(encoding="utf-8"))
    assert len(fences) % 2 == 0
    assert {one for one in fences[::2] if not one.startswith("{")} <= RUN | NOT_RUN
    assert not any(fences[1::2])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_make_targets_that_a_page_names_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"(?:\$ |`)make ([a-z]+)", path.read_text(encoding="utf-8"))
    assert set(named) <= targets


def test_the_changelog_has_this_version() -> None:
    assert f"## [{ferret.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def without_code(path: Path) -> str:
    """The page's text, without what stands in blocks and spans of code."""
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "code", text)


def anchors(path: Path) -> set[str]:
    """The names by which a page's headings are linked to, as GitHub and MyST make them."""
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in HEADING.findall(text)}
