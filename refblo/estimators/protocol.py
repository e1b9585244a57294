"""What every estimator does around its own recursion."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from refblo.chain import Chain
from refblo.cost import Evaluations, decide
from refblo.derivatives import outer_gradients
from refblo.noise import Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam, Status, Theta

__all__ = ["Estimator"]


@runtime_checkable
class Estimator(Protocol):
    """A hypergradient estimator with its hyperparameters bound.

    An implementation is a final frozen dataclass, and `estimate` is a pure function: the same arguments give
    the same numbers. One that derives from this class takes over the docstring of `estimate`; its `name` and
    `estimand`, if they are fields, have defaults then.
    """

    @property
    def name(self) -> str:
        """The name in tables."""
        ...

    @property
    def estimand(self) -> Estimand:
        """What it estimates."""
        ...

    def estimate(self, problem: BilevelProblem, lam: Lam, draws: Draws = ...) -> Hypergradient:
        """The hypergradient at λ, shape (p,).

        Args:
            problem: the bilevel problem.
            lam: λ, shape (p,).
            draws: the run's randomness.

        Returns:
            The estimate. Its status says whether the chain, a series or a solve diverged, and at which step,
            or whether a solve used all its iterations.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
            MissingProductError: if a second-order product cannot be formed.
        """
        ...


def is_finite(vector: Tensor) -> bool:
    """Whether all entries are finite; taken to be so where a tensor has no numbers."""
    return decide(torch.isfinite(vector).all(), without_numbers=True)


def conclude(
    value: Lam,
    estimand: Estimand,
    theta: Theta,
    chain: Chain,
    lam: Lam,
    steps: int,
    cost: Evaluations,
    status: Status = Status.COMPLETED,
    error: float | None = None,
) -> Hypergradient:
    """The result of a recursion over a chain; a divergence is explained by a replay of the chain.

    The chain itself is never checked while it runs, so that nothing synchronises with the device: once
    an iterate is not finite, no later one is.
    """
    if is_finite(value) and is_finite(theta):
        return Hypergradient(value, estimand, theta, status, error=error, cost=cost)
    step = chain.first_non_finite(lam, steps)
    if step is not None:
        return Hypergradient(None, estimand, theta, Status.CHAIN_DIVERGED, step, cost=cost)
    for step, iterate in enumerate(chain.iterates(lam, steps)):
        if step > 0:
            slopes = outer_gradients(chain.problem.outer, lam, iterate, chain.outer_batch(step))
            if not all(is_finite(slope) for slope in slopes):
                return Hypergradient(
                    None, estimand, theta, Status.OUTER_NOT_FINITE, step, cost=cost
                )
    return Hypergradient(None, estimand, theta, Status.SENSITIVITY_DIVERGED, steps, cost=cost)
