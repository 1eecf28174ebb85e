"""One measurement in a process of its own: `python benchmarks/probe.py KIND SUBJECT OPTIONS`, which prints JSON.

Runs in the environment of the subject, so it may use nothing but the standard library and what the subject brings. The
folder above must not be on the path: in ferret-io's environment `import ferret` has to find ferret-io.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path


def make_importable() -> None:
    """`import benchmarks`, without the rest of the repository."""
    here = Path(__file__).resolve().parent
    sys.path.remove(str(here))
    spec = importlib.util.spec_from_file_location(
        "benchmarks", here / "__init__.py", submodule_search_locations=[str(here)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["benchmarks"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


def main(kind: str, subject: str, options: str) -> None:
    """Measure, and print the figures as the last line."""
    make_importable()
    from benchmarks.peers import peer

    module = importlib.import_module(f"benchmarks.kinds.{kind}")
    with tempfile.TemporaryDirectory(prefix="ferret-bench-", ignore_cleanup_errors=True) as folder:
        figures = module.probe(peer(subject), Path(folder), **json.loads(options))
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # what a peer does at exit is not measured, and may take long
