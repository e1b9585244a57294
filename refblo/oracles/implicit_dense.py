"""The implicit truth by dense linear algebra: θ* by Newton's method, H and C by forward mode, one solve.

    d/dλ f(λ, θ*(λ)) = f_λ − C' q,   H q = f_θ,   all at θ* with ∂_θ L_T(λ, θ*) = 0.

The error is an a-posteriori estimate with u the unit roundoff, σ the smallest eigenvalue of H, κ = ‖H‖/σ
and h(θ) the formula above as a function of θ:

    ‖h(θ̂ + δ) − h(θ̂)‖ at |δ| = (‖g(θ̂)‖ + u n ‖H‖‖θ̂‖) / σ        what is left of the inner problem
    + ‖C‖ ‖H q − f_θ‖ / σ                                          the residual of the solve
    + u (n + p) (‖f_λ‖ + ‖C‖ ‖q‖ (1 + κ) + ‖C‖ ‖f_θ‖ / σ)          rounding in H, C and the slopes.

The first is taken for random directions of δ, magnified to where the difference can be resolved.

Claims: field-implicit.
"""

import math
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.derivatives import gradient_and_tangents, outer_directional
from refblo.errors import OracleError, require
from refblo.noise import SEED_ZERO, Draws, Stream
from refblo.oracles.protocol import check_applies, is_deterministic
from refblo.problem import BilevelProblem
from refblo.problems.case import Case
from refblo.types import ErrorKind, Estimand, Lam, Theta, Truth
from refblo.validation import check_arguments

_DIRECTIONS = 4
_SAFETY = 2.0
"""A random direction of δ in n dimensions misses the worst one; the largest of four is doubled."""


@final
@dataclass(frozen=True, eq=False)
class Stationary:
    """The inner problem at a point, all dense.

    Attributes:
        theta: shape (n,).
        gradient: ∂_θ L_T, shape (n,).
        hessian: H, shape (n, n).
        mixed: C, shape (n, p).
    """

    theta: Float[Tensor, " n"]
    gradient: Float[Tensor, " n"]
    hessian: Float[Tensor, "n n"]
    mixed: Float[Tensor, "n p"]


@final
@dataclass(frozen=True)
class ImplicitDense:
    """A dense Newton iteration from θ⁰ and a dense solve.

    Args:
        max_steps: Newton steps before it gives up.
        largest: the largest n that it is used for: H is stored, and n + p tangents at once.

    Raises:
        ArgumentError: if one of them is less than 1.
    """

    max_steps: int = 200
    largest: int = 2000
    name: str = field(default="dense implicit solve", kw_only=True)

    def __post_init__(self) -> None:
        require(
            self.max_steps >= 1,
            "max_steps",
            "be at least 1",
            self.max_steps,
            "give a larger number",
        )
        require(self.largest >= 1, "largest", "be at least 1", self.largest, "give a larger number")

    def applies(self, case: Case, estimand: Estimand) -> bool:
        """For losses without batches, up to `largest` inner parameters."""
        if estimand is not Estimand.IMPLICIT or not is_deterministic(case.problem):
            return False
        return case.problem.initial(case.lam.detach()).numel() <= self.largest

    def truth(self, case: Case, estimand: Estimand, draws: Draws = SEED_ZERO) -> Truth:
        """The implicit hypergradient, shape (p,), with the estimate above as its error.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a case that cannot be used.
            OracleError: if Newton's method does not converge or H is singular at θ*.
        """
        check_applies(self, case, estimand)
        problem, lam = case.problem, case.lam.detach()
        check_arguments(problem, lam, draws)
        at = newton(problem, lam, self.max_steps)
        unit = float(torch.finfo(lam.dtype).eps) / 2
        n, p = at.mixed.shape
        eigenvalues = torch.linalg.eigvalsh((at.hessian + at.hessian.T) / 2)
        smallest, largest = float(eigenvalues[0]), float(eigenvalues.abs().max())
        if smallest <= n * 2 * unit * largest:
            raise OracleError(
                f"inner must have a positive definite Hessian at theta*, got eigenvalues from {smallest:.3g} "
                f"to {largest:.3g}; the implicit hypergradient needs a strict minimiser"
            )
        value, q, direct, slope = _formula(problem, lam, at)
        size = float(torch.linalg.vector_norm(at.theta))
        left = float(torch.linalg.vector_norm(at.gradient)) + unit * n * largest * size
        moved = self._sensitivity(problem, lam, at, value, draws) * left / smallest
        mixed = float(torch.linalg.matrix_norm(at.mixed))
        residual = float(torch.linalg.vector_norm(at.hessian @ q - slope))
        rounding = float(torch.linalg.vector_norm(direct)) + mixed * (
            float(torch.linalg.vector_norm(q)) * (1 + largest / smallest)
            + float(torch.linalg.vector_norm(slope)) / smallest
        )
        error = moved + mixed * residual / smallest + unit * (n + p) * rounding
        return Truth(value, error, ErrorKind.ESTIMATED, estimand, self.name)

    def _sensitivity(
        self, problem: BilevelProblem, lam: Lam, at: Stationary, value: Lam, draws: Draws
    ) -> float:
        """‖dh/dθ‖ at θ*, estimated from differences along random directions."""
        # The cube root of the roundoff balances rounding against curvature in such a difference.
        step = float(torch.finfo(lam.dtype).eps) ** (1 / 3)
        step *= max(1.0, float(torch.linalg.vector_norm(at.theta)))
        slopes: list[float] = []
        for index in range(_DIRECTIONS):
            direction = draws.normal(Stream.DIRECTIONS, index + 2, at.theta)
            direction = direction / torch.linalg.vector_norm(direction)
            shifted, _, _, _ = _formula(
                problem, lam, stationary(problem, lam, at.theta + step * direction)
            )
            slopes.append(float(torch.linalg.vector_norm(shifted - value)) / step)
        return _SAFETY * max(slopes) * math.sqrt(at.theta.numel())


def stationary(problem: BilevelProblem, lam: Lam, theta: Theta) -> Stationary:
    """The gradient, H and C at a point, by one forward-over-reverse pass with n + p tangents."""
    n, p = theta.numel(), lam.numel()
    eye = torch.eye(n + p, dtype=lam.dtype, device=lam.device)
    s, u = eye[:n], eye[n:]
    gradient, tangents = gradient_and_tangents(problem.inner, lam, theta, None, u, s)
    return Stationary(theta, gradient, tangents[:, :n], tangents[:, n:])


def newton(problem: BilevelProblem, lam: Lam, max_steps: int) -> Stationary:
    """A minimiser of L_T(λ, ·) to rounding, by damped Newton steps from θ⁰.

    H is shifted until it is positive definite and steps are halved until the loss falls, so that the
    iteration goes down. It ends when a full step no longer makes the gradient smaller.

    Raises:
        OracleError: if that takes more than `max_steps` steps.
    """
    at = stationary(problem, lam, problem.initial(lam).detach())
    loss = float(problem.inner(lam, at.theta, None))
    tolerance = float(torch.finfo(lam.dtype).eps) ** 0.5
    for _ in range(max_steps):
        step = _descent(at)
        size = float(torch.linalg.vector_norm(step))
        if size <= tolerance * (1 + float(torch.linalg.vector_norm(at.theta))):
            # Quadratic convergence from here: the loss is flat to rounding, the gradient is not.
            after = stationary(problem, lam, at.theta - step)
            if not float(after.gradient.norm()) < float(at.gradient.norm()):
                return at
            at = after
            loss = float(problem.inner(lam, at.theta, None))
            continue
        slope, fraction = float(at.gradient @ step), 1.0
        candidate = at.theta - step
        # Armijo's condition with the customary share of the predicted decrease.
        while not float(problem.inner(lam, candidate, None)) <= loss - 1e-4 * fraction * slope:
            fraction /= 2
            if fraction < tolerance:
                raise _no_minimiser(max_steps)
            candidate = at.theta - fraction * step
        at = stationary(problem, lam, candidate)
        loss = float(problem.inner(lam, candidate, None))
    raise _no_minimiser(max_steps)


def _no_minimiser(max_steps: int) -> OracleError:
    return OracleError(
        f"inner must have a minimiser that Newton's method reaches from the initial point within max_steps = "
        f"{max_steps} steps, got none; start nearer to it, allow more steps, or check that it exists"
    )


def _descent(at: Stationary) -> Theta:
    """(H + μ I)⁻¹ g with the first μ = 0, 2^−10 ‖H‖, 2^−8 ‖H‖, … for which H + μ I is positive definite."""
    scale = float(torch.linalg.matrix_norm(at.hessian))
    eye = torch.eye(at.theta.numel(), dtype=at.theta.dtype, device=at.theta.device)
    shift = 0.0
    while shift <= 4 * scale + 1:
        factor, failed = torch.linalg.cholesky_ex(at.hessian + shift * eye)
        if not bool(failed) and bool(torch.isfinite(factor).all()):
            return torch.cholesky_solve(at.gradient.unsqueeze(1), factor).squeeze(1)
        shift = 4 * shift if shift > 0 else (scale / 1024 or 1.0)
    raise OracleError(
        "inner must have finite second derivatives, got a Hessian that is not finite; lower the distance of "
        "the initial point to the minimiser, or check that there is one"
    )


def _formula(problem: BilevelProblem, lam: Lam, at: Stationary) -> tuple[Lam, Theta, Lam, Theta]:
    """(f_λ − C'q, q, f_λ, f_θ)."""
    direct, slope = outer_slopes(problem, lam, at.theta)
    q, failed = torch.linalg.solve_ex(at.hessian, slope)
    if bool(failed):
        raise OracleError(
            "inner must have an invertible Hessian at theta*, got a singular one; the implicit hypergradient "
            "needs a strict minimiser"
        )
    return direct - at.mixed.T @ q, q, direct, slope


def outer_slopes(problem: BilevelProblem, lam: Lam, theta: Theta) -> tuple[Lam, Theta]:
    """(f_λ, f_θ) by forward mode."""
    p, n = lam.numel(), theta.numel()
    eye = torch.eye(p + n, dtype=lam.dtype, device=lam.device)

    def one(direction: Tensor) -> Tensor:
        return outer_directional(problem.outer, lam, theta, None, direction[:p], direction[p:])

    slopes: Tensor = torch.func.vmap(one)(eye)
    return slopes[:p], slopes[p:]
