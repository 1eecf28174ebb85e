"""`pytest --ferret-sink NAME:TARGET`: the contracts, tried with what is installed under a name."""

from __future__ import annotations

import hashlib
import json
import types
from contextlib import chdir
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from ferret.errors import FerretError
from ferret.plugins import SinkSpec, plugins
from ferret.testing import SinkContract, WriterContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ferret.batch import SpanData
    from ferret.sinks.base import Sink

NODE: Final = "ferret.testing"


class InstalledSink(SinkContract):
    """A sink by name. A relative target is taken in the test's own folder."""

    spec: ClassVar[str] = ""
    sink_options: ClassVar[dict[str, Any]] = {}
    read: ClassVar[Callable[[Sink], Iterable[SpanData]] | None] = None

    def make_sink(self, tmp_path: Path) -> Sink:
        """Open it by its name."""
        unique = hashlib.blake2s(str(tmp_path).encode(), digest_size=6).hexdigest()
        with chdir(tmp_path):
            return SinkSpec.parse(self.spec.replace("{unique}", unique), self.sink_options).open()

    def stored(self, tmp_path: Path, sink: Sink) -> Iterable[SpanData]:
        """As it gives it back itself, or as the function says that was named."""
        read = type(self).read
        return super().stored(tmp_path, sink) if read is None else read(sink)


class Installed:
    """Adds the tests. Registered as a plugin when one was asked for."""

    def __init__(self, config: pytest.Config) -> None:
        self.classes: dict[str, type] = {}
        self.given = [_pair(text) for text in config.getoption("ferret_contract")]
        self._used: set[str] = set()
        if (spec := config.getoption("ferret_sink")) is not None:
            name, _, target = spec.partition(":")
            _known("sink", name, f"--ferret-sink={spec}")
            lasting = target not in {"", ":memory:"}
            self._add("TestSink", InstalledSink, {"spec": spec, "persistent": lasting})
        if (writer := config.getoption("ferret_writer_contract")) is not None:
            _known("writer", writer, f"--ferret-writer-contract={writer}")
            self._add("TestWriter", WriterContract, {"writer": writer})
        for name, text in self.given:
            if name not in self._used:
                known = ", ".join(sorted({"stored", *(_attributes(SinkContract) | _attributes(WriterContract))}))
                raise pytest.UsageError(f"--ferret-contract={name}={text}: there is no {name!r}; there are {known}")
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            config.args = []  # no tests were named: only the contract is tried

    def _add(self, name: str, contract: type, attributes: dict[str, Any]) -> None:
        kinds = _attributes(contract)
        for given, text in self.given:
            if given == "stored" and issubclass(contract, SinkContract):
                attributes["read"] = staticmethod(_function(text))
            elif given in kinds:
                attributes[given] = _value(given, text, kinds[given])
            else:
                continue
            self._used.add(given)
        self.classes[name] = type(name, (contract,), attributes)

    def pytest_report_header(self) -> list[str]:
        """Say what is tried."""
        whats = [getattr(one, "spec", None) or getattr(one, "writer", "") for one in self.classes.values()]
        return [f"ferret: the promises of {' and '.join(map(repr, whats))}"]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Add the contracts' tests to those that were found."""
        laws = _Laws.from_parent(session, name=NODE, path=session.config.rootpath, nodeid=NODE)
        laws.classes = self.classes
        items.extend(session.genitems(laws))


class _Laws(pytest.Module):
    """A module of tests that no file holds."""

    classes: dict[str, type]

    def _getobj(self) -> types.ModuleType:
        module = types.ModuleType(NODE)
        vars(module).update(self.classes)
        return module

    def istestclass(self, obj: object, name: str) -> bool:
        """Ours, whatever classes the user's own tests are found by."""
        return self.classes.get(name) is obj


def _known(kind: str, name: str, given: str) -> None:
    try:
        plugins().find(kind, name)
    except FerretError as error:
        raise pytest.UsageError(f"{given}: {error}") from error


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise pytest.UsageError(f"--ferret-contract={text}: it should be NAME=VALUE, such as persistent=false")
    return name, value


def _attributes(contract: type) -> dict[str, type]:
    """What may be set, and its type as far as that is plain."""
    plain = {bool, int, float, dict}
    kinds: dict[str, type] = {"sink_options": dict} if issubclass(contract, SinkContract) else {"options": dict}
    for one in contract.__mro__[:-1]:
        kinds.update(
            {name: type(value) for name, value in vars(one).items() if type(value) in plain and name[0] != "_"}
        )
    return kinds


def _value(name: str, text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        example = {bool: "true", int: "10", float: "0.5", dict: '{"timeout": 30}'}[kind]
        raise pytest.UsageError(f"--ferret-contract={name}={text}: {name} should be like {example}")
    return value


def _function(text: str) -> Callable[..., Any]:
    module, _, name = text.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise pytest.UsageError(
            f"--ferret-contract=stored={text}: it should be MODULE:FUNCTION, and {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise pytest.UsageError(f"--ferret-contract=stored={text}: {found!r} is no function")
    return found  # type: ignore[no-any-return]
