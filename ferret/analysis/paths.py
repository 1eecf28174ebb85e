"""Paths of names, numbered, with their totals: what the merged call tree consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ferret.analysis.tree import PathNode

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = 0
"""The path above all roots."""
DEEPER: Final = -1
"""Stands for all paths that are deeper than somebody wants to see."""

COUNT, TOTAL, ERRORS, SELF = range(4)


class Paths:
    """A path is a name below another path. Not thread-safe.

    Attributes:
        totals: of each path (a column) its spans, their nanoseconds, their errors, and the nanoseconds of their own.
        depth: how many names each path has.
    """

    def __init__(self) -> None:
        self.totals = np.zeros((4, 64), dtype=np.int64)
        self.depth = np.zeros(64, dtype=np.int64)
        self._below: list[dict[int, int]] = [{}]
        self._above = [DEEPER]
        self._free: list[int] = []

    def below(self, above: int, name: int) -> int:
        """The path of that name below that path; made, if there is none."""
        found = self._below[above].get(name)
        if found is None:
            found = self._below[above][name] = self._new(above, int(self.depth[above]) + 1)
        return found

    def apart(self) -> int:
        """A new path that is below none, until it is moved."""
        return self._new(DEEPER, 0)

    def is_below(self, path: int, above: int) -> bool:
        """Whether the first path is the second, or leads through it."""
        while path not in (above, DEEPER):
            path = self._above[path]
        return path == above

    def move(self, source: int, target: int) -> dict[int, int]:
        """Move all that is below `source` to below `target`; what is there under the same names takes it in.

        Returns:
            Of each path that is no more, what took it in. `DEEPER` takes everything in.
        """
        gone: dict[int, int] = {}
        todo = [(source, target)]
        while todo:
            old, new = todo.pop()
            gone[old] = new
            for name, path in self._below[old].items():
                other = DEEPER if new == DEEPER else self._below[new].get(name)
                if other is None:
                    self._below[new][name] = path
                    self._above[path] = new
                    self._deepen(path)
                    continue
                if other != DEEPER:
                    self.totals[:, other] += self.totals[:, path]
                todo.append((path, other))
            self._below[old] = {}
            self._free.append(old)
        return gone

    def nodes(self, names: list[str], depth: int | None) -> list[PathNode]:
        """The roots, with what is below them as far as `depth`; the longest first."""
        top = PathNode("", 0, 0.0, 0)
        todo = [(top, ROOT, 0)]
        while todo:
            node, path, level = todo.pop()
            if level == depth:
                continue
            for name, below in self._below[path].items():
                count, total, errors, own = self.totals[:, below].tolist()
                child = PathNode(names[name], count, total / 1e9, errors, self_duration=own / 1e9)
                node.children.append(child)
                todo.append((child, below, level + 1))
            node.children.sort(key=lambda one: one.total_duration, reverse=True)
        return top.children

    def _new(self, above: int, depth: int) -> int:
        if self._free:
            path = self._free.pop()
        else:
            path = len(self._below)
            self._below.append({})
            self._above.append(above)
        if path == len(self.depth):
            self.depth = np.concatenate([self.depth, np.zeros(path, dtype=np.int64)])
            self.totals = np.hstack([self.totals, np.zeros((4, path), dtype=np.int64)])
        self._above[path] = above
        self.depth[path] = depth
        self.totals[:, path] = 0
        return path

    def _deepen(self, top: int) -> None:
        for path in self._under(top):
            self.depth[path] = self.depth[self._above[path]] + 1

    def _under(self, top: int) -> Iterator[int]:
        """The path and all below it, each after the one that it is below."""
        todo = [top]
        while todo:
            path = todo.pop()
            yield path
            todo += self._below[path].values()
