"""Problems and planted bugs that the tests of this folder share."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st

from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.problems.case import Case
from refblo.problems.quadratic import case_of, instance
from refblo.types import Estimand, Hypergradient, Lam


@dataclass(frozen=True)
class Mended:
    """An estimator whose result is changed by a function of (problem, λ, result)."""

    right: object
    change: Callable[[BilevelProblem, Lam, torch.Tensor], torch.Tensor]
    name: str = "bent"

    @property
    def estimand(self) -> Estimand:
        found: Estimand = self.right.estimand  # type: ignore[attr-defined]  # any estimator
        return found

    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        result: Hypergradient = self.right.estimate(problem, lam, draws)  # type: ignore[attr-defined]  # any estimator
        return replace(result, estimate=self.change(problem, lam, result.value))


@dataclass(frozen=True)
class Member:
    """A member of the quadratic family, by what it is drawn from; p ≠ n."""

    n: int
    p: int
    condition_number: float
    curvature: float
    seed: int

    def build(self) -> Case:
        """The case; outside the strategy, since sympy draws on a generator of its own."""
        draws = Draws(self.seed)
        size = (self.n, self.p, self.condition_number)
        return case_of("generated", instance(draws, *size, curvature=self.curvature), draws)


def quadratics(largest: int = 6) -> st.SearchStrategy[Member]:
    """Members of any condition number up to 100, with and without a Hessian that depends on λ."""
    sizes = st.integers(1, largest)
    members = st.builds(
        Member,
        sizes,
        sizes,
        st.floats(1.0, 100.0),
        st.sampled_from([0.0, 0.5]),
        st.integers(0, 2**32),
    )
    return members.filter(lambda member: member.n != member.p)
