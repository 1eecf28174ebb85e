"""Numbers over all spans of a run, added up over columns: a Python object per name, never one per span."""

from ferret.analysis.chunks import NameIndex, failed
from ferret.analysis.names import NameTotals, aggregate
from ferret.analysis.percentiles import ACCURACY

__all__ = ["ACCURACY", "NameIndex", "NameTotals", "aggregate", "failed"]
