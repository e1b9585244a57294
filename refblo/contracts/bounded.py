"""What a bounded hypergradient claims: that the truth is within its own error, and how tight that is."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64

from refblo.chain import Langevin
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding
from refblo.contracts.minimiser import Minimum, has_minimiser, minimum
from refblo.contracts.relations import RelationJudgement
from refblo.derivatives import gradient_and_tangents
from refblo.estimators.error_bound import Constants
from refblo.estimators.protocol import Estimator
from refblo.problems.case import Case
from refblo.theory.predictions import local_derivatives
from refblo.types import Estimand, Hypergradient, Status

Array = np.ndarray

Bounded = Callable[[Langevin, int, int, Constants], Estimator]
"""Builds a bounded estimator from (rule, steps, iterations, constants)."""
Adaptive = Callable[[Langevin, float, Constants], Estimator]
"""Builds an adaptive one from (rule, error, constants)."""


def quadratic_constants(at_rest: Minimum) -> Constants:
    """The constants of a problem whose losses are quadratic in θ, dense and up to rounding.

    C is affine in θ there; the Lipschitz constant of θ ↦ C(θ) in the spectral norm is at most that of its
    np × n matrix.
    """
    case, local = at_rest.case, at_rest.local
    theta = at_rest.problem.initial(case.lam)
    n, p = len(local.s), case.lam.numel()
    bends = [
        local_derivatives(case.problem, case.lam, theta + unit).C - local.C
        for unit in torch.eye(n).to(theta)
    ]
    bend: Float64[Array, "m n"] = np.stack([each.ravel() for each in bends], axis=1)
    directions, still = torch.eye(p).to(theta), torch.zeros(n, p).to(theta)
    _, mixed = gradient_and_tangents(case.problem.outer, case.lam, theta, None, directions, still)
    return Constants(
        strong_convexity=float(np.linalg.eigvalsh(local.H)[0]),
        coupling=float(np.linalg.norm(local.C, 2)),
        hessian=0.0,
        mixed=float(np.linalg.norm(bend, 2)),
        slope=float(np.linalg.norm(local.Q, 2)),
        direct=float(np.linalg.norm(mixed.cpu().numpy(), 2)),
    )


MOST_CONDITIONED = 100.0
"""The largest condition number for which an inner run to many digits is affordable."""


def _applies(case: Case) -> bool:
    return "quadratic" in case.tags and has_minimiser(case)


def _affordable(case: Case) -> bool:
    return _applies(case) and float(np.linalg.cond(minimum(case).local.H)) <= MOST_CONDITIONED


def _off(case: Case, context: Context, result: Hypergradient) -> tuple[float, float]:
    """The distance from the nearest oracle's truth, and what that oracle's error and rounding add."""
    known = context.known(case, Estimand.IMPLICIT)
    best = min(known.truths, key=lambda truth: truth.error)
    distance = float((known.seen(result.value) - best.value).norm())
    return distance, best.error


def holds(name: str, factory: Bounded) -> Contract:
    """The distance from the truth is at most `error`, whatever T and K; the factor is reported."""

    def check(case: Case, context: Context) -> ContractFinding:
        at_rest = minimum(case)
        constants = quadratic_constants(at_rest)
        rule = Langevin(case.dynamics.step_size)
        margins, factors = [], []
        for steps in (1, 10, 100, 1000) if context.full else (1, 30):
            for iterations in (1, 2, 4, 8) if context.full else (1, 3):
                method = factory(rule, steps, iterations, constants)
                result = method.estimate(case.problem, case.lam, context.draws)
                distance, slack = _off(case, context, result)
                error = 0.0 if result.error is None else result.error
                allowed = error + slack + at_rest.rounding(steps + iterations)
                margins.append(distance / allowed)
                factors.append(error / max(distance, slack))
        judgement = RelationJudgement(
            holds=max(margins) <= 1,
            measured=f"distance at most {max(margins):.2g} of the bound in {len(margins)} settings",
            predicted=(
                f"at most 1; the bound is {min(factors):.2g} to {max(factors):.2g} "
                f"(median {np.median(factors):.2g}) times the distance"
            ),
            margin=max(margins),
        )
        return ContractFinding(judgement)

    return Contract(
        name=f"{name}: the bound holds",
        estimator=name,
        relation="Exact",
        claim="the truth is within the error that is returned, for any number of steps and iterations",
        claims=("field-a-posteriori",),
        applies=_applies,
        check=check,
    )


def _digits(case: Case, context: Context) -> tuple[int, ...]:
    """The digits asked for: as many as the bound, which is built from residuals, has in the dtype."""
    if case.lam.dtype != torch.float64:
        return (1, 2)
    return (1, 3, 5, 7) if context.full else (1, 4)


def meets(name: str, factory: Adaptive) -> Contract:
    """The bound is at most the error asked for, and the distance from the truth at most the bound."""

    def check(case: Case, context: Context) -> ContractFinding:
        at_rest = minimum(case)
        constants = quadratic_constants(at_rest)
        rule, size = Langevin(case.dynamics.step_size), float(np.linalg.norm(at_rest.implicit))
        margins, costs = [], []
        for digits in _digits(case, context):
            error = size * 10.0**-digits
            result = factory(rule, error, constants).estimate(case.problem, case.lam, context.draws)
            distance, slack = _off(case, context, result)
            met = result.status is Status.COMPLETED and result.error is not None
            reached = result.error if met and result.error is not None else np.inf
            steps = result.cost.inner_gradients + result.cost.hessian_products
            allowed = reached + slack + at_rest.rounding(steps)
            margins += [distance / allowed if np.isfinite(allowed) else np.inf, reached / error]
            costs.append(result.cost.total)
        judgement = RelationJudgement(
            holds=max(margins) <= 1,
            measured=f"at most {max(margins):.2g} of what is allowed, for {costs} evaluations",
            predicted="distance ≤ bound ≤ the error asked for",
            margin=max(margins),
        )
        return ContractFinding(judgement, cost=result.cost)

    return Contract(
        name=f"{name}: the requested error",
        estimator=name,
        relation="Exact",
        claim="it stops with a bound of at most the error asked for, and the truth is within it",
        claims=("field-a-posteriori",),
        applies=_affordable,
        check=check,
    )
