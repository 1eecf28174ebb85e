"""Count the words of many texts in a pool of processes: one run, one file, and one tree across all of them.

    python examples/multiprocess.py --db trace.db
    ferret analyze trace.db --tree

A process of the pool joins the run when it starts. Which span a piece of work belongs to is an argument like any other:
`current_span_id()` here, `attached(...)` there. The processes are spawned, so nothing is inherited.
"""

from __future__ import annotations

import multiprocessing
import random
import re
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ferret import configure, get_profiler, measure

if TYPE_CHECKING:
    from collections.abc import Iterable

WORDS = [
    "badger",
    "ermine",
    "ferret",
    "fisher",
    "marten",
    "mink",
    "otter",
    "polecat",
    "sable",
    "stoat",
    "weasel",
    "wolverine",
]


# -- in the processes of the pool ----------------------------------------------------------------------------------


def join_run(db: Path, run_id: str) -> None:
    """What a process does first: record into the same file and run. Its profiler closes when it ends."""
    configure(db, run_id=run_id)


def count(text: str, parent: str | None) -> Counter[str]:
    """Count the words of one text, for a span of another process."""
    profiler = get_profiler()
    span = profiler.start("count text", tags={"characters": len(text)}, parent=parent)
    with profiler.attached(span):
        with measure("find words"):
            words = re.findall(r"\w+", text.lower())
        with measure("tally"):
            counted = Counter(words)
    span.annotate(words=counted.total())
    span.end()
    return counted


# -- in the process that has the work ------------------------------------------------------------------------------


@measure("count words")
def count_all(texts: Iterable[str], db: Path, processes: int) -> Counter[str]:
    """Hand the texts to a pool, and add up what comes back."""
    profiler = get_profiler()
    total: Counter[str] = Counter()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, join_run, (db, profiler.run_id)) as pool:
        parent = profiler.current_span_id()
        with measure("hand out"):
            jobs = [pool.submit(count, text, parent) for text in texts]
        for job in jobs:
            counted = job.result()
            with measure("add up"):
                total += counted
    return total


def make_texts(number: int) -> list[str]:
    """Texts that nobody wrote."""
    rng = random.Random(11)
    return [" ".join(rng.choices(WORDS, k=rng.randrange(5_000, 40_000))) for _ in range(number)]


def main(
    texts: Annotated[int, typer.Option(min=1, help="How many texts to count.")] = 16,
    processes: Annotated[int, typer.Option(min=1, help="How many processes to count them with.")] = 2,
    db: Annotated[Path | None, typer.Option(help="The file to record into; one in a new temporary folder.")] = None,
) -> None:
    """Count texts that are made for the purpose."""
    db = (db or Path(tempfile.mkdtemp(prefix="ferret-")) / "trace.db").absolute()
    with configure(db) as profiler:
        total = count_all(make_texts(texts), db, processes)
    report = profiler.close()
    word, times = total.most_common(1)[0]
    print(f"{total.total():,} words in {texts} texts; the commonest is {word!r}, {times:,} times")
    print(
        f"{report.written} spans of this process and those of the pool are in {db}, {report.lost} lost. To look at them:"
    )
    print(f"  ferret runs {db}")
    print(f"  ferret analyze {db} --tree")


if __name__ == "__main__":
    typer.run(main)
