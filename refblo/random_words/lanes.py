"""Two normal numbers from two random integers, by Box and Muller; and the lane, the unit of a draw.

An integer w of 32 bits, read with its sign, gives a magnitude and an angle,

    u = (w + ½) / 2^31 in (−1, 1),    φ = 2π w / 2^32 in [−π, π),

and two integers w, w' give the numbers r cos φ', r sin φ' with r = √(−ln u²): |u| is uniform on (0, 1). Small
|u| keep their relative precision, so that r reaches 6.7. In double precision w + ½ becomes w + v/2^32, v the
32 bits of another word, and r reaches 9.4; a draw in single precision thus is within 2^-32/(|u| r) and
its roundings of the same draw in double precision.

The formula, its order of operations and the sizes below decide every number that refblo draws: after a
change, the same seed gives other numbers. That is a change of `refblo.noise.SEED_CONTRACT`, and
tests/test_noise.py holds it.
"""

import math
from functools import cache
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

HALF_LANE = 64
LANE = 2 * HALF_LANE
"""Normal numbers in a lane: 64 cosines, then 64 sines."""

WORDS = LANE // 2
"""Words of a lane in single precision, two integers of 32 bits each; double precision takes twice as many."""

Constants: TypeAlias = tuple[Tensor, Tensor, Tensor] | tuple[float, float, float]
"""1/2^{b−1}, ½/2^{b−1} and 2π/2^b, where b is the number of bits of the integers: 32 or 64."""


def cosine_and_sine(
    radius: Float[Tensor, "..."],
    angle: Float[Tensor, "..."],
    constants: Constants,
    sine: Float[Tensor, "..."] | None = None,
) -> Float[Tensor, "..."]:
    """Replace w by r and w' by cos φ', in place, and return sin φ'.

    Args:
        radius: the integers w, as floating-point numbers; r afterwards.
        angle: the integers w', as floating-point numbers; cos φ' afterwards.
        constants: for the precision, from `as_numbers` or `as_tensors`.
        sine: memory for sin φ'; new memory if None.
    """
    unit, half, turn = constants
    radius.mul_(unit).add_(half)
    torch.mul(radius, radius, out=radius).log_().neg_().sqrt_()
    sine = torch.sin(angle.mul_(turn), out=sine)
    angle.cos_()
    return sine


def as_numbers(dtype: torch.dtype) -> tuple[float, float, float]:
    """The constants for a dtype, as Python numbers."""
    bits = 8 * dtype.itemsize
    return 2.0 ** (1 - bits), 2.0**-bits, math.pi * 2.0 ** (1 - bits)


@cache
def as_tensors(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The constants for a dtype, as CPU tensors: torch multiplies by these twice as fast as by numbers."""
    # Outside all modes: inside FakeTensorMode the cached tensors would have no numbers in later calls either.
    with _disable_current_modes(), torch.inference_mode(False):
        unit, half, turn = (torch.tensor(number, dtype=dtype) for number in as_numbers(dtype))
    return unit, half, turn
