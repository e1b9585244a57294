"""Losses that are written in JAX, as functions of torch that can be differentiated any number of times.

JAX differentiates them (`functions`), pytrees become trees of tensors (`arguments`), and what is done with
them is the same for every library of arrays (`refblo.conformance.converted`).
"""

from refblo.conformance.in_jax.arguments import JAXArrays, is_in_jax

__all__ = ["JAXArrays", "is_in_jax"]
