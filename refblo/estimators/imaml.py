"""Implicit MAML: an adaptation that is held near where it starts, differentiated where it ends.

The adaptation minimises the inner loss with a proximal term (Rajeswaran et al. 2019),

    G(λ, θ) = L_T(λ, θ) + (ρ/2) ‖θ − θ⁰(λ)‖²,

and the implicit hypergradient at its minimiser θ* is (there, Lemma 1, for an L_T that does not know λ)

    f_λ + J' (I + H/ρ)⁻¹ f_θ,   H = ∂²L_T/∂θ²,   J = dθ⁰/dλ,

with the solve done by conjugate gradients: K products with H. It is implicit differentiation by conjugate
gradients (`IFTConjugateGradient`) of `proximal(problem, ρ)`, whose mixed derivative is C − ρJ. Bias:
O(‖θ^T − θ*‖), and geometric in K with the rate (√κ − 1)/(√κ + 1), κ = (λ_max + ρ)/(λ_min + ρ).

Claims: field-imaml.
"""

from dataclasses import dataclass, field, replace
from typing import final

from torch import Tensor
from typing_extensions import override

from refblo.chain import Langevin
from refblo.errors import require_integer, require_real
from refblo.estimators._meta import require_moving_start
from refblo.estimators.ift import IFTConjugateGradient
from refblo.estimators.protocol import Estimator
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Batch, Estimand, Hypergradient, Lam

__all__ = ["IMAML", "proximal"]


def proximal(problem: BilevelProblem, strength: float) -> BilevelProblem:
    """The problem with (ρ/2)‖θ − θ⁰(λ)‖² added to its inner loss.

    Args:
        problem: the problem; its θ⁰(λ) must be differentiable by autograd.
        strength: ρ > 0.

    Raises:
        ArgumentError, ArgumentTypeError: if ρ is not a positive number.
    """
    require_real("strength", strength, "choose a positive number")

    def inner(lam: Tensor, theta: Tensor, batch: Batch) -> Tensor:
        away = theta - problem.initial(lam)
        return problem.inner(lam, theta, batch) + strength / 2 * (away @ away)

    return replace(problem, inner=inner, name=f"{problem.name}, proximal")


@final
@dataclass(frozen=True)
class IMAML(Estimator):
    """Implicit differentiation, by conjugate gradients, of a proximal adaptation.

    The problem is given without its proximal term, and its θ⁰ must depend on λ. A direction of non-positive
    curvature is reported as a divergence, and NOT_CONVERGED means that all K iterations were used.

    Args:
        dynamics: the step rule of the adaptation, on G.
        steps: T ≥ 1, adaptation steps.
        iterations: K ≥ 1, the most CG iterations.
        strength: ρ > 0, of the proximal term.
        tolerance: stop when ‖residual‖ ≤ tolerance · ‖f_θ‖.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    dynamics: Langevin
    steps: int
    iterations: int
    strength: float
    tolerance: float = 0.0
    name: str = field(default="iMAML", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        require_integer("steps", self.steps, 1, "run at least one inner step")
        require_integer("iterations", self.iterations, 1, "allow at least one iteration")
        require_real("strength", self.strength, "choose a positive number")
        require_real("tolerance", self.tolerance, "use 0 for none", positive=False)

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        require_moving_start(problem)
        method = IFTConjugateGradient(
            self.dynamics, self.steps, self.iterations, tolerance=self.tolerance
        )
        return method.estimate(proximal(problem, self.strength), lam, draws)
