"""The implicit truth by finite differences of λ ↦ f(λ, θ*(λ)), the inner problem solved anew each time.

θ* is found with gradients alone: scipy's BFGS from θ⁰ to a minimiser at the case's λ, then for each λ
around it a chord iteration that starts there. No second derivative is asked for anywhere; the Jacobian
that the chord iteration uses comes from differences, and decides how fast it converges, not where to.

Claims: field-implicit.
"""

from dataclasses import dataclass, field
from typing import final

import numpy as np
import scipy
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from refblo.derivatives import inner_gradient
from refblo.derivatives.differences import (
    Differences,
    batched_derivatives,
    random_directions,
)
from refblo.errors import OracleError, require
from refblo.noise import SEED_ZERO, Draws
from refblo.oracles._along import along_directions
from refblo.oracles.protocol import DirectionalTruth, check_applies, is_deterministic
from refblo.problem import BilevelProblem
from refblo.problems.case import Case
from refblo.types import ErrorKind, Estimand, Lam, Truth
from refblo.validation import check_arguments

Array = np.ndarray

_ROOT_STEP = float(np.finfo(np.float64).eps) ** (1 / 3)
"""Balances rounding against curvature in a central difference; it leaves two thirds of the digits."""
_SINGULAR = 1e-8
"""Eigenvalues of a Jacobian by such differences are zero up to this share of the largest."""
_CONVERGED = 1e-9
"""Of 1 + ‖θ‖: steps that stop shrinking above this are not rounding. What is left of them shows in the
measured noise of the objective."""
_ITERATIONS = 100
_CHUNK = 64
_REFINEMENTS = 20


@final
@dataclass(frozen=True)
class ImplicitDifference:
    """Central differences of the outer loss at the re-solved inner problem.

    Args:
        largest: the largest n · p that it is used for: some 25 p solves of some 10 gradients each;
            beyond it use `directional`.

    Raises:
        ArgumentError: if `largest` is less than 1.
    """

    largest: int = 5_000
    name: str = field(default="differences of the inner minimum", kw_only=True)

    def __post_init__(self) -> None:
        require(self.largest >= 1, "largest", "be at least 1", self.largest, "keep the default")

    def applies(self, case: Case, estimand: Estimand) -> bool:
        """For small problems whose losses see no batches."""
        if estimand is not Estimand.IMPLICIT or not is_deterministic(case.problem):
            return False
        n = case.problem.initial(case.lam.detach()).numel()
        return n * case.lam.numel() <= self.largest

    def truth(self, case: Case, estimand: Estimand, draws: Draws = SEED_ZERO) -> Truth:
        """The implicit hypergradient, shape (p,), with an estimated error.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a case that cannot be used.
            OracleError: if the inner problem is not solved at λ or around it.
        """
        check_applies(self, case, estimand)
        directions = torch.eye(case.lam.numel(), dtype=torch.float64)
        found = _differences(case, directions, draws)
        error = float(np.linalg.norm(found.errors))
        value = torch.as_tensor(found.values).to(case.lam)
        return Truth(value, error, ErrorKind.ESTIMATED, estimand, self.name)

    def directional(
        self, case: Case, count: int = 4, draws: Draws = SEED_ZERO
    ) -> tuple[DirectionalTruth, ...]:
        """The derivatives along `count` random directions of length 1, for any n and p.

        Raises:
            ArgumentError, ArgumentTypeError, LossError, OracleError: as `truth`.
        """
        require(count >= 1, "count", "be at least 1", count, "ask for at least one direction")
        require(
            is_deterministic(case.problem),
            "case",
            "have losses without batches, where the implicit truth is defined",
            case.name,
            "ask for an estimand of the program",
        )
        directions = random_directions(case.lam.numel(), count, draws)
        found = _differences(case, directions, draws)
        return along_directions(found, directions, case, Estimand.IMPLICIT, self.name)


def _differences(case: Case, directions: Tensor, draws: Draws) -> Differences:
    problem, lam = case.problem, case.lam.detach()
    check_arguments(problem, lam, draws)
    base = _minimiser(problem, lam)

    def values(points: Tensor) -> Array:
        lams = points.to(lam)
        thetas = torch.as_tensor(_roots(problem, lams, base)).to(lam)
        outer = torch.func.vmap(lambda at, theta: problem.outer(at, theta, None), chunk_size=_CHUNK)
        found: Array = np.asarray(outer(lams, thetas).cpu().double().numpy())
        return found

    precision = float(torch.finfo(lam.dtype).eps)
    return batched_derivatives(values, lam.cpu().double(), directions, draws, precision)


@final
@dataclass(frozen=True, eq=False)
class _Stationary:
    """θ* at one λ, and the inverse Jacobian of the gradient there, by differences: a preconditioner."""

    theta: Float64[Array, " n"]
    inverse: Float64[Array, "n n"]


def _minimiser(problem: BilevelProblem, lam: Lam) -> _Stationary:
    """θ* at λ: where a descent from θ⁰ ends, polished, and checked to be a minimiser."""
    start = problem.initial(lam).detach().cpu().double().numpy()

    def loss(theta: Array) -> float:
        return problem.inner(lam, torch.as_tensor(theta).to(lam), None).item()

    def gradient(theta: Array) -> Array:
        slope: Array = _gradients(problem, lam[None], theta[None])[0]
        return slope

    with np.errstate(all="ignore"):
        found = scipy.optimize.minimize(loss, start, jac=gradient, method="BFGS")
    theta = np.array(found.x, dtype=np.float64)
    for _ in range(_REFINEMENTS):
        if not np.isfinite(theta).all():
            break
        inverse = _inverse(_jacobian(problem, lam, theta))
        root = _roots(problem, lam[None], _Stationary(theta, inverse))[0]
        if np.isfinite(root).all():
            return _Stationary(root, _known_inverse(problem, lam, root))
        theta = theta - inverse @ gradient(theta)
    raise OracleError(
        "inner must have a minimiser that a descent from the initial point reaches, got none; start nearer "
        "to it, or check that it exists"
    )


def _roots(
    problem: BilevelProblem, lams: Float[Tensor, "k p"], near: _Stationary
) -> Float64[Array, "k n"]:
    """The zeros of ∂_θ L_T(λ, ·) near a point for k λ, to rounding; NaN where none is found.

    The chord iteration θ ← θ − J⁻¹ ∂_θ L_T(λ, θ) keeps the Jacobian of `near`: which J it is changes how
    fast it converges, not where to.
    """
    theta = np.tile(near.theta, (len(lams), 1))
    found = np.full_like(theta, np.nan)
    last, active = np.full(len(lams), np.inf), np.arange(len(lams))
    for _ in range(_ITERATIONS):
        step = _gradients(problem, lams[active], theta[active]) @ near.inverse.T
        size = np.linalg.norm(step, axis=1)
        shrinking = size < last[active]
        # Steps that no longer shrink are rounding, if they are small, and divergence if not.
        ended = active[~shrinking]
        settled = last[ended] <= _CONVERGED * (1 + np.linalg.norm(theta[ended], axis=1))
        found[ended[settled]] = theta[ended[settled]]
        active, step = active[shrinking], step[shrinking]
        theta[active], last[active] = theta[active] - step, size[shrinking]
        if active.size == 0:
            break
    return found


def _inverse(jacobian: Float64[Array, "n n"]) -> Float64[Array, "n n"]:
    """The inverse, once it is sure that the Jacobian is a positive definite Hessian.

    Raises:
        OracleError: if it is not, as far as differences can tell.
    """
    symmetric = (jacobian + jacobian.T) / 2
    eigenvalues, basis = np.linalg.eigh(symmetric)
    if not eigenvalues[0] > _SINGULAR * np.abs(eigenvalues).max():
        raise OracleError(
            f"inner must have a strict minimiser, got a Hessian with eigenvalues from {eigenvalues[0]:.3g} "
            f"to {eigenvalues[-1]:.3g} where the descent ended; the implicit hypergradient needs one"
        )
    inverse: Array = (basis / eigenvalues) @ basis.T
    return inverse


def _known_inverse(
    problem: BilevelProblem, lam: Lam, theta: Float64[Array, " n"]
) -> Float64[Array, "n n"]:
    """The inverse Jacobian at the minimiser, once two steps of differences agree on it.

    Raises:
        OracleError: where they do not: at a degenerate minimum, such as that of θ⁴, what differences give is
            the step and not the Jacobian.
    """
    jacobian = _jacobian(problem, lam, theta)
    inverse = _inverse(jacobian)
    change = float(np.linalg.norm(jacobian - _jacobian(problem, lam, theta, stretch=4.0), ord=2))
    # A change of less than the smallest eigenvalue leaves the Jacobian invertible; half of that is taken.
    if not 2 * change * float(np.linalg.norm(inverse, ord=2)) < 1:
        raise OracleError(
            "inner must have a strict minimiser, got a Hessian that differences cannot tell from a singular "
            "one; the implicit hypergradient needs one"
        )
    return inverse


def _jacobian(
    problem: BilevelProblem, lam: Lam, theta: Float64[Array, " n"], stretch: float = 1.0
) -> Float64[Array, "n n"]:
    """∂²L_T/∂θ² by central differences of the gradient."""
    step = stretch * _ROOT_STEP * max(1.0, float(np.linalg.norm(theta, ord=np.inf)))
    units = step * np.eye(theta.size)
    points = np.concatenate([theta + units, theta - units])
    shifted = _gradients(problem, lam.expand(len(points), -1), points)
    columns: Array = (shifted[: theta.size] - shifted[theta.size :]).T / (2 * step)
    return columns


def _gradients(
    problem: BilevelProblem, lams: Float[Tensor, "k p"], thetas: Float64[Array, "k n"]
) -> Float64[Array, "k n"]:
    """∂_θ L_T at k points (λ, θ)."""
    at = torch.as_tensor(thetas).to(lams)
    if len(thetas) == 1:
        found = inner_gradient(problem.inner, lams[0], at[0], None).unsqueeze(0)
    else:
        slope = torch.func.grad(lambda theta, lam: problem.inner(lam, theta, None))
        # In chunks, so that a batch of data for each of many points fits into memory.
        found = torch.func.vmap(slope, chunk_size=_CHUNK)(at, lams)
    gradients: Array = np.asarray(found.detach().cpu().double().numpy())
    return gradients
