"""`make bench`: ferret's own figures, each as a ratio to a floor that is measured in the same run.

Every measurement is a process of its own; the processes of a table take turns, so that a slow minute of the machine
slows all of them; what is shown is the median of the rounds. The result is kept in benchmarks/last.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

HERE = Path(__file__).parent
WRITERS = ("sync", "threaded", "bounded", "process")
PLAN: dict[str, tuple[str, tuple[str, ...]]] = {
    "cost": ("The caller's time for one span, as multiples of an empty `with`", WRITERS),
    "lag": ("Event-loop lag at 10,000 spans/s", ("untraced", *WRITERS)),
    "lag50k": ("Event-loop lag at 50,000 spans/s", ("untraced", "threaded", "process")),
    "drain": ("200,000 spans with two tags, recorded and on disk", WRITERS),
    "ending": ("1,000 tasks that end at once: the worst caller", ("all",)),
    "size": ("Bytes a span", ("threaded",)),
    "analyze": ("Reading so many million spans: by name, as a tree, the slowest traces", ("1", "10")),
}

type Figures = dict[str, dict[str, float]]


def probe(kind: str, writer: str) -> dict[str, float]:
    """One measurement."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "probe.py"), kind, writer],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{kind} {writer} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def import_time() -> dict[str, float]:
    """Milliseconds that `import ferret`, and `from ferret import Profiler`, take beyond the bare interpreter."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(9):
        for code in ("pass", "import ferret", "from ferret import Profiler"):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            found[code].append((time.perf_counter() - started) * 1e3)
    bare = statistics.median(found.pop("pass"))
    return {f"{code}, ms": statistics.median(times) - bare for code, times in found.items()}


def measure(kinds: list[str], rounds: int) -> dict[str, Figures]:
    """All tables, medians of the rounds."""
    results: dict[str, Figures] = {}
    with Progress(console=Console(stderr=True)) as progress:
        total = progress.add_task("measuring", total=sum(len(PLAN[kind][1]) for kind in kinds) * rounds)
        for kind in kinds:
            seen: dict[str, list[dict[str, float]]] = defaultdict(list)
            for _ in range(rounds):
                for writer in PLAN[kind][1]:
                    seen[writer].append(probe(kind, writer))
                    progress.advance(total)
            results[kind] = {
                writer: {name: statistics.median(one[name] for one in found) for name in found[0]}
                for writer, found in seen.items()
            }
    return results


def show(console: Console, title: str, figures: Figures) -> None:
    """One table: a line for each writer, a column for each figure."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in next(iter(figures.values())):
        table.add_column(name, justify="right")
    for writer, found in figures.items():
        table.add_row(writer, *(f"{value:,.0f}" if value >= 1000 else f"{value:.2f}" for value in found.values()))
    console.print(table)


def main() -> None:
    """Measure, show, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*PLAN, []], help=f"some of {', '.join(PLAN)}; all unless given")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, of which the median is shown")
    arguments = parser.parse_args()
    kinds = arguments.kinds or list(PLAN)
    results = measure(kinds, arguments.rounds)
    console = Console()
    for kind in kinds:
        show(console, PLAN[kind][0], results[kind])
    imports = import_time()
    console.print("Import:", ", ".join(f"{name} {value:.0f}" for name, value in imports.items()))
    machine = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}"
    kept = {"machine": machine, "rounds": arguments.rounds, "import": imports, **results}
    (HERE / "last.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
