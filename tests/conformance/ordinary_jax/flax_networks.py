"""Small networks in flax, written as its users write them, each with its twin in torch.

θ is what they train: the dict of `params` of a linen module (in the second one a FrozenDict), the `nnx.State`
of an nnx module. Batch normalisation uses and updates the statistics of the batch (`mutable`), dropout draws
by a key that is given (`rngs`).
"""

from typing import Any

import jax
import numpy as np
import torch
from flax import linen, nnx
from flax.core import freeze, unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import numpy as jnp
from torch import Tensor
from torch.nn import functional

from tests.conformance.ordinary_jax.networks import Network

Flat = dict[str, Any]
Nested: Any = unflatten_dict
Flattened: Any = flatten_dict


class Normalised(linen.Module):  # type: ignore[misc]  # flax has no types for a strict check
    """A hidden layer with batch normalisation."""

    @linen.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: Any, *, train: bool) -> Any:
        """The scores."""
        x = linen.Dense(4)(x)
        x = linen.BatchNorm(use_running_average=not train)(x)
        return linen.Dense(3)(jnp.tanh(x))


class Dropped(linen.Module):  # type: ignore[misc]
    """A hidden layer with dropout."""

    @linen.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: Any, *, train: bool) -> Any:
        """The scores."""
        x = jnp.tanh(linen.Dense(4)(x))
        x = linen.Dropout(0.25, deterministic=not train)(x)
        return linen.Dense(3)(x)


class Stated(nnx.Module):  # type: ignore[misc]
    """A hidden layer with layer normalisation, in nnx."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        """With parameters that are replaced."""
        self.first = nnx.Linear(6, 4, rngs=rngs)
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.last = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """The scores."""
        return self.last(nnx.gelu(self.norm(self.first(x))))


def nested(flat: Flat) -> Any:
    """The dict of parameters that linen takes."""
    return Nested(flat, sep=".")


def flattened(tree: Any) -> Flat:
    """The reverse."""
    found: Flat = Flattened(unfreeze(tree), sep=".")
    return found


STATISTICS = {"BatchNorm_0": {"mean": np.zeros(4, np.float32), "var": np.ones(4, np.float32)}}


def _normalised(params: Any, x: Any) -> Any:
    variables = {"params": params, "batch_stats": STATISTICS}
    scores, _ = Normalised().apply(variables, x, train=True, mutable=["batch_stats"])
    return scores


def _normalised_in_torch(p: Flat, x: Tensor) -> Tensor:
    h = x @ p["Dense_0.kernel"] + p["Dense_0.bias"]
    h = functional.batch_norm(
        h, None, None, p["BatchNorm_0.scale"], p["BatchNorm_0.bias"], training=True, eps=1e-5
    )
    found: Tensor = h.tanh() @ p["Dense_1.kernel"] + p["Dense_1.bias"]
    return found


def _dropped(params: Any, x: Any) -> Any:
    rngs = {"dropout": jax.random.PRNGKey(7)}
    return Dropped().apply({"params": params}, x, train=True, rngs=rngs)


def _mask(rows: int, dtype: Any) -> Any:
    """What dropout multiplies by, in this precision of JAX, where its input is tanh(1) everywhere."""
    shapes = {"Dense_0.kernel": (6, 4), "Dense_1.kernel": (4, 3), "Dense_1.bias": (3,)}
    params = {name: jnp.zeros(shape, dtype) for name, shape in shapes.items()}
    _, kept = Dropped().apply(
        {"params": nested(params | {"Dense_0.bias": jnp.ones(4, dtype)})},
        jnp.zeros((rows, 6), dtype),
        train=True,
        rngs={"dropout": jax.random.PRNGKey(7)},
        capture_intermediates=lambda module, _: isinstance(module, linen.Dropout),
        mutable=["intermediates"],
    )
    (found,) = jax.tree.leaves(kept)
    return np.where(np.asarray(found) > 0, 1 / 0.75, 0.0)


def _dropped_in_torch(p: Flat, x: Tensor) -> Tensor:
    mask = torch.as_tensor(_mask(len(x), str(x.dtype).removeprefix("torch."))).to(x)
    h = (x @ p["Dense_0.kernel"] + p["Dense_0.bias"]).tanh() * mask
    found: Tensor = h @ p["Dense_1.kernel"] + p["Dense_1.bias"]
    return found


_GRAPH, _ = nnx.split(Stated(nnx.Rngs(0)))


def _state(flat: Flat) -> Any:
    """The State with these arrays."""
    paths = [(tuple(name.split(".")), value) for name, value in flat.items()]
    return nnx.from_flat_state([(path, nnx.Param(value)) for path, value in paths])


def _of_state(state: Any) -> Flat:
    """The reverse."""
    return {".".join(path): each[...] for path, each in nnx.to_flat_state(state)}


def _stated(state: Any, x: Any) -> Any:
    return nnx.merge(_GRAPH, state)(x)


def _stated_in_torch(p: Flat, x: Tensor) -> Tensor:
    h = x @ p["first.kernel"] + p["first.bias"]
    h = functional.layer_norm(h, (4,), p["norm.scale"], p["norm.bias"], eps=1e-6)
    h = functional.gelu(h, approximate="tanh")
    found: Tensor = h @ p["last.kernel"] + p["last.bias"]
    return found


FLAX_NETWORKS = {
    "flax BatchNorm": Network(
        _normalised,
        _normalised_in_torch,
        {
            "BatchNorm_0.bias": (4,),
            "BatchNorm_0.scale": (4,),
            "Dense_0.bias": (4,),
            "Dense_0.kernel": (6, 4),
            "Dense_1.bias": (3,),
            "Dense_1.kernel": (4, 3),
        },
        nested,
        flattened,
    ),
    "flax dropout": Network(
        _dropped,
        _dropped_in_torch,
        {
            "Dense_0.bias": (4,),
            "Dense_0.kernel": (6, 4),
            "Dense_1.bias": (3,),
            "Dense_1.kernel": (4, 3),
        },
        lambda flat: freeze(nested(flat)),
        flattened,
    ),
    "flax nnx": Network(
        _stated,
        _stated_in_torch,
        {
            "first.bias": (4,),
            "first.kernel": (6, 4),
            "last.bias": (3,),
            "last.kernel": (4, 3),
            "norm.bias": (4,),
            "norm.scale": (4,),
        },
        _state,
        _of_state,
    ),
}
