"""The public home of randomness: every draw is a function of (seed, stream, step).

Draws are made of the words of a counter-based generator (`refblo.random_words`), on the device where they are
used: draw number `step` is available without drawing the earlier ones, its words are the same bits on every
device, and its numbers agree to rounding. Draws in single precision are made in single precision.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from enum import IntEnum
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from refblo.errors import ArgumentError, require, require_integer
from refblo.random_words.normal import add_normal, normal, normal_once
from refblo.random_words.source import Source
from refblo.random_words.subset import subset
from refblo.random_words.uniform import uniform

SEED_CONTRACT = 2
"""Which numbers a seed stands for; raised whenever the draws of any seed change.

1. NumPy's Philox4x64-10, its ziggurat for normal numbers in double precision and its `choice` for batches.
2. The same words; Box and Muller for normal numbers in the dtype that is asked for, and `subset` for batches.

What was saved under one contract is not gone on with under another: a checkpoint is refused, a stored part
of an experiment is run again.
"""

MAX_POPULATION = 2**31
"""Of which indices are drawn."""


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

    def _source(self, stream: int, step: int) -> Source:
        if step < 0:
            raise ArgumentError(f"step must not be negative, got {step}; steps count from 0")
        if step >= 2**62:
            raise ArgumentError(f"step must be below 2^62, got {step}; choose a smaller one")
        return Source(self.seed, int(stream))

    def normal(self, stream: int, step: int, like: Tensor) -> Float[Tensor, "..."]:
        """Standard normal numbers with the shape, dtype and device of `like`.

        Raises:
            ArgumentError: for a negative step, or a device that does not compute with 64-bit integers.
            ArgumentTypeError: unless the dtype is float16, bfloat16, float32 or float64.
        """
        source = self._source(stream, step)
        if isinstance(like, FakeTensor):
            with like.fake_mode:
                return normal_once(source, step, like)
        return normal_once(source, step, like)

    def normal_steps(self, stream: int, steps: range, like: Tensor) -> Float[Tensor, "steps ..."]:
        """The numbers of some consecutive steps, one row each: the same as `normal` gives, in fewer calls.

        Args:
            stream: what the draws are for.
            steps: consecutive steps, at least one.
            like: shape, dtype and device of a row.

        Raises:
            ArgumentError, ArgumentTypeError: as `normal`, or for steps that are not consecutive.
        """
        source = self._source(stream, steps.start)
        require(
            len(steps) > 0 and steps.step == 1, "steps", "be consecutive", steps, "use range(a, b)"
        )
        with like.fake_mode if isinstance(like, FakeTensor) else nullcontext():
            return normal(source, steps, like)

    def add_normal(self, stream: int, step: int, to: Tensor, scale: float) -> None:
        """Add a draw times a factor to a contiguous tensor in place, without holding a vector of draws.

        Args:
            stream: what the draw is for.
            step: its number.
            to: what it is added to, of any shape.
            scale: the factor.

        Raises:
            ArgumentError, ArgumentTypeError: as `normal`.
        """
        source = self._source(stream, step)
        with to.fake_mode if isinstance(to, FakeTensor) else nullcontext():
            add_normal(source, step, to, scale)

    def uniform(
        self,
        stream: int,
        step: int,
        shape: tuple[int, ...],
        low: float,
        high: float,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "..."]:
        """Uniform numbers on [low, high), float64."""
        source = self._source(stream, step)
        return uniform(source, step, shape, low, high, torch.empty(0, device=device))

    def indices(
        self,
        stream: int,
        step: int,
        population: int,
        size: int,
        device: torch.device | str = "cpu",
    ) -> Int64[Tensor, " b"]:
        """`size` different indices below `population`, sorted.

        Raises:
            ArgumentError: unless 1 ≤ size ≤ population ≤ 2^31.
        """
        require(
            1 <= size <= population,
            "size",
            f"lie in [1, {population}]",
            size,
            "choose a number in this range",
        )
        require(
            population <= MAX_POPULATION,
            "population",
            f"be at most {MAX_POPULATION}",
            population,
            "draw from parts of the data",
        )
        return subset(
            self._source(stream, step), step, population, size, torch.empty(0, device=device)
        )


SEED_ZERO = Draws(0)
"""The draws that everything uses unless told otherwise."""
