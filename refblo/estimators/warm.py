"""What a method carries from one outer step to the next.

A warm-started method is an estimator whose answer depends on where the call before it ended. So that the
function stays pure, what is carried is an argument and a result: `advance` takes a `WarmState` and returns
the next one. `estimate` is one cold call, `begin` followed by `advance`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.errors import ArgumentError
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam
from refblo.validation import check_arguments

__all__ = ["WarmEstimator", "WarmState"]


@final
@dataclass(frozen=True, eq=False)
class WarmState:
    """The state of a warm-started or single-loop method between two outer steps.

    Attributes:
        theta: the inner iterate, shape (n,).
        q: the running solution of H q = f_θ, shape (n,).
        memory: whatever else a method keeps (momenta, tables of gradients, the last λ), by name.
    """

    theta: Float[Tensor, " n"]
    q: Float[Tensor, " n"]
    memory: Mapping[str, Tensor] = field(default_factory=dict)

    def recall(self, name: str) -> Tensor:
        """One tensor of the memory.

        Raises:
            ArgumentError: if it is not there: the state comes from another method.
        """
        if name not in self.memory:
            raise ArgumentError(
                f"carried must hold {name!r}, got {sorted(self.memory) or 'an empty memory'}; it "
                "was made by another method: start with begin()"
            )
        return self.memory[name]


@runtime_checkable
class WarmEstimator(Protocol):
    """An estimator that can be continued; also an `Estimator`, by one cold call.

    An implementation states `advance`; where it begins and a cold call are the same for all, unless it
    keeps something that has to be filled first.
    """

    @property
    def name(self) -> str:
        """The name in tables."""
        ...

    @property
    def estimand(self) -> Estimand:
        """What it estimates."""
        ...

    def begin(self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO) -> WarmState:
        """The state before the first call: θ⁰(λ) and q = 0.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
        """
        return at_rest(problem, lam, draws)

    def advance(
        self, problem: BilevelProblem, lam: Lam, carried: WarmState, draws: Draws = SEED_ZERO
    ) -> tuple[Hypergradient, WarmState]:
        """One outer step's estimate, shape (p,), and the state after it.

        Args:
            problem: the bilevel problem.
            lam: λ, shape (p,).
            carried: what the last call, or `begin`, returned.
            draws: this outer step's randomness: other draws for each call, or batches repeat.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
            MissingProductError: if a second-order product cannot be formed.
        """
        ...

    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        """One cold call, `begin` and `advance`: the hypergradient at λ, shape (p,), from θ⁰(λ).

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
            MissingProductError: if a second-order product cannot be formed.
        """
        return self.advance(problem, lam, self.begin(problem, lam, draws), draws)[0]


def at_rest(problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO) -> WarmState:
    """θ⁰(λ) and q = 0.

    Raises:
        ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
    """
    check_arguments(problem, lam, draws)
    theta = problem.initial(lam.detach()).detach()
    return WarmState(theta, torch.zeros_like(theta))
