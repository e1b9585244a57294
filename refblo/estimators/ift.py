"""Implicit differentiation at the last iterate of an inner run.

Estimates the implicit hypergradient d/dλ f(λ, θ*(λ)) = f_λ − f_θ·H⁻¹·C, with H and C taken at
θ^T instead of θ*, and the solve H q = f_θ done by

- a Neumann series (Lorraine et al. 2020): q = α Σ_{j<K} (I − αH)^j f_θ, error geometric in K with rate
  max|1 − α·eig(H)|, if that is below 1;
- conjugate gradients (Rajeswaran et al. 2019) on H + δI, error geometric in K with rate
  (√κ − 1)/(√κ + 1);
- a dense factorisation, exact up to rounding.

Bias: θ^T ≠ θ*, which adds O(‖θ^T − θ*‖).

Claims: field-cg, field-implicit, field-neumann, text-neumann-factor.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from typing_extensions import override

from refblo.chain import Langevin
from refblo.cost import decide, number, uncounted
from refblo.derivatives import MixedProduct
from refblo.errors import require_integer, require_member, require_real
from refblo.estimators._implicit import Solve, implicit
from refblo.estimators.protocol import Estimator
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam, Scalar, Status, Theta


class NeumannScaling(Enum):
    """The two scalings of the Neumann series that are in print."""

    SCALED = "q = α Σ (I − αH)^j f_θ"
    """With the factor α: converges to H⁻¹ f_θ (Lorraine et al. 2020, the series as derived)."""

    UNSCALED = "q = Σ (I − αH)^j f_θ"
    """Without it: converges to H⁻¹ f_θ / α; what Table 2 of Kim and Hospedales needs."""


MoreTerms = Callable[[Theta, Theta, int], tuple[Theta, Theta]]
"""(a term of a series, the sum up to it, k) ↦ (the term k later, the sum up to that)."""


@final
@dataclass(frozen=True)
class IFTNeumann(Estimator):
    """Implicit differentiation with a truncated Neumann series.

    Args:
        dynamics: the step rule of the inner run.
        steps: T ≥ 1, inner steps.
        scale: α > 0.
        terms: K ≥ 1, terms of the series (K − 1 Hessian products).
        scaling: with or without the leading factor α.

    Raises:
        ArgumentError: if one of them is out of range.
        ArgumentTypeError: if the scaling is no `NeumannScaling`.
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
        require_member("scaling", self.scaling, NeumannScaling)

    def add_terms(
        self, hessian: MixedProduct, term: Theta, total: Theta, number: int
    ) -> tuple[Theta, Theta]:
        """So many terms more: the last one, and the sum of all so far."""
        total = total.clone()
        for _ in range(number):
            term = term.sub(hessian(term), alpha=self.scale)
            total.add_(term)
        return term, total

    def conclude(self, rhs: Theta, term: Theta, total: Theta, more: "MoreTerms") -> Solve:
        """The sum of all terms as a solution; if they grew, the series is summed again to see where.

        Whether they grew is not looked at before somebody asks.

        Args:
            rhs: the first term.
            term: the last one.
            total: the sum of all.
            more: adds terms.
        """
        # Rounding alone may let the terms of a singular H, which stay as they are, grow by this much.
        rounding = 1 + self.terms * torch.finfo(rhs.dtype).eps
        limit = torch.linalg.vector_norm(rhs) * rounding

        def shrunk(term: Theta) -> Bool[Tensor, ""]:
            # A norm that is not a number counts as grown.
            small: Tensor = torch.linalg.vector_norm(term) <= limit
            return small

        shrinks = shrunk(term)

        def look() -> tuple[Status, int | None]:
            if decide(shrinks, without_numbers=True):
                return Status.COMPLETED, None
            # Finite or not, the sum is dominated by its last terms: the series has no limit.
            at, index = rhs, 0
            with uncounted():
                # A second sum may round differently: the last term has grown in any case.
                while index < self.terms - 1 and decide(shrunk(at), without_numbers=False):
                    at, index = more(at, rhs, 1)[0], index + 1
            return Status.SERIES_DIVERGED, index

        if self.scaling is NeumannScaling.SCALED:
            total = total * self.scale
        return Solve(total, look)

    def solve(self, hessian: MixedProduct, rhs: Theta) -> Solve:
        """The truncated series; nothing is looked at before somebody asks how it ended."""

        def more(term: Theta, total: Theta, number: int) -> tuple[Theta, Theta]:
            return self.add_terms(hessian, term, total, number)

        return self.conclude(rhs, *more(rhs, rhs, self.terms - 1), more)

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        return implicit(self, problem, lam, draws)


@final
class SolveState(NamedTuple):
    """CG's state: the iterate, its residual, the next direction, each of shape (n,), and ‖residual‖²."""

    q: Theta
    residual: Theta
    direction: Theta
    square: Scalar

    def after(self, image: Theta, curvature: Scalar) -> "SolveState":
        """The state after a step along the direction d, from its image under the matrix, and d·image."""
        length = self.square / curvature
        residual = self.residual - length * image
        square = torch.dot(residual, residual)
        return SolveState(
            self.q + length * self.direction,
            residual,
            residual + (square / self.square) * self.direction,
            square,
        )

    def where(self, condition: Bool[Tensor, ""], other: "SolveState") -> "SolveState":
        """This state if the condition holds, else the other."""
        return SolveState(*(torch.where(condition, a, b) for a, b in zip(self, other, strict=True)))


@final
@dataclass(frozen=True)
class IFTConjugateGradient(Estimator):
    """Implicit differentiation with conjugate gradients on H + δI.

    A direction of non-positive curvature is reported as a divergence, and NOT_CONVERGED means that all K
    iterations were used.

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
        require_integer("iterations", self.iterations, 1, "allow at least one iteration")
        require_real("damping", self.damping, "use 0 for none", positive=False)
        require_real("tolerance", self.tolerance, "use 0 for none", positive=False)

    def begin(self, rhs: Theta) -> "SolveState":
        """CG's state at q = 0."""
        return SolveState(torch.zeros_like(rhs), rhs, rhs, torch.dot(rhs, rhs))

    def floor(self, square: Scalar) -> Scalar:
        """The residual's norm at which to stop, from the square of the first one's.

        Below it the residual is rounding noise, and another step would divide noise by noise.
        """
        return max(self.tolerance, torch.finfo(square.dtype).eps) * torch.sqrt(square)

    def curvature(self, hessian: MixedProduct, at: "SolveState") -> tuple[Theta, Scalar]:
        """(H + δI) d and d·(H + δI) d for the direction d."""
        image = hessian(at.direction).add(at.direction, alpha=self.damping)
        return image, torch.dot(at.direction, image)

    def solve(self, hessian: MixedProduct, rhs: Theta) -> Solve:
        """CG from zero; a residual at rounding level ends it, with the iterate that reached it."""
        at = self.begin(rhs)
        floor = self.floor(at.square)
        for iteration in range(self.iterations):
            if decide(torch.sqrt(at.square) <= floor, without_numbers=False):
                return Solve(at.q)
            image, curvature = self.curvature(hessian, at)
            if not decide(curvature > 0, without_numbers=True):
                return Solve(at.q, (Status.SERIES_DIVERGED, iteration))
            at = at.after(image, curvature)
        return self.conclude(rhs, at)

    def conclude(self, rhs: Theta, at: "SolveState") -> Solve:
        """The iterate after the last iteration."""
        missed = self.tolerance > 0 and decide(
            torch.sqrt(at.square) > self.tolerance * torch.linalg.vector_norm(rhs),
            without_numbers=False,
        )
        return Solve(at.q, (Status.NOT_CONVERGED if missed else Status.COMPLETED, None))

    def iterate_unlooked(
        self, hessian: MixedProduct, at: "SolveState", floor: Scalar, number: int
    ) -> tuple["SolveState", Int64[Tensor, ""], Bool[Tensor, ""]]:
        """So many iterations without a look at a number; after the one that ends the solve nothing moves.

        Returns:
            The state, how many iterations moved it, and whether a curvature was not positive.
        """
        going = torch.ones((), dtype=torch.bool, device=floor.device)
        moved, negative = torch.zeros_like(going, dtype=torch.int64), ~going
        for _ in range(number):
            going = going & ~(torch.sqrt(at.square) <= floor)
            image, curvature = self.curvature(hessian, at)
            negative = negative | (going & ~(curvature > 0))
            going = going & ~negative
            at = at.after(image, curvature).where(going, at)
            moved = moved + going
        return at, moved, negative

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        return implicit(self, problem, lam, draws)


@final
@dataclass(frozen=True)
class IFTDense(Estimator):
    """Implicit differentiation with the dense Hessian and an LU solve: n² memory, n³ time.

    A singular H is reported as a divergence.

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

        def look() -> tuple[Status, int | None]:
            failed = int(number(info, without_numbers=0.0))
            return Status.SERIES_DIVERGED if failed else Status.COMPLETED, failed or None

        return Solve(q, look)

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        return implicit(self, problem, lam, draws)
