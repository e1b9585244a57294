"""A head in closed form: the inner loss is quadratic in θ, so one Newton step is its minimiser.

Estimates the implicit hypergradient d/dλ f(λ, θ*(λ)) of such a problem exactly (Franceschi et al. 2018,
Section 5.1, for ridge heads on a learnt representation; with class means for heads, Snell et al. 2017):

    θ* = θ⁰ − H⁻¹ ∂_θ L_T(λ, θ⁰),

    reverse   f_λ − q·C,   H q = f_θ,         one solve,
    forward   f_λ + f_θ·Z, H Z = −C,          p solves,

C at θ*. One factorisation of H (n² memory, n³ time) serves all of them; no inner run. No bias.

Claims: field-implicit, franceschi-representation.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import final

import torch
from typing_extensions import override

from refblo.chain import Chain, Langevin
from refblo.cost import counting, decide
from refblo.derivatives import (
    gradient_and_tangents,
    inner_gradient,
    mixed_product,
    outer_gradients,
)
from refblo.errors import require_member
from refblo.estimators.protocol import Estimator, finite
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Ending, Estimand, Hypergradient, Lam, Status
from refblo.validation import check_arguments, check_vector


class Direction(Enum):
    """Which way the closed form is differentiated."""

    REVERSE = "reverse"
    FORWARD = "forward"


@final
@dataclass(frozen=True)
class ClosedFormHead(Estimator):
    """The minimiser by one factorisation, and its derivative by the same.

    The inner loss must be quadratic and strictly convex in θ: the status is a divergence where H is singular,
    and NOT_CONVERGED where one Newton step leaves a gradient. Batches are the first of each loss.

    Args:
        direction: reverse takes one solve, forward one for each hyperparameter.

    Raises:
        ArgumentTypeError: if the direction is no `Direction`.
    """

    direction: Direction = Direction.REVERSE
    name: str = field(default="closed-form head", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        require_member("direction", self.direction, Direction)

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        lam = lam.detach()
        # The step rule moves nothing: a chain is where batches come from.
        chain = Chain(problem, Langevin(1.0), draws)
        batch, start = chain.inner_batch(0), chain.initial(lam)
        n, p = start.numel(), lam.numel()
        eye = torch.eye(n + p, dtype=lam.dtype, device=lam.device)
        with counting() as cost:
            gradient, hessian = gradient_and_tangents(
                problem.inner, lam, start, batch, eye[:p, p:], eye[p:, p:]
            )
            factor, failed = torch.linalg.cholesky_ex(hessian)
            solvable = (failed == 0) & finite(factor)
            newton = start - torch.cholesky_solve(gradient[:, None], factor)[:, 0]
            theta = torch.where(solvable, newton, start)
            left = inner_gradient(problem.inner, lam, theta, batch)
            direct, slope = outer_gradients(problem.outer, lam, theta, chain.outer_batch(1))
            if self.direction is Direction.REVERSE:
                q = torch.cholesky_solve(slope[:, None], factor)[:, 0]
                value = direct - mixed_product(problem.inner, lam, theta, batch, q)
            else:
                still = torch.zeros(n, p, dtype=lam.dtype, device=lam.device)
                _, mixed = gradient_and_tangents(
                    problem.inner, lam, theta, batch, eye[:p, :p], still
                )
                value = direct - slope @ torch.cholesky_solve(mixed, factor)
        # Rounding leaves a part of the gradients that is far below the root of the precision, and a
        # Newton step on anything that is not quadratic far above it, unless it started at the minimiser.
        size = torch.linalg.vector_norm(gradient) + torch.linalg.matrix_norm(
            hessian
        ) * torch.linalg.vector_norm(theta)
        allowed = torch.finfo(lam.dtype).eps ** 0.5 * size
        solved = torch.linalg.vector_norm(left) <= allowed
        flags = torch.stack((solvable, finite(value), solved))

        def look() -> Ending:
            if decide(flags.all(), without_numbers=True):
                return Ending(value)
            check_vector("lam", lam)
            check_vector("initial(lam)", start)
            if not flags[0]:
                return Ending(None, Status.SERIES_DIVERGED, 0)
            if not flags[1]:
                return Ending(None, Status.OUTER_NOT_FINITE, 1)
            return Ending(value, Status.NOT_CONVERGED)

        return Hypergradient.later(self.estimand, theta, cost, look)
