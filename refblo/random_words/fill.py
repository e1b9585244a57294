"""Lanes of normal numbers in torch operations, on any device."""

from typing import final

import torch
from jaxtyping import Float, Int32
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from refblo.random_words.lanes import (
    HALF_LANE,
    LANE,
    WORDS,
    Constants,
    Working,
    as_numbers,
    as_tensors,
)
from refblo.random_words.source import Words


@final
class LanesByOperations:
    """Makes lanes of normal numbers in torch operations.

    Args:
        lanes: the most lanes at a time.
        dtype: what is computed in, float32 or float64.
        device: where.
    """

    def __init__(self, lanes: int, dtype: torch.dtype, device: torch.device) -> None:
        self._angles = torch.empty(2 * lanes * HALF_LANE, dtype=dtype, device=device)

    def fill(
        self, numbers: Float[Tensor, "lanes 2 half"], source: Words, steps: range, first: int
    ) -> None:
        """The numbers of lanes of some steps, as many of each, in place.

        Args:
            numbers: at most so many lanes.
            source: the words.
            steps: consecutive steps.
            first: the first lane's number.
        """
        size, dtype = numbers.shape[0] * HALF_LANE, self._angles.dtype
        # Magnitudes of all lanes, then angles: what is computed on lies in one piece.
        working = self._angles[: 2 * size].view(2, -1, HALF_LANE)
        integers = _integers(source, steps, first, numbers)
        if dtype == torch.float64:
            lower = torch.empty_like(working, dtype=torch.int64)
            lower.copy_(_integers(source.further(), steps, first, numbers)).bitwise_and_(2**32 - 1)
            upper = torch.empty_like(lower).copy_(integers)
            integers = upper.bitwise_left_shift_(32).bitwise_or_(lower)
        working.copy_(integers)
        radius, angle = working.unbind()
        constants = _constants(dtype, numbers)
        sine = Working(radius, angle, None, constants, radius, angle).compute()
        if numbers.dtype == dtype:
            cosines, sines = numbers.unbind(1)
            torch.mul(angle, radius, out=cosines)
            torch.mul(sine, radius, out=sines)
        else:
            numbers.copy_(torch.stack((angle.mul_(radius), sine.mul_(radius)), 1))

    def add(
        self, part: Float[Tensor, " numbers"], source: Words, steps: range, first: int, scale: float
    ) -> None:
        """Add the numbers of one step's lanes, times a factor, in place.

        Args:
            part: of at most so many lanes, the last of which may be cut short.
            source: the words.
            steps: one step.
            first: the first lane's number.
            scale: the factor.
        """
        numbers = part.new_empty((-(-part.numel() // LANE), 2, HALF_LANE))
        self.fill(numbers, source, steps, first)
        part.add_(numbers.view(-1)[: part.numel()], alpha=scale)


def _integers(
    source: Words, steps: range, first: int, numbers: Float[Tensor, "lanes 2 half"]
) -> Int32[Tensor, "2 lanes half"]:
    """Of the lanes' integers, the first 64 of each, then the others."""
    lanes = numbers.shape[0]
    count = lanes // len(steps) * WORDS
    words = source.words(steps, first * WORDS, count, numbers)
    return words.view(torch.int32).as_strided((2, lanes, HALF_LANE), (HALF_LANE, LANE, 1))


def _constants(dtype: torch.dtype, numbers: Tensor) -> Constants:
    """The constants as suit the device of `numbers`."""
    if numbers.device.type != "cpu":
        return as_numbers(dtype)
    if isinstance(numbers, FakeTensor):
        return tuple(map(numbers.fake_mode.from_tensor, as_tensors(dtype)))
    return as_tensors(dtype)
