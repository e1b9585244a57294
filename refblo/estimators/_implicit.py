"""What the implicit estimators share: everything but the solve for q = H⁻¹ f_θ."""

from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch

from refblo.chain import Chain, Langevin
from refblo.cost import counting
from refblo.derivatives import MixedProduct, hessian_and_mixed_products, outer_gradients
from refblo.estimators.protocol import conclude, is_finite
from refblo.noise import Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam, Status, Theta
from refblo.validation import check_arguments


@final
@dataclass(frozen=True, eq=False)
class Solve:
    """The outcome of one of the solves for q."""

    q: Theta
    status: Status
    diverged_at: int | None = None


@runtime_checkable
class Solver(Protocol):
    """An implicit estimator: an inner run, and a way to solve for q."""

    @property
    def dynamics(self) -> Langevin:
        """The step rule of the inner run."""
        ...

    @property
    def steps(self) -> int:
        """T, inner steps."""
        ...

    @property
    def estimand(self) -> Estimand:
        """What it estimates."""
        ...

    def solve(self, hessian: MixedProduct, rhs: Theta) -> Solve:
        """Q with H q = rhs, from the function v ↦ H v."""
        ...


@runtime_checkable
class ImplicitParts(Protocol):
    """How the parts of an implicit estimate are computed."""

    def last(self, chain: Chain, lam: Lam, steps: int) -> Theta:
        """θ^T."""
        ...

    def slopes(self, chain: Chain, lam: Lam, theta: Theta, step: int) -> tuple[Lam, Theta, bool]:
        """∂_λ f and ∂_θ f at θ^step, and whether they and it are finite."""
        ...

    def adjoint(
        self, method: Solver, chain: Chain, lam: Lam, theta: Theta, step: int, rhs: Theta
    ) -> tuple[Solve, MixedProduct]:
        """The solve for q with H at θ^step, and the function q ↦ q·C, to be used at most once."""
        ...


@final
@dataclass(frozen=True)
class AsWritten:
    """The parts, operation by operation."""

    def last(self, chain: Chain, lam: Lam, steps: int) -> Theta:
        """θ^T."""
        return chain.last(lam, steps)

    def slopes(self, chain: Chain, lam: Lam, theta: Theta, step: int) -> tuple[Lam, Theta, bool]:
        """∂_λ f and ∂_θ f at θ^step, and whether they and it are finite."""
        direct, slope = outer_gradients(chain.problem.outer, lam, theta, chain.outer_batch(step))
        return direct, slope, is_finite(theta) and is_finite(direct) and is_finite(slope)

    def adjoint(
        self, method: Solver, chain: Chain, lam: Lam, theta: Theta, step: int, rhs: Theta
    ) -> tuple[Solve, MixedProduct]:
        """The solve and the product, on one graph where that can be."""
        hessian, mixed = hessian_and_mixed_products(
            chain.problem.inner, lam, theta, chain.inner_batch(step)
        )
        return method.solve(hessian, rhs), mixed


AS_WRITTEN = AsWritten()


def implicit(
    method: Solver,
    problem: BilevelProblem,
    lam: Lam,
    draws: Draws,
    parts: ImplicitParts = AS_WRITTEN,
) -> Hypergradient:
    """f_λ − q·C at θ^T, with q ≈ H⁻¹ f_θ from the method's solve.

    Args:
        method: the solve.
        problem: the bilevel problem.
        lam: λ, shape (p,).
        draws: the run's randomness.
        parts: how its parts are computed.

    Raises:
        ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
        MissingProductError: if a second-order product cannot be formed.
    """
    check_arguments(problem, lam, draws)
    lam = lam.detach()
    steps = method.steps
    chain = Chain(problem, method.dynamics, draws)
    with counting() as cost:
        theta = parts.last(chain, lam, steps)
        direct, slope, finite = parts.slopes(chain, lam, theta, steps)
        if not finite:
            return conclude(lam * torch.nan, method.estimand, theta, chain, lam, steps, cost)
        solve, mixed = parts.adjoint(method, chain, lam, theta, steps, slope)
        if not is_finite(solve.q):
            status, at = Status.SERIES_DIVERGED, solve.diverged_at or 0
            return Hypergradient(None, method.estimand, theta, status, at, cost=cost)
        value = direct - mixed(solve.q)
        if not is_finite(value):
            return conclude(value, method.estimand, theta, chain, lam, steps, cost)
    return Hypergradient(value, method.estimand, theta, solve.status, solve.diverged_at, cost=cost)
