"""Oracles: independent ways to each of the four truths, every answer with its error.

`truths` asks all that apply. An oracle is one file; a new one is one more line in `ORACLES`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from refblo.errors import ArgumentError, OracleError
from refblo.noise import SEED_ZERO, Draws
from refblo.oracles.ball import Ball, BallResult
from refblo.oracles.closed_form import ClosedForm
from refblo.oracles.finite_difference import FiniteDifference
from refblo.oracles.forward_mode import ForwardMode, ForwardModeDirectional
from refblo.oracles.implicit_dense import ImplicitDense
from refblo.oracles.implicit_difference import ImplicitDifference
from refblo.oracles.protocol import DirectionalTruth, Oracle
from refblo.oracles.quadrature import GibbsDifference, GibbsQuadrature
from refblo.oracles.taylor import TaylorRemainders, taylor_test
from refblo.problems.case import Case
from refblo.types import Estimand, Truth

ORACLES: tuple[Oracle, ...] = (
    Ball(),
    ClosedForm(),
    ForwardMode(),
    FiniteDifference(),
    ImplicitDense(),
    ImplicitDifference(),
    GibbsQuadrature(),
    GibbsDifference(),
)
"""All oracles, the certified ones first."""


@final
@dataclass(frozen=True, eq=False)
class OracleAnswer:
    """What one oracle said: a truth, or why it has none.

    Attributes:
        oracle: the oracle's name.
        truth: the truth, or None.
        refusal: why there is none, or None.
    """

    oracle: str
    truth: Truth | None
    refusal: OracleError | None


def answers(
    case: Case,
    estimand: Estimand,
    draws: Draws = SEED_ZERO,
    oracles: Sequence[Oracle] = ORACLES,
) -> list[OracleAnswer]:
    """Ask every oracle that applies, and keep the refusals too.

    Args:
        case: the problem and where.
        estimand: which truth.
        draws: the run's randomness, for the estimands of programs.
        oracles: whom to ask.

    Raises:
        DivergenceError: if the inner run leaves the finite numbers.
        ArgumentError, ArgumentTypeError, LossError: for a case that cannot be used.
    """
    found = []
    for oracle in oracles:
        if not oracle.applies(case, estimand):
            continue
        try:
            found.append(OracleAnswer(oracle.name, oracle.truth(case, estimand, draws), None))
        except OracleError as refusal:
            found.append(OracleAnswer(oracle.name, None, refusal))
    return found


def truths(
    case: Case,
    estimand: Estimand,
    draws: Draws = SEED_ZERO,
    oracles: Sequence[Oracle] = ORACLES,
) -> list[Truth]:
    """The truth by every oracle that has one.

    Args:
        case: the problem and where. For UNROLLED the program is f at θ^T, for PATHWISE the mean over the
            schedule's samples, T = B + M in both; GIBBS is at the temperature τκ² of the chain.
        estimand: which truth.
        draws: the run's randomness, for the estimands of programs.
        oracles: whom to ask.

    Raises:
        ArgumentError: if no oracle applies.
        OracleError: if none of those that apply has an answer: then there is no such truth.
        DivergenceError: if the inner run leaves the finite numbers.
        ArgumentTypeError, LossError: for a case that cannot be used.

    Example:
        >>> from refblo.problems.catalogue import build
        >>> from refblo.types import Estimand
        >>> for truth in truths(build("synth_1d"), Estimand.IMPLICIT):
        ...     print(f"{truth.value.item():.6f} {truth.oracle}")
        -2.069370 ball arithmetic
        -2.069370 closed form
        -2.069370 dense implicit solve
        -2.069370 differences of the inner minimum
    """
    asked = answers(case, estimand, draws, oracles)
    if not asked:
        raise ArgumentError(
            f"estimand must be one that some oracle answers for {case.name}, got {estimand}; state the "
            "problem in sympy or in closed form, or choose a smaller problem"
        )
    found = [answer.truth for answer in asked if answer.truth is not None]
    if not found:
        reasons = "; ".join(f"{answer.oracle}: {answer.refusal}" for answer in asked)
        raise OracleError(f"{case.name} has no {estimand.value} truth: {reasons}")
    return found


__all__ = [
    "ORACLES",
    "Ball",
    "BallResult",
    "ClosedForm",
    "DirectionalTruth",
    "FiniteDifference",
    "ForwardMode",
    "ForwardModeDirectional",
    "GibbsDifference",
    "GibbsQuadrature",
    "ImplicitDense",
    "ImplicitDifference",
    "Oracle",
    "OracleAnswer",
    "TaylorRemainders",
    "answers",
    "taylor_test",
    "truths",
]
