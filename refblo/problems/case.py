"""A catalogue entry: a problem, where to evaluate it, and what is known about it in closed form."""

from dataclasses import dataclass, field
from typing import Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Float64

from refblo.chain import Langevin, Schedule
from refblo.problem import BilevelProblem
from refblo.problems.namespace import Statement
from refblo.problems.symbolic import SymbolicProblem
from refblo.types import Lam

Array = np.ndarray


@runtime_checkable
class ClosedForms(Protocol):
    """Formulas for the truths, in NumPy, sharing nothing with the tensor problem but its numbers.

    A formula that a problem does not have answers None, as all of them do here: a class with some of them
    inherits the others. λ has shape (p,); every answer too.
    """

    def unrolled(
        self,
        lam: Float64[Array, " p"],
        dynamics: Langevin,
        schedule: Schedule,
        noise: Float64[Array, "T n"],
    ) -> Float64[Array, " p"] | None:
        """d/dλ (1/M) Σ_{m>B} f(λ, θ^m) with the standard normal draws z⁰ … z^{T−1} frozen."""
        return None

    def mean_pathwise(
        self, lam: Float64[Array, " p"], dynamics: Langevin, schedule: Schedule
    ) -> Float64[Array, " p"] | None:
        """The mean of `unrolled` over the noise: d/dλ (1/M) Σ_{m>B} E[f(λ, θ^m)]."""
        return None

    def gibbs(self, lam: Float64[Array, " p"], temperature: float) -> Float64[Array, " p"] | None:
        """d/dλ E_p[f], p ∝ exp(−L_T/temperature); `temperature` is τκ² for a chain with τ and κ."""
        return None

    def implicit(self, lam: Float64[Array, " p"]) -> Float64[Array, " p"] | None:
        """d/dλ f(λ, θ*(λ))."""
        return None


@final
@dataclass(frozen=True, eq=False)
class Case:
    """One entry of the catalogue.

    Attributes:
        name: unique in the catalogue.
        problem: the tensor problem, in float64 on the CPU unless the builder was asked otherwise.
        lam: where its hypergradient is asked for, shape (p,).
        dynamics: a stable step rule.
        schedule: B and M that fit it.
        symbolic: the problem stated in sympy, for small problems.
        closed_forms: the truths that have a formula.
        statement: the losses for any array library, in float64.
        tags: properties that contracts select by, such as "quadratic", "real data", "stochastic".
    """

    name: str
    problem: BilevelProblem
    lam: Lam
    dynamics: Langevin
    schedule: Schedule
    symbolic: SymbolicProblem | None = None
    closed_forms: ClosedForms | None = None
    statement: Statement | None = None
    tags: frozenset[str] = field(default_factory=frozenset)
