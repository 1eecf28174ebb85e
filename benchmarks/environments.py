"""A virtual environment for each peer, made once under benchmarks/.venvs: their needs conflict, and what one of them adds
to every import (Logfire a plugin of pydantic's, for one) must not be measured as another's.

The ranges are those of the extra `bench` in pyproject.toml; requirements that cannot stand there are the adapter's. The
programs that are measured, such as aiohttp, have the same version everywhere: ferret's.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.peers.base import Peer

HERE = Path(__file__).parent
VENVS = HERE / ".venvs"
PROGRAMS = ("aiohttp", "docutils", "pygments")
"""What the measured services and programs use."""
SECONDS = 15
"""About how long one takes to make."""


class UnavailableError(Exception):
    """The environment cannot be made; the message is for a table."""


def python(peer: Peer) -> str:
    """The interpreter of the peer's environment, which is made if it is not there.

    Raises:
        UnavailableError: it could not be made.
    """
    if peer.environment is None:
        return sys.executable
    folder = VENVS / peer.environment
    found = folder / "bin" / "python"
    if not is_ready(peer):
        _make(folder, found, requirements(peer))
    return str(found)


def is_ready(peer: Peer) -> bool:
    """Whether there is nothing to install."""
    if peer.environment is None:
        return True
    ready = VENVS / peer.environment / "ready.txt"
    return ready.is_file() and ready.read_text() == "\n".join(requirements(peer))


def requirements(peer: Peer) -> list[str]:
    """What its environment holds."""
    ranges = _extra()
    programs = [f"{name}=={found}" for name in PROGRAMS if (found := _version(name))]
    return [*(ranges.get(name, name) for name in peer.distributions), *programs, f"# {sys.version}"]


def versions(peers: list[Peer]) -> dict[str, str]:
    """The version of each distribution that is measured."""
    found = {name: _version(name) for name in ("ferret-trace", "beaver-db", *PROGRAMS)}
    for peer in peers:
        if peer.environment is not None and is_ready(peer):
            names = [re.split(r"[<>=!~ ]", name)[0] for name in peer.distributions]
            code = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
            done = subprocess.run([python(peer), "-c", code, *names], capture_output=True, text=True, check=False)
            for name, one in zip(names, done.stdout.split(), strict=False):
                found[f"{name} for {peer.environment}" if name in found else name] = one
    return {name: one for name, one in found.items() if one}


def _make(folder: Path, interpreter: Path, needs: list[str]) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(interpreter)]
    wanted = [need for need in needs if not need.startswith("#")]
    for command in (
        [sys.executable, "-m", "venv", "--without-pip", "--clear", str(folder)],
        [*pip, "install", "--quiet", *wanted],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
            raise UnavailableError(f"could not be installed: {said[-1].strip()}")
    (folder / "ready.txt").write_text("\n".join(needs))


def _extra() -> dict[str, str]:
    """The extra `bench`: each requirement by its distribution's name."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: list[str] = project["optional-dependencies"].get("bench", [])
    return {re.split(r"[<>=!~ ]", line)[0]: line for line in found}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
