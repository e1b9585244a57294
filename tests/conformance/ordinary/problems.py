"""Ordinary bilevel problems: a network, a loss, and right code written with torch.autograd alone.

λ = (log of the loss's weight, log of the weight decay, a shift of each column of scores), and with
z = net_θ(x) + shift:  L_T = e^{λ₀} loss(z) + e^{λ₁} Σ‖θ‖²,  f = loss(net_θ(x′) + shift / 2).
θ is all parameters of the network, or those of its last layer, the head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from refblo.rules import Rule
from tests.conformance.ordinary.layers import LayerCase
from tests.conformance.ordinary.losses import LossCase
from tests.conformance.plants import Problem

Theta = dict[str, Tensor]
STEPS, STEP_SIZE = 2, 0.1
SECOND_BIAS = "second bias"


@final
class Trained(Enum):
    """What θ is."""

    NETWORK = "network"
    HEAD = "head"
    DOUBLED_HEAD = "head with two biases"
    """Only the sum of the two is used: the minimiser is not isolated."""


@final
@dataclass(frozen=True, eq=False)
class OrdinaryProblem:
    """A problem as a user writes it.

    Attributes:
        inner: L_T, of (lam, theta) or of (lam, theta, inputs).
        outer: f, likewise.
        lam: λ.
        theta0: θ⁰.
        inputs: draws other inputs for the network.
    """

    inner: Callable[..., Tensor]
    outer: Callable[..., Tensor]
    lam: Tensor
    theta0: Theta
    inputs: Callable[[torch.Generator], Tensor]

    def hypergradient(self, lam: Tensor) -> Tensor:
        """The unrolled hypergradient by reverse mode, as a user writes it."""
        lam = lam.detach().clone().requires_grad_()
        theta = {name: value.clone().requires_grad_() for name, value in self.theta0.items()}
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            for _ in range(STEPS):
                loss = self.inner(lam, theta)
                slopes = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
                pairs = zip(theta.items(), slopes, strict=True)
                theta = {name: value - STEP_SIZE * slope for (name, value), slope in pairs}
            (gradient,) = torch.autograd.grad(self.outer(lam, theta), lam)
        return gradient

    def tree(self, vector: Tensor) -> Theta:
        """θ of a flat vector."""
        pieces = torch.split(vector, [value.numel() for value in self.theta0.values()])
        pairs = zip(self.theta0.items(), pieces, strict=True)
        return {name: piece.reshape(value.shape) for (name, value), piece in pairs}

    def flat(self, **changes: Any) -> Problem:
        """The same problem on flat vectors, with the changes that are given."""

        def inner(lam: Tensor, theta: Tensor, batch: Tensor | None = None) -> Tensor:
            return self.inner(lam, self.tree(theta), batch)

        def outer(lam: Tensor, theta: Tensor, batch: Tensor | None = None) -> Tensor:
            return self.outer(lam, self.tree(theta), batch)

        theta0 = torch.cat([value.reshape(-1) for value in self.theta0.values()])
        shapes = tuple(tuple(value.shape) for value in self.theta0.values())
        made: dict[str, Any] = {"rule": Rule(STEP_SIZE), "shapes": shapes, **changes}
        return Problem(inner, outer, self.lam, theta0, **made)


def ordinary(
    layer: LayerCase,
    loss: LossCase,
    dtype: torch.dtype,
    seed: int = 0,
    trained: Trained = Trained.NETWORK,
) -> OrdinaryProblem:
    """The problem of a layer and a loss, a function of the seed."""
    generator = torch.Generator().manual_seed(seed)
    network = layer.build(seed, dtype).requires_grad_(requires_grad=False)
    train, test = layer.inputs(generator, dtype), layer.inputs(generator, dtype)
    fitted, tested = loss.make(generator, dtype), loss.make(generator, dtype)

    def inner(lam: Tensor, theta: Theta, inputs: Tensor | None = None) -> Tensor:
        values = _merged(theta)
        z = _scores(network, values, train if inputs is None else inputs) + lam[2:]
        decay = torch.stack([value.square().sum() for value in values.values()]).sum()
        return lam[0].exp() * fitted(z) + lam[1].exp() * decay

    def outer(lam: Tensor, theta: Theta, inputs: Tensor | None = None) -> Tensor:
        z = _scores(network, _merged(theta), test if inputs is None else inputs)
        return tested(z + lam[2:] / 2)

    parameters = {name: value.detach().clone() for name, value in network.named_parameters()}
    if trained is not Trained.NETWORK:
        parameters = dict(list(parameters.items())[-2:])  # of the last layer: weight and bias
    if trained is Trained.DOUBLED_HEAD:
        parameters[SECOND_BIAS] = torch.zeros_like(list(parameters.values())[-1])
    lam = torch.tensor([0.1, -3.0, 0.2, -0.1, 0.3], dtype=dtype)
    return OrdinaryProblem(inner, outer, lam, parameters, lambda g: layer.inputs(g, dtype))


def _merged(theta: Theta) -> Theta:
    """The parameters that the network knows: a second bias is added to the first."""
    if SECOND_BIAS not in theta:
        return theta
    values = {name: value for name, value in theta.items() if name != SECOND_BIAS}
    last = list(values)[-1]
    return {**values, last: values[last] + theta[SECOND_BIAS]}


def _scores(network: nn.Module, theta: Theta, inputs: Tensor) -> Tensor:
    result: Tensor = functional_call(network, theta, (inputs,))
    return result
