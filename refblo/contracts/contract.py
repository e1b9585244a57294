"""A contract: an estimator, a relation, where it applies, and how it is checked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.chain import Langevin, Schedule
from refblo.contracts.comparison import Comparison
from refblo.contracts.context import Context, Known
from refblo.contracts.relations import RelationJudgement
from refblo.cost import Evaluations
from refblo.estimators import Estimator
from refblo.problems.case import Case

# `Known` was shown in the documentation as a name of this module before it had its own.
__all__ = ["Contract", "ContractFinding", "Curve", "Factory", "Known"]


@final
@dataclass(frozen=True)
class Curve:
    """A line of a plot: an error against the parameter that was swept.

    Attributes:
        parameter: the name of the abscissa.
        label: of the line.
        at: abscissae.
        errors: ordinates, relative to the truth's norm where that is not zero.
        predicted: the predicted ordinates, or None.
    """

    parameter: str
    label: str
    at: tuple[float, ...]
    errors: tuple[float, ...]
    predicted: tuple[float, ...] | None = None

    @staticmethod
    def of(
        parameter: str,
        label: str,
        at: Float64[np.ndarray, " k"],
        errors: Float64[np.ndarray, " k"],
        predicted: Float64[np.ndarray, " k"],
    ) -> "Curve":
        """A curve from arrays of one length."""
        columns = (tuple(map(float, column)) for column in (at, errors, predicted))
        return Curve(parameter, label, *columns)


@final
@dataclass(frozen=True)
class ContractFinding:
    """What checking one contract on one case brought to light.

    Attributes:
        judgement: the verdict with its figures.
        comparisons: the comparisons behind it, where the relation is exactness.
        curves: for the plots.
        cost: derivative evaluations of one estimate.
    """

    judgement: RelationJudgement
    comparisons: tuple[Comparison, ...] = ()
    curves: tuple[Curve, ...] = ()
    cost: Evaluations = field(default_factory=Evaluations)


Factory = Callable[[Langevin, Schedule], Estimator]
"""Builds an estimator for a step rule and a schedule: what a contract needs to sweep either."""


@final
@dataclass(frozen=True, eq=False)
class Contract:
    """A claim about an estimator that can be checked on any case to which it applies.

    Attributes:
        name: unique in the registry, "estimator: relation".
        estimator: the estimator's name.
        relation: the relation's name.
        claim: the claim in one sentence.
        claims: the rows of the claims ledger that it rests on, by their keys.
        applies: whether it can be checked on a case.
        check: checks it.
        quick: whether the quick audit runs it, or only the full one and one that asks for it by name.
    """

    name: str
    estimator: str
    relation: str
    claim: str
    claims: tuple[str, ...]
    applies: Callable[[Case], bool]
    check: Callable[[Case, Context], ContractFinding]
    quick: bool = True
