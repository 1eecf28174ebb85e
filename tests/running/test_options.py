"""What the options of `ferret run` do, and what they say where they are wrong."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import sqlite3
import sys
import textwrap
from pathlib import Path

import pytest

from ferret import Report
from ferret.plugins import SinkSpec
from ferret.run import goodbye
from tests.running.programs import FERRET, Place

PROGRAM = """
    import json, sys, time
    import helper.part
    def slow(): time.sleep(0.2)
    def quick(): return json.loads("[1]")
    def main():
        slow()
        quick()
        helper.part.f()
        print("its own words", sys.argv[1:])
    main()
"""


@pytest.fixture
def program(place: Place) -> Place:
    place.write("program.py", PROGRAM)
    place.write("helper/__init__.py", "")
    place.write("helper/part.py", "from helper import more\ndef f(): more.g()")
    place.write("helper/more.py", "def g(): pass")
    return place


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"main", "slow", "quick", "helper.part.f", "helper.more.g"}),
        (["--include", "helper"], {"helper.part.f", "helper.more.g"}),
        (["-i", "helper.m*", "-i", "__main__"], {"main", "slow", "quick", "helper.more.g"}),
        (["-x", "helper.part", "--exclude", "json"], {"main", "slow", "quick", "helper.more.g"}),
        (["-i", "helper", "-x", "*.more"], {"helper.part.f"}),
        (["-i", "json.decoder"], {"json.decoder.JSONDecoder.decode", "json.decoder.JSONDecoder.raw_decode"}),
        (["--min-duration", "200"], {"main", "slow"}),
        (["-i", "no.such.module"], set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_which_functions_are_recorded(program: Place, options: list[str], expected: set[str]) -> None:
    done = program.watched("program.py", "-i", "x", "--all", options=options)
    assert done == (0, "its own words ['-i', 'x', '--all']\n", "")
    assert set(program.counts()) == expected


def test_all_records_the_standard_library_and_none_of_ferrets_own(program: Place) -> None:
    program.watched("program.py", options=["--all", "-x", "json.decoder"])
    counts = program.counts()
    assert counts["json.loads"] == 1
    assert {"main", "helper.more.g"} <= set(counts)
    strange = [name for name in counts if "ferret" in name or name.startswith("json.decoder")]
    assert not strange
    (loads,) = [span for span in program.spans() if span.name == "json.loads"]
    assert loads.file == json.__file__
    assert loads.line is not None
    assert program.run.lost == 0


@pytest.mark.parametrize("writer", ["sync", "threaded", "bounded", "process"])
def test_every_writer_keeps_everything(program: Place, writer: str) -> None:
    options = ["--writer", writer, "--run-id", "my run", "--namespace", "mine"]
    assert program.watched("program.py", options=options).out == "its own words []\n"
    (run,) = Report(program.file, namespace="mine").runs()
    assert (run.run_id, run.spans, run.lost, run.unclean) == ("my run", 5, 0, False)
    assert run.processes[0].writer == writer
    assert run.processes[0].argv == ["program.py"]
    assert run.program == "program.py"


def test_other_sinks_and_options_in_the_environment(program: Place) -> None:
    lines = program.folder / "spans.jsonl"
    program.watched("program.py", options=["--sink", "jsonl:spans.jsonl"])
    assert len(list(Report(lines).spans())) == 5
    lines.unlink()
    program.env |= {"FERRET_SINK": "jsonl:spans.jsonl", "FERRET_WRITER": "sync", "FERRET_RUN_ID": "from outside"}
    assert program.finish(program.start(FERRET, "run", "program.py")).status == 0
    (run,) = Report(lines).runs()
    assert (run.run_id, run.processes[0].writer, run.spans) == ("from outside", "sync", 5)
    assert not (program.folder / "trace.db").exists()


def test_a_run_and_namespace_of_the_environment_are_its_own_unless_the_options_say_others(program: Place) -> None:
    program.env |= {"FERRET_NAMESPACE": "mine", "FERRET_RUN_ID": "from outside"}
    program.watched("program.py")
    program.watched("program.py", options=["--run-id", "chosen", "--namespace", "other"])
    assert [run.run_id for run in Report(program.file, namespace="mine").runs()] == ["from outside"]
    assert [run.run_id for run in Report(program.file, namespace="other").runs()] == ["chosen"]


def test_the_default_file_is_in_the_current_folder_wherever_the_program_goes(program: Place) -> None:
    program.write("program.py", "import os\ndef f(): pass\nos.chdir('/')\nf()")
    program.finish(program.start(FERRET, "run", "program.py"))
    assert len(list(Report(program.folder / "trace.db").spans())) == 1
    program.finish(program.start(FERRET, "run", "program.py"))
    assert len(Report(program.folder / "trace.db").runs()) == 2


@pytest.mark.parametrize("children", [[], ["--children"]], ids=["alone", "with its children"])
def test_show_prints_the_table_on_stderr_and_leaves_stdout_alone(program: Place, children: list[str]) -> None:
    done = program.watched("program.py", options=["--show", *children])
    assert (done.status, done.out) == (0, "its own words []\n")
    assert "__main__.slow" in done.err
    assert "5 spans recorded, none lost" in done.err
    assert len(program.run.processes) == 1


def test_at_a_terminal_it_says_where_the_spans_are(program: Place) -> None:
    assert at_a_terminal(program) == "ferret: 5 spans in trace.db · ferret analyze trace.db"


def test_the_line_at_a_terminal_can_be_typed_as_it_is(program: Place) -> None:
    program.write("program.py", "def f(): pass\nf()")
    said = at_a_terminal(program, "--namespace", "a b", "--sink", "tee:null,beaver:my trace.db")
    assert said == "ferret: 1 span in my trace.db · ferret analyze 'my trace.db' --namespace 'a b'"
    (program.folder / "ferret").symlink_to(FERRET)
    shown = program.finish(program.start("sh", "-c", f"PATH=.:$PATH; {said.partition(' · ')[2]}"))
    assert "1 span recorded, none lost" in shown.out


@pytest.mark.parametrize(
    ("written", "sink", "said"),
    [
        (2, "null", "ferret: 2 spans"),
        (None, "null", ""),
        (None, "beaver:x.db", "ferret: spans in x.db · ferret analyze x.db"),
        (1, "jsonl:-weird", "ferret: 1 span in -weird · ferret analyze ./-weird"),
        (2, "tee:null, jsonl:a.jsonl,beaver:b", "ferret: 2 spans in a.jsonl · ferret analyze a.jsonl"),
        (2, "beaver:\x1b[1m", "ferret: 2 spans in \\x1b[1m · ferret analyze '\\x1b[1m'"),
    ],
)
def test_the_line_is_of_what_can_be_read(written: int | None, sink: str, said: str) -> None:
    assert goodbye.line(written, goodbye.readable(SinkSpec.parse(sink)), "_ferret_trace") == said


def test_a_sink_that_is_no_file_is_counted_at_a_terminal(program: Place) -> None:
    program.write("program.py", "def f(): pass\nf()")
    program.env["FERRET_SINK"] = "null"
    assert at_a_terminal(program) == "ferret: 1 span"


def at_a_terminal(place: Place, *options: str) -> str:
    """The line that `ferret run program.py` ends with there."""
    ours, theirs = pty.openpty()
    process = place.start(FERRET, "run", *options, "program.py", stderr=theirs)
    os.close(theirs)
    place.finish(process)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    assert process.returncode == 0, said
    assert said.endswith("\r\n")
    return said.removesuffix("\r\n")


BAD = [
    (["missing.py"], "there is no script 'missing.py'"),
    (["json"], "put -m before it"),
    (["-m", "program.py"], "leave out -m"),
    (["python3.13", "program.py"], "leave out 'python3.13'"),
    (["-m", "no_such_module"], "there is no module 'no_such_module'"),
    (["-m", "helper"], "'helper' is a package without a __main__"),
    (["-m", "helper.nothing"], "there is no module 'helper.nothing'"),
    (["helper"], "a folder without a __main__.py"),
    (["-o", "text.txt", "program.py"], "is not a database"),
    (["-o", "other.db", "program.py"], "another program's SQLite database"),
    (["-o", "helper", "program.py"], "is a directory"),
    (["-o", "no/such/folder.db", "program.py"], "there is no directory"),
    (["-o", "read.db", "program.py"], "cannot be written"),
    (["--writer", "nobody", "program.py"], "nobody"),
    (["--sink", "nowhere:x", "program.py"], "nowhere"),
    (["--sink", "memory", "program.py"], "memory"),
    (["--sink", "jsonl", "program.py"], "jsonl needs a file"),
    (["--sink", "jsonl:no/such/x.jsonl", "program.py"], "there is no directory"),
    (["--sink", "jsonl:helper", "program.py"], "is a directory"),
    (["--sink", "jsonl:program.py", "program.py"], "program.py"),
    (["--sink", "tee:nowhere:x", "program.py"], "nowhere"),
    (["--sink", "beaver:other.db", "program.py"], "another program's SQLite database"),
    (["FERRET_SINK=tee", "program.py"], "tee needs sinks"),
    (["-o", "a.db", "--sink", "jsonl:b", "program.py"], "--output"),
    (["--sink", "null", "--show", "program.py"], "--show"),
    (["FERRET_SINK=null", "--show", "program.py"], "--show reads a file"),
    (["FERRET_BATCH_SIZE=many", "program.py"], "batch_size"),
    (["FERRET_WRITER=nobody", "program.py"], "nobody"),
]


@pytest.mark.parametrize(
    ("words", "message"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_bad_input_is_one_line_and_changes_nothing(program: Place, words: list[str], message: str) -> None:
    if message == "cannot be written" and os.geteuid() == 0:
        pytest.skip("root may write everything")
    program.write("text.txt", "precious")
    program.write("read.db", "")
    (program.folder / "read.db").chmod(0o400)
    with sqlite3.connect(program.folder / "other.db") as other:
        other.execute("CREATE TABLE precious (x)")
    other.close()
    before = contents(program.folder)
    variables = dict(word.split("=") for word in words if word.startswith("FERRET_"))
    program.env |= variables
    done = program.finish(program.start(FERRET, "run", *words[len(variables) :]))
    assert done.status not in (0, -signal.SIGABRT)
    assert done.out == ""
    assert message in done.err
    assert done.err.startswith("ferret: ")
    assert done.err.count("\n") == 1
    assert contents(program.folder) == before, "something was made or changed"


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("ulimit -n 8", "the writing process could not start: [Errno 24] Too many open files"),
        ("mkdir gone; cd gone; rmdir ../gone", "the current folder is gone: change to another"),
    ],
    ids=["files", "folder"],
)
def test_a_system_that_refuses_is_one_line_and_the_program_does_not_begin(
    program: Place, before: str, message: str
) -> None:
    command = shlex.join([FERRET, "run", "-o", str(program.file), str(program.folder / "program.py")])
    done = program.finish(program.start("sh", "-c", f"{before}; exec {command}"))
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith(f"ferret: {message}")


def test_a_misspelt_variable_is_said_once_in_a_line(program: Place) -> None:
    program.env["FERRET_WRITR"] = "sync"
    done = program.watched("program.py", python=["-W", "error"])
    assert (done.status, done.out) == (0, "its own words []\n")
    assert done.err == "ferret: unknown environment variable 'FERRET_WRITR'; did you mean 'FERRET_WRITER'?\n"
    assert program.run.spans == 5


def test_a_script_that_cannot_be_read(program: Place) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (program.folder / "program.py").chmod(0)
    done = program.watched("program.py")
    assert (done.status, done.out) == (1, "")
    assert "cannot be read" in done.err


def test_a_file_that_is_no_python_fails_as_ever(program: Place) -> None:
    program.write("binary.py", "\0\1")
    program.write("empty.py", "")
    assert program.same("binary.py").status == 1
    assert program.same("empty.py").status == 0


def test_python_without_site_is_refused(program: Place) -> None:
    program.env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = program.watched("program.py", python=["-S"])
    assert (done.status, done.out) == (1, "")
    assert done.err == "ferret: functions cannot be recorded under python -S: leave it out\n"


def test_all_places_of_sys_monitoring_taken(program: Place) -> None:
    program.write("site/sitecustomize.py", "import sys\nfor n in 3, 4: sys.monitoring.use_tool_id(n, f'tool {n}')")
    program.env["PYTHONPATH"] = str(program.folder / "site")
    done = program.watched("program.py")
    assert (done.status, done.out) == (1, "")
    assert "tool 4 and tool 3" in done.err


def test_counts_are_those_of_another_counter(place: Place) -> None:
    """`sys.monitoring` counts the starts of pygments' functions, in a run without ferret."""
    source = Path(textwrap.__file__)
    place.write(
        "count.py",
        """
        import atexit, collections, json, runpy, sys
        m = sys.monitoring
        counts = collections.Counter()
        def start(code, offset):
            module = sys._getframe(1).f_globals.get("__name__", "")
            if module == "__main__": module = "pygments.__main__"
            if not module.partition(".")[0] == "pygments": return m.DISABLE
            if code.co_name[0] == "<" and code.co_name != "<lambda>" or not code.co_flags & 1: return m.DISABLE
            counts[f"{module}.{code.co_qualname}"] += 1
        m.use_tool_id(2, "counter")
        m.register_callback(2, m.events.PY_START, start)
        @atexit.register
        def tell():
            del counts["pygments.__main__.tell"]
            json.dump(counts, open("counts.json", "w"))
        m.set_events(2, m.events.PY_START)
        sys.argv = sys.argv[1:]
        runpy.run_module("pygments", run_name="__main__", alter_sys=True)
        """,
    )
    words = ["-f", "html", str(source)]
    counted = place.plain("count.py", "pygments", *words)
    watched = place.watched("-m", "pygments", *words, options=["--include", "pygments*"])
    plain = place.plain("-m", "pygments", *words)
    assert watched == plain == counted
    expected = json.loads((place.folder / "counts.json").read_text())
    counts = {name.replace("__main__.", "", 1): count for name, count in place.counts().items()}
    assert sum(expected.values()) > 5_000
    assert {n.replace("pygments.__main__.", "", 1).replace("<locals>.", ""): c for n, c in expected.items()} == counts
    place.file.unlink()
    assert place.watched("-m", "pygments", *words, options=["--all"]) == plain
    ours = {name: count for name, count in place.counts().items() if name in counts}
    assert ours == counts


def test_the_help_says_how(place: Place) -> None:
    place.env["COLUMNS"] = "80"
    done = place.finish(place.start(FERRET, "run", "--help"))
    assert done.status == 0
    for word in ("--include", "--children", "-m", "ferret run -m pytest", "(trace.db)", "(process)", "(a new one)"):
        assert word in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def contents(folder: Path) -> dict[str, int]:
    return {path.name: hash(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
