"""Trees of spans: each span as a node, or all the calls of one path merged into one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ferret.analysis.families import parents_of
from ferret.models import SpanModel, TraceNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ferret.packing import Int64
    from ferret.segment import Segment


__all__ = ["PathNode", "build_trees", "parents_of", "span_models"]


@dataclass
class PathNode:
    """All spans of one name under one path of names, taken together. Durations are in seconds.

    Children that ran side by side may add up to more than their parent.
    """

    name: str
    count: int
    total_duration: float
    error_count: int
    children: list[PathNode] = field(default_factory=list)
    """The longest in total first."""
    self_duration: float = 0.0
    """In the spans themselves, and in none of their children on the same process, thread and asyncio task."""


def span_models(segment: Segment) -> Iterator[SpanModel]:
    """The segment's spans, each as a model."""
    for span in segment:
        yield SpanModel.model_validate(msgspec.structs.asdict(span))


def build_trees(segments: Iterable[Segment]) -> list[TraceNode]:
    """Each span as a node under its parent; a span whose parent is not among them is a root.

    Roots and children come in the order in which they started. Every span is there exactly once, whatever its
    ids say: of two spans with one id the first has the children, and in a circle of parents one is a root.
    """
    nodes: list[TraceNode] = []
    kept: list[tuple[Int64, ...]] = []
    for segment in segments:
        nodes += map(TraceNode, span_models(segment))
        kept.append((segment.span_id, segment.parent_id, segment.start_ns))
    if not nodes:
        return []
    span_id, parent_id, start_ns = (np.concatenate(column) for column in zip(*kept, strict=True))
    above = parents_of(span_id, parent_id)
    order = np.lexsort((span_id, start_ns))
    roots: list[TraceNode] = []
    for index, parent in zip(order.tolist(), above[order].tolist(), strict=True):
        siblings = nodes[parent].children if parent >= 0 else roots
        siblings.append(nodes[index])
    return roots
