"""Losses that are written in JAX, as functions of torch that can be differentiated any number of times.

JAX differentiates them (`functions`), the arguments of `hypergradcheck` are converted (`arguments`), and
everything else of a check is the same as for losses in torch.
"""

from refblo.conformance.in_jax.arguments import InJAX, is_in_jax
from refblo.conformance.in_jax.check import jax_report

__all__ = ["InJAX", "is_in_jax", "jax_report"]
