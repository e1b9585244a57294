"""Reptile: the way from where the adaptation starts to where it ends, taken for a gradient.

Computes J'(θ⁰ − θ^T)/γ, J = dθ⁰/dλ (Nichol et al. 2018), the sum of the T inner gradients along the way. It
never looks at the outer loss, so that it estimates none of the four truths; it is used in the place of the
unrolled hypergradient when the outer loss is of the inner one's kind. What it is, at a fixed T (there,
Section 5.1):

    J' [ Σ_{i<T} a_i − γ Σ_{i<T} H_i Σ_{j<i} a_j ] + O(γ²),

a_i and H_i the gradient and the Hessian at θ⁰ of the inner loss of step i; on full batches

    J' [ T a − γ (T(T − 1)/2) H a ] + O(γ²).

The second term, in the mean over batches that of −½ ∇‖a‖², is what makes it learn to adapt. No Hessian
product and no outer gradient.

Claims: field-nichol, field-reptile, text-stop-gradient.
"""

from dataclasses import dataclass, field
from typing import final

from typing_extensions import override

from refblo.chain import Chain, Langevin
from refblo.cost import counting
from refblo.derivatives import initial_vjp
from refblo.errors import require_integer
from refblo.estimators._meta import require_moving_start
from refblo.estimators.protocol import Estimator, conclude
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam
from refblo.validation import check_arguments


@final
@dataclass(frozen=True)
class Reptile(Estimator):
    """The displacement of the adaptation over its step size.

    θ⁰ must depend on λ.

    Args:
        dynamics: the step rule of the adaptation; its noise, if any, is part of the displacement.
        steps: T ≥ 1, adaptation steps; with one it is the gradient of the inner loss.

    Raises:
        ArgumentError: if `steps` is less than 1.
    """

    dynamics: Langevin
    steps: int
    name: str = field(default="Reptile", kw_only=True)
    estimand: Estimand = field(default=Estimand.UNROLLED, init=False)

    def __post_init__(self) -> None:
        require_integer("steps", self.steps, 1, "run at least one inner step")

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        require_moving_start(problem)
        lam = lam.detach()
        chain = Chain(problem, self.dynamics, draws)
        with counting() as cost:
            theta = chain.last(lam, self.steps)
            moved = (chain.initial(lam) - theta) / self.dynamics.step_size
            value = initial_vjp(problem.initial, lam, moved)
        return conclude(value, self.estimand, theta, chain, lam, self.steps, cost)
