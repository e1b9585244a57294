"""What the single-loop methods share: three directions at one point, from one inner and one outer batch.

For min_λ f(λ, θ*(λ)) all of them follow, at a current (θ, q, λ), estimates of

    D_θ = ∂_θ L_T(λ, θ),      D_q = H q − f_θ,      D_λ = f_λ − q·C,

whose common zero in (θ, q) is (θ*, H⁻¹f_θ), where D_λ is the implicit hypergradient. They differ in how the
estimates are averaged over batches, and in where q comes from. The state is `WarmState`: θ, q, and in its
memory whatever the averages need.

Claims: field-neumann, field-running-solve.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.cost import Evaluations, decide
from refblo.derivatives import (
    inner_gradient_and_mixed,
    inner_gradient_and_products,
    outer_gradients,
)
from refblo.errors import require
from refblo.estimators.protocol import finite
from refblo.estimators.warm import WarmState
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem
from refblo.types import Batch, Ending, Estimand, Hypergradient, Lam, Status, Theta


@final
@dataclass(frozen=True, eq=False)
class LoopDirections:
    """(D_θ, D_q, D_λ) at one point; sums and differences go entry by entry."""

    theta: Float[Tensor, " n"]
    q: Float[Tensor, " n"]
    lam: Float[Tensor, " p"]

    def plus(self, other: "LoopDirections", factor: float) -> "LoopDirections":
        """Self + factor · other."""
        return LoopDirections(
            self.theta.add(other.theta, alpha=factor),
            self.q.add(other.q, alpha=factor),
            self.lam.add(other.lam, alpha=factor),
        )


def simultaneous(
    problem: BilevelProblem, lam: Lam, theta: Theta, q: Theta, inner: Batch, outer: Batch
) -> LoopDirections:
    """All three at the same (θ, q), by one inner graph and one outer gradient."""
    gradient, products = inner_gradient_and_products(problem.inner, lam, theta, inner)
    curved, mixed = products(q)
    direct, slope = outer_gradients(problem.outer, lam, theta, outer)
    return LoopDirections(gradient, curved - slope, direct - mixed)


def by_series(
    problem: BilevelProblem,
    lam: Lam,
    theta: Theta,
    inner: tuple[Batch, ...],
    outer: Batch,
    scale: float,
) -> LoopDirections:
    """D_θ and D_λ with q = α Σ_{j<K} Π_{i≤j}(I − αH_i) f_θ in place of a carried one; D_q = 0.

    Args:
        problem: the bilevel problem.
        lam: λ.
        theta: θ.
        inner: K + 1 batches, all different: D_θ's, those of H_1 … H_{K−1}, and C's.
        outer: the outer batch.
        scale: α.
    """
    direct, slope = outer_gradients(problem.outer, lam, theta, outer)
    term, total = slope, slope
    for batch in inner[1:-1]:
        _, products = inner_gradient_and_products(problem.inner, lam, theta, batch)
        term = term.sub(products(term)[0], alpha=scale)
        total = total + term
    gradient, _ = inner_gradient_and_mixed(problem.inner, lam, theta, inner[0])
    _, mixed = inner_gradient_and_mixed(problem.inner, lam, theta, inner[-1])
    return LoopDirections(gradient, torch.zeros_like(theta), direct - mixed(scale * total))


def inner_batches(
    problem: BilevelProblem, draws: Draws, first: int, count: int
) -> tuple[Batch, ...]:
    """`count` inner batches from number `first` on."""
    return tuple(problem.inner_batches(draws, Stream.INNER_BATCH, first + k) for k in range(count))


def outer_batch(problem: BilevelProblem, draws: Draws, number: int) -> Batch:
    """One outer batch."""
    return problem.outer_batches(draws, Stream.OUTER_BATCH, number)


def concluded(
    value: Lam, carried: WarmState, step: int, cost: Evaluations
) -> tuple[Hypergradient, WarmState]:
    """The result of one call: a state that left the finite numbers has no hypergradient."""
    flag = finite(value, carried.theta)

    def look() -> Ending:
        if decide(flag, without_numbers=True):
            return Ending(value)
        return Ending(None, Status.CHAIN_DIVERGED, step)

    return Hypergradient.later(Estimand.IMPLICIT, carried.theta, cost, look), carried


def check_rate(name: str, value: float, largest: float | None = None) -> None:
    """A step or a weight must be positive, and at most `largest`.

    Raises:
        ArgumentError: otherwise.
    """
    require(value > 0, name, "be positive", value, "give a larger number")
    if largest is not None:
        require(value <= largest, name, f"be at most {largest:g}", value, "give a smaller number")


def check_count(name: str, value: int, least: int = 1) -> None:
    """A number of steps or terms must be at least `least`.

    Raises:
        ArgumentError: otherwise.
    """
    require(value >= least, name, f"be at least {least}", value, "give a larger number")
