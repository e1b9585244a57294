"""Ordinary bilevel problems: a network, a loss, and right code written with torch.autograd alone.

λ = (log of the loss's weight, log of the weight decay), θ the network's parameters:
L_T = e^{λ₀} loss(net_θ(x)) + e^{λ₁} Σ‖θ‖²,  f = loss(net_θ(x′)).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.func import functional_call

from tests.conformance.ordinary.layers import LayerCase
from tests.conformance.ordinary.losses import LossCase

Theta = dict[str, Tensor]
STEPS, STEP_SIZE = 2, 0.1


@final
@dataclass(frozen=True, eq=False)
class OrdinaryProblem:
    """A problem as a user writes it.

    Attributes:
        inner: L_T.
        outer: f.
        lam: λ.
        theta0: θ⁰.
    """

    inner: Callable[[Tensor, Theta], Tensor]
    outer: Callable[[Tensor, Theta], Tensor]
    lam: Tensor
    theta0: Theta

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


def ordinary(
    layer: LayerCase, loss: LossCase, dtype: torch.dtype, seed: int = 0
) -> OrdinaryProblem:
    """The problem of a layer and a loss, a function of the seed."""
    generator = torch.Generator().manual_seed(seed)
    network = layer.build(seed, dtype)
    train, test = layer.inputs(generator, dtype), layer.inputs(generator, dtype)
    trained, tested = loss.make(generator, dtype), loss.make(generator, dtype)

    def scores(theta: Theta, inputs: Tensor) -> Tensor:
        result: Tensor = functional_call(network, theta, (inputs,))
        return result

    def inner(lam: Tensor, theta: Theta) -> Tensor:
        decay = torch.stack([value.square().sum() for value in theta.values()]).sum()
        return lam[0].exp() * trained(scores(theta, train)) + lam[1].exp() * decay

    def outer(lam: Tensor, theta: Theta) -> Tensor:
        return tested(scores(theta, test))

    theta0 = {name: value.detach().clone() for name, value in network.named_parameters()}
    return OrdinaryProblem(inner, outer, torch.tensor([0.1, -3.0], dtype=dtype), theta0)
