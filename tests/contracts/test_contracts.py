"""The contracts hold for the estimators they are about, and for no planted bug.

Share of the quick suite: about 20 s of processor time, for a third of the pairs of contract and planted bug.
The oracles answer once for each problem: `CONTEXT` keeps the truths, and no estimator changes them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import pytest

from refblo.chain import Langevin, Schedule
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, Factory
from refblo.contracts.exact import exact
from refblo.contracts.first_order import direct_term
from refblo.contracts.hpo_sgld import fixed_horizon, order_with_noise, order_without_noise
from refblo.contracts.stochastic import unbiased
from refblo.estimators import HPOSGLD, RMD, Estimator, RMDFirstOrder
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.problems import build
from refblo.problems.case import Case
from refblo.types import Estimand, Hypergradient, Lam


@dataclass(frozen=True)
class WrongEstimator:
    """An estimator with a planted bug: its indirect term is scaled, its schedule or draws shifted."""

    right: Estimator
    direct: Estimator
    scale: float = 1.0
    other_noise: bool = False
    name: str = "bent"

    @property
    def estimand(self) -> Estimand:
        return self.right.estimand

    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        draws = Draws(draws.seed + 1) if self.other_noise else draws
        result = self.right.estimate(problem, lam, draws)
        direct = self.direct.estimate(problem, lam, draws).value
        return replace(result, estimate=direct + self.scale * (result.value - direct))


Make = Callable[[Langevin, Schedule], Estimator]


def scaled(make: Make, factor: float) -> Factory:
    """The indirect term times a factor."""
    return lambda rule, schedule: WrongEstimator(
        make(rule, schedule), RMDFirstOrder(rule, schedule), scale=factor
    )


def one_step_more(make: Make) -> Factory:
    """Off by one step."""
    return lambda rule, schedule: make(rule, Schedule(schedule.burn_in + 1, schedule.samples))


def epsilon_for_gamma(make: Make) -> Factory:
    """ε where ε/2 was meant."""
    return lambda rule, schedule: make(replace(rule, step_size=2 * rule.step_size), schedule)


def other_noise(make: Make) -> Factory:
    """Noise that is not shared."""
    return lambda rule, schedule: WrongEstimator(
        make(rule, schedule), RMDFirstOrder(rule, schedule), other_noise=True
    )


CONTEXT = Context()


@cache
def case_of(name: str) -> Case:
    """One object for each name: `Context` keeps truths by the case itself."""
    return build(name)


HPO_CONTRACTS = [order_without_noise, order_with_noise, fixed_horizon]
CASES = ["synth_1d", "quadratic", "quadratic_curvature"]


@pytest.mark.parametrize(
    ("contract", "case"),
    [
        pytest.param(contract, case, marks=pytest.mark.full if long else ())
        for contract in HPO_CONTRACTS
        for case in CASES
        for long in [(contract, case) == (fixed_horizon, "quadratic_curvature")]
    ],
)
def test_hpo_sgld_has_the_predicted_bias(
    contract: Callable[[str, Factory], Contract], case: str
) -> None:
    built, claim = case_of(case), contract("HPO-SGLD", HPOSGLD)
    assert claim.applies(built)
    judgement = claim.check(built, CONTEXT).judgement
    assert judgement.holds, judgement


HPO_BUGS: dict[str, Factory] = {
    "half dropped": scaled(HPOSGLD, 2.0),
    "half twice": scaled(HPOSGLD, 0.5),
    "sign": scaled(HPOSGLD, -1.0),
    "0.1 %": scaled(HPOSGLD, 1.001),
    "eps for gamma": epsilon_for_gamma(HPOSGLD),
    "exact": RMD,
    "no indirect": RMDFirstOrder,
}


@pytest.mark.parametrize(
    ("bug", "contract"),
    [
        pytest.param(
            bug,
            contract,
            # The horizon is swept by long runs: one bug of the three whose turn it would be.
            marks=()
            if (row + column) % 3 == 0 and (contract is not fixed_horizon or bug == "half twice")
            else pytest.mark.full,
        )
        for row, bug in enumerate(HPO_BUGS)
        for column, contract in enumerate(HPO_CONTRACTS)
    ],
)
def test_planted_bugs_in_hpo_sgld_are_rejected(
    bug: str, contract: Callable[[str, Factory], Contract]
) -> None:
    judgement = contract("HPO-SGLD", HPO_BUGS[bug]).check(case_of("quadratic"), CONTEXT).judgement
    assert not judgement.holds, judgement


@pytest.mark.parametrize("case", CASES)
def test_rmd_is_exact(case: str) -> None:
    finding = exact("RMD", RMD).check(case_of(case), CONTEXT)
    assert finding.judgement.holds, finding
    assert len({comparison.oracle for comparison in finding.comparisons}) >= 2


@pytest.mark.parametrize(
    "bug",
    [
        scaled(RMD, 1 + 1e-6),
        one_step_more(RMD),
        other_noise(RMD),
        HPOSGLD,
        lambda rule, schedule: RMD(rule, schedule, last_transitions=schedule.steps - 1),
    ],
    ids=["1e-6", "off by one", "noise not shared", "identity Jacobians", "truncated"],
)
def test_planted_bugs_in_rmd_are_rejected(bug: Factory) -> None:
    assert not exact("RMD", bug).check(case_of("quadratic"), CONTEXT).judgement.holds


def test_rmd_is_unbiased_and_hpo_sgld_is_not() -> None:
    case = replace(case_of("quadratic"), schedule=Schedule(10, 10))
    # Error rate 1e-6 each; the recursion's bias is as large as the truth here.
    assert unbiased("RMD", RMD).check(case, CONTEXT).judgement.holds
    assert not unbiased("HPO-SGLD", HPOSGLD).check(case, CONTEXT).judgement.holds


def test_first_order_is_the_direct_term() -> None:
    case = case_of("quadratic")
    assert direct_term("RMD-FO", RMDFirstOrder).check(case, CONTEXT).judgement.holds
    assert not direct_term("RMD-FO", RMD).check(case, CONTEXT).judgement.holds
