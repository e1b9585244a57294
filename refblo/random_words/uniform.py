"""Uniform numbers out of words: the upper 53 bits of a word, in double precision."""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.random_words.source import Source


def uniform(
    source: Source, step: int, shape: tuple[int, ...], low: float, high: float, like: Tensor
) -> Float64[Tensor, "..."]:
    """Numbers low + (high − low) k / 2^53, k uniform on the integers below 2^53, on the device of `like`."""
    count = math.prod(shape)
    words = source.words(range(step, step + 1), 0, count, like).view(-1)
    upper = words.bitwise_right_shift(11).bitwise_and_(2**53 - 1)
    numbers = upper.to(torch.float64).mul_(2.0**-53).mul_(high - low).add_(low)
    # Rounded, the sum can be `high` itself.
    return numbers.clamp_(max=math.nextafter(high, low)).view(shape)
