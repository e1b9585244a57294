"""What a head in closed form claims: the implicit hypergradient, without any inner run."""

from collections.abc import Callable

from refblo.contracts.comparison import compare
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding
from refblo.contracts.exact import margin
from refblo.contracts.implicit import has_minimiser
from refblo.contracts.minimiser import minimum
from refblo.contracts.relations import Exact, RelationJudgement
from refblo.contracts.selection import array
from refblo.estimators import Estimator
from refblo.problems.case import Case
from refblo.types import Estimand, Status


def quadratic_inner_loss(case: Case) -> bool:
    """Whether the inner loss is quadratic in θ."""
    return bool(case.tags & {"quadratic", "quadratic inner loss"})


def exact_in_one_step(name: str, factory: Callable[[], Estimator]) -> Contract:
    """From any θ⁰, the implicit hypergradient within every oracle's bound."""

    def check(case: Case, context: Context) -> ContractFinding:
        result = factory().estimate(case.problem, case.lam, context.draws)
        rounding = minimum(case).rounding(1)
        known = context.known(case, Estimand.IMPLICIT)
        comparisons = tuple(compare(result.value, truth, rounding) for truth in known.truths)
        worst = max(comparisons, key=margin)
        judgement = Exact().judge(worst)
        if result.status is not Status.COMPLETED:
            judgement = RelationJudgement(
                False, result.status.value, judgement.predicted, margin(worst)
            )
        return ContractFinding(judgement, comparisons, cost=result.cost)

    return Contract(
        name=f"{name}: exact for a quadratic inner loss",
        estimator=name,
        relation="Exact",
        claim="from any θ⁰ it is the implicit hypergradient, within the sum of the error bounds",
        claims=("field-implicit",),
        applies=lambda case: quadratic_inner_loss(case) and has_minimiser(case),
        check=check,
    )


def refuses_the_rest(name: str, factory: Callable[[], Estimator]) -> Contract:
    """On an inner loss that is not quadratic it says that it has not converged, and is off."""

    def check(case: Case, context: Context) -> ContractFinding:
        at_rest = minimum(case)
        result = factory().estimate(case.problem, case.lam, context.draws)
        said = result.status is not Status.COMPLETED
        away = float((result.theta - at_rest.problem.initial(case.lam)).norm())
        missing = result.estimate is None
        off = 0.0 if missing else float(abs(array(result.value) - at_rest.implicit).max())
        return ContractFinding(
            RelationJudgement(
                holds=said,
                measured=f"says “{result.status.value.split(':')[0]}”, {away:.1e} from θ*, off by {off:.1e}",
                predicted="not “completed”",
                margin=0.0 if said else 1.0,
            )
        )

    return Contract(
        name=f"{name}: knows where it does not apply",
        estimator=name,
        relation="Exact",
        claim="where the inner loss is not quadratic its status says so",
        claims=("field-implicit",),
        applies=lambda case: not quadratic_inner_loss(case) and has_minimiser(case),
        check=check,
    )
