"""SOBA: θ, q and λ move at once, each along an unbiased direction.

Estimates the implicit hypergradient f_λ − f_θ·H⁻¹·C (Dagréou et al. 2022, Algorithm 1 with SGD directions):

    h = f_λ − q·C,      θ ← θ − γ ∂_θ L_T,      q ← q − α (H q − f_θ),      all at the same (θ, q).

Every direction is linear in f and L_T, so that it is unbiased on batches. At a fixed λ and without noise
the error is at most ‖C‖‖q*‖ρ^k at θ*, ρ = max|1 − α·eig(H)|; noise leaves a floor O(α). O(n + p) memory.

Claims: field-running-solve.
"""

from dataclasses import dataclass, field
from typing import final

from typing_extensions import override

from refblo.cost import counting
from refblo.estimators._single_loop import (
    check_count,
    check_rate,
    concluded,
    inner_batches,
    outer_batch,
    simultaneous,
)
from refblo.estimators.warm import WarmEstimator, WarmState
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam
from refblo.validation import check_arguments


@final
@dataclass(frozen=True)
class SOBA(WarmEstimator):
    """The single-loop stochastic bilevel algorithm.

    Args:
        step_size: γ > 0, of θ.
        solve_step: α > 0, of q.
        steps: simultaneous steps a call; 1 as published.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    step_size: float
    solve_step: float
    steps: int = 1
    name: str = field(default="SOBA", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        check_rate("step_size", self.step_size)
        check_rate("solve_step", self.solve_step)
        check_count("steps", self.steps)

    @override
    def advance(
        self, problem: BilevelProblem, lam: Lam, carried: WarmState, draws: Draws = SEED_ZERO
    ) -> tuple[Hypergradient, WarmState]:
        check_arguments(problem, lam, draws)
        lam, theta, q, value = lam.detach(), carried.theta, carried.q, lam
        with counting() as cost:
            for k, batch in enumerate(inner_batches(problem, draws, 0, self.steps)):
                outer = outer_batch(problem, draws, k)
                found = simultaneous(problem, lam, theta, q, batch, outer)
                value = found.lam
                theta = theta.sub(found.theta, alpha=self.step_size)
                q = q.sub(found.q, alpha=self.solve_step)
        return concluded(value, WarmState(theta, q), self.steps, cost)
