"""Monte Carlo arithmetic (Parker 1997): what rounding does to a computation, seen by perturbing it.

A replica of a computation has its numbers replaced by x (1 + ulp · ξ), ξ uniform on [−1, 1), before and
after every evaluation (`Perturbation`) or at every operation (`Roundings`). Replicas differ from the run
itself by about what rounding makes it differ from the truth.
"""

from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.noise import Draws, Stream

SAFETY = 10.0
"""How many root-mean-square deviations of the replicas are reported as the error."""

_BLOCK = 2**15  # how many numbers are drawn at once, at most
_STRIDE = 7919  # a prime, so that the places in a block come round only after a block of calls
_TENSORS = 4  # at least as many as are perturbed at once


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
        spared: how many rows of every tensor are left alone, the first ones: the runs that the others are
            replicas of.
    """

    draws: Draws
    size: float
    spared: int = 0
    _banks: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, step: int, *tensors: Float[Tensor, "..."]) -> tuple[Tensor, ...]:
        """The tensors, each entry x replaced by x (1 + size · ξ), ξ uniform on [−1, 1)."""
        if self.size == 0:
            return tensors
        sizes = [tensor.numel() for tensor in tensors]
        if sum(sizes) > _BLOCK:
            return self._large(step, tensors)
        drawn = self.draws.uniform(Stream.ROUNDING, step, (sum(sizes),), -self.size, self.size)
        perturbed = []
        for tensor, part in zip(tensors, torch.split(drawn.to(tensors[0]), sizes), strict=True):
            factors = part.view(tensor.shape)
            if self.spared:
                factors[: self.spared] = 0
            perturbed.append(torch.addcmul(tensor, tensor, factors))
        return tuple(perturbed)

    def _large(self, step: int, tensors: tuple[Float[Tensor, "..."], ...]) -> tuple[Tensor, ...]:
        """Numbers drawn once, from another place in them for each step and tensor: drawing takes long."""
        size = max(tensor.numel() for tensor in tensors)
        bank = self._banks.get(size)
        if bank is None:
            bank = _uniform(self.draws, step, size + _BLOCK, self.size).to(tensors[0])
            self._banks[size] = bank
        perturbed = []
        for position, tensor in enumerate(tensors):
            first = (step * _TENSORS + position) * _STRIDE % _BLOCK
            factors = bank[first : first + tensor.numel()].view(tensor.shape)
            moved = torch.addcmul(tensor, tensor, factors)
            if self.spared:
                moved[: self.spared] = tensor[: self.spared]
            perturbed.append(moved)
        return tuple(perturbed)


@final
class Roundings:
    """Relative roundings, uniform on [−ulp, ulp): a function of (draws, number, calls so far).

    Two entries of a tensor are uncorrelated up to the size of a block, which is all that the size of a sum
    of roundings depends on.

    Args:
        draws: the randomness.
        number: of this sequence: those with different numbers are independent.
        ulp: the largest rounding.
        inward: round toward zero only, uniform on [−ulp, 0): what lies between −1 and 1 stays there, as
            probabilities must.
    """

    def __init__(self, draws: Draws, number: int, ulp: float, *, inward: bool = False) -> None:
        highest = 1.0 if inward else 1 + ulp
        block = draws.uniform(Stream.ROUNDING, number, (_BLOCK,), 1 - ulp, highest)
        self._factors = torch.cat([block, block])
        self._calls = 0

    def rounded(self, tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The tensor with each entry rounded by an amount of its own."""
        self._calls += 1
        first = self._calls * _STRIDE % _BLOCK
        size = tensor.numel()
        factors = self._factors[first : first + min(size, _BLOCK)]
        if size > _BLOCK:
            factors = factors.repeat(-(-size // _BLOCK))[:size]
        return tensor * factors.to(tensor).view(tensor.shape)


def _uniform(draws: Draws, step: int, size: int, bound: float) -> Float[Tensor, " size"]:
    """Uniform numbers on [−bound, bound); of a large vector, the same block with other signs again and again.

    Drawing as many numbers as there are would take longer than the run. Two entries are still uncorrelated.
    """
    block = draws.uniform(Stream.ROUNDING, step, (_BLOCK,), -bound, bound)
    tiles = -(-size // _BLOCK)
    # The block's own numbers are as good a source of signs as any, and cost nothing.
    signs = torch.where(block[:tiles].roll(1) < 0, -1.0, 1.0)
    return (signs[:, None] * block).reshape(-1)[:size]


def deviation(runs: Float[Tensor, "runs p"]) -> float:
    """The root mean square, over the replicas, of the norm of their deviation from row 0."""
    squares = (runs[1:] - runs[0]).square().sum(dim=1)
    return float(squares.mean().sqrt())
