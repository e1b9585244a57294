"""First-order MAML: MAML with every transition Jacobian replaced by the identity.

Estimates d/dλ f(λ, θ^T(λ)) by f_λ(θ^T) + J' f_θ(θ^T), J = dθ⁰/dλ (Finn et al. 2017, 5.2). Its error against
MAML, at a fixed number T of steps, is

    γ T (H J + C)' f_θ + O(γ²),

all at θ⁰: first order in the step size, and in the number of steps. No Hessian product.

Claims: field-fo-maml, field-nichol.
"""

from dataclasses import dataclass, field
from typing import final

from typing_extensions import override

from refblo.chain import Langevin, Schedule
from refblo.errors import require_integer
from refblo.estimators._meta import require_moving_start
from refblo.estimators.protocol import Estimator
from refblo.estimators.rmd import RMDFirstOrder
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam


@final
@dataclass(frozen=True)
class FOMAML(Estimator):
    """The outer gradient where the adaptation ends, taken for one where it starts.

    θ⁰ must depend on λ.

    Args:
        dynamics: the step rule of the adaptation.
        steps: T ≥ 1, adaptation steps.

    Raises:
        ArgumentError: if `steps` is less than 1.
    """

    dynamics: Langevin
    steps: int
    name: str = field(default="FO-MAML", kw_only=True)
    estimand: Estimand = field(default=Estimand.UNROLLED, init=False)

    def __post_init__(self) -> None:
        require_integer("steps", self.steps, 1, "run at least one inner step")

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        require_moving_start(problem)
        return RMDFirstOrder(self.dynamics, Schedule.last(self.steps)).estimate(problem, lam, draws)
