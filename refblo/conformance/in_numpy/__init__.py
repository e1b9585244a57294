"""Losses that are written in NumPy, as functions of torch that can be differentiated twice.

Complex steps and differences differentiate them (`functions`, `slopes`), trees of arrays become trees of
tensors (`arguments`), and what is done with them is the same for every library of arrays
(`refblo.conformance.converted`).
"""

from refblo.conformance.in_numpy.arguments import NumPyArrays, is_in_numpy

__all__ = ["NumPyArrays", "is_in_numpy"]
