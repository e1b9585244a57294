"""The only file that touches a random generator: every draw is a function of (seed, stream, step).

Draws come from NumPy's counter-based Philox generator, so that draw number `step` is available
without drawing the earlier ones, and is the same on every device and for every method that asks for
it. Values are drawn in float64 and rounded to the dtype that is asked for.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from refblo.cost.fake import is_fake
from refblo.errors import ArgumentError, require, require_integer


class Stream(IntEnum):
    """What a draw is for: two uses never share numbers."""

    LANGEVIN = 0
    INNER_BATCH = 1
    OUTER_BATCH = 2
    INSTANCE = 3
    DIRECTIONS = 4
    ROUNDING = 5


@final
@dataclass(frozen=True)
class Draws:
    """All randomness of one run.

    Args:
        seed: a non-negative integer below 2^63.

    Raises:
        ArgumentError: if the seed is out of range.

    Example:
        >>> import torch
        >>> first = Draws(seed=3).normal(Stream.LANGEVIN, 5, torch.empty(2))
        >>> again = Draws(seed=3).normal(Stream.LANGEVIN, 5, torch.empty(2))
        >>> bool((first == again).all())
        True
    """

    seed: int = 0

    def __post_init__(self) -> None:
        require_integer("seed", self.seed, 0, "choose an integer in [0, 2^63)")
        require(self.seed < 2**63, "seed", "be below 2^63", self.seed, "choose a smaller seed")

    def _generator(self, stream: int, step: int) -> np.random.Generator:
        if step < 0:
            raise ArgumentError(f"step must not be negative, got {step}; steps count from 0")
        counter = [0, step, stream, 0]
        return np.random.Generator(np.random.Philox(key=self.seed, counter=counter))

    def normal(self, stream: int, step: int, like: Tensor) -> Float[Tensor, "..."]:
        """Standard normal numbers with the shape, dtype and device of `like`."""
        if is_fake(like):
            return torch.empty_like(like)
        values = self._generator(stream, step).standard_normal(tuple(like.shape))
        return torch.as_tensor(values).to(like)

    def uniform(
        self, stream: int, step: int, shape: tuple[int, ...], low: float, high: float
    ) -> Float[Tensor, "..."]:
        """Uniform numbers on [low, high), float64 on the CPU."""
        return torch.as_tensor(self._generator(stream, step).uniform(low, high, shape))

    def indices(self, stream: int, step: int, population: int, size: int) -> Int64[Tensor, " b"]:
        """`size` different indices below `population`, sorted, on the CPU.

        Raises:
            ArgumentError: unless 1 ≤ size ≤ population.
        """
        require(1 <= size <= population, "size", f"lie in [1, {population}]", size, "change it")
        chosen = self._generator(stream, step).choice(population, size, replace=False)
        return torch.as_tensor(np.sort(chosen))


SEED_ZERO = Draws(0)
"""The draws that everything uses unless told otherwise."""
