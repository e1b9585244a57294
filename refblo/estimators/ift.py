"""Implicit differentiation at the last iterate of an inner run.

Estimates the implicit hypergradient d/dλ f(λ, θ*(λ)) = f_λ − f_θ·H⁻¹·C, with H and C taken at
θ^T instead of θ*, and the solve H q = f_θ done by

- a Neumann series (Lorraine et al. 2020): q = α Σ_{j<K} (I − αH)^j f_θ, error geometric in K with rate
  max|1 − α·eig(H)|, if that is below 1;
- conjugate gradients (Rajeswaran et al. 2019) on H + δI, error geometric in K with rate
  (√κ − 1)/(√κ + 1);
- a dense factorisation, exact up to rounding.

Bias: θ^T ≠ θ*, which adds O(‖θ^T − θ*‖).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import final

import torch

from refblo.chain import Chain, Langevin
from refblo.cost import counting, decide
from refblo.derivatives import (
    MixedProduct,
    hessian_product_function,
    mixed_product,
    outer_gradients,
)
from refblo.errors import require_integer, require_real
from refblo.estimators._run import conclude, is_finite
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Batch, Estimand, Hypergradient, Lam, Loss, Status, Theta
from refblo.validation import check_arguments


class NeumannScaling(Enum):
    """The two scalings of the Neumann series that are in print."""

    SCALED = "q = α Σ (I − αH)^j f_θ"
    """With the factor α: converges to H⁻¹ f_θ (Lorraine et al. 2020, the series as derived)."""

    UNSCALED = "q = Σ (I − αH)^j f_θ"
    """Without it: converges to H⁻¹ f_θ / α; what Table 2 of Kim and Hospedales needs."""


@final
@dataclass(frozen=True, eq=False)
class Solve:
    """The outcome of one of the solves for q."""

    q: Theta
    status: Status
    diverged_at: int | None = None


@final
@dataclass(frozen=True)
class IFTNeumann:
    """Implicit differentiation with a truncated Neumann series.

    Args:
        dynamics: the step rule of the inner run.
        steps: T ≥ 1, inner steps.
        scale: α > 0.
        terms: K ≥ 1, terms of the series (K − 1 Hessian products).
        scaling: with or without the leading factor α.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    dynamics: Langevin
    steps: int
    scale: float
    terms: int
    scaling: NeumannScaling = NeumannScaling.SCALED
    name: str = field(default="IFT-Neumann", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        require_integer("steps", self.steps, 1, "run at least one inner step")
        require_real("scale", self.scale, "choose α below 2 / (largest eigenvalue of H)")
        require_integer("terms", self.terms, 1, "keep at least one term")

    def solve(self, hessian: MixedProduct, rhs: Theta) -> Solve:
        """The truncated series; its terms' norms are looked at once, at the end."""
        term, total = rhs, rhs.clone()
        norms = [torch.linalg.vector_norm(term)]
        for _ in range(self.terms - 1):
            term = term.sub(hessian(term), alpha=self.scale)
            norms.append(torch.linalg.vector_norm(term))
            total.add_(term)
        if self.scaling is NeumannScaling.SCALED:
            total.mul_(self.scale)
        sizes = torch.stack(norms)
        # Rounding alone may let the terms of a singular H, which stay as they are, grow by this much.
        limit = sizes[0] * (1 + self.terms * torch.finfo(rhs.dtype).eps)
        grown = ~(sizes <= limit)  # a norm that is not a number counts as grown
        if decide(grown[-1], without_numbers=False):
            # Finite or not, the sum is dominated by its last terms: the series has no limit.
            return Solve(total, Status.SERIES_DIVERGED, int(grown.nonzero()[0]))
        return Solve(total, Status.COMPLETED)

    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        """The hypergradient estimate at λ, shape (p,).

        Args:
            problem: the bilevel problem.
            lam: λ, shape (p,).
            draws: the run's randomness.

        Returns:
            The estimate; its status says whether the chain or the series diverged, and where.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
            MissingProductError: if a second-order product cannot be formed.
        """
        return implicit(self, problem, lam, draws)


@final
@dataclass(frozen=True)
class IFTConjugateGradient:
    """Implicit differentiation with conjugate gradients on H + δI.

    Args:
        dynamics: the step rule of the inner run.
        steps: T ≥ 1, inner steps.
        iterations: K ≥ 1, the most CG iterations.
        damping: δ ≥ 0.
        tolerance: stop when ‖residual‖ ≤ tolerance · ‖f_θ‖.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    dynamics: Langevin
    steps: int
    iterations: int
    damping: float = 0.0
    tolerance: float = 0.0
    name: str = field(default="IFT-CG", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        require_integer("steps", self.steps, 1, "run at least one inner step")
        require_integer("iterations", self.iterations, 1, "allow one iteration or more")
        require_real("damping", self.damping, "use 0 for none", positive=False)
        require_real("tolerance", self.tolerance, "use 0 for none", positive=False)

    def solve(self, hessian: MixedProduct, rhs: Theta) -> Solve:
        """CG from zero; a residual at rounding level ends it, with the iterate that reached it."""
        q = torch.zeros_like(rhs)
        residual = rhs.clone()
        direction = residual
        square = torch.dot(residual, residual)
        # Below this the residual is rounding noise, and another step would divide noise by noise.
        floor = max(self.tolerance, torch.finfo(rhs.dtype).eps) * torch.sqrt(square)
        for iteration in range(self.iterations):
            if decide(torch.sqrt(square) <= floor, without_numbers=False):
                return Solve(q, Status.COMPLETED)
            image = hessian(direction).add(direction, alpha=self.damping)
            curvature = torch.dot(direction, image)
            if not decide(curvature > 0, without_numbers=True):
                return Solve(q, Status.SERIES_DIVERGED, iteration)
            length = square / curvature
            q = q + length * direction
            residual = residual - length * image
            new_square = torch.dot(residual, residual)
            direction = residual + (new_square / square) * direction
            square = new_square
        limit = self.tolerance * torch.linalg.vector_norm(rhs)
        missed = self.tolerance > 0 and decide(torch.sqrt(square) > limit, without_numbers=False)
        return Solve(q, Status.NOT_CONVERGED if missed else Status.COMPLETED)

    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        """The hypergradient estimate at λ, shape (p,).

        Args:
            problem: the bilevel problem.
            lam: λ, shape (p,).
            draws: the run's randomness.

        Returns:
            The estimate; its status says whether the chain diverged, whether CG met a direction of
            non-positive curvature (reported as a divergence), or used all its iterations.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
            MissingProductError: if a second-order product cannot be formed.
        """
        return implicit(self, problem, lam, draws)


@final
@dataclass(frozen=True)
class IFTDense:
    """Implicit differentiation with the dense Hessian and an LU solve: n² memory, n³ time.

    Args:
        dynamics: the step rule of the inner run.
        steps: T ≥ 1, inner steps.

    Raises:
        ArgumentError: if `steps` is less than 1.
    """

    dynamics: Langevin
    steps: int
    name: str = field(default="IFT-dense", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        require_integer("steps", self.steps, 1, "run at least one inner step")

    def solve(self, hessian: MixedProduct, rhs: Theta) -> Solve:
        """An LU solve; a singular Hessian is reported as a divergence."""
        identity = torch.eye(rhs.numel(), dtype=rhs.dtype, device=rhs.device)
        matrix = torch.stack([hessian(column) for column in identity])
        q, info = torch.linalg.solve_ex(matrix, rhs)
        return Solve(
            q, Status.SERIES_DIVERGED if int(info) else Status.COMPLETED, int(info) or None
        )

    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        """The hypergradient estimate at λ, shape (p,).

        Args:
            problem: the bilevel problem.
            lam: λ, shape (p,).
            draws: the run's randomness.

        Returns:
            The estimate; its status says whether the chain diverged or H is singular.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
            MissingProductError: if a second-order product cannot be formed.
        """
        return implicit(self, problem, lam, draws)


InnerRun = Callable[[Chain, Lam, int], Theta]
"""(chain, λ, T) ↦ θ^T."""
Products = Callable[[Loss, Lam, Theta, Batch], MixedProduct]
"""(inner, λ, θ, batch) ↦ (v ↦ H v)."""


def implicit(
    method: IFTNeumann | IFTConjugateGradient | IFTDense,
    problem: BilevelProblem,
    lam: Lam,
    draws: Draws,
    inner_run: InnerRun = Chain.last,
    products: Products = hessian_product_function,
) -> Hypergradient:
    """f_λ − q·C at θ^T, with q ≈ H⁻¹ f_θ from the method's solve.

    Args:
        method: the solve.
        problem: the bilevel problem.
        lam: λ, shape (p,).
        draws: the run's randomness.
        inner_run: how θ^T is computed.
        products: how Hessian products are.

    Raises:
        ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
        MissingProductError: if a second-order product cannot be formed.
    """
    check_arguments(problem, lam, draws)
    lam = lam.detach()
    chain = Chain(problem, method.dynamics, draws)
    with counting() as cost:
        theta = inner_run(chain, lam, method.steps)
        direct, slope = outer_gradients(problem.outer, lam, theta, chain.outer_batch(method.steps))
        if not (is_finite(theta) and is_finite(direct) and is_finite(slope)):
            return conclude(lam * torch.nan, method.estimand, theta, chain, lam, method.steps, cost)
        batch = chain.inner_batch(method.steps)
        solve = method.solve(products(problem.inner, lam, theta, batch), slope)
        if not is_finite(solve.q):
            status, at = Status.SERIES_DIVERGED, solve.diverged_at or 0
            return Hypergradient(None, method.estimand, theta, status, at, cost=cost)
        value = direct - mixed_product(problem.inner, lam, theta, batch, solve.q)
        if not is_finite(value):
            return conclude(value, method.estimand, theta, chain, lam, method.steps, cost)
    return Hypergradient(value, method.estimand, theta, solve.status, solve.diverged_at, cost=cost)
