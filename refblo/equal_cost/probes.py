"""Probes: identities on λ and θ that count the derivatives taken through a loss, from outside.

A probe on θ is an identity whose first backward pass is one gradient; a backward pass through that one is one
product with H and one with C. (It goes through the identity once more on its way, which is not another
gradient.) So reverse mode counts T gradients and T of each product, as it does here. A method for the
implicit hypergradient asks for the two apart: for it a pass that arrives at θ again is a product with H, and
one that arrives at a probe on λ is one with C.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from refblo.types import Loss


@final
@dataclass
class Tally:
    """Derivatives of one loss that were counted.

    Attributes:
        once: probes on θ that were passed backward.
        twice: backward passes through such a pass.
        at_theta: products that arrived at θ again.
        at_lam: products that arrived at λ.
    """

    once: int = 0
    twice: int = 0
    at_theta: int = 0
    at_lam: int = 0


@final
@dataclass
class _Call:
    """One evaluation of a loss.

    Attributes:
        tally: of the loss.
        passed: whether a gradient was taken.
        theta_due: whether a backward pass through it is under way that has not been at θ.
        lam_due: whether a backward pass through it is under way that has not been at λ.
    """

    tally: Tally
    passed: bool = False
    theta_due: bool = False
    lam_due: bool = False


class _Probe(torch.autograd.Function):
    """The identity; a subclass says what its backward pass counts."""

    @staticmethod
    def forward(tensor: Tensor, call: _Call) -> Tensor:  # noqa: ARG004
        """The same numbers."""
        return tensor.view_as(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, _Call], output: Tensor) -> None:  # noqa: ARG004
        """Remember where to count."""
        ctx.call = inputs[1]


class _ThetaProbe(_Probe):
    """The identity on θ; counts its backward passes."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Count the first pass and what comes back from a later one, and pass on."""
        call: _Call = ctx.call
        call.tally.at_theta += 1 if call.theta_due else 0
        call.tally.once += 0 if call.passed else 1
        call.passed, call.theta_due = True, False
        passed: Tensor = _Again.apply(gradients[0], call)  # type: ignore[no-untyped-call]  # torch's own
        return passed, None


class _Again(_Probe):
    """The identity on a gradient; counts its backward passes."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Count, and pass on."""
        call: _Call = ctx.call
        call.tally.twice += 1
        call.theta_due = call.lam_due = True
        return gradients[0], None


class _LamProbe(_Probe):
    """The identity on λ; counts the backward passes of a gradient that arrive there."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Count, and pass on."""
        call: _Call = ctx.call
        call.tally.at_lam += 1 if call.lam_due else 0
        call.lam_due = False
        return gradients[0], None


def probed(loss: Loss, tally: Tally) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The loss with a probe on each of its two vectors, counted in `tally`."""

    def counted(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
        call = _Call(tally)
        at_lam: Tensor = _LamProbe.apply(lam, call)  # type: ignore[no-untyped-call]  # torch's own
        at_theta: Tensor = _ThetaProbe.apply(theta, call)  # type: ignore[no-untyped-call]  # likewise
        return loss(at_lam, at_theta, batch)

    return counted
