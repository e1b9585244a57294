"""All methods on one problem at equal cost, and what one of them costs."""

from refblo.equal_cost.methods import METHODS, Method
from refblo.equal_cost.run import MethodComparison, Point, compare_methods, truth_of
from refblo.equal_cost.targets import Target, target

__all__ = [
    "METHODS",
    "Method",
    "MethodComparison",
    "Point",
    "Target",
    "compare_methods",
    "target",
    "truth_of",
]
