"""Finding writers and sinks by name, ours and anybody's, through pluggy.

Nothing is imported before a name is asked for. Ferret's own names are looked up first, so that a third party's code
runs only in programs that use it, and a broken plugin cannot stop a program that does not.
"""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import msgspec
import pluggy

from ferret import builtin, hookspecs
from ferret.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ferret.sinks.base import Sink

GROUP = "ferret"
_KINDS = {"writer": "ferret_writers", "sink": "ferret_sinks"}


class Provided(msgspec.Struct, frozen=True):
    """One line of `ferret plugins`: a writer or sink that a plugin gives, or a plugin that gives none, and why."""

    kind: str
    """`writer`, `sink`, or `plugin` for one that failed as a whole."""
    name: str
    plugin: str
    distribution: str = ""
    version: str = ""
    error: str = ""
    factory: Any = None


class Plugins:
    """The plugins that one program can use. Thread-safe once loaded; two may live side by side.

    Args:
        entry_points: the entry points to load; those of group `ferret` in the environment unless given.
    """

    def __init__(self, found: Iterable[EntryPoint] | None = None) -> None:
        self._found = found
        self._loaded = False
        self._failures: list[Provided] = []
        self._origins: dict[str, tuple[str, str]] = {}
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.manager.register(builtin, "ferret.builtin")

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin without an entry point, as a test or an application does with its own."""
        self.manager.register(plugin, name)

    def provided(self) -> list[Provided]:
        """Everything that plugins give, and every failure. Loads them all."""
        self._load_entry_points()
        return [*self._collect(), *self._failures]

    def find(self, kind: str, name: str) -> Callable[..., Any]:
        """The factory of a writer or sink.

        Raises:
            PluginError: nothing of that name (the message suggests the nearest), two plugins of that name, or one that
                failed to load.
        """
        for ours in self._collect("ferret.builtin"):
            if (ours.kind, ours.name) == (kind, name):
                return ours.factory  # type: ignore[no-any-return]
        all_provided = self.provided()
        matching = [one for one in all_provided if (one.kind, one.name) == (kind, name)]
        if len(matching) == 1:
            return matching[0].factory  # type: ignore[no-any-return]
        if matching:
            givers = " and ".join(_described(one) for one in matching)
            raise PluginError(f"{kind} {name!r} is given by {givers}: uninstall one, or ask its author for a new name")
        names = sorted({one.name for one in all_provided if one.kind == kind})
        nearest = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(names)}."
        broken = [f"{_described(one)} failed to load: {one.error}" for one in all_provided if one.error]
        raise PluginError(" ".join([f"there is no {kind} {name!r}; {hint}", *broken]))

    def _collect(self, only: str | None = None) -> list[Provided]:
        collected = []
        for kind, hook in _KINDS.items():
            for implementation in getattr(self.manager.hook, hook).get_hookimpls():
                plugin = implementation.plugin_name
                if only is not None and plugin != only:
                    continue
                distribution, version = self._origin(plugin)
                try:
                    factories = dict(implementation.function())
                except Exception as error:  # noqa: BLE001 - a stranger's code
                    collected.append(Provided("plugin", plugin, plugin, distribution, version, _reason(error)))
                    continue
                collected += [
                    Provided(kind, name, plugin, distribution, version, "", factory)
                    for name, factory in factories.items()
                ]
        return collected

    def _origin(self, plugin: str) -> tuple[str, str]:
        if plugin == "ferret.builtin":
            from ferret import __version__  # noqa: PLC0415 - a circle at import

            return "ferret-trace", __version__
        return self._origins.get(plugin, ("", ""))

    def _load_entry_points(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for point in entry_points(group=GROUP) if self._found is None else self._found:
            if point.value == "ferret.builtin":
                continue
            distribution, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
            plugin = f"{distribution or point.value}:{point.name}"
            self._origins[plugin] = (distribution, version)
            try:
                self.manager.register(point.load(), plugin)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                self._failures.append(Provided("plugin", point.name, plugin, distribution, version, _reason(error)))


def _described(one: Provided) -> str:
    return f"{one.distribution} {one.version}" if one.distribution else f"plugin {one.plugin!r}"


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


class SinkSpec(msgspec.Struct, frozen=True):
    """A sink by name: enough to open it here, in a forked child, or in another process."""

    name: str
    target: str | None = None
    options: dict[str, Any] = {}

    @classmethod
    def parse(cls, text: str, options: dict[str, Any] | None = None) -> SinkSpec:
        """`name` or `name:target`, as in `jsonl:spans.jsonl`."""
        name, colon, target = text.partition(":")
        return cls(name, target if colon else None, options or {})

    def open(self) -> Sink:
        """Make the sink.

        Raises:
            PluginError: there is no such sink, or it does not take these options.
            StorageError: its target cannot be used.
        """
        factory = plugins().find("sink", self.name)
        try:
            sink: Sink = factory(self.target, **self.options)
        except TypeError as error:
            raise PluginError(f"sink {self.name!r} does not take {self._given()}: {error}") from error
        return sink

    def _given(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"target {self.target!r}{options}"


_shared: Plugins | None = None


def plugins() -> Plugins:
    """The plugins of this process."""
    global _shared  # noqa: PLW0603 - nothing happens at import, so it is made when first asked for
    if _shared is None:
        _shared = Plugins()
    return _shared


def register(plugin: object, name: str | None = None) -> None:
    """Add a plugin to this process without an entry point."""
    plugins().register(plugin, name)
