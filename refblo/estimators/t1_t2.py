"""T1–T2: the hypergradient of one inner step.

Estimates, of the unrolled hypergradient, what the last transition alone contributes (Luketina et al. 2016),

    h = f_λ(θ^T) − γ f_θ(θ^T)·C(θ^{T−1}),

everything before θ^{T−1} taken as given: truncated RMD with one transition kept, without a Hessian
product. T = 1 with a warm start is the method as published.

Bias at θ*: f_θ·(H⁻¹ − γI)·C off the implicit hypergradient; its indirect term is γħ times what a scalar
Hessian ħ would give. Cost: T gradients, one outer gradient, one mixed product; memory O(n + p).

Claims: field-itd, field-neumann.
"""

from dataclasses import dataclass, field
from typing import final

from typing_extensions import override

from refblo.chain import Chain, Langevin
from refblo.cost import counting
from refblo.derivatives import inner_gradient_and_mixed, outer_gradients
from refblo.errors import require
from refblo.estimators.protocol import Estimator, conclude
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam
from refblo.validation import check_arguments


@final
@dataclass(frozen=True)
class T1T2(Estimator):
    """The one-step hypergradient.

    Args:
        dynamics: the step rule.
        steps: T ≥ 1, inner steps.

    Raises:
        ArgumentError: if `steps` is less than 1.
    """

    dynamics: Langevin
    steps: int = 1
    name: str = field(default="T1–T2", kw_only=True)
    estimand: Estimand = field(default=Estimand.UNROLLED, init=False)

    def __post_init__(self) -> None:
        require(
            self.steps >= 1, "steps", "be at least 1", self.steps, "run at least one inner step"
        )

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        lam = lam.detach()
        chain = Chain(problem, self.dynamics, draws)
        with counting() as cost:
            before = chain.last(lam, self.steps - 1)
            batch = chain.inner_batch(self.steps - 1)
            gradient, mixed = inner_gradient_and_mixed(problem.inner, lam, before, batch)
            theta = chain.advance(before, gradient, self.steps - 1)
            direct, slope = outer_gradients(
                problem.outer, lam, theta, chain.outer_batch(self.steps)
            )
            value = direct.sub(mixed(slope), alpha=self.dynamics.step_size)
        return conclude(value, self.estimand, theta, chain, lam, self.steps, cost)
