"""MRBO: recursive momentum on the inner gradient and on a Neumann hypergradient.

Estimates the implicit hypergradient f_λ − f_θ·H⁻¹·C (Yang, Ji and Liang 2021, Algorithm 1):

    v_k = ∂_θ L_T(λ_k, θ_k; ξ) + (1 − η)(v_{k−1} − ∂_θ L_T(λ_{k−1}, θ_{k−1}; ξ)),      θ_{k+1} = θ_k − γ v_k,
    u_k = h(λ_k, θ_k; ξ) + (1 − η)(u_{k−1} − h(λ_{k−1}, θ_{k−1}; ξ)),

with h the hypergradient of stocBiO's K-term series and the same batches in both of a difference. Without
noise u_k = h(λ_k, θ_k) exactly, whatever η; its distance from the truth at θ* is at most ‖C‖‖q*‖ρ^K.

Claims: field-neumann.
"""

from dataclasses import dataclass, field
from typing import final

from typing_extensions import override

from refblo.cost import counting
from refblo.estimators._single_loop import (
    LoopDirections,
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
class MRBO(WarmEstimator):
    """Momentum-based recursive bilevel optimisation.

    Args:
        step_size: γ > 0.
        scale: α > 0, of the series.
        terms: K ≥ 1.
        momentum: η in (0, 1]; 1 leaves the averages out.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    step_size: float
    scale: float
    terms: int
    momentum: float = 0.1
    name: str = field(default="MRBO", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        check_rate("step_size", self.step_size)
        check_rate("scale", self.scale)
        check_count("terms", self.terms)
        check_rate("momentum", self.momentum, 1.0)

    @override
    def advance(
        self, problem: BilevelProblem, lam: Lam, carried: WarmState, draws: Draws = SEED_ZERO
    ) -> tuple[Hypergradient, WarmState]:
        check_arguments(problem, lam, draws)
        lam, theta = lam.detach(), carried.theta
        batches = inner_batches(problem, draws, 0, self.terms + 1)
        outer = outer_batch(problem, draws, 0)
        with counting() as cost:
            average = by_series(problem, lam, theta, batches, outer, self.scale)
            if carried.memory:
                old = (carried.recall("lam"), carried.recall("theta"))
                before = by_series(problem, *old, batches, outer, self.scale)
                kept = LoopDirections(
                    carried.recall("inner average"), carried.q, carried.recall("average")
                )
                average = average.plus(kept.plus(before, -1.0), 1 - self.momentum)
        memory = {
            "lam": lam,
            "theta": theta,
            "inner average": average.theta,
            "average": average.lam,
        }
        moved = theta.sub(average.theta, alpha=self.step_size)
        return concluded(average.lam, WarmState(moved, carried.q, memory), 1, cost)
