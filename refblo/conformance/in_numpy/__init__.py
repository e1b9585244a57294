"""Losses that are written in NumPy, as functions of torch that can be differentiated any number of times.

Complex steps and differences differentiate them (`functions`, `slopes`), the arguments of `hypergradcheck`
are converted (`arguments`), and everything else of a check is the same as for losses in torch.
"""

from refblo.conformance.in_numpy.arguments import InNumPy, is_in_numpy
from refblo.conformance.in_numpy.check import numpy_report

__all__ = ["InNumPy", "is_in_numpy", "numpy_report"]
