"""MAML: the exact hypergradient of a learnt initial point.

Estimates d/dλ f(λ, θ^T(λ)) for θ⁰ = θ⁰(λ) (Finn et al. 2017),

    f_λ(θ^T) + J' Π_{t<T} (I − γ H(θ^t)) f_θ(θ^T),   J = dθ⁰/dλ,

where the inner loss does not know λ; the general form is reverse mode's. It is reverse mode (`RMD`) under the
name of the field. No bias; with T inner steps, T Hessian products.

Claims: eq-49, field-nichol, text-maml.
"""

from dataclasses import dataclass, field
from typing import final

from typing_extensions import override

from refblo.chain import Langevin, Schedule
from refblo.errors import require_integer
from refblo.estimators._meta import require_moving_start
from refblo.estimators.protocol import Estimator
from refblo.estimators.rmd import RMD
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam


@final
@dataclass(frozen=True)
class MAML(Estimator):
    """Reverse mode through the adaptation, onto where it starts.

    θ⁰ must depend on λ.

    Args:
        dynamics: the step rule of the adaptation.
        steps: T ≥ 1, adaptation steps.

    Raises:
        ArgumentError: if `steps` is less than 1.
    """

    dynamics: Langevin
    steps: int
    name: str = field(default="MAML", kw_only=True)
    estimand: Estimand = field(default=Estimand.UNROLLED, init=False)

    def __post_init__(self) -> None:
        require_integer("steps", self.steps, 1, "run at least one inner step")

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        require_moving_start(problem)
        return RMD(self.dynamics, Schedule.last(self.steps)).estimate(problem, lam, draws)
