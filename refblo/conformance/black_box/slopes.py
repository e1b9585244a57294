"""Slopes of the caller's function along directions, each with its error; kinks and jumps are refused.

Central differences of a function with a kink at λ converge, to the mean of the two one-sided slopes, which
no hypergradient has to be. So the two are compared: D⁺(h) − D⁻(h) goes to 0 as h does where the function is
smooth, stays where it has a kink, and grows as 1/h where it jumps.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float64

from refblo.conformance.black_box.objective import Objective, as_batch
from refblo.derivatives.differences import batched_derivatives
from refblo.errors import LossError, OracleError
from refblo.noise import Draws

Array = np.ndarray
Slope = Callable[[Float64[Array, " p"]], tuple[float, float]]
"""The truth along a direction, and its error."""

_SHRINK = 16.0
"""Between the step sizes at which one-sided slopes are compared."""

_LOCAL = 2.0**-4
"""Of the size of λ along the direction: the longest step at which curvature alone should not hide a kink."""

_SMALL = 0.25
"""Entries below this size are moved in units of their own size."""

_VISIBLE = 10.0
"""How many times the rounding error a difference of one-sided slopes must be."""


@final
@dataclass(frozen=True, eq=False)
class Slopes:
    """Derivatives of the function along directions.

    Attributes:
        directions: columns u_j, shape (p, k).
        values: shape (k,).
        errors: an estimate of the error of each, shape (k,).
        noise: the rounding error, or hidden randomness, of the function's values.
    """

    directions: Float64[Array, "p k"]
    values: Float64[Array, " k"]
    errors: Float64[Array, " k"]
    noise: float


def slopes(
    objective: Objective, directions: Float64[Array, "p k"], precision: float, draws: Draws
) -> Slopes:
    """The derivatives along the columns of `directions`.

    Args:
        objective: the function.
        directions: columns of norm one.
        precision: the relative spacing of the numbers it computes with.
        draws: of the direction along which noise is measured.

    Raises:
        OracleError: at a kink or a jump, or if no step size gives finite values.
    """
    sizes = _sizes(objective.arrays.vector)
    taken = _taken(objective, directions, sizes, precision, draws)
    scaled = np.full(directions.shape[1], bool((sizes < 1).any()))
    coarse = taken.errors > precision ** (1 / 3) * np.linalg.norm(taken.values)
    if scaled.any() and coarse.any():
        # Entries that are small by chance: their own size is too short a step.
        with contextlib.suppress(OracleError, LossError):
            longer = _taken(objective, directions, np.ones_like(sizes), precision, draws)
            better = longer.errors < taken.errors
            scaled &= ~better
            taken = Slopes(
                directions,
                np.where(better, longer.values, taken.values),
                np.where(better, longer.errors, taken.errors),
                max(taken.noise, longer.noise),
            )
    for position in range(directions.shape[1]):
        _refuse_kink(objective, taken, position, sizes if scaled[position] else np.ones_like(sizes))
    return taken


def _sizes(lam: Float64[Array, " p"]) -> Float64[Array, " p"]:
    """The unit of each entry's steps: its own size where a step of an eighth could change its sign."""
    size = np.abs(lam)
    return np.where((size > 0) & (size < _SMALL), size, 1.0)


def _taken(
    objective: Objective,
    directions: Float64[Array, "p k"],
    sizes: Float64[Array, " p"],
    precision: float,
    draws: Draws,
) -> Slopes:
    """The derivatives by differences in z = λ / sizes: along d they are ‖d / sizes‖ times those in z."""
    batch, units = as_batch(objective), torch.as_tensor(sizes, device="cpu")
    columns = directions / sizes[:, None]
    lengths = np.linalg.norm(columns, axis=0)
    try:
        found = batched_derivatives(
            lambda points: batch(points * units),
            torch.as_tensor(objective.arrays.vector / sizes, device="cpu"),
            torch.as_tensor(columns / lengths, device="cpu"),
            draws,
            precision,
        )
    except OracleError as error:
        raise OracleError(
            "objective must be finite around lam, got values beside it that are not: no verdict is possible; "
            "choose a lam further inside the domain of the training"
        ) from error
    return Slopes(directions, found.values * lengths, found.errors * lengths, found.noise)


def _refuse_kink(
    objective: Objective, slopes: Slopes, position: int, sizes: Float64[Array, " p"]
) -> None:
    """Raise if the two one-sided slopes differ by more than curvature and rounding explain.

    The smaller step is the smallest at which rounding stays below a hundredth of the slope's own size.
    """
    lam, along = objective.arrays.vector, slopes.directions[:, position]
    slope, error = float(slopes.values[position]), float(slopes.errors[position])
    # No longer than moves a small entry by an eighth of its size.
    size = max(1.0, float(np.abs(lam @ along))) / float(np.linalg.norm(along / sizes))
    longest = 2.0**-8 if (sizes == 1).all() else 2.0**-11
    visible = max(abs(slope), error, slopes.noise / size)
    small = min(max(400 * slopes.noise / visible, 2.0**-40 * size), longest * size)
    here = objective(lam)

    def gap(step: float) -> tuple[float, float, float]:
        right = (objective(lam + step * along) - here) / step
        left = (here - objective(lam - step * along)) / step
        return right - left, left, right

    shrink = _SHRINK if small * _SHRINK**2 <= _LOCAL * size else math.sqrt(_SHRINK)
    wide, coarse, fine = (gap(small * shrink**power) for power in (2, 1, 0))
    rounding = 4 * slopes.noise / small
    if not np.isfinite(fine[0]) or abs(fine[0]) <= _VISIBLE * rounding + 2 * error:
        return
    # A smooth function gives 1 / shrink each time, a kink 1, a jump shrink. Twice in a row, as a step that
    # is longer than a wave of the function says nothing.
    ratios = [abs(coarse[0]) / abs(wide[0] or np.nan), abs(fine[0]) / abs(coarse[0] or np.nan)]
    if not min(ratios) >= 0.5:
        return
    if min(ratios) > math.sqrt(shrink):
        raise OracleError(
            f"objective must be continuous at lam, but it changes by about {abs(fine[0]) * small:.3g} within "
            f"{small:.1e} along direction {position}: a jump, or a wave that is shorter; no verdict is "
            "possible; look for a count, a sort, an argmax or an early stop that changes with lam, or choose "
            "a lam beside this one"
        )
    raise OracleError(
        f"objective must be differentiable at lam, but it has a kink at lam or within {small:.1e} of it: "
        f"along direction {position} its one-sided slopes are {fine[1]:.10g} and {fine[2]:.10g}, so that no "
        "hypergradient can be judged; choose a lam beside this one"
    )
