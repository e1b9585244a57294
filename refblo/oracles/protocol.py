"""What an oracle is: something that answers with a value and how far it can be off."""

from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.errors import ArgumentError
from refblo.noise import Draws
from refblo.problem import BilevelProblem, FullBatch
from refblo.problems.case import Case
from refblo.types import ErrorKind, Estimand, Truth

PROGRAMS = (Estimand.UNROLLED, Estimand.PATHWISE)
"""The estimands that are derivatives of a program with frozen draws."""


@runtime_checkable
class Oracle(Protocol):
    """One way to a truth, with its settings bound; an implementation is a final frozen dataclass.

    Oracles share no code with estimators, so that agreement means something. `truth` is a pure
    function: the same arguments give the same numbers.
    """

    @property
    def name(self) -> str:
        """The name in tables, and in `Truth.oracle`."""
        ...

    def applies(self, case: Case, estimand: Estimand) -> bool:
        """Whether the oracle has an answer for this estimand of this case; cheap."""
        ...

    def truth(self, case: Case, estimand: Estimand, draws: Draws = ...) -> Truth:
        """The truth at the case's λ, value of shape (p,).

        Raises:
            ArgumentError: if the oracle does not apply.
            OracleError: if there is no such truth here, or it cannot be found.
            DivergenceError: if the inner run leaves the finite numbers.
        """
        ...


@final
@dataclass(frozen=True, eq=False)
class DirectionalTruth:
    """One directional derivative ⟨dF/dλ, u⟩ of an outer objective F, for λ too large for all of them.

    Attributes:
        direction: u, shape (p,).
        value: the derivative along u.
        error: bound on or estimate of its error.
        kind: whether `error` is certified or estimated.
        estimand: what it is the truth of.
        oracle: the oracle's name.
    """

    direction: Float[Tensor, " p"]
    value: float
    error: float
    kind: ErrorKind
    estimand: Estimand
    oracle: str


def program_schedule(case: Case, estimand: Estimand) -> Schedule:
    """Which iterates the estimand's program averages: all that the case samples, or θ^T alone.

    Raises:
        ArgumentError: if the estimand is not one of a program.
    """
    if estimand is Estimand.UNROLLED:
        return Schedule.last(case.schedule.steps)
    if estimand is Estimand.PATHWISE:
        return case.schedule
    raise ArgumentError(
        f"estimand must be the unrolled or the pathwise one, got {estimand}; use an oracle of this estimand"
    )


def is_deterministic(problem: BilevelProblem) -> bool:
    """Whether the losses see no batches: only then θ*(λ) and p(θ|λ) are defined by the problem."""
    return isinstance(problem.inner_batches, FullBatch) and isinstance(
        problem.outer_batches, FullBatch
    )


def gibbs_temperature(dynamics: Langevin) -> float:
    """τκ², the temperature that a chain with τ and κ samples at as its step goes to 0; 0 without noise."""
    return dynamics.temperature * dynamics.noise_scale**2


def check_applies(oracle: Oracle, case: Case, estimand: Estimand) -> None:
    """Refuse a question that the oracle has no answer to.

    Raises:
        ArgumentError: naming the oracle, the estimand and the case.
    """
    if not oracle.applies(case, estimand):
        raise ArgumentError(
            f"estimand must be one that {oracle.name} answers for {case.name}, got {estimand}; "
            "call `applies` first, or `truths` for all oracles that apply"
        )
