"""What `ferret.testing` gives to pytest: options for installed sinks and writers, and fixtures; run as its users run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import SAME_EXAMPLES

OPTIONS = [
    "-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:anyio", "-p", "no:xdist", "-c", "/dev/null", "--rootdir=.",
]  # fmt: skip
BROKEN = """
from ferret import hookimpl
from ferret.sinks.memory import MemorySink

class Forgetful(MemorySink):
    def write(self, batch):
        if batch.sequence % 2 == 0:
            super().write(batch)

@hookimpl
def ferret_sinks():
    return {"forgetful": Forgetful}
"""


def run(folder: Path, *options: str, **files: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder with these files."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    command = [sys.executable, "-W", "error", "-m", "pytest", *OPTIONS, *options]
    env = {**os.environ, **SAME_EXAMPLES}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100, check=False)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.strip().splitlines()[-1]


# -- installed sinks and writers -----------------------------------------------------------------------------------


def test_an_installed_sink_is_tried_by_its_name(tmp_path: Path) -> None:
    done = run(tmp_path, "--ferret-sink=jsonl:spans.jsonl", "-v", "--ferret-contract=examples=3")
    assert done.returncode == 0, done.stdout
    assert "ferret: the promises of 'jsonl:spans.jsonl'" in done.stdout
    assert "ferret.testing::TestSink::test_a_batch_that_comes_again_is_stored_once PASSED" in done.stdout
    assert "ferret.testing::TestSink::test_a_killed_process_leaves_whole_batches PASSED" in done.stdout
    assert "skipped" not in last_line(done)
    assert not list(tmp_path.glob("*.jsonl")), "each test has a folder of its own"


def test_an_installed_writer_is_tried_by_its_name(tmp_path: Path) -> None:
    done = run(
        tmp_path, "--ferret-writer-contract=bounded", "-v",
        '--ferret-contract=options={"max_queue":9,"overflow":"block","block_timeout":20}', "--ferret-contract=examples=3",
        "--ferret-contract=blocks_when_full=true",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "TestWriter::test_every_program_keeps_the_laws PASSED" in done.stdout


def test_a_broken_one_fails_by_the_name_of_what_it_breaks(tmp_path: Path) -> None:
    plugin = "import forgetful\nfrom ferret.plugins import register\nregister(forgetful)\n"
    done = run(tmp_path, "-p", "loading", "--ferret-sink=forgetful", "-k", "order", forgetful=BROKEN, loading=plugin)
    assert done.returncode == 1
    assert "FAILED ferret.testing::TestSink::test_batches_keep_their_order" in done.stdout, done.stdout


def test_tests_that_are_named_run_beside_the_promises(tmp_path: Path) -> None:
    own = "def test_own(): pass\n"
    alone = run(tmp_path, "--ferret-sink=memory", "-k", "own or close_returns", "-v", test_own=own)
    both = run(tmp_path, "--ferret-sink=memory", "-k", "own or close_returns", "-v", "test_own.py")
    assert ("test_own.py::test_own" in alone.stdout, "test_close_returns" in alone.stdout) == (False, True)
    assert ("test_own.py::test_own" in both.stdout, "test_close_returns" in both.stdout) == (True, True)


def test_a_sink_that_ferret_cannot_read_is_read_by_a_function_that_is_named(tmp_path: Path) -> None:
    reading = "def spans_of(sink):\n    return sink.read()\n"
    plugin = """
import sys
from ferret import hookimpl
from ferret.plugins import register

class Mute:
    def __init__(self, target): self.batches = {}
    def write(self, batch): self.batches.setdefault(batch.id, list(batch))
    def flush(self): pass
    def close(self): pass
    def read(self): return [span for spans in self.batches.values() for span in spans]

@hookimpl
def ferret_sinks(): return {"mute": Mute}

register(sys.modules[__name__])
"""
    options = ["-p", "mute", "--ferret-sink=mute", "-k", "order"]
    assert "1 skipped" in last_line(run(tmp_path, *options, mute=plugin, reading=reading))
    done = run(tmp_path, *options, "--ferret-contract=stored=reading:spans_of")
    assert "1 passed" in last_line(done), done.stdout


REFUSED = [
    (["--ferret-sink=jsnl:x"], "--ferret-sink=jsnl:x: there is no sink 'jsnl'; did you mean 'jsonl'?"),
    (["--ferret-writer-contract=treaded"], "there is no writer 'treaded'; did you mean 'threaded'?"),
    (["--ferret-contract=examples=1"], "--ferret-contract needs --ferret-sink or --ferret-writer-contract"),
    (["--ferret-sink=memory", "--ferret-contract=examples"], "it should be NAME=VALUE, such as persistent=false"),
    (["--ferret-sink=memory", "--ferret-contract=examples=many"], "examples should be like 10"),
    (["--ferret-sink=memory", "--ferret-contract=example=1"], "there is no 'example'; there are blocks_when_full, d"),
    (
        ["--ferret-sink=memory", "--ferret-contract=stored=nowhere:f"],
        "it should be MODULE:FUNCTION, and ModuleNotFound",
    ),
]
TRY_EACH = """
import contextlib, io, json, pytest, sys

def tried(options):
    with contextlib.redirect_stderr(io.StringIO()) as err:
        return [int(pytest.main(options)), err.getvalue()]

print(json.dumps([tried(sys.argv[2:] + options) for options in json.loads(sys.argv[1])]))
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    """What pytest says to each, and its exit status; one process for all, as starting it takes longer than all the rest."""
    command = [sys.executable, "-W", "error", "-c", TRY_EACH, json.dumps([options for options, _ in REFUSED]), *OPTIONS]
    folder = tmp_path_factory.mktemp("refused")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=True)
    return [(status, err) for status, err in json.loads(done.stdout)]


@pytest.mark.xdist_group("refusals")
@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_cannot_be_tried_is_refused_in_one_line(
    refusals: list[tuple[int, str]], options: list[str], said: str
) -> None:
    status, err = refusals[REFUSED.index((options, said))]
    assert status == pytest.ExitCode.USAGE_ERROR
    (line,) = err.strip().splitlines()
    assert line.startswith("ERROR: ")
    assert said in line


def test_the_plugin_costs_next_to_nothing_at_other_starts_of_pytest() -> None:
    """It imports nothing but pytest and the top of ferret: no numpy, no pydantic, no hypothesis, nothing of the kit."""
    code = (
        "import sys, pytest, ferret; before = set(sys.modules); import ferret.testing.plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"ferret.testing", "ferret.testing.plugin", "importlib.util"}


# -- fixtures --------------------------------------------------------------------------------------------------------

FIXTURES = """
import threading, subprocess, sys
import pytest
import ferret
from ferret import Profiler

def test_memory(ferret_memory):
    with ferret_memory.measure("work", {"n": 1}):
        pass
    assert [(span.name, span.tags) for span in ferret_memory.sink.spans] == [("work", {"n": 1})]

@ferret.measure("greet")
def greet(): pass

def test_shared(ferret_shared):
    greet()
    assert [span.name for span in ferret_shared.sink.spans] == ["greet"]

def test_clock(ferret_clock, ferret_memory):
    began = ferret_clock.time
    @ferret_memory.measure("decorated")
    def call(): ferret_clock.advance(3)
    with ferret_memory.measure("slow"):
        ferret_clock.advance(1.5)
        call()
    by_hand = ferret_memory.start("by hand")
    ferret_clock.advance(0.25)
    by_hand.end()
    assert [span.duration for span in ferret_memory.sink.spans] == [3.0, 4.5, 0.25]
    assert ferret_memory.sink.spans[1].start_time == began == 1_767_225_600

def test_gate(ferret_gate, ferret_no_leaks):
    with Profiler(sink=ferret_gate, batch_size=1) as profiler:
        ferret_gate.hold()
        profiler.start("work").end()
        assert ferret_gate.entered.acquire(timeout=10)
        assert not profiler.flush(timeout=0.01)
        ferret_gate.release()
        assert profiler.flush()
    assert profiler.close().written == 1

def test_leaks_a_thread(ferret_no_leaks):
    threading.Thread(target=threading.Event().wait, args=[9], name="forgotten", daemon=True).start()

def test_leaks_a_child(ferret_no_leaks):
    test_leaks_a_child.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(8)"])

def test_leaks_a_file(ferret_no_leaks, tmp_path):
    test_leaks_a_file.file = open(tmp_path / "forgotten.txt", "w")
"""


def test_fixtures_are_there_without_an_import(tmp_path: Path) -> None:
    """And the leak check names what was left behind."""
    done = run(tmp_path, "-v", "-p", "no:unraisableexception", test_own=FIXTURES)
    outcomes = {
        line.split()[0].partition("::")[2]: line.split()[1] for line in done.stdout.splitlines() if "%]" in line
    }
    assert [name for name, outcome in outcomes.items() if outcome == "PASSED"][:4] == [
        "test_memory", "test_shared", "test_clock", "test_gate",
    ]  # fmt: skip
    assert last_line(done).startswith("="), done.stdout
    assert " 3 errors" in last_line(done), done.stdout
    for left in ("thread 'forgotten'", "import time; time.sleep(8)", "forgotten.txt"):
        assert left in done.stdout
