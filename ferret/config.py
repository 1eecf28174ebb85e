"""Every option, in one model. A keyword goes before the environment (`FERRET_*`), and that before the default."""

from __future__ import annotations

import difflib
import json
import os
import uuid
import warnings
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ferret.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ENV_PREFIX = "FERRET_"

type Overflow = Literal["drop_newest", "drop_oldest", "block"]


class Settings(BaseModel):
    """The options of a profiler. Frozen: a profiler keeps those that it was made with."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    db_path: str = Field(":memory:", min_length=1)
    """The BeaverDB file to record into, made where it is missing; `:memory:` keeps the spans in this process."""
    sink: str | None = None
    """Where spans rest instead of a BeaverDB file: a sink's name, or `name:target` such as `jsonl:spans.jsonl`."""
    sink_options: dict[str, Any] = Field(default_factory=dict)
    """More keywords for the sink, as the sink documents them; in the environment, a JSON object."""
    fallback_sink: str | None = None
    """A second sink, for batches that the first one would not take."""
    namespace: str = Field("_ferret_trace", min_length=1)
    """The name under which a BeaverDB file keeps the spans, so that several programs can share a file."""
    run_id: str = Field(default_factory=lambda: uuid.uuid4().hex, min_length=1, max_length=200)
    """The run that the spans belong to. Several profilers and processes may record into one run."""
    writer: str = "threaded"
    """How a finished span leaves the caller: `sync`, `threaded`, `bounded`, `process`, or a plugin's writer."""
    batch_size: int = Field(4096, ge=1, le=1_000_000)
    """Spans in a batch at most. A batch is written when it is full, or when `flush_interval` is over."""
    flush_interval: float = Field(0.5, gt=0, le=3600)
    """Seconds that a finished span waits for its batch to fill, at most. `process` hands over at least every 0.1 s."""
    max_queue: int = Field(100_000, ge=1)
    """Spans that `bounded` and `process` hold at most while the sink is slow."""
    overflow: Overflow = "drop_newest"
    """What `bounded` and `process` do with a span that finds the queue full."""
    block_timeout: float = Field(1.0, ge=0, le=3600)
    """Seconds that `overflow="block"` waits for room, at most; then the span is dropped and counted."""
    close_timeout: float = Field(10.0, gt=0, le=3600)
    """Seconds that `close()` waits for the sink, and that a failing batch is tried again, at most."""
    check_sink: bool = True
    """Whether making a profiler waits until the child of `process` has opened the sink, so that a sink that cannot work
    raises. Otherwise recording begins 0.2 s earlier, and such a sink shows in the ledger, and by a warning."""
    handle_sigterm: bool = False
    """Whether SIGTERM closes the profiler before it does what it would have done. Needs the main thread."""

    @field_validator("db_path", "sink", "fallback_sink", mode="wrap")
    @classmethod
    def _take_any_file(cls, value: object, check: Callable[[object], str]) -> str:
        """Take a name that is not UTF-8, too: `os.fsdecode` gives it lone surrogates, which pydantic does not take."""
        try:
            return check(value)
        except ValidationError:
            if type(value) is not str or not value:
                raise
            return value


class Options(TypedDict, total=False):
    """The keywords of `Profiler` and `configure`, as in `Settings`."""

    sink_options: dict[str, Any]
    fallback_sink: str
    writer: str
    batch_size: int
    flush_interval: float
    max_queue: int
    overflow: Overflow
    block_timeout: float
    close_timeout: float
    check_sink: bool
    handle_sigterm: bool


def load_settings(keywords: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Put keywords, environment and defaults together.

    Args:
        keywords: options given in code; None counts as not given.
        environ: the environment, `os.environ` unless given.

    Raises:
        ConfigError: an option is unknown or has an impossible value. The message names the option, the value, where
            it came from and what would be right.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in keywords.items() if value is not None}
    for name in given:
        if name not in Settings.model_fields:
            raise ConfigError(_unknown(name, list(Settings.model_fields), "option"))
    from_env = _read_environment(environ)
    try:
        return Settings.model_validate({**from_env, **given})
    except ValidationError as error:
        raise ConfigError(_explain(error, given, from_env)) from None


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    known = {ENV_PREFIX + name.upper(): name for name in Settings.model_fields}
    for variable, text in environ.items():
        if not variable.startswith(ENV_PREFIX):
            continue
        name = known.get(variable)
        if name is None:
            fault = _misspelt(variable, list(known))
            if fault and fault not in _told:
                warnings.warn(fault, RuntimeWarning, stacklevel=4)
        elif name == "sink_options":
            values[name] = _json_object(variable, text)
        else:
            values[name] = text
    return values


_told: set[str] = set()


def misspelt_variables() -> list[str]:
    """What is wrong with the environment, a line each, for who tells it in another way: no warning says it from now on."""
    known = [ENV_PREFIX + name.upper() for name in Settings.model_fields]
    unknown = [variable for variable in os.environ if variable.startswith(ENV_PREFIX) and variable not in known]
    faults = [fault for variable in unknown if (fault := _misspelt(variable, known))]
    _told.update(faults)
    return faults


def _misspelt(variable: str, known: list[str]) -> str:
    """What is wrong with a variable that is probably meant for ferret; nothing if it may be another program's."""
    close = difflib.get_close_matches(variable, known, n=1, cutoff=0.8)
    return _unknown(variable, known, "environment variable") if close else ""


def _json_object(variable: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ConfigError(
            f"option 'sink_options' is {text!r} (from the environment, {variable}): "
            """it should be a JSON object, such as {"compress": true}"""
        )
    return value


def _unknown(name: str, known: list[str], kind: str) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; known are {', '.join(sorted(known))}"
    return f"unknown {kind} {name!r}{hint}"


def _explain(error: ValidationError, given: Mapping[str, Any], from_env: Mapping[str, Any]) -> str:
    lines = []
    for fault in error.errors():
        name = str(fault["loc"][0])
        if name in given:
            source = "given as a keyword"
        elif name in from_env:
            source = f"from the environment, {ENV_PREFIX}{name.upper()}"
        else:  # pragma: no cover - a default that its own model refuses
            source = "the default"
        lines.append(f"option {name!r} is {fault['input']!r} ({source}): {fault['msg'][0].lower()}{fault['msg'][1:]}")
    return "; ".join(lines)
