"""What the implicit estimators share: everything but the solve for q = H⁻¹ f_θ.

Claims: field-implicit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias, final, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from refblo.chain import Chain, Langevin
from refblo.cost import counting, decide
from refblo.derivatives import (
    MixedProduct,
    hessian_and_mixed_products,
    hessian_product_function,
    outer_gradients,
)
from refblo.estimators.protocol import explain, finite
from refblo.noise import Draws
from refblo.problem import BilevelProblem
from refblo.types import Ending, Estimand, Hypergradient, Lam, Status, Theta
from refblo.validation import check_arguments

Flag: TypeAlias = Bool[Tensor, ""]


@final
@dataclass(frozen=True, eq=False)
class Solve:
    """The outcome of one of the solves for q.

    Args:
        q: the solution.
        ended: the status, and the term or iteration at which the solve failed; or a function that looks at
            numbers to find them out, which is called when one of them is asked for.
    """

    q: Theta
    ended: tuple[Status, int | None] | Callable[[], tuple[Status, int | None]] = (
        Status.COMPLETED,
        None,
    )

    @cached_property
    def _ending(self) -> tuple[Status, int | None]:
        return self.ended() if callable(self.ended) else self.ended

    @property
    def status(self) -> Status:
        """How the solve ended."""
        return self._ending[0]

    @property
    def diverged_at(self) -> int | None:
        """The term or iteration at which it failed."""
        return self._ending[1]


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
        """q with H q = rhs, from the function v ↦ H v."""
        ...


@runtime_checkable
class ImplicitParts(Protocol):
    """How the parts of an implicit estimate are computed."""

    def last(self, chain: Chain, lam: Lam, steps: int) -> Theta:
        """θ^T."""
        ...

    def slopes(self, chain: Chain, lam: Lam, theta: Theta, step: int) -> tuple[Lam, Theta, Flag]:
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

    def slopes(self, chain: Chain, lam: Lam, theta: Theta, step: int) -> tuple[Lam, Theta, Flag]:
        """∂_λ f and ∂_θ f at θ^step, and whether they and it are finite."""
        direct, slope = outer_gradients(chain.problem.outer, lam, theta, chain.outer_batch(step))
        return direct, slope, finite(theta, direct, slope)

    def adjoint(
        self, method: Solver, chain: Chain, lam: Lam, theta: Theta, step: int, rhs: Theta
    ) -> tuple[Solve, MixedProduct]:
        """The solve and the product, on one graph where that can be."""
        inner, batch = chain.problem.inner, chain.inner_batch(step)
        product, mixed = hessian_and_mixed_products(inner, lam, theta, batch)
        known: list[MixedProduct] = [product]
        del product

        def hessian(v: Theta) -> Theta:
            if not known:
                known.append(hessian_product_function(inner, lam, theta, batch))
            return known[0](v)

        def last(v: Theta) -> Lam:
            # The graph goes with this product. What explains a divergence later makes one of its own.
            known.clear()
            return mixed(v)

        return method.solve(hessian, rhs), last


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
        direct, slope, before = parts.slopes(chain, lam, theta, steps)
        solve, mixed = parts.adjoint(method, chain, lam, theta, steps, slope)
        value = direct - mixed(solve.q)
    flags = torch.stack((before, finite(solve.q), finite(value, lam)))

    def look() -> Ending:
        whole = decide(flags.all(), without_numbers=True)
        if not whole and decide(flags[0] & ~flags[1], without_numbers=False):
            return Ending(None, Status.SERIES_DIVERGED, solve.diverged_at or 0)
        if not whole:
            return explain(chain, lam, steps)
        return Ending(value, solve.status, solve.diverged_at)

    return Hypergradient.later(method.estimand, theta, cost, look)
