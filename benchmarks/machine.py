"""What a process has used so far, as the kernel counts it, and what machine this is."""

from __future__ import annotations

import gc
import os
import platform
import resource
import shutil
import subprocess
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def peak_mb() -> float:
    """The most memory that this process has had at once, in MB."""
    try:
        with open("/proc/self/status") as status:  # not ru_maxrss: a child inherits that from who started it
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def children_cpu() -> float:
    """Seconds of CPU of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def output(command: Sequence[str]) -> str:
    """What a command prints.

    Raises:
        RuntimeError: it failed; the message is the last line of what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
    return done.stdout


@contextmanager
def collector_pauses() -> Iterator[list[float]]:
    """How long each collection of Python's garbage collector stopped the program, in seconds."""
    pauses: list[float] = []
    begun = 0.0

    def note(phase: str, _: dict[str, int]) -> None:
        nonlocal begun
        if phase == "start":
            begun = perf_counter()
        else:
            pauses.append(perf_counter() - begun)

    gc.callbacks.append(note)
    try:
        yield pauses
    finally:
        gc.callbacks.remove(note)


def facts() -> dict[str, str]:
    """For whoever reads the figures: processor, cores, memory, system, Python. No name that tells whose machine it is."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "web load by": "wrk" if shutil.which("wrk") else "benchmarks/load.py",
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as cpus:
            found = next(line.partition(":")[2].strip() for line in cpus if line.startswith("model name"))
    except (OSError, StopIteration):
        found = ""
    return f"{found or 'unknown'} ({platform.machine()})"
