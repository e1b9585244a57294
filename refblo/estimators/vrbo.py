"""VRBO: recursive differences, refreshed from a large batch every few outer steps.

Estimates the implicit hypergradient f_λ − f_θ·H⁻¹·C (Yang, Ji and Liang 2021, Algorithm 2). Every P-th call

    v, u = means over R batches of ∂_θ L_T(λ_k, θ_k) and of h(λ_k, θ_k);

in between, and along m inner steps at each call, both move by differences on one batch ξ,

    v ← v + ∂_θ L_T(new; ξ) − ∂_θ L_T(old; ξ),      u ← u + h(new; ξ) − h(old; ξ),      θ ← θ − γ v,

with h the hypergradient of stocBiO's K-term series. Without noise v and u are the gradient and h at the
current point exactly; the distance of h from the truth at θ* is at most ‖C‖‖q*‖ρ^K.

Claims: field-neumann.
"""

from dataclasses import dataclass, field
from typing import final

import torch
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
from refblo.types import Estimand, Hypergradient, Lam, Theta
from refblo.validation import check_arguments


@final
@dataclass(frozen=True)
class VRBO(WarmEstimator):
    """Variance-reduced bilevel optimisation.

    Args:
        step_size: γ > 0.
        scale: α > 0, of the series.
        terms: K ≥ 1.
        steps: m ≥ 1, inner steps a call.
        period: P ≥ 1, calls from one refreshment to the next.
        refresh: R ≥ 1, batches that a refreshment averages over.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    step_size: float
    scale: float
    terms: int
    steps: int = 3
    period: int = 3
    refresh: int = 8
    name: str = field(default="VRBO", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        check_rate("step_size", self.step_size)
        check_rate("scale", self.scale)
        for name in ("terms", "steps", "period", "refresh"):
            check_count(name, getattr(self, name))

    @override
    def advance(
        self, problem: BilevelProblem, lam: Lam, carried: WarmState, draws: Draws = SEED_ZERO
    ) -> tuple[Hypergradient, WarmState]:
        check_arguments(problem, lam, draws)
        lam, theta = lam.detach(), carried.theta
        calls = int(carried.memory["calls"]) if carried.memory else 0
        with counting() as cost:
            if calls % self.period == 0:
                found = [self._series(problem, lam, theta, draws, r) for r in range(self.refresh)]
                now = found[0]
                for other in found[1:]:
                    now = now.plus(other, 1.0)
                nothing = now.plus(now, -1.0)
                now = nothing.plus(now, 1 / self.refresh)
            else:
                last = (carried.recall("lam"), carried.recall("theta"))
                kept = LoopDirections(carried.recall("inner"), carried.q, carried.recall("outer"))
                now = self._moved(problem, kept, last, (lam, theta), draws, self.refresh)
            for step in range(self.steps):
                new = theta.sub(now.theta, alpha=self.step_size)
                number = self.refresh + 1 + step
                now = self._moved(problem, now, (lam, theta), (lam, new), draws, number)
                theta = new
        memory = {
            "lam": lam,
            "theta": theta,
            "inner": now.theta,
            "outer": now.lam,
            "calls": torch.tensor(calls + 1),
        }
        return concluded(now.lam, WarmState(theta, carried.q, memory), self.steps, cost)

    def _series(
        self, problem: BilevelProblem, lam: Lam, theta: Theta, draws: Draws, number: int
    ) -> LoopDirections:
        """The gradient and the series' hypergradient on the `number`-th set of batches."""
        batches = inner_batches(problem, draws, number * (self.terms + 1), self.terms + 1)
        outer = outer_batch(problem, draws, number)
        return by_series(problem, lam, theta, batches, outer, self.scale)

    def _moved(
        self,
        problem: BilevelProblem,
        kept: LoopDirections,
        old: tuple[Lam, Theta],
        new: tuple[Lam, Theta],
        draws: Draws,
        number: int,
    ) -> LoopDirections:
        """What is kept, plus the difference between two points on the same batches."""
        difference = self._series(problem, *new, draws, number).plus(
            self._series(problem, *old, draws, number), -1.0
        )
        return kept.plus(difference, 1.0)
