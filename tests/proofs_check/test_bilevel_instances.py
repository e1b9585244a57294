"""Counterexamples violate one condition alone; others are refused: 1 s of the quick suite."""

from dataclasses import replace

import pytest
import sympy as sp

from proofs_check.claim import Assumption
from proofs_check.errors import ClaimRefusedError
from proofs_check.tools.alone import refuse_other_violations
from proofs_check.tools.bilevel_instances import (
    COMPACT,
    CONTINUOUS,
    CONVERGENCE,
    EXISTENCE,
    LIPSCHITZ,
    NO_LIMIT,
    NO_SOLUTION,
    PLAIN,
    SINGLETON,
    BilevelInstance,
    lam,
    w,
)


@pytest.mark.parametrize("condition", EXISTENCE, ids=lambda condition: condition.key)
def test_without_its_condition_a_solution_need_not_exist(condition: Assumption) -> None:
    alone = NO_SOLUTION[condition]
    refuse_other_violations(alone, condition, EXISTENCE)
    assert not alone.infimum_is_attained()


def test_without_a_single_minimiser_the_infima_do_not_converge() -> None:
    alone = NO_LIMIT[SINGLETON]
    refuse_other_violations(alone, SINGLETON, (COMPACT, *CONVERGENCE))
    assert (alone.limit_of_infima(), alone.infimum()) == (1, -1)


def test_a_counterexample_that_violates_another_condition_is_refused_with_its_file() -> None:
    jump = (w - 1) ** 2
    worse = replace(
        NO_SOLUTION[CONTINUOUS], name="worse", inner_at_0=jump, minimisers_at_0=(sp.S(1),)
    )
    with pytest.raises(ClaimRefusedError) as caught:
        refuse_other_violations(worse, CONTINUOUS, EXISTENCE)
    told = str(caught.value)
    assert "'worse' in " in told
    assert "bilevel_instances.py must violate 'continuous-outer' alone" in told
    assert "got ['continuous-outer', 'continuous-inner']; change it until the conditions" in told


def test_a_counterexample_that_violates_nothing_is_refused() -> None:
    with pytest.raises(ClaimRefusedError, match=r"must violate 'compact' alone, got \[\]"):
        refuse_other_violations(PLAIN, COMPACT, EXISTENCE)


@pytest.mark.parametrize(
    ("outer", "lipschitz"),
    [(w, True), (abs(w - lam), True), (2 * w, False), (w**2, False), (sp.sqrt(abs(w)), False)],
)
def test_a_slope_above_the_constant_is_seen(outer: sp.Expr, *, lipschitz: bool) -> None:
    instance: BilevelInstance = replace(PLAIN, outer=outer)
    assert instance.holds(LIPSCHITZ) is lipschitz
