"""stocBiO: a few inner steps, then a Neumann series with a batch of its own for every factor.

Estimates the implicit hypergradient f_λ − f_θ·H⁻¹·C (Ji, Yang and Liang 2021, Algorithm 2), θ warm-started:

    θ ← θ − γ ∂_θ L_T(θ; ξ_t)  T times,      q = α Σ_{j<K} Π_{i≤j} (I − αH(θ; ξ'_i)) f_θ(θ; ζ),
    h = f_λ(θ; ζ) − q·C(θ; ξ'').

The factors see different batches, so that given θ the mean of h is that of the series with the mean Hessian
and the mean C: no bias but the truncation's, at most ‖C‖‖q*‖ρ^K with ρ = max|1 − α·eig(H)|.

Claims: field-neumann.
"""

from dataclasses import dataclass, field
from typing import final

from typing_extensions import override

from refblo.cost import counting
from refblo.derivatives import inner_gradient
from refblo.estimators._single_loop import (
    by_series,
    check_count,
    check_rate,
    concluded,
    inner_batches,
    outer_batch,
)
from refblo.estimators.warm import WarmEstimator, WarmState
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam
from refblo.validation import check_arguments


@final
@dataclass(frozen=True)
class StocBiO(WarmEstimator):
    """The stochastic bilevel optimiser of Ji, Yang and Liang.

    Args:
        step_size: γ > 0.
        scale: α > 0.
        terms: K ≥ 1.
        steps: T ≥ 0, inner steps a call.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    step_size: float
    scale: float
    terms: int
    steps: int = 1
    name: str = field(default="stocBiO", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        check_rate("step_size", self.step_size)
        check_rate("scale", self.scale)
        check_count("terms", self.terms)
        check_count("steps", self.steps, least=0)

    @override
    def advance(
        self, problem: BilevelProblem, lam: Lam, carried: WarmState, draws: Draws = SEED_ZERO
    ) -> tuple[Hypergradient, WarmState]:
        check_arguments(problem, lam, draws)
        lam, theta = lam.detach(), carried.theta
        with counting() as cost:
            for batch in inner_batches(problem, draws, 0, self.steps):
                theta = theta.sub(
                    inner_gradient(problem.inner, lam, theta, batch), alpha=self.step_size
                )
            batches = inner_batches(problem, draws, self.steps, self.terms + 1)
            outer = outer_batch(problem, draws, self.steps)
            value = by_series(problem, lam, theta, batches, outer, self.scale).lam
        return concluded(value, WarmState(theta, carried.q), self.steps, cost)
