"""Hash and compress the files of a folder in a pool of threads, and see which thread did what, and when.

    python examples/thread_pool.py --db trace.db
    ferret analyze trace.db --tree

Tasks know which span they were made in; the threads of a pool do not: `in_context` tells them. A file that is gone when
its turn comes fails, as an error of its span, and the others go on.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated

import typer

from ferret import configure, in_context, measure


def pack(source: Path, target: Path) -> tuple[str, int]:
    """What a thread does for a file: its digest, and how many bytes are left of it."""
    with measure("pack file", tags={"file": source.name}) as span:
        with measure("read"):
            data = source.read_bytes()
        with measure("hash"):
            digest = hashlib.sha256(data).hexdigest()
        with measure("compress"):
            packed = zlib.compress(data, level=9)
        with measure("write"):
            target.write_bytes(packed)
        span.annotate(bytes=len(data), packed=len(packed))
        return digest, len(packed)


@measure("pack folder")
def pack_folder(source: Path, target: Path, threads: int) -> tuple[dict[str, str], list[str]]:
    """The digests of all files, and the names of those that could not be packed."""
    with measure("list files"):
        files = sorted(path for path in source.iterdir() if path.is_file())
    (source / "07.log").unlink(missing_ok=True)  # somebody tidies up, just now
    digests, missing = {}, []
    with ThreadPoolExecutor(threads, thread_name_prefix="packer") as pool:
        work = in_context(pack)  # made here, inside the span that is to be the parent
        jobs = {pool.submit(work, path, target / f"{path.name}.z"): path.name for path in files}
        for job in as_completed(jobs):
            try:
                digests[jobs[job]], _ = job.result()
            except FileNotFoundError:
                missing.append(jobs[job])
    return digests, missing


def make_files(folder: Path, count: int) -> None:
    """Logs of a service that nobody wrote: a few hundred kB each, and some larger than others."""
    rng = random.Random(7)
    for number in range(count):
        lines = [
            f"{rng.randrange(10**6):>8} GET /users/{rng.randrange(500)} 200" for _ in range(rng.randrange(2000, 20_000))
        ]
        (folder / f"{number:02}.log").write_text("\n".join(lines), encoding="utf-8")


def main(
    files: Annotated[int, typer.Option(min=1, help="How many files to pack.")] = 24,
    threads: Annotated[int, typer.Option(min=1, help="How many threads to pack them with.")] = 4,
    db: Annotated[Path | None, typer.Option(help="The file to record into; one in a new temporary folder.")] = None,
) -> None:
    """Pack files that are made for the purpose."""
    db = db or Path(tempfile.mkdtemp(prefix="ferret-")) / "trace.db"
    with configure(db) as profiler, tempfile.TemporaryDirectory(prefix="ferret-files-") as folder:
        source, target = Path(folder, "source"), Path(folder, "packed")
        source.mkdir()
        target.mkdir()
        make_files(source, files)
        digests, missing = pack_folder(source, target, threads)
        print(
            f"packed {len(digests)} files with {threads} threads; gone before their turn: {', '.join(missing) or 'none'}"
        )
    report = profiler.close()
    print(f"{report.written} spans are in {db}, {report.lost} lost. To look at them:")
    print(f"  ferret analyze {db} --tree")
    print(f"  ferret analyze {db} --sort errors")


if __name__ == "__main__":
    typer.run(main)
