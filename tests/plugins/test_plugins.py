"""Finding writers and sinks by name: real modules, with the metadata that an installer would have written."""

from __future__ import annotations

import importlib.metadata
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support import WAIT_S

import ferret
import ferret.plugins
from ferret import ConfigError, Ledger, PluginError, Profiler, hookimpl
from ferret.batch import Batch, Origin
from ferret.models import DeliveryReport
from ferret.plugins import Plugins, Provided, SinkSpec
from ferret.sinks.base import Sink
from ferret.sinks.jsonl import JsonlSink
from ferret.writers.base import Writer
from ferret.writers.threaded import ThreadedWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from ferret.config import Settings
    from ferret.span import Record


class Site:
    """A folder of installed distributions, such as `site-packages`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: list[str] = []

    def install(self, distribution: str, code: str, version: str = "1.0", names: Iterable[str] = ("plugin",)) -> None:
        """Put a module there, and what says that it is a plugin; with several names, it says so several times."""
        module = distribution.replace("-", "_")
        self.modules.append(module)
        (self.folder / f"{module}.py").write_text(textwrap.dedent(code))
        metadata = self.folder / f"{module}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text("\n".join(["[ferret]", *(f"{name} = {module}" for name in names)]))

    def damage(self, distribution: str, version: str = "1.0") -> None:
        """Take the file away that says what the distribution is."""
        (self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info" / "METADATA").unlink()

    def entry_points(self) -> list[EntryPoint]:
        found = importlib.metadata.distributions(path=[str(self.folder)])
        return [point for one in found for point in one.entry_points.select(group=ferret.plugins.GROUP)]

    def plugins(self) -> Plugins:
        """The plugins of this folder, and no others that the tests' environment may have."""
        return Plugins(self.entry_points())

    def use(self, monkeypatch: pytest.MonkeyPatch) -> Plugins:
        """Make them those of this process, so that a `Profiler` finds them."""
        monkeypatch.setattr(ferret.plugins, "_shared", self.plugins())
        return ferret.plugins.plugins()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    site = Site(folder)
    yield site
    for module in site.modules:
        sys.modules.pop(module, None)


def sink_plugin(*names: str) -> str:
    """A sound plugin that gives sinks of these names, and leaves a mark when it is imported."""
    return f"""
        from pathlib import Path

        from ferret import hookimpl

        Path(__file__).with_suffix(".imported").touch()

        class Stored:
            def __init__(self, target=None, *, colour="green"):
                self.target, self.colour, self.spans = target, colour, []

            def write(self, batch):
                self.spans += batch

            def flush(self):
                pass

            def close(self):
                pass

        @hookimpl
        def ferret_sinks():
            return dict.fromkeys({names!r}, Stored)
    """


def failures(plugins: Plugins) -> list[Provided]:
    return [one for one in plugins.provided() if one.error]


def record_one(profiler: Profiler) -> None:
    with profiler, profiler.measure("work"):
        pass


# -- finding -----------------------------------------------------------------------------------------


def test_an_installed_plugin_is_found_and_listed_with_its_distribution(site: Site) -> None:
    site.install("ferret-parquet", sink_plugin("parquet"), "2.5")
    [line] = [one for one in Plugins().provided() if one.name == "parquet"]
    assert (line.kind, line.distribution, line.version, line.error) == ("sink", "ferret-parquet", "2.5", "")


def test_ferrets_own_are_listed_as_anybodys() -> None:
    ours = Plugins(found=[]).provided()
    assert {one.name for one in ours if one.kind == "writer"} == {"sync", "threaded", "bounded", "process"}
    assert {one.name for one in ours if one.kind == "sink"} == {"beaver", "memory", "jsonl", "tee", "null"}
    assert {(one.distribution, one.version) for one in ours} == {("ferret-trace", ferret.__version__)}


def test_a_profiler_uses_a_plugins_sink_by_its_name_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("ferret-parquet", sink_plugin("parquet"))
    site.use(monkeypatch)
    profiler = Profiler(sink="parquet:out/", sink_options={"colour": "red"})
    record_one(profiler)
    sink: Any = profiler.sink
    assert (sink.target, sink.colour) == ("out/", "red")
    assert [span.name for span in sink.spans] == ["work"]


def test_a_mistyped_writer_suggests_the_nearest() -> None:
    with pytest.raises(PluginError, match=r"there is no writer 'thraeded'; did you mean 'threaded'\?"):
        Profiler(writer="thraeded", sink="null")


def test_a_mistyped_sink_suggests_the_nearest_of_a_plugins_too(site: Site) -> None:
    site.install("ferret-parquet", sink_plugin("parquet"))
    with pytest.raises(PluginError, match=r"there is no sink 'parket'; did you mean 'parquet'\?"):
        site.plugins().find("sink", "parket")


def test_a_name_that_is_near_to_none_gets_the_list_of_all() -> None:
    with pytest.raises(PluginError, match="there are bounded, process, sync, threaded"):
        Plugins(found=[]).find("writer", "zzz")


def test_a_writer_is_no_sink() -> None:
    with pytest.raises(PluginError, match="there is no sink 'threaded'"):
        Plugins(found=[]).find("sink", "threaded")


def test_two_threads_that_look_at_once_both_find_it() -> None:
    both_are_importing = threading.Barrier(2)

    class Point:
        name, value, dist = "slow", "slow", None

        def load(self) -> object:
            both_are_importing.wait(WAIT_S)
            return Mine

    point: Any = Point()
    plugins = Plugins(found=[point])
    with ThreadPoolExecutor(2) as pool:
        searches = [pool.submit(plugins.find, "sink", "mine") for _ in range(2)]
        assert [search.result() for search in searches] == [Plain, Plain]


def test_a_plugin_may_look_for_another_while_it_is_imported(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install(
        "ferret-a", sink_plugin("a") + "\n        import ferret.plugins; ferret.plugins.plugins().find('sink', 'b')"
    )
    site.install(
        "ferret-b", sink_plugin("b") + "\n        import ferret.plugins; ferret.plugins.plugins().find('sink', 'a')"
    )
    plugins = site.use(monkeypatch)
    assert failures(plugins) == []
    assert callable(plugins.find("sink", "a"))
    assert callable(plugins.find("sink", "b"))


# -- one name, two plugins ---------------------------------------------------------------------------


def test_two_plugins_of_one_name_are_an_error_that_names_both(site: Site) -> None:
    site.install("ferret-parquet", sink_plugin("parquet"), "1.0")
    site.install("parquet-for-ferret", sink_plugin("parquet"), "0.3")
    with pytest.raises(PluginError, match="sink 'parquet' is given by") as caught:
        site.plugins().find("sink", "parquet")
    assert "ferret-parquet 1.0" in str(caught.value)
    assert "parquet-for-ferret 0.3" in str(caught.value)


def test_two_plugins_of_one_name_do_not_matter_to_who_uses_another(site: Site) -> None:
    site.install("ferret-parquet", sink_plugin("parquet", "arrow"))
    site.install("parquet-for-ferret", sink_plugin("parquet"))
    plugins = site.plugins()
    assert callable(plugins.find("sink", "arrow"))
    assert failures(plugins) == []
    assert [one.name for one in plugins.provided()].count("parquet") == 2


def test_one_module_under_two_entry_points_is_one_plugin(site: Site) -> None:
    site.install("ferret-parquet", sink_plugin("parquet"), names=["parquet", "arrow"])
    plugins = site.plugins()
    assert callable(plugins.find("sink", "parquet"))
    assert failures(plugins) == []


SHADOWS = """
    from ferret import hookimpl

    def refuse(*args, **options):
        raise AssertionError("a stranger's factory was called")

    @hookimpl
    def ferret_sinks():
        return {"jsonl": refuse}

    @hookimpl
    def ferret_writers():
        return {"threaded": refuse}
"""


def test_ferrets_own_names_cannot_be_shadowed(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("ferret-shadow", SHADOWS)
    plugins = site.use(monkeypatch)
    assert len(plugins.provided()) == 11, "the plugin is there"
    profiler = Profiler(sink=f"jsonl:{tmp_path / 'spans.jsonl'}", writer="threaded")
    record_one(profiler)
    assert type(profiler.sink) is JsonlSink
    assert type(profiler.writer) is ThreadedWriter


@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded", "process"])
def test_a_program_that_uses_ferrets_own_imports_no_plugin(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    site.install("ferret-parquet", sink_plugin("parquet"))
    monkeypatch.setattr(ferret.plugins, "_shared", None)
    profiler = Profiler(sink=f"jsonl:{tmp_path / 'spans.jsonl'}", writer=writer)
    record_one(profiler)
    assert profiler.close().written == 1
    mark = site.folder / "ferret_parquet.imported"
    assert not mark.exists()
    ferret.plugins.plugins().find("sink", "parquet")
    assert mark.exists(), "a plugin that is asked for leaves its mark"


# -- broken plugins ----------------------------------------------------------------------------------


def hook(body: str) -> str:
    return f"""
        import sys
        from ferret import hookimpl

        @hookimpl
        def ferret_sinks():
            {body}
    """


BROKEN = {
    "import raises": ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
    "import exits": ("import sys; sys.exit('no licence')", "SystemExit: no licence"),
    "import fails": (
        "import there_is_no_such_module",
        "ModuleNotFoundError: No module named 'there_is_no_such_module'",
    ),
    "no Python": ("def :", "SyntaxError"),
    "hook raises": (hook("raise RuntimeError('no licence')"), "RuntimeError: no licence"),
    "hook exits": (hook("sys.exit('no licence')"), "SystemExit: no licence"),
    "hook returns nothing": (hook("pass"), "TypeError"),
    "hook returns junk": (hook("return 5"), "TypeError"),
    "hook returns a text": (hook("return 'parquet'"), "ValueError"),
    "hook returns what is no factory": (
        hook("return {'parquet': 5}"),
        "'parquet': 5 is not a name and something to call",
    ),
    "hook returns what is no name": (hook("return {5: dict}"), "5: <class 'dict'> is not a name and something to call"),
    "hook wants arguments": (hook("pass").replace("sinks()", "sinks(program)"), "PluginValidationError"),
    "hook is misspelt": (hook("pass").replace("_sinks", "_sink"), "ferret has no hook ferret_sink:"),
    "no hook is marked": ("def ferret_sinks(): return {}", "has no function marked with @ferret.hookimpl"),
}


@pytest.fixture(params=BROKEN.values(), ids=BROKEN.keys())
def reason(request: pytest.FixtureRequest, site: Site) -> str:
    """The reason why the plugin `ferret-broken` gives nothing, which is installed beside a sound one."""
    code, reason = request.param
    site.install("ferret-broken", code, "0.9")
    site.install("ferret-sound", sink_plugin("sound"))
    return reason


def test_a_broken_plugin_is_listed_with_the_reason(site: Site, reason: str) -> None:
    [line] = failures(site.plugins())
    assert (line.kind, line.distribution, line.version) == ("plugin", "ferret-broken", "0.9")
    assert reason in line.error


def test_a_broken_plugin_does_not_stop_a_program_that_uses_another(
    site: Site, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    site.use(monkeypatch)
    profiler = Profiler(sink="sound")
    record_one(profiler)
    assert profiler.close().written == 1


def test_who_asks_for_what_a_broken_plugin_would_give_hears_the_reason(site: Site, reason: str) -> None:
    with pytest.raises(
        PluginError, match=r"there is no sink 'parquet'.* ferret-broken 0\.9 failed to load: "
    ) as caught:
        site.plugins().find("sink", "parquet")
    assert reason in str(caught.value)


def test_ctrl_c_while_plugins_are_imported_is_not_taken_for_a_broken_plugin(site: Site) -> None:
    site.install("ferret-slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        site.plugins().provided()


def test_a_plugin_whose_metadata_is_damaged_can_be_used(site: Site) -> None:
    site.install("ferret-parquet", sink_plugin("parquet"))
    site.damage("ferret-parquet")
    assert callable(site.plugins().find("sink", "parquet"))


# -- by hand -----------------------------------------------------------------------------------------


class Plain:
    """The least that a sink is."""

    def __init__(self, target: str | None = None) -> None:
        self.spans: list[Any] = []

    def write(self, batch: Batch) -> None:
        self.spans += batch

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class Mine:
    """An object with a hook is a plugin; so is a class, if the hook needs no object."""

    @staticmethod
    @hookimpl
    def ferret_sinks() -> Mapping[str, Callable[..., Sink]]:
        return {"mine": Plain}


def test_an_application_registers_its_own_without_an_entry_point() -> None:
    ferret.plugins.register(Mine())
    profiler = Profiler(sink="mine")
    record_one(profiler)
    sink: Any = profiler.sink
    assert [span.name for span in sink.spans] == ["work"]


def test_two_sets_of_plugins_live_side_by_side() -> None:
    with_mine, without = Plugins(found=[]), Plugins(found=[])
    with_mine.register(Mine())
    assert with_mine.find("sink", "mine") is Plain
    with pytest.raises(PluginError):
        without.find("sink", "mine")


def test_two_of_ones_own_of_one_name_are_told_apart_by_the_names_they_were_registered_under() -> None:
    plugins = Plugins(found=[])
    plugins.register(Mine(), "red")
    plugins.register(Mine(), "blue")
    with pytest.raises(PluginError, match="plugin 'red' and plugin 'blue'"):
        plugins.find("sink", "mine")


# -- writers -----------------------------------------------------------------------------------------


class TinyWriter:
    """All that a writer must be: it hands each span on as it ends, as a batch of its own."""

    def __init__(self, sink: Sink, config: Settings) -> None:
        self._sink = sink
        self._run_id = config.run_id
        self._lock = threading.Lock()
        self._dropped = 0
        self.after_fork()

    def record(self, record: Record) -> None:
        with self._lock:
            self._sink.write(Batch(self._origin, self._written, [record]))
            self._written += 1

    def suppress(self) -> None:
        self._dropped += 1

    def flush(self, timeout: float | None = None) -> bool:
        return not self._dropped

    def stats(self) -> Ledger:
        return Ledger(recorded=self._written + self._dropped, written=self._written, dropped=self._dropped)

    def close(self, timeout: float | None = None) -> DeliveryReport:
        self._sink.close()
        return DeliveryReport(**self.stats().model_dump())

    def after_fork(self) -> None:
        self._origin = Origin.here(self._run_id)
        self._written = 0


class HeirWriter(ThreadedWriter):
    """A writer that leaves nearly everything to ferret's."""

    seen = 0

    def record(self, record: Record) -> None:
        self.seen += 1
        super().record(record)


class OpeningWriter(HeirWriter):
    """A writer that opens the sink itself."""

    opens_sink = True

    def __init__(self, sink: SinkSpec, config: Settings) -> None:
        self.spec = sink
        super().__init__(sink.open(), config)


class Writers:
    """The plugin that gives them."""

    @hookimpl
    def ferret_writers(self) -> Mapping[str, Callable[..., Writer]]:
        return {"tiny": TinyWriter, "heir": HeirWriter, "opening": OpeningWriter}


@pytest.fixture
def writers() -> None:
    ferret.plugins.register(Writers())


def record_three(profiler: Profiler) -> DeliveryReport:
    with profiler:
        for name in "abc":
            with profiler.measure(name):
                pass
    return profiler.close()


def test_a_writer_from_scratch_works_by_name(writers: None) -> None:
    profiler = Profiler(sink="memory", writer="tiny")
    assert isinstance(profiler.writer, Writer)
    assert record_three(profiler).written == 3
    sink: Any = profiler.sink
    assert [len(batch) for batch in sink.batches.values()] == [1, 1, 1]
    assert [span.name for span in sink.spans] == ["a", "b", "c"]


def test_a_writer_that_inherits_ferrets_works_by_name(writers: None) -> None:
    profiler = Profiler(sink="memory", writer="heir")
    assert record_three(profiler) == DeliveryReport(recorded=3, written=3, batches=1)
    assert isinstance(profiler.writer, HeirWriter)
    assert profiler.writer.seen == 3
    sink: Any = profiler.sink
    assert [span.name for span in sink.spans] == ["a", "b", "c"]


def test_a_writer_that_opens_the_sink_itself_gets_its_name_and_target(writers: None, tmp_path: Path) -> None:
    path = str(tmp_path / "spans.jsonl")
    profiler = Profiler(sink=f"jsonl:{path}", writer="opening")
    assert record_three(profiler).written == 3
    assert isinstance(profiler.writer, OpeningWriter)
    assert profiler.writer.spec == SinkSpec("jsonl", path)
    assert profiler.sink is None


# -- sinks that do not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize("sink", ["jsonl:spans.jsonl", "parquet:spans.parquet"])
def test_a_sink_says_which_options_it_does_not_take(site: Site, monkeypatch: pytest.MonkeyPatch, sink: str) -> None:
    site.install("ferret-parquet", sink_plugin("parquet"))
    site.use(monkeypatch)
    name, target = sink.split(":")
    with pytest.raises(PluginError, match=rf"sink '{name}' does not take target '.*{target}', level=9: .*'level'"):
        Profiler(sink=sink, sink_options={"level": 9})


def without(method: str) -> Sink:
    sink: Any = type(f"No{method.title()}", (Plain,), {method: None})()
    return sink


@pytest.mark.parametrize("method", ["write", "flush", "close"])
def test_a_sink_object_that_lacks_a_method_hears_what_a_sink_has(method: str) -> None:
    with pytest.raises(ConfigError, match=rf"option 'sink' is .*{method}\("):
        Profiler(sink=without(method))


@pytest.mark.parametrize("method", ["write", "flush", "close"])
def test_a_plugins_sink_that_lacks_a_method_is_refused_with_its_name(method: str) -> None:
    class Incomplete:
        @hookimpl
        def ferret_sinks(self) -> Mapping[str, Callable[..., Sink]]:
            return {"incomplete": lambda target: without(method)}

    ferret.plugins.register(Incomplete())
    with pytest.raises(PluginError, match=rf"sink 'incomplete' cannot be used: .* has no {method}\(\)$"):
        Profiler(sink="incomplete")
