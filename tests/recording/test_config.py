"""Options: where they come from, and what is said when one is wrong."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from ferret import ConfigError, Profiler, Settings
from ferret.config import load_settings


def test_a_keyword_goes_before_the_environment_and_that_before_the_default() -> None:
    environ = {"FERRET_WRITER": "sync", "FERRET_BATCH_SIZE": "7", "FERRET_FLUSH_INTERVAL": "0.25"}
    settings = load_settings({"batch_size": 9}, environ)
    assert (settings.batch_size, settings.writer, settings.flush_interval) == (9, "sync", 0.25)
    assert settings.max_queue == Settings.model_fields["max_queue"].default
    assert load_settings({"writer": None}, environ).writer == "sync"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_option_can_come_from_the_environment(name: str) -> None:
    texts: dict[str, tuple[str, Any]] = {
        "sink": ("null", "null"), "sink_options": ('{"a": 1}', {"a": 1}), "fallback_sink": ("null", "null"),
        "overflow": ("block", "block"), "handle_sigterm": ("true", True), "check_sink": ("false", False),
        "batch_size": ("3", 3), "max_queue": ("3", 3),
        "flush_interval": ("3", 3.0), "block_timeout": ("3", 3.0), "close_timeout": ("3", 3.0),
    }  # fmt: skip
    text, value = texts.get(name, ("some text", "some text"))
    assert getattr(load_settings({}, {f"FERRET_{name.upper()}": text}), name) == value


@pytest.mark.parametrize(
    ("keywords", "environ", "words"),
    [
        ({"overflow": "drop_newset"}, {}, r"option 'overflow' is 'drop_newset' \(given as a keyword\).*'drop_newest'"),
        ({}, {"FERRET_BATCH_SIZE": "many"}, r"'batch_size' is 'many' \(from the environment, FERRET_BATCH_SIZE\).*int"),
        ({"batch_size": 0}, {}, r"'batch_size' is 0 .*greater than or equal to 1"),
        ({"flush_interval": -1}, {}, r"'flush_interval' is -1 .*greater than 0"),
        ({"wirter": "sync"}, {}, r"unknown option 'wirter'; did you mean 'writer'\?"),
        ({"colour": "red"}, {}, r"unknown option 'colour'; known are batch_size, "),
        ({}, {"FERRET_SINK_OPTIONS": "[1]"}, r"'sink_options' is '\[1\]' .*JSON object"),
        ({"run_id": ""}, {}, "'run_id' is ''"),
        ({"max_queue": 0, "close_timeout": 0}, {}, "'max_queue' is 0.*; option 'close_timeout' is 0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_value_is_told_with_its_name_its_origin_and_what_would_be_right(
    keywords: dict[str, Any], environ: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load_settings(keywords, environ)


def test_a_misspelt_variable_is_warned_of_but_a_strangers_is_not() -> None:
    with pytest.warns(RuntimeWarning, match=r"'FERRET_WRTIER'; did you mean 'FERRET_WRITER'\?"):
        load_settings({}, {"FERRET_WRTIER": "sync"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_settings({}, {"FERRET_HOME": "/", "FERRETS": "x"})


def test_two_names_of_one_option_are_refused() -> None:
    with pytest.raises(ConfigError, match="'buffer_size' and 'batch_size'"):
        Profiler(buffer_size=1, batch_size=2)


def test_two_places_for_the_spans_are_refused(db: str) -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        Profiler(db, sink="null")
    assert not Path(db).exists()


def test_a_path_in_code_goes_before_a_sink_in_the_environment(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRET_SINK", "null")
    with Profiler(db) as profiler:
        profiler.start("x").end()
    assert Path(db).stat().st_size


def test_an_object_that_is_no_sink_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"write\(batch\), flush\(\) and close\(\)"):
        Profiler(sink=object())  # type: ignore[arg-type]


def test_the_sigterm_handler_is_refused_outside_the_main_thread() -> None:
    import threading

    caught: list[BaseException] = []

    def work() -> None:
        try:
            Profiler(sink="null", handle_sigterm=True)
        except ConfigError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])
