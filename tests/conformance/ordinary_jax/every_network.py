"""All networks: those in plain JAX, and those in flax where flax is installed (`make peers` does)."""

from importlib.util import find_spec

from tests.conformance.ordinary_jax.networks import PLAIN

NETWORKS = dict(PLAIN)
"""By name."""

if find_spec("flax") is not None:
    from tests.conformance.ordinary_jax.flax_networks import FLAX_NETWORKS

    NETWORKS |= FLAX_NETWORKS
