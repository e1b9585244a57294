"""The recursions with O(n + p) memory that converge to the implicit hypergradient."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from refblo.chain import Langevin, Schedule
from refblo.contracts.context import Context
from refblo.contracts.minimiser import minimum
from refblo.contracts.rounding import unit_roundoff
from refblo.contracts.running import discounted_limit, discounted_rate, running_solve
from refblo.contracts.selection import array
from refblo.errors import ArgumentError
from refblo.estimators import HPOSGLD, Estimator
from refblo.estimators.discounted import DiscountedHPOSGLD
from refblo.estimators.running_solve import RunningSolve
from refblo.noise import Draws
from refblo.outer.loop import OuterLoop
from refblo.problems import build
from refblo.problems.case import Case
from refblo.problems.quadratic import case_of, instance
from tests.estimators_field.instances import Member, Mended, quadratics

CASES = [
    "synth_1d",
    "quadratic",
    "quadratic_ill_conditioned",
    "quadratic_curvature",
    "ridge_diabetes",
]


@pytest.mark.parametrize("case", CASES)
def test_contracts_hold(case: str) -> None:
    built = build(case)
    for contract in (
        running_solve("running solve", RunningSolve),
        discounted_rate("discounted", DiscountedHPOSGLD),
        discounted_limit("discounted", DiscountedHPOSGLD),
    ):
        if contract.applies(built):
            judgement = contract.check(built, Context()).judgement
            assert judgement.holds, (contract.name, judgement)


def _negated(rule: Langevin, schedule: Schedule) -> Estimator:
    return Mended(RunningSolve(rule, schedule), lambda _, __, h: -h)


def _no_hessian(rule: Langevin, schedule: Schedule) -> Estimator:
    return HPOSGLD(rule, schedule)


def _slow(rule: Langevin, schedule: Schedule) -> Estimator:
    return RunningSolve(rule, schedule, solve_step=rule.step_size / 2)


@pytest.mark.parametrize("bug", [_negated, _no_hessian, _slow])
def test_planted_bugs_in_the_running_solve_are_rejected(
    bug: "type[Estimator]",
) -> None:
    case = build("quadratic")
    assert not running_solve("bent", bug).check(case, Context()).judgement.holds


@pytest.mark.parametrize("factor", [0.5, 0.99, 1.01, 2.0])
def test_a_wrong_curvature_is_rejected(factor: float) -> None:
    case = build("quadratic")

    def bent(rule: Langevin, schedule: Schedule, model: float, filled: bool) -> Estimator:
        return DiscountedHPOSGLD(rule, schedule, factor * model, filled)

    assert not discounted_rate("bent", bent).check(case, Context()).judgement.holds
    assert not discounted_limit("bent", bent).check(case, Context()).judgement.holds


def test_without_curvature_the_discounted_recursion_is_hpo_sgld() -> None:
    case = build("quadratic_curvature")
    none = DiscountedHPOSGLD(case.dynamics, case.schedule, curvature=1e-300, filled=False)
    found = none.estimate(case.problem, case.lam).value
    truth = HPOSGLD(case.dynamics, case.schedule).estimate(case.problem, case.lam).value
    # The same sum; only how an addition is grouped may differ.
    u = unit_roundoff(case.lam.dtype)
    assert float((found - truth).norm()) <= 2 * case.schedule.steps * u * float(truth.norm())


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 4), st.floats(0.1, 5.0), st.integers(0, 2**32))
def test_with_a_scalar_hessian_the_discounted_recursion_is_the_implicit_truth(
    n: int, p: int, scale: float, seed: int
) -> None:
    numbers = instance(Draws(seed), n, p, 1.0)
    numbers = replace(numbers, hessian=scale * np.eye(n))
    case = case_of("scalar Hessian", numbers, Draws(seed))
    at_rest = minimum(case)
    method = DiscountedHPOSGLD(at_rest.resting, Schedule(3, 4))
    found = array(method.estimate(at_rest.problem, case.lam).value)
    assert np.linalg.norm(found - at_rest.implicit) <= at_rest.rounding(7)


@settings(max_examples=20)
@given(quadratics(), st.integers(1, 20))
def test_the_running_solve_keeps_its_bound_from_any_start(member: Member, steps: int) -> None:
    """θ and q both far off: ‖q_m − q*‖ ≤ ρ^m‖q*‖ + γ m ρ^{m−1}‖Q‖‖θ⁰ − θ*‖, by induction over m.

    The hypergradient is bilinear in (θ, q) where C depends on θ, and linear where it does not.
    """
    case = member.build()
    at_rest = minimum(case)
    rule = at_rest.resting
    method = RunningSolve(rule, Schedule.last(steps + 1))
    result = method.estimate(case.problem, case.lam)
    rho, m = at_rest.contraction(rule.step_size), steps
    away = float((case.problem.initial(case.lam) - at_rest.problem.initial(case.lam)).norm())
    slope = np.linalg.norm(at_rest.local.Q, 2)
    size_of_q = float(np.linalg.norm(at_rest.solution))
    off_q = rho**m * size_of_q + rule.step_size * m * rho ** (m - 1) * slope * away
    off_theta = rho**m * away
    numbers = case.closed_forms.numbers  # type: ignore[union-attr]  # of the quadratic family
    bend = np.abs(numbers.diagonal_jacobian(array(case.lam))).max(axis=0)
    coupling = float(np.linalg.norm(at_rest.local.C, 2))
    bound = (
        coupling * off_q
        + float(np.linalg.norm(numbers.outer_mixed, 2)) * off_theta
        + float(np.linalg.norm(bend)) * off_theta * (size_of_q + off_q)
    )
    found = array(result.value)
    assert np.linalg.norm(found - at_rest.implicit) <= bound + at_rest.rounding(steps)


def test_a_diagonal_hessian_needs_no_product() -> None:
    numbers = instance(Draws(4), 3, 2, 10.0)
    diagonal = np.array([0.2, 0.5, 1.0])
    case = case_of("diagonal", replace(numbers, hessian=np.diag(diagonal)), Draws(4))
    at_rest = minimum(case)
    steps = 400
    method = RunningSolve(at_rest.resting, Schedule.last(steps), diagonal=torch.as_tensor(diagonal))
    result = method.estimate(at_rest.problem, case.lam)
    assert result.cost.hessian_products == 0
    left = at_rest.contraction(at_rest.resting.step_size) ** (steps - 1)
    left *= float(np.linalg.norm(at_rest.local.C, 2) * np.linalg.norm(at_rest.solution))
    assert np.linalg.norm(array(result.value) - at_rest.implicit) <= left + at_rest.rounding(steps)


def test_the_running_solve_is_the_mean_over_its_samples() -> None:
    case = build("quadratic_curvature")
    quiet = Langevin(case.dynamics.step_size)
    found = RunningSolve(quiet, Schedule(3, 2)).estimate(case.problem, case.lam).value
    fourth, fifth = (
        RunningSolve(quiet, Schedule.last(steps)).estimate(case.problem, case.lam).value
        for steps in (4, 5)
    )
    # One rounding each of the halves and of their sum.
    assert torch.allclose(found, (fourth + fifth) / 2, rtol=4 * 2.0**-53, atol=0)
    assert not torch.allclose(found, fifth, rtol=1e-3)


def test_continuing_is_the_same_as_going_on() -> None:
    case = build("quadratic_curvature")
    quiet = Langevin(case.dynamics.step_size)
    once = RunningSolve(quiet, Schedule.last(30))
    half = RunningSolve(quiet, Schedule.last(15))
    _, middle = half.advance(case.problem, case.lam, half.begin(case.problem, case.lam))
    result, _ = half.advance(case.problem, case.lam, middle)
    assert torch.equal(result.value, once.estimate(case.problem, case.lam).value)


def _descend(method: Estimator | RunningSolve, case: Case) -> tuple[float, float]:
    """(λ, θ) after the paper's D.1: 200 outer steps of 0.005, warm-started."""
    problem, lam = case.problem, case.lam
    carried = method.begin(problem, lam) if isinstance(method, RunningSolve) else None
    theta = problem.initial(lam)
    for k in range(200):
        if isinstance(method, RunningSolve):
            assert carried is not None
            result, carried = method.advance(problem, lam, carried, Draws(k))
        else:
            result = method.estimate(problem.starting_at(theta), lam, Draws(k))
        lam, theta = lam - 0.005 * result.value, result.theta
    return float(lam), float(theta)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_synth_1d_is_solved_to_1e_4_at_the_papers_budget_where_hpo_sgld_stops_at_1e_2() -> None:
    case = build("synth_1d")
    forms = case.closed_forms
    assert forms is not None

    def slope(lam: float) -> float:
        implicit = forms.implicit(np.array([lam]))
        assert implicit is not None
        return float(implicit[0])

    best = brentq(slope, 0.5, 0.9, xtol=1e-14)
    optimum = np.array([best, np.sqrt(1 - best**2)])
    quiet, schedule = Langevin(0.005, 1e-6), Schedule(50, 50)

    def off(method: Estimator | RunningSolve) -> float:
        return float(np.max(np.abs(np.array(_descend(method, case)) - optimum)))

    # 1e-4 is what is claimed, not a tolerance.
    assert off(RunningSolve(quiet, schedule)) < 1e-4
    assert off(DiscountedHPOSGLD(quiet, schedule)) < 1e-4
    assert off(HPOSGLD(Langevin(0.005, 1e-6, 1.0), schedule)) > 1e-2


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_quadratic_is_solved_to_1e_4_at_the_papers_budget_where_hpo_sgld_diverges() -> None:
    """Condition number 10, scaled so that 100 inner steps of 0.005 and 200 outer ones of 0.005 suffice."""
    n, p, scale, seed = 5, 3, 100.0, 0
    drawn = instance(Draws(seed), n, p, 10.0)
    numbers = replace(
        drawn,
        hessian=scale * drawn.hessian,
        coupling=scale * drawn.coupling,
        shift=scale * drawn.shift,
        outer_direct=20 * np.eye(p),
    )
    case = case_of("scaled", numbers, Draws(seed))
    tangent = np.linalg.solve(numbers.hessian, numbers.coupling)
    at_zero = np.linalg.solve(numbers.hessian, numbers.shift)
    cross = tangent.T @ numbers.outer_mixed
    curved = tangent.T @ numbers.outer_hessian @ tangent + cross + cross.T + numbers.outer_direct
    slope = tangent.T @ (numbers.outer_hessian @ at_zero + numbers.outer_slope)
    slope = slope + numbers.outer_mixed.T @ at_zero + numbers.direct_slope
    optimum = np.linalg.solve(curved, -slope)
    problem = case.problem.starting_at(torch.full((n,), 0.1, dtype=torch.float64))

    def off(method: Estimator) -> float:
        loop = OuterLoop(problem, method, lambda lams: torch.optim.SGD(lams, lr=0.005), steps=200)
        ended = loop.run(torch.full((p,), 0.1, dtype=torch.float64))
        return float(np.max(np.abs(array(ended.lam) - optimum)))

    # 1e-4 is what is claimed, not a tolerance.
    assert off(RunningSolve(Langevin(0.005), Schedule.last(100))) < 1e-4
    assert not off(HPOSGLD(Langevin(0.005, 1e-6, 1.0), Schedule(50, 50))) < 1


def test_bad_arguments_say_what_to_do() -> None:
    rule, schedule = Langevin(0.1), Schedule.last(2)
    with pytest.raises(ArgumentError, match="curvature must lie in"):
        DiscountedHPOSGLD(rule, schedule, curvature=20.0)
    with pytest.raises(ArgumentError, match="solve_step must be positive"):
        RunningSolve(rule, schedule, solve_step=0.0)
    with pytest.raises(ArgumentError, match="diagonal must have positive entries"):
        RunningSolve(rule, schedule, diagonal=torch.zeros(2))
    case = build("quadratic")
    wrong = RunningSolve(rule, schedule, diagonal=torch.ones(2, dtype=torch.float64))
    with pytest.raises(ArgumentError, match="diagonal must have the shape of theta"):
        wrong.estimate(case.problem, case.lam)
