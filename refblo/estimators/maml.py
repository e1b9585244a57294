"""MAML: the exact hypergradient of a learnt initial point.

Estimates d/dλ f(λ, θ^T(λ)) for θ⁰ = θ⁰(λ) (Finn et al. 2017),

    f_λ(θ^T) + J' Π_{t<T} (I − γ H(θ^t)) f_θ(θ^T),   J = dθ⁰/dλ,

where the inner loss does not know λ; the general form is reverse mode's. It is reverse mode (`RMD`) under the
name of the field. No bias; with T inner steps, T Hessian products.
"""

from dataclasses import dataclass, field
from typing import final

from refblo.chain import Langevin, Schedule
from refblo.errors import require_integer
from refblo.estimators._meta import require_moving_start
from refblo.estimators.rmd import RMD
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam


@final
@dataclass(frozen=True)
class MAML:
    """Reverse mode through the adaptation, onto where it starts.

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

    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        """The hypergradient at λ, shape (p,).

        Args:
            problem: the bilevel problem, with a θ⁰ that depends on λ.
            lam: λ, shape (p,).
            draws: the run's randomness.

        Returns:
            The estimate; its status says whether the chain diverged, and at which step.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
            MissingProductError: if a second-order product cannot be formed.
        """
        require_moving_start(problem)
        return RMD(self.dynamics, Schedule.last(self.steps)).estimate(problem, lam, draws)
