"""Slopes of the caller's function along directions, each with its error; kinks and jumps are refused.

Central differences of a function with a kink at λ converge, to the mean of the two one-sided slopes, which
no hypergradient has to be. So the two are compared: D⁺(h) − D⁻(h) goes to 0 as h does where the function is
smooth, stays where it has a kink, and grows as 1/h where it jumps.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float64

from refblo.conformance.black_box.objective import Objective, as_batch
from refblo.derivatives.differences import batched_derivatives
from refblo.errors import OracleError
from refblo.noise import Draws

Array = np.ndarray

_SHRINK = 16.0
"""Between the step sizes at which one-sided slopes are compared."""

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
    point = torch.as_tensor(objective.arrays.vector)
    columns = torch.as_tensor(directions)
    try:
        found = batched_derivatives(as_batch(objective), point, columns, draws, precision)
    except OracleError as error:
        raise OracleError(
            "objective must be finite around lam, got values beside it that are not: no verdict is possible; "
            "choose a lam further inside the domain of the training"
        ) from error
    slopes = Slopes(directions, found.values, found.errors, found.noise)
    for position in range(directions.shape[1]):
        _refuse_kink(objective, slopes, position)
    return slopes


def _refuse_kink(objective: Objective, slopes: Slopes, position: int) -> None:
    """Raise if the two one-sided slopes differ by more than curvature and rounding explain.

    The smaller step is the smallest at which rounding stays below a hundredth of the slope's own size.
    """
    lam, along = objective.arrays.vector, slopes.directions[:, position]
    slope, error = float(slopes.values[position]), float(slopes.errors[position])
    size = max(1.0, float(np.abs(lam @ along)))
    visible = max(abs(slope), error, slopes.noise / size)
    small = min(max(400 * slopes.noise / visible, 2.0**-40 * size), 2.0**-8 * size)
    here = objective(lam)

    def gap(step: float) -> tuple[float, float, float]:
        right = (objective(lam + step * along) - here) / step
        left = (here - objective(lam - step * along)) / step
        return right - left, left, right

    wide, coarse, fine = (gap(small * _SHRINK**power) for power in (2, 1, 0))
    rounding = 4 * slopes.noise / small
    if not np.isfinite(fine[0]) or abs(fine[0]) <= _VISIBLE * rounding + 2 * error:
        return
    # A smooth function gives 1 / _SHRINK each time, a kink 1, a jump _SHRINK. Twice in a row, as a step that
    # is longer than a wave of the function says nothing.
    ratios = [abs(coarse[0]) / abs(wide[0] or np.nan), abs(fine[0]) / abs(coarse[0] or np.nan)]
    if not min(ratios) >= 0.5:
        return
    if min(ratios) > 4:
        raise OracleError(
            f"objective must be continuous at lam, but it changes by about {abs(fine[0]) * small:.3g} within "
            f"{small:.1e} along direction {position}: a jump, or a wave that is shorter; no verdict is "
            "possible; look for a count, a sort, an argmax or an early stop that changes with lam, or choose "
            "a lam beside this one"
        )
    raise OracleError(
        f"objective must be differentiable at lam, but it has a kink there: along direction {position} its "
        f"one-sided slopes are {fine[1]:.10g} and {fine[2]:.10g}, so that no hypergradient exists; choose a "
        "lam beside this one"
    )
