"""What random forward mode claims: the right mean, and a variance in closed form.

The mean squared errors of the coordinates are means like any other, so both claims are judged by the
same relation: the mean of (h_j − F'_j)² over independent directions is the predicted variance.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.chain import Chain, Langevin, Schedule
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding
from refblo.contracts.relations import Replicates, Unbiased
from refblo.contracts.rounding import ROUNDINGS_A_STEP, unit_roundoff
from refblo.contracts.selection import array, is_small
from refblo.estimators import RMD
from refblo.estimators.protocol import Estimator
from refblo.estimators.random_tangents import Law
from refblo.noise import Draws
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems.case import Case
from refblo.theory.predictions import local_derivatives
from refblo.types import Lam

Array = np.ndarray

SCHEDULE = Schedule.last(3)
"""Few steps: what is claimed holds for any number, and every replicate is a run."""

MOST_ENTRIES = 16
"""Of the tangent, n·p."""

Replica = Callable[[Langevin, Schedule, bool, int], Estimator]
"""Builds UORO from (rule, schedule, balanced, replica)."""


@runtime_checkable
class Sampler(Protocol):
    """An estimator that gives its independent parts."""

    def samples(self, problem: BilevelProblem, lam: Lam, draws: Draws) -> Tensor:
        """Independent estimates as rows."""
        ...


Tangents = Callable[[Langevin, Schedule, int, Law, int], Sampler]
"""Builds random tangents from (rule, schedule, tangents, law, groups)."""


def as_rows(samples: Tensor) -> Float64[Array, "N p"]:
    """Independent estimates in NumPy, one a row."""
    return samples.detach().cpu().to(torch.float64).numpy()


def moments(
    case: Case,
    context: Context,
    rows: Float64[Array, "N p"],
    predicted: Callable[[Float64[Array, " p"]], Float64[Array, " p"]] | None,
) -> ContractFinding:
    """The mean of h is F' and, where it is predicted, that of (h − F')² the variance."""
    # RMD's exactness is a contract of its own, judged against the oracles.
    run = RMD(case.dynamics, SCHEDULE).estimate(case.problem, case.lam, context.draws)
    exact, u = array(run.value), unit_roundoff(case.lam.dtype)
    rounding = ROUNDINGS_A_STEP * SCHEDULE.steps * u * float(np.abs(rows).max())
    if predicted is None:
        return ContractFinding(Unbiased().judge(Replicates(rows, exact, rounding)))
    variance = predicted(exact)
    # In units of the predicted standard deviation, so that both moments have one scale; what has
    # no variance is judged by its rounding alone.
    scale = np.where(variance > rounding**2, np.sqrt(np.abs(variance)), 1.0)
    deviations = (rows - exact) / scale
    values = np.concatenate([deviations, deviations**2], axis=1)
    truth = np.concatenate([np.zeros_like(variance), variance / scale**2])
    off = rounding / float(scale.min())
    slack = off * (2 + 2 * float(np.max(np.abs(deviations))) + off)
    # The prediction is a sum over all coordinates and steps, and rounded too.
    slack += rows.size * u
    return ContractFinding(Unbiased().judge(Replicates(values, truth, slack)))


def _several(case: Case) -> bool:
    """Small, so that hundreds of runs are affordable; with one hyperparameter signs are exact."""
    n, p = case.problem.initial(case.lam).numel(), case.lam.numel()
    return p > 1 and n * p <= MOST_ENTRIES and is_small(case) and "quadratic" in case.tags


def tangents_variance(gradient: Float64[Array, " p"], law: Law, count: int) -> Float64[Array, " p"]:
    """The variance of each coordinate of `RandomTangents`, shape (p,).

    For orthogonal directions h = (p/K) P F' with a uniformly distributed projection P of rank K, and
    E[PF'F''P] = α‖F'‖² I + β F'F'' with α = K(p − K)/(p(p + 2)(p − 1)), α + β = K(K + 2)/(p(p + 2)).
    """
    p, square = len(gradient), gradient**2
    total = square.sum()
    if law is Law.ORTHOGONAL:
        alpha = count * (p - count) / (p * (p + 2) * (p - 1)) if p > 1 else 0.0
        beta = count * (count + 2) / (p * (p + 2)) - alpha
        spread: Array = (p / count) ** 2 * (alpha * total + beta * square) - square
        return spread
    independent = count // 2 if law is Law.ANTITHETIC else count
    if law is Law.GAUSSIAN:
        gaussian: Array = (total + square) / independent
        return gaussian
    signs: Array = (total - square) / independent
    return signs


def random_tangents(name: str, factory: Tangents, law: Law) -> Contract:
    """Unbiased, and of the variance that its law predicts, with two directions a group."""

    def check(case: Case, context: Context) -> ContractFinding:
        method = factory(case.dynamics, SCHEDULE, 2, law, 20_000 if context.full else 2_000)
        rows = as_rows(method.samples(case.problem, case.lam, context.draws))
        return moments(case, context, rows, lambda gradient: tangents_variance(gradient, law, 2))

    claim = f"its mean is the exact hypergradient and its variance that predicted for {law.value}"
    if law is Law.ANTITHETIC:
        claim += ": that of half as many, so that pairs gain nothing"
    return Contract(
        name=f"{name}: mean and variance",
        estimator=name,
        relation="Unbiased",
        claim=claim,
        claims=("field-antithetic-tangents",)
        if law is Law.ANTITHETIC
        else ("field-random-tangents",),
        applies=_several,
        check=check,
    )


def uoro_variance(case: Case, draws: Draws, schedule: Schedule) -> Float64[Array, " p"]:
    """The variance of each coordinate of unbalanced UORO with M = 1, shape (p,); see its module.

    a_t and b_t are formed densely along the chain, from forward-mode derivatives.
    """
    gamma = case.dynamics.step_size
    chain = Chain(case.problem, case.dynamics, draws)
    points = list(chain.iterates(case.lam, schedule.steps))
    locals_ = [local_derivatives(case.problem, case.lam, theta) for theta in points]
    row = locals_[-1].s
    rows, blocks = [], []
    for local in reversed(locals_[:-1]):
        rows.append(row)
        blocks.append(-gamma * local.C)
        row = row - gamma * (local.H @ row)
    a, b = np.concatenate(rows), np.concatenate(blocks)
    products = a @ b
    variance: Array = (a @ a) * (b**2).sum(axis=0) + products**2 - 2 * (a**2) @ (b**2)
    return variance


def uoro(name: str, factory: Replica, *, balanced: bool) -> Contract:
    """Unbiased; unbalanced and in full runs, of the predicted variance."""

    def check(case: Case, context: Context) -> ContractFinding:
        # The squares of few products of signs have too heavy a tail for Student's t.
        judged = context.full and not balanced
        rows = [
            array(
                factory(case.dynamics, SCHEDULE, balanced, replica)
                .estimate(case.problem, case.lam, context.draws)
                .value
            )
            for replica in range(2000 if context.full else 60)
        ]
        return moments(
            case,
            context,
            np.stack(rows),
            (lambda _: uoro_variance(case, context.draws, SCHEDULE)) if judged else None,
        )

    claim = "with the chain's noise frozen, its mean over the signs is the exact hypergradient"
    if not balanced:
        claim += ", and (in full runs) its variance ‖a‖²‖b‖² + (a·b)² − 2 Σ a²b² along the chain"
    return Contract(
        name=f"{name}: mean" + ("" if balanced else " and variance"),
        estimator=name,
        relation="Unbiased",
        claim=claim,
        claims=("field-uoro",),
        applies=lambda case: isinstance(case.problem.initial, FixedInitial) and _several(case),
        check=check,
    )
