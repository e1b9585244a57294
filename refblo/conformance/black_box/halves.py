"""λ in half precision: the function is differenced at λ in a wider dtype, where it takes one.

Differences of a function in bfloat16 see hardly anything: its values are a hundredth apart, and so are the
points. With a float64 λ the same function computes in a wider dtype as a rule, and its slopes are the truth.
They count only if the function in half precision moves as it does along its steepest direction.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import final

import numpy as np
import torch

from refblo.conformance.black_box.arrays import (
    SPACING,
    FlatArrays,
    Leaf,
    as_jax,
    as_numpy,
    as_torch,
)
from refblo.conformance.black_box.objective import Objective, precision
from refblo.conformance.black_box.slopes import Slopes, slopes
from refblo.errors import RefbloError
from refblo.noise import Draws

Array = np.ndarray

FLOORS = {"float16": 0.05, "bfloat16": 0.25}
"""The relative error below which an answer in half precision is not accused: what rounding did to it cannot
be measured from outside."""

_ALIKE = 0.3
"""By what share a difference in half precision may be off from the one in the wider dtype."""

_STEP = 0.25
"""Of max(1, size of λ along the direction), for that difference."""


@final
@dataclass(frozen=True, eq=False)
class WiderObjective:
    """A function of λ in half precision, at a wider λ.

    Attributes:
        objective: the function around λ in the wider dtype.
        precision: the relative spacing of the numbers it computes with.
        floor: below which nothing is accused.
        dtype: the wider dtype's name.
    """

    objective: Objective
    precision: float
    floor: float
    dtype: str


def widened(objective: Objective, directions: Array, draws: Draws) -> WiderObjective | None:
    """The function at a wider λ; None where λ is not in half precision, or that is another function.

    Args:
        objective: the function as it was given.
        directions: along which it is differenced, shape (p, k).
        draws: of the direction along which noise is measured.
    """
    halves = [leaf.dtype for leaf in objective.arrays.leaves if leaf.dtype in FLOORS]
    if not halves:
        return None
    arrays = replace(objective.arrays, leaves=tuple(map(_wider, objective.arrays.leaves)))
    wide = Objective(objective.function, arrays)
    try:
        wide(arrays.vector)
        unit = precision(wide)
        if unit >= SPACING["float16"]:
            return None
        taken = slopes(wide, directions, unit, draws)
        alike = _moves_alike(objective, wide, taken)
    except RefbloError:
        return None
    if not alike:
        return None
    dtype = "float32" if wide.of_jax else "float64"
    return WiderObjective(wide, unit, max(FLOORS[name] for name in halves), dtype)


def _wider(leaf: Leaf) -> Leaf:
    """A leaf that is built in float64, or in JAX, where that may be off, in float32."""
    if leaf.dtype not in FLOORS:
        return leaf
    if leaf.framework == "jax":
        return replace(
            leaf, dtype="float32", rebuild=partial(as_jax, shape=leaf.shape, dtype="float32")
        )
    if leaf.framework == "numpy":
        back = partial(as_numpy, shape=leaf.shape, dtype=np.dtype(np.float64))
        return replace(leaf, dtype="float64", rebuild=back)
    device = leaf.rebuild(np.zeros(int(np.prod(leaf.shape)))).device  # type: ignore[attr-defined]  # a tensor
    tensor = partial(as_torch, shape=torch.Size(leaf.shape), dtype=torch.float64, device=device)
    return replace(leaf, dtype="float64", rebuild=tensor)


def _moves_alike(objective: Objective, wide: Objective, taken: Slopes) -> bool:
    """Whether both functions change alike along the steepest of the directions' combinations."""
    along = taken.directions @ taken.values
    size = float(np.linalg.norm(along))
    if size == 0 or not np.isfinite(size):
        return False
    lam = objective.arrays.vector
    step = _STEP * max(1.0, abs(float(lam @ along)) / size) * along / size
    ends = [_rounded(objective.arrays, lam + sign * step) for sign in (1, -1)]
    coarse, fine = (
        float(np.diff([function(end) for end in ends])[0]) for function in (objective, wide)
    )
    return bool(abs(coarse - fine) <= _ALIKE * abs(fine))


def _rounded(arrays: FlatArrays, point: Array) -> Array:
    """A point as it comes to the function in half precision."""
    return FlatArrays.of(arrays.at(point), "lam").vector
