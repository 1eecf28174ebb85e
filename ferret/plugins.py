"""Finding writers and sinks by name, ours and anybody's, through pluggy.

Nothing is imported before a name is asked for. Ferret's own names are looked up first, so that a third party's code
runs only in programs that use it, and a broken plugin cannot stop a program that does not.
"""

from __future__ import annotations

import difflib
import threading
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
import pluggy

from ferret import builtin, hookspecs
from ferret.errors import PluginError
from ferret.filenames import absolute
from ferret.tags import error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ferret.sinks.base import Sink

GROUP = "ferret"
_KINDS = {"writer": "ferret_writers", "sink": "ferret_sinks"}
_SINK_METHODS = ("write", "flush", "close")


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
    """The plugins that one program can use. Thread-safe; two may live side by side.

    Args:
        found: the entry points to load; those of group `ferret` in the environment unless given.
    """

    def __init__(self, found: Iterable[EntryPoint] | None = None) -> None:
        self._found = found
        self._loaded = False
        self._failures: list[Provided] = []
        self._origins: dict[str, tuple[str, str]] = {}
        self.modules: list[str] = []
        self._registering = threading.Lock()
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.manager.register(builtin, "ferret.builtin")

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin without an entry point, as a test or an application does with its own.

        The process writer's child knows it too if it is a module: the child imports it by its name.
        """
        with self._registering:
            self.manager.register(plugin, name)
        if isinstance(plugin, ModuleType):
            self.modules.append(plugin.__name__)

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
                    factories = _checked(implementation.function())
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001 - a stranger's code, which may even call sys.exit()
                    collected.append(Provided("plugin", plugin, plugin, distribution, version, error_text(error)))
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
        points = entry_points(group=GROUP) if self._found is None else self._found
        # Importing a plugin may wait for another thread's import, or even make a Profiler: no lock is held meanwhile.
        # Whoever is first here then registers them all.
        loaded = [_load(point) for point in points if point.value != "ferret.builtin"]
        with self._registering:
            if self._loaded:
                return
            for plugin, line in loaded:
                self._origins[line.plugin] = (line.distribution, line.version)
                error = line.error or self._try_to_register(plugin, line.plugin)
                if error:
                    self._failures.append(msgspec.structs.replace(line, error=error))
            self._loaded = True

    def _try_to_register(self, plugin: object, name: str) -> str:
        """Register an entry point's plugin; what is wrong with it, or nothing."""
        if self.manager.is_registered(plugin):  # by hand, or under two names
            return ""
        try:
            self.manager.register(plugin, name)
        except Exception as error:  # noqa: BLE001 - pluggy looks at a stranger's object
            return error_text(error)
        hooks = self.manager.get_hookcallers(plugin) or []
        unknown = [hook.name for hook in hooks if not hook.has_spec()]
        if unknown:
            return f"ferret has no hook {', '.join(unknown)}: it has {' and '.join(_KINDS.values())}"
        return "" if hooks else f"{plugin!r} has no function marked with @ferret.hookimpl"


def _load(point: EntryPoint) -> tuple[object, Provided]:
    """Import a plugin; and a line that says whose it is, and what went wrong."""
    distribution, version = _distribution(point)
    plugin, error = None, ""
    try:
        plugin = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # noqa: BLE001 - a stranger's code, which may even call sys.exit()
        error = error_text(failure)
    name = f"{distribution or point.value}:{point.name}"
    return plugin, Provided("plugin", point.name, name, distribution, version, error)


def _distribution(point: EntryPoint) -> tuple[str, str]:
    """The name and version of the distribution; empty where its metadata does not say."""
    try:
        return (point.dist.name or "", point.dist.version or "") if point.dist else ("", "")
    except Exception:  # noqa: BLE001 - a damaged installation is no reason to stop
        return "", ""


def _checked(given: Any) -> dict[str, Callable[..., Any]]:
    """What a hook returned, if it is names and factories."""
    factories = dict(given)
    for name, factory in factories.items():
        if not isinstance(name, str) or not callable(factory):
            raise TypeError(f"{name!r}: {factory!r} is not a name and something to call")
    return factories


def _described(one: Provided) -> str:
    return f"{one.distribution} {one.version}" if one.distribution else f"plugin {one.plugin!r}"


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

    @property
    def text(self) -> str:
        """What `parse` makes this of, but for the options."""
        return self.name if self.target is None else f"{self.name}:{self.target}"

    @property
    def parts(self) -> list[SinkSpec]:
        """The sinks of a `tee`."""
        return [SinkSpec.parse(part.strip()) for part in (self.target or "").split(",")]

    def absolute(self) -> SinkSpec:
        """The same sink, also once the program has changed its folder. For ferret's own sinks, which are known to be files.

        A `tee` stays as it is in a folder with a comma in its name, which would part it.

        Raises:
            StorageError: the current folder is gone, or no file can have such a name.
        """
        if not self.target or self.name not in {"beaver", "jsonl", "tee"} or self.target == ":memory:":
            return self
        if self.name != "tee":
            return msgspec.structs.replace(self, target=absolute(self.target))
        settled = [part.absolute().text for part in self.parts]
        if any("," in one for one in settled):
            return self
        return msgspec.structs.replace(self, target=",".join(settled))

    def open(self) -> Sink:
        """Make the sink.

        Raises:
            PluginError: there is no such sink, it does not take these options, or what its plugin made is no sink.
            StorageError: its target cannot be used.
        """
        factory = plugins().find("sink", self.name)
        try:
            sink: Sink = factory(self.target, **self.options)
        except TypeError as error:
            raise PluginError(f"sink {self.name!r} does not take {self._given()}: {error}") from error
        missing = [f"{method}()" for method in _SINK_METHODS if not callable(getattr(sink, method, None))]
        if missing:
            raise PluginError(f"sink {self.name!r} cannot be used: {sink!r} has no {' and no '.join(missing)}")
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
