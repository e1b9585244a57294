"""Forward mode, finite differences and the Taylor test on the programs with frozen draws."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.errors import ArgumentError, DivergenceError, OracleError
from refblo.noise import Draws
from refblo.oracles import (
    Ball,
    FiniteDifference,
    ForwardMode,
    ForwardModeDirectional,
    taylor_test,
)
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems import build
from refblo.problems.case import Case
from refblo.testing.problems import random_quadratic, random_separable
from refblo.types import Estimand
from tests.oracles.generated import Recipe, agree, recipes, story

SEEDS = st.integers(0, 2**32)
PATHWISE = Estimand.PATHWISE


@given(recipes(), SEEDS)
def test_one_direction_is_a_component_of_the_whole(recipe: Recipe, seed: int) -> None:
    case, draws = recipe.case(), Draws(seed)
    certified = Ball().truth(case, PATHWISE, draws)
    for found in FiniteDifference().directional(case, PATHWISE, 2, draws):
        u = found.direction
        component = float(certified.value @ u)
        # What certified.value @ u itself is rounded by.
        slack = certified.error + 2**-50 * float(certified.value.abs() @ u.abs())
        assert abs(found.value - component) <= found.error + slack
        forward = ForwardModeDirectional().derivative(case, PATHWISE, u, draws)
        assert abs(forward.value - component) <= forward.error + slack


def test_one_direction_has_the_direct_term_and_an_error() -> None:
    case = wide()
    certified, u = Ball().truth(case, PATHWISE), torch.ones(11, dtype=torch.float64)
    found = ForwardModeDirectional().derivative(case, PATHWISE, u)
    component = float(certified.value.sum())
    # The sum of eleven entries is rounded ten times.
    slack = certified.error * 11**0.5 + 10 * 2.0**-53 * float(certified.value.abs().sum())
    assert abs(found.value - component) <= found.error + slack
    # Rounding alone is an ulp of the value; some thousand operations leave at most a thousand of them.
    assert 2.0**-53 <= found.error / float(certified.value.abs().sum()) <= 2.0**-40


def wide() -> Case:
    """A problem with more hyperparameters than probes for the rounding error."""
    case = random_quadratic(3, 4, 11, curvature=0.3, symbolic=True)
    return replace(case, schedule=Schedule(1, 2))


@pytest.mark.parametrize("block", [None, 1, 4, 9, 11, 100])
def test_blocks_of_columns_and_probes_change_nothing(block: int | None) -> None:
    certified = Ball().truth(wide(), PATHWISE)
    found = ForwardMode(block=block).truth(wide(), PATHWISE)
    assert agree(certified, found), story(certified, found)
    whole = ForwardMode().truth(wide(), PATHWISE)
    # Two estimates of one error, with 16 degrees of freedom or more in each: a factor of 4 apart is
    # beyond eight standard deviations.
    assert whole.error / 4 < found.error < 4 * whole.error


@settings(max_examples=20)
@given(recipes(), SEEDS)
def test_differences_one_by_one_are_those_side_by_side(recipe: Recipe, seed: int) -> None:
    case, draws = recipe.case(), Draws(seed)
    together = FiniteDifference().truth(case, PATHWISE, draws)
    single = FiniteDifference(batched=False).truth(case, PATHWISE, draws)
    assert agree(together, single), story(together, single)


def test_the_answer_is_a_function_of_the_draws() -> None:
    case = random_quadratic(1, 3, 2, curvature=0.5)
    for oracle in (ForwardMode(), FiniteDifference()):
        first, again = (oracle.truth(case, PATHWISE, Draws(9)) for _ in range(2))
        other = oracle.truth(case, PATHWISE, Draws(10))
        assert torch.equal(first.value, again.value)
        assert first.error == again.error
        assert not agree(first, other)


def float32(case: Case) -> Case:
    """The same case in single precision."""
    loss, outer = case.problem.inner, case.problem.outer
    start = case.problem.initial(case.lam).float()
    problem = BilevelProblem(loss, outer, FixedInitial(start))
    return replace(case, problem=problem, lam=case.lam.float())


def test_in_single_precision_the_errors_are_those_of_single_precision() -> None:
    case = build("synth_1d")
    certified = Ball().truth(case, PATHWISE)
    single = float32(case)
    exact = float(certified.value)
    for oracle in (ForwardMode(), FiniteDifference()):
        found = oracle.truth(single, PATHWISE)
        assert found.value.dtype == torch.float32
        # λ = 0.1 and θ⁰ = 0.1 are not numbers of single precision: the certified truth is of another λ,
        # by 2^−24 of it, and the derivative's own derivative is of order one.
        assert abs(float(found.value) - exact) <= found.error + 2.0**-22
        assert 2.0**-26 < found.error < 1e-2


@pytest.mark.parametrize(
    "ask",
    [
        lambda case: ForwardMode().truth(case, PATHWISE),
        lambda case: FiniteDifference().truth(case, PATHWISE),
        lambda case: ForwardModeDirectional().derivative(case, PATHWISE, torch.ones(2)),
    ],
)
def test_a_chain_that_diverges_is_reported_with_its_step(ask: Callable[[Case], object]) -> None:
    def inner(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        return (theta**4).sum() + theta.sum() * lam.sum()

    start = torch.full((3,), 2.0, dtype=torch.float64)
    problem = BilevelProblem(inner, lambda _, theta, __: theta.sum(), FixedInitial(start))
    lam = torch.zeros(2, dtype=torch.float64)
    case = Case("diverging", problem, lam, Langevin(1.0), Schedule(10, 10))
    with pytest.raises(DivergenceError, match="step_size must keep the inner run finite") as caught:
        ask(case)
    assert 1 < caught.value.step < 10


def test_an_objective_with_an_end_is_differenced_inside_it() -> None:
    # log(λ) is NaN for λ ≤ 0, and at the first step of 1/8 from λ = 10⁻³ half of the points are there.
    def inner(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        return ((theta - torch.log(lam[0])) ** 2).sum() / 2

    start = torch.zeros(2, dtype=torch.float64)
    problem = BilevelProblem(inner, lambda _, theta, __: theta.sum(), FixedInitial(start))
    lam = torch.tensor([1e-3], dtype=torch.float64)
    case = Case("logarithm", problem, lam, Langevin(0.5), Schedule.last(1))
    found = FiniteDifference().truth(case, PATHWISE)
    forward = ForwardMode().truth(case, PATHWISE)
    assert agree(found, forward), story(found, forward)
    assert found.error < 1e-6 * float(forward.value)


@given(recipes(), SEEDS)
def test_the_taylor_test_passes_the_truth_and_rejects_a_lie(recipe: Recipe, seed: int) -> None:
    case, draws = recipe.case(), Draws(seed)
    truth = Ball().truth(case, PATHWISE, draws).value
    for place, outcome in enumerate(taylor_test(case, PATHWISE, truth, 2, draws)):
        assert outcome.passed
        # Along this direction an error of a thousandth is seen, unless it is too small to be seen.
        u = outcome.direction
        wrong = truth + 1e-3 * (1 + float(truth.norm())) * u
        lie = taylor_test(case, PATHWISE, wrong, 2, draws)[place]
        assert torch.equal(lie.direction, u)
        assert not lie.passed
        assert 0.9 < lie.slope_with < 1.1


def test_the_taylor_slopes_are_one_and_two() -> None:
    case = random_separable(2, 3, 2)
    truth = ForwardMode().truth(case, PATHWISE).value
    for outcome in taylor_test(case, PATHWISE, truth, 3):
        assert abs(outcome.slope_without - 1) < 0.1
        assert abs(outcome.slope_with - 2) < 0.1
        assert outcome.resolution < 1e-5
    for wrong in (0 * truth, -truth, 2 * truth, truth.flip(0)):
        assert not all(outcome.passed for outcome in taylor_test(case, PATHWISE, wrong, 3))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda _: ForwardMode(block=0), "block must be at least 1"),
        (lambda _: ForwardMode(replicas=0), "replicas must be at least 1"),
        (lambda _: ForwardModeDirectional(replicas=0), "replicas must be at least 1"),
        (lambda _: FiniteDifference(largest=0), "largest must be at least 1"),
        (lambda case: FiniteDifference().directional(case, PATHWISE, 0), "count must be"),
        (lambda case: taylor_test(case, PATHWISE, case.lam, 0), "count must be at least 1"),
        (lambda case: taylor_test(case, PATHWISE, torch.ones(7)), "candidate must have the shape"),
        (lambda case: taylor_test(case, Estimand.GIBBS, case.lam), "estimand must be"),
        (
            lambda case: ForwardModeDirectional().derivative(case, PATHWISE, torch.ones(7)),
            "direction must have the shape of lam",
        ),
        (
            lambda case: ForwardModeDirectional().derivative(
                case, PATHWISE, torch.tensor([torch.nan, 0.0])
            ),
            "direction must be finite",
        ),
    ],
)
def test_bad_arguments_are_named(ask: Callable[[Case], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ask(random_quadratic(0, 3, 2))


def test_an_objective_that_is_nowhere_finite_is_refused() -> None:
    def outer(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        return torch.where(lam[0] == 1, theta.sum(), theta.sum() * torch.nan)

    start = torch.zeros(2, dtype=torch.float64)
    problem = BilevelProblem(
        lambda at, theta, _: ((theta - at[0]) ** 2).sum(), outer, FixedInitial(start)
    )
    lam = torch.ones(1, dtype=torch.float64)
    case = Case("a point", problem, lam, Langevin(0.5), Schedule.last(1))
    with pytest.raises(OracleError, match="must be finite"):
        FiniteDifference().truth(case, PATHWISE)
