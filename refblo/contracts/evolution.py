"""What evolution strategies claim: the gradient of the smoothed program, with a variance in closed form."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.chain import Chain, Langevin, Schedule
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding, Curve
from refblo.contracts.random_forward import MOST_ENTRIES, SCHEDULE, Sampler, as_rows, moments
from refblo.contracts.relations import Order, ParameterSweep
from refblo.contracts.rounding import ROUNDINGS_A_STEP, unit_roundoff
from refblo.contracts.selection import array, is_small, resolves_orders
from refblo.estimators import RMD
from refblo.estimators.evolution import Variant
from refblo.noise import Draws, Stream
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

    def check(case: Case, context: Context) -> ContractFinding:
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
        claims=("field-es", "text-es-variance") if variant is Variant.PRINTED else ("field-es",),
        applies=applies,
        check=check,
    )


DRAWS_OF_Z = 4
"""Of the sweep over σ: the same few z at every σ, so that nothing is left to chance."""


def _third_derivative(case: Case, draws: Draws, z: Tensor) -> float:
    """d³F(λ + sz)/ds³ at s = 0, by forward mode through forward mode through forward mode."""
    problem, gamma = case.problem, case.dynamics.step_size

    def along(s: Tensor) -> Tensor:
        lam = case.lam + s * z
        theta = problem.initial(lam)
        for step in range(SCHEDULE.steps):
            slope = torch.func.grad(problem.inner, argnums=1)(lam, theta, None)
            noise = case.dynamics.noise * draws.normal(Stream.LANGEVIN, step, theta)
            theta = theta - gamma * slope + noise
        return problem.outer(lam, theta, None)

    def derivative(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def differentiated(s: Tensor) -> Tensor:
            slope: Tensor = torch.func.jvp(function, (s,), (torch.ones_like(s),))[1]
            return slope

        return differentiated

    return float(derivative(derivative(derivative(along)))(torch.zeros_like(case.lam[0])))


def order_in_sigma(name: str, factory: Strategies) -> Contract:
    """Pairs, z held: off (1/N) Σ z⟨F', z⟩ by (σ²/6N) Σ z D³F[z, z, z] + O(σ⁴), for any smooth program."""

    def check(case: Case, context: Context) -> ContractFinding:
        at = SIGMA / 8 * 0.5 ** np.arange(6 if context.full else 5)
        zs = context.draws.normal(
            Stream.DIRECTIONS, 0, case.lam.new_empty(DRAWS_OF_Z, case.lam.numel())
        )
        exact = RMD(case.dynamics, SCHEDULE)
        gradient = exact.estimate(case.problem, case.lam, context.draws).value
        without = array((zs * (zs @ gradient)[:, None]).mean(dim=0))
        third = case.lam.new_tensor([_third_derivative(case, context.draws, z) for z in zs])
        leading = array((zs * third[:, None]).mean(dim=0)) / 6
        theta = Chain(case.problem, case.dynamics, context.draws).last(case.lam, SCHEDULE.steps)
        value = abs(float(case.problem.outer(case.lam, theta, None)))
        u, size = unit_roundoff(case.lam.dtype), float(torch.linalg.vector_norm(zs))
        rows, noise = [], []
        for sigma in at:
            method = factory(case.dynamics, SCHEDULE, float(sigma), DRAWS_OF_Z, Variant.ANTITHETIC)
            found = method.samples(case.problem, case.lam, context.draws).mean(dim=0)
            rows.append(array(found) - without)
            # Two values are subtracted and divided by 2σ; each is the end of a run of a few steps.
            lost = ROUNDINGS_A_STEP * (SCHEDULE.steps + len(theta)) * u * size
            noise.append(lost * (value / float(sigma) + float(np.linalg.norm(without))))
        sweep = ParameterSweep("σ", at, np.stack(rows), np.array(noise))
        judgement = Order(2.0, leading, 2.0).judge(sweep)
        errors = np.linalg.norm(sweep.values, axis=1) / np.linalg.norm(without)
        predicted = np.linalg.norm(leading) * at**2 / np.linalg.norm(without)
        return ContractFinding(judgement, curves=(Curve.of("σ", case.name, at, errors, predicted),))

    def applies(case: Case) -> bool:
        # Values must be sampled off the kinks, and a quadratic program has no third derivative.
        rough = "non-smooth" in case.tags or not is_small(case) or not resolves_orders(case)
        forms = case.closed_forms
        quadratic = isinstance(forms, QuadraticForms) and forms.numbers.diagonal is None
        return not rough and not quadratic

    return Contract(
        name=f"{name}: order in σ",
        estimator=name,
        relation="Order",
        claim="for given z it is off (1/N) Σ z⟨F', z⟩ by (σ²/6N) Σ z D³F[z, z, z] + O(σ⁴)",
        claims=("field-es",),
        applies=applies,
        check=check,
        # Third derivatives through a whole run: seconds, where the quick audit has milliseconds.
        quick=False,
    )
