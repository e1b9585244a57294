"""Random roundings for many tensors from one block of random numbers."""

from typing import final

import torch
from torch import Tensor

from refblo.noise import Draws, Stream

_BLOCK = 2**15
_STRIDE = 7919  # a prime, so that the places in the block come round only after a block of calls


@final
class NoiseBank:
    """Relative roundings, uniform on [−ulp, ulp): a function of (draws, number, calls so far).

    Drawing as many numbers as there are would take longer than the run; two entries of a tensor are still
    uncorrelated, which is all that the size of a sum of roundings depends on.

    Args:
        draws: the randomness.
        number: of the bank: banks with different numbers are independent.
        ulp: the largest rounding.
        inward: round toward zero only, uniform on [−ulp, 0): what lies between −1 and 1 stays there, as
            probabilities must.
    """

    def __init__(self, draws: Draws, number: int, ulp: float, *, inward: bool = False) -> None:
        block = draws.uniform(
            Stream.ROUNDING, number, (_BLOCK,), 1 - ulp, 1.0 if inward else 1 + ulp
        )
        self._factors = torch.cat([block, block])
        self._calls = 0

    def rounded(self, tensor: Tensor) -> Tensor:
        """The tensor with each entry rounded by an amount of its own."""
        self._calls += 1
        first = self._calls * _STRIDE % _BLOCK
        size = tensor.numel()
        factors = self._factors[first : first + min(size, _BLOCK)]
        if size > _BLOCK:
            factors = factors.repeat(-(-size // _BLOCK))[:size]
        return tensor * factors.to(tensor).view(tensor.shape)
