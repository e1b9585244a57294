"""What evolution strategies claim: the gradient of the smoothed program, with a variance in closed form."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64

from refblo.chain import Chain, Langevin, Schedule
from refblo.contracts.contract import Context, Contract, Finding
from refblo.contracts.random_forward import MOST_ENTRIES, SCHEDULE, Sampler, as_rows, moments
from refblo.contracts.selection import array
from refblo.estimators import RMD
from refblo.estimators.evolution import Variant
from refblo.noise import Draws
from refblo.problems.case import Case
from refblo.problems.quadratic_forms import QuadraticForms

Array = np.ndarray

Strategies = Callable[[Langevin, Schedule, float, int, Variant], Sampler]
"""Builds ES from (rule, schedule, σ, N, variant)."""

SIGMA = 0.5
"""Of the contracts: large, so that the terms of the variance in σ and in 1/σ both count."""


def variance(
    value: float,
    gradient: Float64[Array, " p"],
    hessian: Float64[Array, "p p"],
    sigma: float,
    variant: Variant,
) -> Float64[Array, " p"]:
    """The variance of each coordinate of one draw, for a quadratic F; see the estimator's module."""
    spread: Array = gradient @ gradient + gradient**2
    if variant is Variant.ANTITHETIC:
        return spread
    a = value / sigma if variant is Variant.PRINTED else 0.0
    trace, diagonal = np.trace(hessian), np.diag(hessian)
    fourth = trace**2 + 2 * np.sum(hessian**2) + 4 * trace * diagonal
    fourth = fourth + 8 * np.diag(hessian @ hessian)
    whole: Array = spread + a**2 + a * sigma * (trace + 2 * diagonal) + sigma**2 / 4 * fourth
    return whole


def _expansion(case: Case, draws: Draws) -> tuple[float, Float64[Array, "p p"]]:
    """F and its Hessian at λ: for a quadratic F a difference of gradients is exact up to rounding."""
    chain = Chain(case.problem, case.dynamics, draws)
    theta = chain.last(case.lam, SCHEDULE.steps)
    value = float(case.problem.outer(case.lam, theta, None))
    exact = RMD(case.dynamics, SCHEDULE)

    def gradient(lam: torch.Tensor) -> Float64[Array, " p"]:
        return array(exact.estimate(case.problem, lam, draws).value)

    here = gradient(case.lam)
    eye = torch.eye(case.lam.numel()).to(case.lam)
    hessian: Float64[Array, "p p"] = np.stack([gradient(case.lam + unit) - here for unit in eye])
    return value, (hessian + hessian.T) / 2


def smoothed(name: str, factory: Strategies, variant: Variant) -> Contract:
    """Where F is quadratic in λ smoothing leaves its gradient alone: unbiased, of a known variance."""

    def check(case: Case, context: Context) -> Finding:
        count = 20_000 if context.full else 2_000
        method = factory(case.dynamics, SCHEDULE, SIGMA, count, variant)
        rows = as_rows(method.samples(case.problem, case.lam, context.draws))
        value, hessian = _expansion(case, context.draws)

        def predicted(gradient: Float64[Array, " p"]) -> Float64[Array, " p"]:
            return variance(value, gradient, hessian, SIGMA, variant)

        return moments(case, context, rows, predicted)

    def applies(case: Case) -> bool:
        forms = case.closed_forms
        n, p = case.problem.initial(case.lam).numel(), case.lam.numel()
        quadratic = isinstance(forms, QuadraticForms) and forms.numbers.diagonal is None
        return quadratic and n * p <= MOST_ENTRIES

    return Contract(
        name=f"{name}: mean and variance",
        estimator=name,
        relation="Unbiased",
        claim="for a quadratic program its mean is the exact hypergradient, of the variance predicted for "
        + variant.value,
        applies=applies,
        check=check,
    )
