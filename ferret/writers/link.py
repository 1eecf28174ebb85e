"""A program's side of its writing child: starting it, talking to it, and noticing when it is gone."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import sysconfig
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ferret
from ferret import errors
from ferret.ledger.live import Hold
from ferret.writers import frames
from ferret.writers.frames import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

PIPE_BYTES = 1 << 20
"""What Linux lets any user set: some 20,000 spans that survive the program in the kernel, however it ends."""


class ChildLink:
    """One child process and the two pipes to it. `send` is for one thread; a second thread reads the answers.

    Args:
        hello: what the child is to open.
        folder: the child's current folder.
        on_answer: called in the reading thread with each frame that comes back, after READY.
        on_death: called in the reading thread when the child is gone.
        on_ready: called when the child has opened the sink, with the file that the sink writes to, if it says so; by
            `start`, or in the reading thread.
    """

    def __init__(
        self,
        hello: frames.Hello,
        folder: str,
        on_answer: Callable[[Kind, Any], None],
        on_death: Callable[[], None],
        on_ready: Callable[[str | None], None],
    ) -> None:
        self._on_ready = on_ready
        self._hello = hello
        self._on_answer = on_answer
        self._on_death = on_death
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._ready: tuple[str, str] | None = None
        self._alive = False
        self.refusal = ""
        """Why children could not open the sink; empty once one has."""

    @property
    def alive(self) -> bool:
        """Whether the child lives, as far as is known, and is listened to."""
        return self._alive and (self._reader is None or self._reader.is_alive())

    @property
    def pid(self) -> int | None:
        """The child's process id, if there is one."""
        return None if self._child is None else self._child.pid

    def is_listening_here(self) -> bool:
        """Whether the calling thread is the one that reads the answers."""
        return self._reader is threading.current_thread()

    def start(self, *, wait: bool) -> None:
        """Start a child.

        Args:
            wait: whether to wait until it has opened the sink, and raise what it could not do. No child is left then.
        """
        self.stop(timeout=1.0)  # the one before, if it is gone and nobody has said so
        try:
            child = self._born()
        except OSError as error:
            raise errors.WriterProcessError(f"the writing process could not start: {error}") from error
        self._child, self._ready, self._reader, self._alive = child, None, None, True
        try:
            self._greet(child, wait)
        except BaseException:  # nobody would end it
            child.kill()
            self.stop()
            raise

    def _born(self) -> subprocess.Popen[bytes]:
        # the child counts as working for the program from its first moment
        with Hold(self._hello.origin[1]) as hold:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "ferret.writers.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                cwd=self._folder if os.path.isdir(self._folder) else "/",  # it may have been removed
                env=_environment(),
                process_group=0,  # a terminal's Ctrl-C does not reach it even while it is starting
                pass_fds=hold.files,
            )

    def _greet(self, child: subprocess.Popen[bytes], wait: bool) -> None:
        assert child.stdin is not None and child.stdout is not None  # noqa: PT018 - both are pipes
        self._requests, self._answers = child.stdin, child.stdout
        with suppress(OSError, AttributeError):
            fcntl.fcntl(child.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with suppress(OSError):
            frames.send(child.stdin.fileno(), Kind.HELLO, self._hello)
        if wait:
            self._await_ready()
        reader = threading.Thread(target=self._read, args=(child,), name="ferret-answers", daemon=True)
        reader.start()
        self._reader = reader

    def _await_ready(self) -> None:
        assert self._child is not None
        incoming = frames.receive(self._answers.fileno())
        kind, payload = next(incoming, (None, b""))
        if kind is Kind.READY:
            name, text = frames.decode(payload)
            if not name:
                self._on_ready(text or None)
                return
            self.stop()
            known = getattr(errors, name, None)
            if isinstance(known, type) and issubclass(known, errors.FerretError):
                raise known(text)
            raise errors.StorageError(f"the sink could not be opened in the writing process: {name}: {text}")
        status = self._child.wait()
        self.stop()
        raise errors.WriterProcessError(
            f"the writing process could not start (exit status {status}); its stderr says why"
        )

    def _read(self, child: subprocess.Popen[bytes]) -> None:
        try:
            with suppress(OSError, ValueError, errors.FerretError):
                self._listen(child)
        finally:
            if self._child is child:
                self._alive = False
                self._on_death()

    def _listen(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        for kind, payload in frames.receive(child.stdout.fileno()):
            answer = frames.decode(payload)
            if kind is not Kind.READY:
                self._on_answer(kind, answer)
            elif answer[0]:
                self.refusal = ": ".join(part for part in answer if part)
                return
            else:
                self.refusal = ""
                self._on_ready(answer[1] or None)

    def send(self, kind: Kind, payload: object) -> bool:
        """Send a frame; False if the child is gone. Blocks while the pipe is full."""
        if not self.alive:
            return False
        try:
            frames.send(self._requests.fileno(), kind, payload)
        except UnicodeEncodeError:
            raise
        except (OSError, ValueError):  # ValueError: the pipe was closed here
            self._alive = False
            return False
        return True

    def stop(self, timeout: float | None = None) -> None:
        """Close the child's input, so that it ends; kill it if it has not within `timeout` seconds; reap it."""
        child = self._child
        if child is None:
            return
        self._alive = False
        with suppress(OSError):
            self._requests.close()
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        reader = self._reader
        if reader is not None and reader is not threading.current_thread():
            reader.join()
        with suppress(OSError):
            self._answers.close()
        self._child = None

    def kill(self) -> None:
        """End the child at once; whoever is blocked in `send` comes free."""
        child = self._child
        if child is not None:
            child.kill()

    def forget(self) -> None:
        """In a forked child: let go of the pipes, so that the writing process sees the end when its parent ends."""
        child, self._child, self._alive = self._child, None, False
        if child is None:
            return
        child.returncode = 0  # it is not ours to wait for
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def block_sigpipe() -> None:
    """In a thread that writes to a child: programs that let SIGPIPE kill them must not die of a child's death."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})


def search_path() -> list[str]:
    """Where this process imports from, such that it means the same in another folder."""
    return [os.path.abspath(os.fsdecode(entry)) for entry in sys.path]


def _environment() -> dict[str, str]:
    """The environment, with the way to this very ferret, if it is not installed."""
    home = str(Path(ferret.__file__).parent.parent)
    environment = dict(os.environ)
    if home not in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = home + (os.pathsep + before if before else "")
    return environment
