"""Monte Carlo arithmetic: what rounding does to a computation, seen by perturbing it."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.noise import Draws, Stream

SAFETY = 10.0
"""How many root-mean-square deviations of the replicas are reported as the error."""


def ulp(like: Tensor) -> float:
    """The spacing of the numbers just above 1 in the dtype of `like`."""
    return float(torch.finfo(like.dtype).eps)


@final
@dataclass(frozen=True)
class Perturbation:
    """Random relative perturbations of ulp size, as functions of (seed, step).

    Args:
        draws: the randomness.
        size: the largest relative perturbation; 0 for none.
        spare_first: leave the first row of every tensor alone: the run that the others are replicas of.
    """

    draws: Draws
    size: float
    spare_first: bool

    def __call__(self, step: int, *tensors: Float[Tensor, "..."]) -> tuple[Tensor, ...]:
        """The tensors, each entry x replaced by x (1 + size · ξ), ξ uniform on [−1, 1)."""
        if self.size == 0:
            return tensors
        sizes = [tensor.numel() for tensor in tensors]
        drawn = self.draws.uniform(Stream.ROUNDING, step, (sum(sizes),), -self.size, self.size)
        perturbed = []
        for tensor, part in zip(tensors, torch.split(drawn.to(tensors[0]), sizes), strict=True):
            factors = part.view(tensor.shape)
            if self.spare_first:
                factors[0] = 0
            perturbed.append(torch.addcmul(tensor, tensor, factors))
        return tuple(perturbed)


def deviation(runs: Float[Tensor, "runs p"]) -> float:
    """The root mean square, over the replicas, of the norm of their deviation from row 0."""
    squares = (runs[1:] - runs[0]).square().sum(dim=1)
    return float(squares.mean().sqrt())
