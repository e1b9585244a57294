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
from types import ModuleType
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
"""1/2^{b−1}, ½/2^{b−1} and 2π/2^b, where b is the number of bits of the integers: 32 or 64."""


@final
@dataclass(frozen=True, eq=False)
class Working:
    """What lanes are computed in, and by which library.

    What every library rounds alike (products, sums, changes of sign) may be computed by NumPy, whose calls
    are short. The last bits of log, √, sin and cos differ between libraries; torch computes these.

    Attributes:
        radius: the integers w, as floating-point numbers, to begin with.
        angle: the integers w', likewise.
        sine: memory.
        library: `torch`, or `numpy`.
        radius_in_library: `radius`, as the library's own tensor or array of the same memory.
        angle_in_library: `angle`, likewise.
        constants: as the library takes them.
    """

    radius: Float[Tensor, "lanes half"]
    angle: Float[Tensor, "lanes half"]
    sine: Float[Tensor, "lanes half"]
    library: ModuleType
    radius_in_library: Tensor | np.ndarray
    angle_in_library: Tensor | np.ndarray
    constants: Constants

    def compute(self) -> None:
        """Replace w by r and w' by cos φ', in place, and write sin φ'."""
        (unit, half, turn), library = self.constants, self.library
        radius, angle = self.radius_in_library, self.angle_in_library
        library.multiply(radius, unit, out=radius)
        library.add(radius, half, out=radius)
        library.multiply(radius, radius, out=radius)
        self.radius.log_()
        library.negative(radius, out=radius)
        self.radius.sqrt_()
        library.multiply(angle, turn, out=angle)
        torch.sin(self.angle, out=self.sine)
        self.angle.cos_()


def as_numbers(dtype: torch.dtype) -> tuple[float, float, float]:
    """The constants for a dtype, as Python numbers."""
    bits = 8 * dtype.itemsize
    return 2.0 ** (1 - bits), 2.0**-bits, math.pi * 2.0 ** (1 - bits)


@cache
def as_tensors(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The constants for a dtype, as CPU tensors: torch multiplies by these twice as fast as by numbers."""
    # Outside all modes: inside FakeTensorMode the cached tensors would have no numbers in later calls either.
    with _disable_current_modes(), torch.inference_mode(False):
        unit, half, turn = (
            torch.tensor(number, dtype=dtype, device="cpu") for number in as_numbers(dtype)
        )
    return unit, half, turn
