"""The Laplace approximation of the marginal likelihood, dense, as in LILA.

Estimates the gradient of −log Z(λ), Z = ∫ exp(−L_T(λ, θ)/τ) dθ: the marginal likelihood where L_T/τ is a
negative log joint density (Immer et al. 2022, who learn invariances so). With H = ∂²L_T/∂θ² at θ*,

    −log Z ≈ L_T(λ, θ*)/τ + ½ log det(H/τ) + constants,

whose gradient is an implicit hypergradient with that for an outer loss (`laplace`). Exact where L_T is
quadratic in θ. Published versions drop how log det H moves with θ*, and take the direct term alone:
`through_minimiser` says which. n² memory, n³ time: for small n. It is none of the four truths: it never
looks at the outer loss.

Claims: eq-5, field-implicit.
"""

from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from refblo.chain import Langevin, Schedule
from refblo.derivatives import PROCESS_LOCK
from refblo.errors import require_integer, require_real
from refblo.estimators.ift import IFTDense
from refblo.estimators.protocol import Estimator
from refblo.estimators.rmd import RMDFirstOrder
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Batch, Estimand, Hypergradient, Lam

__all__ = ["LaplaceEvidence", "laplace"]


def laplace(problem: BilevelProblem, temperature: float) -> BilevelProblem:
    """The problem whose outer loss is L_T/τ + ½ log det H, on the inner loss's batches.

    Args:
        problem: the problem.
        temperature: τ > 0.

    Raises:
        ArgumentError, ArgumentTypeError: if τ is not a positive number.
    """
    require_real("temperature", temperature, "choose a positive number")

    def outer(lam: Tensor, theta: Tensor, batch: Batch) -> Tensor:
        def inner(at: Tensor) -> Tensor:
            return problem.inner(lam, at, batch)

        with PROCESS_LOCK:  # forward mode
            hessian: Tensor = torch.func.hessian(inner)(theta)
        determinant: Tensor = torch.linalg.slogdet(hessian)[1]
        return inner(theta) / temperature + determinant / 2

    return replace(
        problem, outer=outer, outer_batches=problem.inner_batches, name=f"{problem.name}, evidence"
    )


@final
@dataclass(frozen=True)
class LaplaceEvidence(Estimator):
    """The gradient of the negative log marginal likelihood, by Laplace's approximation.

    The outer loss is not used. A singular H is reported as a divergence.

    Args:
        dynamics: the step rule, and τ.
        steps: T ≥ 1, inner steps towards θ*.
        through_minimiser: keep how θ* moves with λ; otherwise the direct term alone, as published.

    Raises:
        ArgumentError: if `steps` is less than 1.
    """

    dynamics: Langevin
    steps: int
    through_minimiser: bool = True
    name: str = field(default="Laplace evidence", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        require_integer("steps", self.steps, 1, "run at least one inner step")

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        stated = laplace(problem, self.dynamics.temperature)
        if self.through_minimiser:
            return IFTDense(self.dynamics, self.steps).estimate(stated, lam, draws)
        method = RMDFirstOrder(self.dynamics, Schedule.last(self.steps))
        return method.estimate(stated, lam, draws).of(self.estimand)
