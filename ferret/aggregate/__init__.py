"""Numbers over all spans of a run, added up over columns: a Python object per name, never one per span."""

from ferret.aggregate.chunks import NameIndex, failed
from ferret.aggregate.names import NameTotals, aggregate
from ferret.aggregate.percentiles import ACCURACY

__all__ = ["ACCURACY", "NameIndex", "NameTotals", "aggregate", "failed"]
