"""Exactness: what FMD, RMD and the solved implicit function claim."""

import math

from refblo.chain import Schedule
from refblo.contracts.comparison import Comparison, compare
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding, Factory
from refblo.contracts.relations import Exact
from refblo.contracts.rounding import rounding_error
from refblo.contracts.selection import is_small
from refblo.problems.case import Case


def margin(comparison: Comparison) -> float:
    """Distance over bound."""
    return comparison.distance / comparison.bound if comparison.bound > 0 else math.inf


def exact(name: str, factory: Factory, *, pathwise: bool = True, small: bool = False) -> Contract:
    """Equality, within bounds, with every oracle of the unrolled or the pathwise hypergradient.

    Args:
        name: of the estimator.
        factory: builds it.
        pathwise: judge the mean over the case's M samples; otherwise the last iterate alone.
        small: judge on small problems only.
    """

    def check(case: Case, context: Context) -> ContractFinding:
        schedule = case.schedule if pathwise else Schedule.last(case.schedule.steps)
        estimand = schedule.estimand
        estimator = factory(case.dynamics, schedule)
        result = estimator.estimate(case.problem, case.lam, context.draws)
        rounding = rounding_error(
            estimator, case.problem, case.lam, context.draws, result.value, schedule.steps
        )
        known = context.known(case, estimand, schedule)
        seen = known.seen(result.value)
        # A direction of length 1 sees at most the whole rounding error.
        rounding *= 1 if known.directions is None else math.sqrt(len(seen))
        comparisons = tuple(compare(seen, truth, rounding) for truth in known.truths)
        worst = max(comparisons, key=margin)
        return ContractFinding(Exact().judge(worst), comparisons, cost=result.cost)

    def applies(case: Case) -> bool:
        return (case.schedule.samples > 1 or not pathwise) and (is_small(case) or not small)

    which = "mean over the samples" if pathwise else "last iterate"
    return Contract(
        name=f"{name}: exact, {which}",
        estimator=name,
        relation="Exact",
        claim=f"equals the hypergradient of the {which}, within the sum of the error bounds",
        claims=("eq-49",),
        applies=applies,
        check=check,
    )
