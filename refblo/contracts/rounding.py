"""How much of a difference rounding alone explains, for any estimator, seen from outside.

Each of the T steps of an inner run rounds its state a few times; a rounding of the state acts on the
result as a relative perturbation of the inputs does. So the rounding error of the result is estimated
as (roundings) · u · κ, with κ the measured sensitivity of the result to a relative perturbation of λ
and θ⁰. The estimate is first-order and assumes nothing about the estimator but that it is a function.
"""

import torch
from torch import Tensor

from refblo.estimators import Estimator
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial
from refblo.types import Lam

ROUNDINGS_A_STEP = 4
"""Of each entry of the state in one step: the gradient, its scaling, the sum and the noise."""


def unit_roundoff(dtype: torch.dtype) -> float:
    """u = eps / 2, the relative error of one rounding."""
    return torch.finfo(dtype).eps / 2


def sensitivity(
    estimator: Estimator,
    problem: BilevelProblem,
    lam: Lam,
    draws: Draws,
    value: Tensor,
    replicas: int = 2,
) -> float:
    """κ: the largest ‖change of the result‖ / δ over random relative perturbations of size δ of (λ, θ⁰).

    Args:
        estimator: the estimator.
        problem: its problem.
        lam: λ, shape (p,).
        draws: its draws.
        value: its result at λ, shape (p,).
        replicas: how many perturbations to try.
    """
    delta = torch.finfo(lam.dtype).eps ** 0.5
    largest = 0.0
    for replica in range(replicas):
        nudged_lam = lam * (1 + delta * _signs(draws, 2 * replica, lam))
        nudged = problem
        if isinstance(problem.initial, FixedInitial):
            theta = problem.initial.theta
            # An absolute part as well, so that a zero initial point is perturbed too.
            scale = theta.abs() + theta.abs().max().clamp_min(torch.finfo(theta.dtype).eps)
            nudged = problem.starting_at(
                theta + delta * scale * _signs(draws, 2 * replica + 1, theta)
            )
        changed = estimator.estimate(nudged, nudged_lam, draws).estimate
        if changed is not None:
            largest = max(largest, float((changed - value).norm()) / delta)
    return largest


def _signs(draws: Draws, step: int, like: Tensor) -> Tensor:
    """Random signs."""
    return torch.sign(draws.normal(Stream.ROUNDING, step, like))


def rounding_error(
    estimator: Estimator,
    problem: BilevelProblem,
    lam: Lam,
    draws: Draws,
    value: Tensor,
    steps: int,
) -> float:
    """Estimate of the norm of the rounding error of an estimator's result after `steps` steps.

    Args:
        estimator: the estimator.
        problem: its problem.
        lam: λ, shape (p,).
        draws: its draws.
        value: its result at λ, shape (p,).
        steps: T, the steps whose roundings add up.
    """
    kappa = sensitivity(estimator, problem, lam, draws, value)
    u = unit_roundoff(lam.dtype)
    return ROUNDINGS_A_STEP * steps * u * (kappa + float(value.norm()))
