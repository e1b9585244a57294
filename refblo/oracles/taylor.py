"""The Taylor-remainder test: is a candidate vector g the derivative of the program?

Along a direction u and for steps h → 0 the remainders

    r₀(h) = |F(λ + h u) − F(λ)|            = O(h),
    r₁(h) = |F(λ + h u) − F(λ) − h ⟨g, u⟩|  = O(h²) if ⟨g, u⟩ is the derivative, O(h) if it is not,

are straight lines of slope 1 and 2 in the logarithms. The slope of r₁ is fitted to the smallest steps whose
remainder still stands out of the measured rounding noise of F, since a wrong g shows there first.

Claims: eq-44.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.derivatives.differences import function_noise, one_by_one, random_directions
from refblo.errors import OracleError, require
from refblo.noise import SEED_ZERO, Draws
from refblo.oracles._programs import program_value
from refblo.oracles.protocol import program_schedule
from refblo.problems.case import Case
from refblo.types import Estimand, Lam
from refblo.validation import check_arguments, check_vector

Array = np.ndarray

_THRESHOLD = 1.5
"""Midway between the slope of a wrong gradient and that of a right one."""
_FITTED = 4  # steps; fewer make the slope depend on one of them
_STEPS = 30
_FIRST = 0.125


@final
@dataclass(frozen=True, eq=False)
class TaylorRemainders:
    """The outcome along one direction.

    Attributes:
        direction: u, shape (p,).
        steps: h, falling by halves.
        without_gradient: r₀ at each step.
        with_gradient: r₁ at each step.
        slope_without: the fitted slope of r₀; NaN where all of r₀ is noise.
        slope_with: the fitted slope of r₁; NaN where too little of r₁ stands out of the noise.
        resolution: min r₁/h, with the noise where r₁ is smaller: an error of ⟨g, u⟩ well below it cannot be
            seen. The curvature and the noise of F put it at about their geometric mean.
        passed: whether g passes: slope above 1.5, or a remainder that is all noise.
    """

    direction: Float64[Tensor, " p"]
    steps: Float64[Array, " k"]
    without_gradient: Float64[Array, " k"]
    with_gradient: Float64[Array, " k"]
    slope_without: float
    slope_with: float
    resolution: float
    passed: bool


def taylor_test(
    case: Case,
    estimand: Estimand,
    candidate: Lam,
    count: int = 2,
    draws: Draws = SEED_ZERO,
) -> tuple[TaylorRemainders, ...]:
    """Run the test along random directions.

    Args:
        case: the problem and where.
        estimand: which program: the unrolled one or the pathwise mean.
        candidate: g, shape (p,).
        count: how many directions, each uniform on the sphere.
        draws: the run's randomness, also that of the directions.

    Raises:
        ArgumentError, ArgumentTypeError, LossError: for a case or candidate that cannot be used.
        OracleError: if the objective is not finite around λ.
    """
    schedule, lam = program_schedule(case, estimand), case.lam.detach()
    check_arguments(case.problem, lam, draws)
    check_vector("candidate", candidate)
    require(
        candidate.shape == lam.shape,
        "candidate",
        f"have the shape of lam {tuple(lam.shape)}",
        tuple(candidate.shape),
        "give one number for each hyperparameter",
    )
    require(count >= 1, "count", "be at least 1", count, "ask for at least one direction")
    function = program_value(case, schedule, draws)
    point = lam.cpu().double()
    noise = function_noise(one_by_one(function), point, draws, float(torch.finfo(lam.dtype).eps))
    gradient = candidate.detach().cpu().double()
    directions = random_directions(lam.numel(), count, draws)
    return tuple(
        _along(function, point, gradient, direction, noise) for direction in directions.unbind(1)
    )


def _along(
    function: Callable[[Tensor], float],
    point: Float64[Tensor, " p"],
    gradient: Float64[Tensor, " p"],
    direction: Float64[Tensor, " p"],
    noise: float,
) -> TaylorRemainders:
    first = _FIRST * max(1.0, abs(float(point @ direction)))
    steps = first * 0.5 ** np.arange(_STEPS)
    base, slope = function(point), float(gradient @ direction)
    changes = np.array([function(point + step * direction) - base for step in steps])
    finite = np.isfinite(changes)
    if finite.sum() < _FITTED:
        raise OracleError(
            "the outer objective must be finite around lam, got too few steps at which it is; choose a lam "
            "inside its domain"
        )
    steps, changes = steps[finite], changes[finite]
    without, remainder = np.abs(changes), np.abs(changes - steps * slope)
    # Both values are rounded, the step is, and so is the product with the slope.
    ulp = np.finfo(np.float64).eps
    floor = noise + ulp * (abs(base) + without + abs(slope) * (steps + float(point.abs().max())))
    slope_with = _slope(steps, remainder, floor)
    resolution = float((np.maximum(remainder, floor) / steps).min())
    passed = bool(np.isnan(slope_with) or slope_with > _THRESHOLD)
    return TaylorRemainders(
        direction, steps, without, remainder, _slope(steps, without, floor), slope_with, resolution,
        passed,
    )  # fmt: skip


def _slope(
    steps: Float64[Array, " k"], remainder: Float64[Array, " k"], floor: Float64[Array, " k"]
) -> float:
    """The slope over the smallest steps whose remainder stands clear of the noise."""
    # Twice the floor: below it a point could be moved by more than half of itself.
    clear = np.flatnonzero(remainder > 2 * floor)
    if clear.size < _FITTED:
        return float("nan")
    chosen = clear[-_FITTED:]
    fit = np.polynomial.Polynomial.fit(np.log(steps[chosen]), np.log(remainder[chosen]), 1)
    return float(fit.convert().coef[1])
