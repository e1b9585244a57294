"""Heads in closed form, and the problems that they belong to: shared representations and prototypes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refblo.contracts.closed_form_head import exact_in_one_step, refuses_the_rest
from refblo.contracts.context import Context
from refblo.contracts.minimiser import minimum
from refblo.contracts.rounding import unit_roundoff
from refblo.contracts.selection import array
from refblo.estimators import FMD, RMD, Estimator, IFTDense
from refblo.estimators.closed_form_head import ClosedFormHead, Direction
from refblo.noise import Draws, Stream
from refblo.oracles import ClosedForm, truths
from refblo.problems import build
from refblo.problems.case import Case
from refblo.types import Estimand, Status
from tests.estimators_field.instances import Member, Mended, quadratics

LINEAR = ["hyper_ridge", "prototypes_iris", "quadratic_curvature", "ridge_diabetes"]
U = unit_roundoff(torch.float64)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("case", LINEAR)
def test_one_newton_step_is_the_implicit_truth(case: str, direction: Direction) -> None:
    contract = exact_in_one_step("head", lambda: ClosedFormHead(direction))
    built = build(case)
    assert contract.applies(built)
    judgement = contract.check(built, Context()).judgement
    assert judgement.holds, judgement


@pytest.mark.parametrize("case", ["synth_1d", "hyper_logistic"])
def test_it_says_where_it_does_not_apply(case: str) -> None:
    contract = refuses_the_rest("head", ClosedFormHead)
    built = build(case)
    assert contract.applies(built)
    assert contract.check(built, Context()).judgement.holds


def _at_the_start() -> Estimator:
    """C and f_θ at θ⁰: no Newton step."""
    return Mended(
        ClosedFormHead(),
        lambda problem, lam, _: IFTDense(_RULE, 1).estimate(problem, lam).value,
    )


def _no_adjoint() -> Estimator:
    """The heads are taken as given: the direct term alone."""

    def bent(problem: object, lam: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        case = build("hyper_ridge")
        theta = ClosedFormHead().estimate(case.problem, lam).theta
        at = lam.clone().requires_grad_()
        return torch.autograd.grad(case.problem.outer(at, theta, None), at)[0]

    return Mended(ClosedFormHead(), bent)


def _negated() -> Estimator:
    return Mended(ClosedFormHead(), lambda _, __, h: -h)


_RULE = build("hyper_ridge").dynamics


@pytest.mark.parametrize("bug", [_at_the_start, _no_adjoint, _negated])
def test_planted_bugs_are_rejected(bug: "type[Estimator]") -> None:
    assert not exact_in_one_step("bent", bug).check(build("hyper_ridge"), Context()).judgement.holds


@settings(max_examples=10)
@given(quadratics())
def test_both_directions_agree_with_the_closed_form(member: Member) -> None:
    case = member.build()
    truth = ClosedForm().truth(case, Estimand.IMPLICIT)
    for direction in Direction:
        result = ClosedFormHead(direction).estimate(case.problem, case.lam)
        assert result.status is Status.COMPLETED
        # The dense Hessian, and for forward mode a dense C: as many products as there are columns.
        forward = direction is Direction.FORWARD
        assert result.cost.hessian_products == member.n + (member.p if forward else 0)
        allowed = truth.error + minimum(case).rounding(1)
        assert float((result.value - truth.value).norm()) <= allowed


def expected_outer_loss(case: Case, lam: torch.Tensor, temperature: float) -> torch.Tensor:
    """E_p[f] of a problem that is quadratic in θ, as a function of λ that autograd can differentiate."""
    start = torch.zeros_like(case.problem.initial(case.lam))

    def inner(theta: torch.Tensor) -> torch.Tensor:
        return case.problem.inner(lam, theta, None)

    def outer(theta: torch.Tensor) -> torch.Tensor:
        return case.problem.outer(lam, theta, None)

    hessian = torch.func.hessian(inner)(start)
    theta = -torch.linalg.solve(hessian, torch.func.grad(inner)(start))
    spread = torch.linalg.solve(hessian, torch.func.hessian(outer)(start))
    return outer(theta) + 0.5 * temperature * torch.trace(spread)


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.05, 1.0]))
def test_the_ridge_heads_formulas_are_autograds(seed: int, temperature: float) -> None:
    case = build("hyper_ridge")
    assert case.closed_forms is not None
    lam = Draws(seed).normal(Stream.DIRECTIONS, 0, case.lam)
    leaf = lam.clone().requires_grad_()
    truth = array(torch.autograd.grad(expected_outer_loss(case, leaf, temperature), leaf)[0])
    stated = case.closed_forms.gibbs(array(lam), temperature)
    assert stated is not None
    # ρ bounds the condition number of every head from above by ‖Φ‖²/(mρ) + 1; its square for the spread.
    condition = float(np.linalg.norm(array(lam)) ** 2) * 10 / 0.1 + 1
    assert np.linalg.norm(stated - truth) <= 100 * U * condition**2 * (1 + np.linalg.norm(truth))


@pytest.mark.parametrize("case", ["hyper_ridge", "hyper_logistic", "prototypes_iris"])
def test_two_oracles_or_more_know_every_truth_that_is_asked_for(case: str) -> None:
    built = build(case)
    for estimand in (Estimand.IMPLICIT, Estimand.PATHWISE):
        found = truths(replace(built, schedule=type(built.schedule)(2, 3)), estimand)
        assert len(found) >= 2
        for truth in found:
            distance = float((truth.value - found[0].value).norm())
            assert distance <= truth.error + found[0].error, truth.oracle


def test_forward_and_reverse_through_gradient_descent_agree() -> None:
    """The heads by gradient descent, as in few-shot learning: T steps, differentiated either way."""
    case = build("hyper_logistic")
    forward = FMD(case.dynamics, case.schedule).estimate(case.problem, case.lam).value
    reverse = RMD(case.dynamics, case.schedule).estimate(case.problem, case.lam).value
    steps, size = case.schedule.steps, float(reverse.norm())
    # Two orders of adding up the same products, four roundings a step and n entries each.
    assert float((forward - reverse).norm()) <= 4 * steps * 10 * U * (1 + size)


def test_a_singular_inner_hessian_has_no_head() -> None:
    case = build("hyper_ridge")
    flat = replace(case.problem, inner=lambda lam, theta, _: (lam.sum() * theta[0]) ** 2)
    result = ClosedFormHead().estimate(flat, case.lam)
    assert result.estimate is None
    assert result.status is Status.SERIES_DIVERGED
