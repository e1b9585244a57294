"""One objective for both: λ and θ go down L_T together, as in Augerino.

Computes ∂_λ L_T(λ, θ^T) (Benton et al. 2020, who learn augmentations so: one loss is taken for both). It
never looks at the outer loss: it estimates the gradient of V(λ) = min_θ L_T(λ, θ), which is the implicit
hypergradient of the problem with f = L_T (`joint`), since at θ* the indirect term vanishes with ∂_θ L_T.
Off θ* the error is C'(θ^T − θ*) + O(‖θ^T − θ*‖²), geometric in T. Of the bilevel problem with another f it
says nothing. No second derivative.

Claims: field-implicit.
"""

from dataclasses import dataclass, field, replace
from typing import final

from torch import Tensor
from typing_extensions import override

from refblo.chain import Langevin, Schedule
from refblo.errors import require_integer
from refblo.estimators.protocol import Estimator
from refblo.estimators.rmd import RMDFirstOrder
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Batch, Estimand, Hypergradient, Lam

__all__ = ["JointObjective", "joint"]


def joint(problem: BilevelProblem) -> BilevelProblem:
    """The problem whose outer loss is its inner loss, on the inner loss's batches."""

    def outer(lam: Tensor, theta: Tensor, batch: Batch) -> Tensor:
        return problem.inner(lam, theta, batch)

    return replace(
        problem, outer=outer, outer_batches=problem.inner_batches, name=f"{problem.name}, joint"
    )


@final
@dataclass(frozen=True)
class JointObjective(Estimator):
    """The gradient in λ of the loss that θ goes down.

    The outer loss is not used.

    Args:
        dynamics: the step rule.
        steps: T ≥ 1, inner steps before the gradient in λ is taken; with one, both move in turn.

    Raises:
        ArgumentError: if `steps` is less than 1.
    """

    dynamics: Langevin
    steps: int
    name: str = field(default="joint objective", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        require_integer("steps", self.steps, 1, "run at least one inner step")

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        method = RMDFirstOrder(self.dynamics, Schedule.last(self.steps))
        return method.estimate(joint(problem), lam, draws).of(self.estimand)
