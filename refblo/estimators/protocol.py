"""What every estimator does around its own recursion."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from refblo.cost import Evaluations, decide, number
from refblo.derivatives import outer_gradients
from refblo.estimators.rule_chain import AnyChain
from refblo.noise import Draws
from refblo.problem import BilevelProblem
from refblo.types import Ending, Estimand, Hypergradient, Lam, Scalar, Status, Theta
from refblo.validation import check_vector

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


def finite(*vectors: Tensor) -> Bool[Tensor, ""]:
    """Whether all entries of all vectors are finite, as a tensor: nothing is looked at."""
    flags = [torch.isfinite(vector).all() for vector in vectors]
    return flags[0] if len(flags) == 1 else torch.stack(flags).all()


def is_finite(vector: Tensor) -> bool:
    """Whether all entries are finite, a host synchronisation; yes where a tensor has no numbers."""
    return decide(finite(vector), without_numbers=True)


def conclude(
    value: Lam,
    estimand: Estimand,
    theta: Theta,
    chain: AnyChain,
    lam: Lam,
    steps: int,
    cost: Evaluations,
    status: Status = Status.COMPLETED,
    error: Scalar | None = None,
) -> Hypergradient:
    """The result of a recursion over a chain; a divergence is explained by a replay of the chain.

    Neither the chain, while it runs, nor the result is looked at here: once an iterate is not finite, no
    later one is, and whoever reads the result finds out.
    """
    flag = finite(value, theta, lam)

    def look() -> Ending:
        if decide(flag, without_numbers=True):
            return Ending(value, status, error=None if error is None else number(error))
        return explain(chain, lam, steps)

    return Hypergradient.later(estimand, theta, cost, look)


def explain(chain: AnyChain, lam: Lam, steps: int) -> Ending:
    """Where a run left the finite numbers: in λ or θ⁰, in the chain, in the outer loss, or in what follows.

    Raises:
        ArgumentError: if λ or θ⁰ is not finite.
    """
    check_vector("lam", lam)
    check_vector("initial(lam)", chain.initial(lam))
    step = chain.first_non_finite(lam, steps)
    if step is not None:
        return Ending(None, Status.CHAIN_DIVERGED, step)
    for step, iterate in enumerate(chain.iterates(lam, steps)):
        if step > 0:
            slopes = outer_gradients(chain.problem.outer, lam, iterate, chain.outer_batch(step))
            if not is_finite(torch.cat(slopes)):
                return Ending(None, Status.OUTER_NOT_FINITE, step)
    return Ending(None, Status.SENSITIVITY_DIVERGED, steps)
