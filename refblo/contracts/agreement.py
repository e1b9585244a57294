"""The truths themselves: every two oracles of an estimand agree within the sum of their errors."""

from itertools import combinations

from refblo.contracts.comparison import compare
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding
from refblo.contracts.exact import margin
from refblo.contracts.implicit import has_minimiser
from refblo.contracts.relations import Exact
from refblo.contracts.selection import array
from refblo.oracles import ORACLES
from refblo.problems.case import Case
from refblo.types import Estimand

NAME = "oracles"
"""What stands in the estimator's column: what is judged here is the judges."""


CLAIMS = {
    Estimand.UNROLLED: ("eq-49", "eq-50"),
    Estimand.PATHWISE: ("eq-49", "eq-50"),
    Estimand.GIBBS: ("field-covariance",),
    Estimand.IMPLICIT: ("field-implicit",),
}
"""Rows of the ledger, by estimand."""


def agreement(estimand: Estimand) -> Contract:
    """Independent ways to one truth lead to one truth."""

    def check(case: Case, context: Context) -> ContractFinding:
        known = context.known(case, estimand).truths
        comparisons = tuple(
            compare(one.value, other, one.error) for one, other in combinations(known, 2)
        )
        return ContractFinding(Exact().judge(max(comparisons, key=margin)), comparisons)

    def applies(case: Case) -> bool:
        if estimand is Estimand.UNROLLED:
            # The pathwise program contains it: with one sample they are the same.
            return False
        if estimand is Estimand.IMPLICIT and not (
            "strongly convex" in case.tags or has_minimiser(case) or _has_formula(case)
        ):
            return False
        return sum(oracle.applies(case, estimand) for oracle in ORACLES) >= 2

    return Contract(
        name=f"{NAME}: agree, {estimand.value}",
        estimator=NAME,
        relation="Exact",
        claim=f"every two oracles of the {estimand.value} hypergradient agree within their errors",
        claims=CLAIMS[estimand],
        applies=applies,
        check=check,
    )


def _has_formula(case: Case) -> bool:
    """Whether the implicit truth has a closed form, and so there is a minimiser, wherever θ⁰ is."""
    forms = case.closed_forms
    return forms is not None and forms.implicit(array(case.lam)) is not None
