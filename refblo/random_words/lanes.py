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
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

HALF_LANE = 64
LANE = 2 * HALF_LANE
"""Normal numbers in a lane: 64 cosines, then 64 sines."""

WORDS = LANE // 2
"""Words of a lane in single precision, two integers of 32 bits each; double precision takes twice as many."""

Constants: TypeAlias = tuple[Tensor, ...] | tuple[float, ...] | tuple[np.ndarray, ...]
"""1/2^{b−1}, ½/2^{b−1}, 2π/2^b and −1, where b is the number of bits of the integers: 32 or 64."""


@final
@dataclass(frozen=True, eq=False)
class Working:
    """What lanes are computed in.

    What every library rounds alike (products, sums, changes of sign) may be computed by NumPy, whose calls
    are short. The last bits of log, √, sin and cos differ between libraries; torch computes these.

    Attributes:
        radius: the integers w, as floating-point numbers, to begin with.
        angle: the integers w', likewise.
        sine: memory; new memory if None.
        constants: for the precision, from `as_numbers` or `as_tensors`.
        exact_radius: `radius`, or a NumPy array of the same memory.
        exact_angle: `angle`, likewise.
    """

    radius: Float[Tensor, "lanes half"]
    angle: Float[Tensor, "lanes half"]
    sine: Float[Tensor, "lanes half"] | None
    constants: Constants
    exact_radius: Tensor | np.ndarray
    exact_angle: Tensor | np.ndarray

    def compute(self) -> Float[Tensor, "lanes half"]:
        """Replace w by r and w' by cos φ', in place, and return sin φ'."""
        unit, half, turn, minus = self.constants
        radius, angle = self.exact_radius, self.exact_angle
        radius *= unit
        radius += half
        radius *= radius
        self.radius.log_()
        radius *= minus
        self.radius.sqrt_()
        angle *= turn
        sine = torch.sin(self.angle, out=self.sine)
        self.angle.cos_()
        return sine


def as_numbers(dtype: torch.dtype) -> tuple[float, ...]:
    """The constants for a dtype, as Python numbers."""
    bits = 8 * dtype.itemsize
    return 2.0 ** (1 - bits), 2.0**-bits, math.pi * 2.0 ** (1 - bits), -1.0


@cache
def as_tensors(dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The constants for a dtype, as CPU tensors: torch multiplies by these twice as fast as by numbers."""
    # Outside all modes: inside FakeTensorMode the cached tensors would have no numbers in later calls either.
    with _disable_current_modes(), torch.inference_mode(False):
        return tuple(
            torch.tensor(number, dtype=dtype, device="cpu") for number in as_numbers(dtype)
        )
