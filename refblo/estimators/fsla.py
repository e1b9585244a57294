"""FSLA: one step on θ, one on q, and momentum with a correction on the hypergradient.

Estimates the implicit hypergradient f_λ − f_θ·H⁻¹·C (Li, Gu and Huang 2022):

    θ ← θ − γ ∂_θ L_T(θ; ξ),      q ← q − α (H q − f_θ),
    d_k = D_k(ξ) + (1 − η)(d_{k−1} − D_{k−1}(ξ)),      D = f_λ − q·C,

with the same batch ξ in D_k and D_{k−1}, the latter at the last (λ, θ, q). Without noise d_k = D_k exactly,
whatever η: the momentum averages noise, and nothing else. Memory O(n + p): two points instead of one.

Claims: field-running-solve.
"""

from dataclasses import dataclass, field
from typing import final

from typing_extensions import override

from refblo.cost import counting
from refblo.estimators._single_loop import (
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
class FSLA(WarmEstimator):
    """The fully single-loop algorithm.

    Args:
        step_size: γ > 0, of θ.
        solve_step: α > 0, of q.
        momentum: η in (0, 1]; 1 leaves the average out.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    step_size: float
    solve_step: float
    momentum: float = 0.1
    name: str = field(default="FSLA", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        check_rate("step_size", self.step_size)
        check_rate("solve_step", self.solve_step)
        check_rate("momentum", self.momentum, 1.0)

    @override
    def advance(
        self, problem: BilevelProblem, lam: Lam, carried: WarmState, draws: Draws = SEED_ZERO
    ) -> tuple[Hypergradient, WarmState]:
        check_arguments(problem, lam, draws)
        lam, theta, q = lam.detach(), carried.theta, carried.q
        (batch,), outer = inner_batches(problem, draws, 0, 1), outer_batch(problem, draws, 0)
        with counting() as cost:
            found = simultaneous(problem, lam, theta, q, batch, outer)
            value = found.lam
            if carried.memory:
                old = (carried.recall("lam"), carried.recall("theta"), carried.recall("q"))
                before = simultaneous(problem, *old, batch, outer).lam
                value = value + (1 - self.momentum) * (carried.recall("average") - before)
        memory = {"lam": lam, "theta": theta, "q": q, "average": value}
        moved = theta.sub(found.theta, alpha=self.step_size)
        solved = q.sub(found.q, alpha=self.solve_step)
        return concluded(value, WarmState(moved, solved, memory), 1, cost)
