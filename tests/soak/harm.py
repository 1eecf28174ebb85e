"""Running a program and harming it from outside, until nothing of it runs any more."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import tally
from plan import FILES
from tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from plan import Harm, Plan

HERE = Path(__file__).parent
LONGEST_S = 90.0
"""How long a program may take, however it is harmed."""
ORPHANS_S = 60.0
"""How long what it began may take to end after it."""

LOCKER = """
import sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
if path.endswith(".db"):
    import sqlite3
    db = sqlite3.connect(path, timeout=5, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    time.sleep(seconds)
    db.execute("ROLLBACK")
    db.close()
else:
    import fcntl
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        time.sleep(seconds)
"""


class Happened:
    """What a program told, and what was done to it."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.faults: Counter[str] = Counter()
        self.killed: set[int] = set()
        self.status: int | None = None
        self.stderr = ""
        self.violations: list[str] = []
        self.tallies: dict[int, Tally] = {}
        """Of each process that said that it lives."""

    def told_by(self, kind: str) -> dict[int, dict[str, Any]]:
        """What was told of one kind, by process."""
        return {told["pid"]: told for told in self.told if told["kind"] == kind}


class Running:
    """A program while it runs, and the pipe through which it tells what it was promised."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder, self.happened = plan, folder, Happened()
        os.mkfifo(folder / "pipe")
        # open for both: so that opening does not wait, and the pipe has no end before we say so
        self._pipe = os.open(folder / "pipe", os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""
        (folder / "plan").write_bytes(msgspec.json.encode(plan))
        tally.make(folder, plan)
        self._began = threading.Event()
        self._over = threading.Event()

    def run(self) -> Happened:
        """Until it and all that it began are gone."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FERRET_")}
        with (self.folder / "stderr").open("wb") as stderr:
            program = subprocess.Popen(
                [sys.executable, str(HERE / "program.py"), str(self.folder / "plan"), str(self.folder), "main"],
                stdout=stderr, stderr=stderr, cwd=self.folder, env=environment, start_new_session=True,
            )  # fmt: skip
        self.session = program.pid
        listener = threading.Thread(target=self._listen)
        listener.start()
        try:
            self._harm_in_turn(program)
            self.happened.status = self._wait_for(program)
            self._wait_for_the_rest()
        finally:
            self._over.set()
            listener.join()
            self._read()
            os.close(self._pipe)
        self.happened.stderr = (self.folder / "stderr").read_text(errors="replace")
        for process, hello in self.happened.told_by("hello").items():
            self.happened.tallies[process] = Tally(self.folder, hello["label"])
        with suppress(FileNotFoundError):
            self.happened.faults.update((self.folder / "faults").read_text().split())
        return self.happened

    # -- listening ---------------------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._over.wait(0.005):
            self._read()

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._pipe, 1 << 16):
                *lines, self._rest = (self._rest + data).split(b"\n")
                self.happened.told += map(json.loads, lines)
                self._began.set()

    # -- harming -----------------------------------------------------------------------------------

    def _harm_in_turn(self, program: subprocess.Popen[bytes]) -> None:
        while not self._began.wait(0.01) and program.poll() is None:
            pass
        started = time.monotonic()
        for harm in self.plan.harms:
            time.sleep(max(0.0, started + harm.at - time.monotonic()))
            if program.poll() is not None:
                return
            work: Callable[[Harm], bool] = getattr(self, f"_{harm.kind.replace('-', '_')}")
            if work(harm):
                self.happened.faults[harm.kind] += 1

    def _signal(self, process: int, number: int) -> bool:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            return False
        if number == signal.SIGKILL:
            self.happened.killed.add(process)
        return True

    def _kill(self, harm: Harm) -> bool:
        return self._signal(self.session, signal.SIGKILL)

    def _term(self, harm: Harm) -> bool:
        return self._signal(self.session, signal.SIGTERM)

    def _int(self, harm: Harm) -> bool:
        return self._signal(self.session, signal.SIGINT)

    def _stop(self, harm: Harm) -> bool:
        stopped = self._signal(self.session, signal.SIGSTOP)
        time.sleep(harm.lasting)
        self._signal(self.session, signal.SIGCONT)
        return stopped

    def _kill_child(self, harm: Harm) -> bool:
        writing = [number for number in self.members() if "ferret.writers.child" in _command(number)]
        return bool(writing) and self._signal(random.Random(self.plan.seed).choice(writing), signal.SIGKILL)

    def _kill_fork(self, harm: Harm) -> bool:
        others = [
            number for number in self.members()
            if number != self.session and "program.py" in _command(number)
        ]  # fmt: skip
        return bool(others) and self._signal(random.Random(self.plan.seed).choice(others), signal.SIGKILL)

    def _full(self, harm: Harm) -> bool:
        """No file may grow much further, for a while."""
        size = max((path.stat().st_size for path in self.files()), default=0)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        until = time.monotonic() + harm.lasting
        while time.monotonic() < until:  # those that begin meanwhile, too
            self._limit(size + 8192, hard)
            time.sleep(0.02)
        self._limit(resource.RLIM_INFINITY, hard)
        time.sleep(0.02)
        self._limit(resource.RLIM_INFINITY, hard)
        return True

    def _limit(self, size: int, hard: int) -> None:
        for number in self.members():
            with suppress(ProcessLookupError, PermissionError):
                resource.prlimit(number, resource.RLIMIT_FSIZE, (size, hard))

    def _locked(self, harm: Harm) -> bool:
        """Another process holds the lock of a file, for a while."""
        files = [path for path in self.files() if path.exists()]
        if not files:
            return False
        command = [sys.executable, "-c", LOCKER, str(files[0]), str(harm.lasting)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    # -- the end -----------------------------------------------------------------------------------

    def _wait_for(self, program: subprocess.Popen[bytes]) -> int:
        try:
            return program.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            self._signal(program.pid, signal.SIGUSR1)  # have it tell where its threads are
            time.sleep(1)
            self.happened.violations.append(
                f"the program did not end within {LONGEST_S:g} s; its stderr says where it is"
            )
            self._end_all()
            return program.wait()

    def _wait_for_the_rest(self) -> None:
        deadline = time.monotonic() + ORPHANS_S
        while left := self.members():
            if time.monotonic() > deadline:
                for number in left:
                    if "program.py" in _command(number):
                        self._signal(number, signal.SIGUSR1)
                time.sleep(1)
                names = "; ".join(_command(number)[-200:] for number in left)
                self.happened.violations.append(f"{len(left)} processes did not end within {ORPHANS_S:g} s: {names}")
                self._end_all()
                return
            time.sleep(0.02)

    def _end_all(self) -> None:
        for number in self.members():
            self._signal(number, signal.SIGKILL)

    def files(self) -> list[Path]:
        return [self.folder / name for name in FILES[self.plan.sink]]

    def members(self) -> list[int]:
        """What runs of the program: it is the leader of a session, and whatever it begins is in it."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdecimal():
                with suppress(OSError):
                    state, _, _, session = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:4]
                    if int(session) == self.session and state not in "ZX":
                        found.append(int(name))
        return found


def _command(number: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""
