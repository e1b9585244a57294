"""Small networks in plain JAX, each with its twin in torch: functions of (parameters, x)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import jax
import torch
from jax import numpy as jnp
from torch import Tensor
from torch.nn import functional

Shapes = dict[str, tuple[int, ...]]


def _same(tree: Any) -> Any:
    return tree


@final
@dataclass(frozen=True)
class Network:
    """A network of 6 inputs and 3 outputs.

    Attributes:
        apply: (parameters, x) ↦ scores, in JAX.
        in_torch: the same in torch.
        shapes: of the parameters.
        held: the parameters by name ↦ what `apply` takes: a tree as a user of the library holds it.
        flat: the reverse.
    """

    apply: Callable[[Any, Any], Any]
    in_torch: Callable[[Any, Tensor], Tensor]
    shapes: Shapes
    held: Callable[[Any], Any] = _same
    flat: Callable[[Any], Any] = _same


def _attention(p: Any, x: Any) -> Any:
    tokens = x.reshape(x.shape[0], 2, 3)
    q, k, v = (tokens @ p[name] for name in ("q", "k", "v"))
    weights = jax.nn.softmax(q @ k.transpose(0, 2, 1), axis=-1)
    return (weights @ v).mean(1) @ p["o"]


def _attention_in_torch(p: Any, x: Tensor) -> Tensor:
    tokens = x.reshape(len(x), 2, 3)
    q, k, v = (tokens @ p[name] for name in ("q", "k", "v"))
    found: Tensor = ((q @ k.mT).softmax(-1) @ v).mean(1) @ p["o"]
    return found


def _recurrent(p: Any, x: Any) -> Any:
    def step(h: Any, column: Any) -> Any:
        return jnp.tanh(column[:, None] * p["i"] + h @ p["h"]), None

    first = jnp.zeros((x.shape[0], 3), x.dtype)
    return jax.lax.scan(step, first, x.T)[0] @ p["o"]


def _recurrent_in_torch(p: Any, x: Tensor) -> Tensor:
    h = x.new_zeros(len(x), 3)
    for column in x.T:
        h = (column[:, None] * p["i"] + h @ p["h"]).tanh()
    found: Tensor = h @ p["o"]
    return found


def _convolution(p: Any, x: Any) -> Any:
    features = jax.lax.conv_general_dilated(x[:, None, :], p["w"], (1,), "SAME")
    return jax.nn.gelu(features).mean(-1) @ p["o"]


def _convolution_in_torch(p: Any, x: Tensor) -> Tensor:
    features = functional.conv1d(x[:, None, :], p["w"], padding="same")
    found: Tensor = functional.gelu(features, approximate="tanh").mean(-1) @ p["o"]
    return found


def _normalised(p: Any, x: Any) -> Any:
    h = x @ p["w"]
    h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5)
    return jax.nn.silu(h * p["g"]) @ p["o"]


def _normalised_in_torch(p: Any, x: Tensor) -> Tensor:
    found: Tensor = functional.silu(functional.layer_norm(x @ p["w"], (4,)) * p["g"]) @ p["o"]
    return found


def _residual_in_torch(p: Any, x: Tensor) -> Tensor:
    found: Tensor = (x + functional.gelu(x @ p["w"], approximate="tanh")) @ p["o"]
    return found


PLAIN = {
    "linear": Network(lambda p, x: x @ p["o"], lambda p, x: x @ p["o"], {"o": (6, 3)}),
    "perceptron": Network(
        lambda p, x: jnp.tanh(x @ p["w"]) @ p["o"],
        lambda p, x: torch.tanh(x @ p["w"]) @ p["o"],
        {"w": (6, 4), "o": (4, 3)},
    ),
    "relu": Network(
        lambda p, x: jax.nn.relu(x @ p["w"] + p["b"]) @ p["o"],
        lambda p, x: torch.relu(x @ p["w"] + p["b"]) @ p["o"],
        {"w": (6, 4), "b": (4,), "o": (4, 3)},
    ),
    "gelu residual": Network(
        lambda p, x: (x + jax.nn.gelu(x @ p["w"])) @ p["o"],
        _residual_in_torch,
        {"w": (6, 6), "o": (6, 3)},
    ),
    "layer norm": Network(_normalised, _normalised_in_torch, {"w": (6, 4), "g": (4,), "o": (4, 3)}),
    "convolution": Network(_convolution, _convolution_in_torch, {"w": (2, 1, 3), "o": (2, 3)}),
    "recurrent": Network(_recurrent, _recurrent_in_torch, {"i": (3,), "h": (3, 3), "o": (3, 3)}),
    "attention": Network(
        _attention, _attention_in_torch, {"q": (3, 2), "k": (3, 2), "v": (3, 2), "o": (2, 3)}
    ),
    "embedding": Network(
        lambda p, x: p["e"][(x[:, :2] > 0).astype(int)].sum(1) @ p["o"],
        lambda p, x: p["e"][(x[:, :2] > 0).long()].sum(1) @ p["o"],
        {"e": (2, 3), "o": (3, 3)},
    ),
    "shared weights": Network(
        lambda p, x: jnp.tanh(jnp.tanh(x @ p["w"]) @ p["w"]) @ p["o"],
        lambda p, x: torch.tanh(torch.tanh(x @ p["w"]) @ p["w"]) @ p["o"],
        {"w": (6, 6), "o": (6, 3)},
    ),
}
