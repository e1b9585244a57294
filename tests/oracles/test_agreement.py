"""Every two oracles agree within the sum of their errors, and the errors are small enough to tell."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations
from typing import final

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from refblo.errors import ArgumentError, OracleError
from refblo.noise import SEED_ZERO, Draws
from refblo.oracles import ORACLES, Ball, ForwardMode, Oracle, answers, truths
from refblo.problems import build
from refblo.problems.case import Case
from refblo.testing.problems import random_quadratic
from refblo.types import ErrorKind, Estimand, Truth
from tests.oracles.generated import Recipe, agree, recipes, sizes, story

SEEDS = st.integers(0, 2**32)
PLANTED = 1e-6
"""The relative size of the planted errors. Central differences of order 8 leave some 11 digits of a
function of order one, and no oracle leaves fewer."""


def check(found: list[Truth]) -> None:
    """All pairs agree; none would agree with a truth that is wrong by a millionth."""
    for first, second in combinations(found, 2):
        assert agree(first, second), story(first, second)
    for first, second in combinations(found, 2):
        size = 1 + float(torch.linalg.vector_norm(first.value))
        wrong = replace(second, value=second.value + PLANTED * size)
        assert not agree(first, wrong), story(first, wrong)


@settings(max_examples=200)  # what the package stands on
@given(recipes(), SEEDS, st.sampled_from([Estimand.UNROLLED, Estimand.PATHWISE]))
def test_all_oracles_of_a_program_agree(recipe: Recipe, seed: int, estimand: Estimand) -> None:
    case = recipe.case()
    found = truths(case, estimand, Draws(seed))
    assert len(found) == 3
    certified, claimed, _ = found
    assert certified.kind is ErrorKind.CERTIFIED
    check(found)
    # That the two agree says that Monte Carlo arithmetic covers the true rounding error of forward mode.
    # It claims no more than a run of so few steps can lose either: some hundred operations each.
    size = 1 + float(torch.linalg.vector_norm(certified.value))
    assert claimed.error <= 1000 * torch.finfo(torch.float64).eps * size * case.schedule.steps
    true_error = float(torch.linalg.vector_norm(claimed.value - certified.value))
    event("over a fifth of the claim" if 5 * true_error > claimed.error else "below a fifth")


@given(recipes(programs=False))
def test_all_oracles_of_the_implicit_truth_agree(recipe: Recipe) -> None:
    found = truths(recipe.case(), Estimand.IMPLICIT)
    assert len(found) == 3
    check(found)


@given(sizes(), SEEDS, st.sampled_from([0.0, 0.5]), st.sampled_from(Estimand))
def test_closed_forms_agree_with_ball_arithmetic(
    size: tuple[int, int], seed: int, curvature: float, estimand: Estimand
) -> None:
    n, p = size
    case = random_quadratic(seed, n, p, curvature=curvature, moving_start=0.5, symbolic=True)
    names = ("ball arithmetic", "closed form")
    check(truths(case, estimand, Draws(seed), [o for o in ORACLES if o.name in names]))


@pytest.mark.full
@pytest.mark.timeout(1800)
@settings(max_examples=10)  # each takes a second: adaptive quadrature in two ways
@given(SEEDS)
def test_all_oracles_of_the_gibbs_truth_agree(seed: int) -> None:
    found = truths(random_quadratic(seed, 1, 2, curvature=0.5, symbolic=True), Estimand.GIBBS)
    assert len(found) == 4
    check(found)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("p", [1, 3])
def test_all_oracles_of_the_gibbs_truth_agree_in_two_dimensions(p: int) -> None:
    case = random_quadratic(3, 2, p, condition_number=100.0, curvature=0.5, symbolic=True)
    found = truths(case, Estimand.GIBBS)
    assert len(found) == 4
    check(found)


@pytest.mark.full  # the audit judges the same on every case, in its quick form too
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["synth_1d", "noisy_synth_1d", "cubic_toy", "maml_quadratic"])
@pytest.mark.parametrize("estimand", [Estimand.UNROLLED, Estimand.PATHWISE])
def test_all_oracles_agree_on_the_catalogue(name: str, estimand: Estimand) -> None:
    case = build(name)
    schedule = replace(case.schedule, burn_in=min(case.schedule.burn_in, 10), samples=10)
    check(truths(replace(case, schedule=schedule), estimand, Draws(4)))


@final
@dataclass(frozen=True)
class Wrong:
    """An oracle with a planted error: the sign of one entry."""

    name: str = "wrong"

    def applies(self, case: Case, estimand: Estimand) -> bool:
        return ForwardMode().applies(case, estimand)

    def truth(self, case: Case, estimand: Estimand, draws: Draws = SEED_ZERO) -> Truth:
        right = ForwardMode().truth(case, estimand, draws)
        signs = torch.ones_like(right.value)
        signs[0] = -1
        return replace(right, value=right.value * signs, oracle=self.name)


def test_a_wrong_oracle_is_found_out() -> None:
    case = random_quadratic(5, 3, 2, symbolic=True)
    oracles: list[Oracle] = [Ball(), Wrong()]
    right, wrong = truths(case, Estimand.PATHWISE, oracles=oracles)
    assert not agree(right, wrong)


def test_a_truth_that_does_not_exist_is_refused_by_every_oracle() -> None:
    case = build("cubic_toy")
    asked = answers(case, Estimand.IMPLICIT)
    assert len(asked) == 3
    assert all(answer.truth is None and answer.refusal is not None for answer in asked)
    with pytest.raises(OracleError, match="cubic_toy has no implicit truth"):
        truths(case, Estimand.IMPLICIT)


def test_a_question_without_an_oracle_is_refused() -> None:
    case = build("synth_1d")  # without noise: no temperature
    with pytest.raises(ArgumentError, match="estimand must be one that some oracle answers"):
        truths(case, Estimand.GIBBS)
    assert answers(case, Estimand.GIBBS) == []


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.name)
def test_an_oracle_refuses_what_it_does_not_apply_to(oracle: Oracle) -> None:
    case = replace(build("noisy_synth_1d"), symbolic=None)
    for estimand in Estimand:
        if not oracle.applies(case, estimand):
            with pytest.raises(ArgumentError, match="estimand must be one that"):
                oracle.truth(case, estimand)


def test_names_are_unique() -> None:
    assert set(Counter(oracle.name for oracle in ORACLES).values()) == {1}
