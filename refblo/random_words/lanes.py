"""Two normal numbers from two integers, by Box and Muller: the formula, and how many numbers go together.

An integer w of 32 bits, read with its sign, gives a magnitude and an angle,

    u = (w + ½) / 2^31 in (−1, 1),    φ = 2π w / 2^32 in [−π, π),

and two integers w, w' give the numbers r cos φ', r sin φ' with r = √(−ln u²): |u| is uniform on (0, 1). Small
|u| keep their relative precision, so that r reaches 6.7. In double precision w + ½ becomes w + v/2^32, v the
32 bits of another word, and r reaches 9.4; a draw in single precision thus is within 2^-32/(|u| r) and
its roundings of the same draw in double precision.
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
"""Numbers that are made together: 64 cosines, then 64 sines."""

WORDS = LANE // 2
"""Of which a lane is made; in double precision it takes as many again."""

Constants: TypeAlias = tuple[Tensor, Tensor, Tensor] | tuple[float, float, float]
"""1/2^{b−1}, ½/2^{b−1} and 2π/2^b, b the bits of the integers."""


def cosine_and_sine(
    radius: Float[Tensor, "..."],
    angle: Float[Tensor, "..."],
    constants: Constants,
    sine: Float[Tensor, "..."] | None = None,
) -> Float[Tensor, "..."]:
    """Put r and cos φ in the place of w and w'; return sin φ, in the memory of `sine` if that is given."""
    unit, half, turn = constants
    radius.mul_(unit).add_(half)
    torch.mul(radius, radius, out=radius).log_().neg_().sqrt_()
    sine = torch.sin(angle.mul_(turn), out=sine)
    angle.cos_()
    return sine


def as_numbers(dtype: torch.dtype) -> tuple[float, float, float]:
    """The constants of a precision."""
    bits = 8 * dtype.itemsize
    return 2.0 ** (1 - bits), 2.0**-bits, math.pi * 2.0 ** (1 - bits)


@cache
def as_tensors(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The same on the CPU as tensors, by which torch multiplies twice as fast."""
    # They are kept: made inside a counter of shapes, they would be without numbers for ever after.
    with _disable_current_modes(), torch.inference_mode(False):
        unit, half, turn = (torch.tensor(number, dtype=dtype) for number in as_numbers(dtype))
    return unit, half, turn
