"""MAML, first-order MAML, Reptile and iMAML: what they claim, and that bent ones are rejected."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refblo.chain import Langevin
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract
from refblo.contracts.meta import (
    first_order_error,
    geometric_in_products,
    implicit_when_solved,
    reptile_expansion,
)
from refblo.contracts.selection import array
from refblo.derivatives import initial_vjp, outer_theta_gradient
from refblo.errors import ArgumentError
from refblo.estimators import Estimator
from refblo.estimators.fo_maml import FOMAML
from refblo.estimators.imaml import IMAML, proximal
from refblo.estimators.maml import MAML
from refblo.estimators.reptile import Reptile
from refblo.noise import Draws, Stream
from refblo.oracles import ImplicitDense, ImplicitDifference
from refblo.problem import BilevelProblem, LamInitial
from refblo.problems import build
from refblo.problems.case import Case
from refblo.testing.problems import random_separable
from refblo.types import Estimand
from tests.estimators_field.instances import Mended

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 4)).filter(lambda sizes: sizes[0] != sizes[1])
CASES = ["maml_quadratic", "maml_sinusoid"]
CONTRACTS = [
    first_order_error("FO-MAML", FOMAML),
    reptile_expansion("Reptile", Reptile),
    implicit_when_solved("iMAML", IMAML),
    geometric_in_products("iMAML", IMAML),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_contracts_hold(case: str, contract: Contract) -> None:
    built = build(case)
    assert contract.applies(built)
    judgement = contract.check(built, Context()).judgement
    assert judgement.holds, judgement


def moving(n: int, p: int, seed: int) -> Case:
    """A separable problem that is not quadratic, with a θ⁰ that is affine in λ; p ≠ n."""
    case = random_separable(seed, n, p)
    start = case.problem.initial(case.lam)
    jacobian = Draws(seed).normal(Stream.INSTANCE, 99, torch.empty(n, p, dtype=start.dtype))
    initial = LamInitial(lambda lam: start + jacobian @ lam)
    problem = replace(case.problem, initial=initial)
    return replace(case, problem=problem, symbolic=None, statement=None)


@settings(max_examples=5)
@given(SIZES, st.integers(0, 2**32))
def test_the_expansions_hold_where_nothing_is_quadratic(sizes: tuple[int, int], seed: int) -> None:
    case = moving(*sizes, seed)
    for contract in CONTRACTS[:2]:
        judgement = contract.check(case, Context()).judgement
        assert judgement.holds, (contract.name, judgement)


@settings(max_examples=5)
@given(SIZES, st.floats(0.1, 10.0), st.integers(0, 2**32))
def test_a_converged_imaml_is_the_implicit_truth_of_any_proximal_problem(
    sizes: tuple[int, int], strength: float, seed: int
) -> None:
    case = moving(*sizes, seed)
    held = replace(case, problem=proximal(case.problem, strength))
    dense = ImplicitDense().truth(held, Estimand.IMPLICIT)
    differences = ImplicitDifference().truth(held, Estimand.IMPLICIT)
    # Steps that leave nothing of θ⁰: the proximal term alone contracts by 1 − ρ·γ.
    rule = Langevin(1 / (1 / case.dynamics.step_size + strength))
    steps = int(np.ceil(40 / (rule.step_size * strength)))
    if steps > 5000:
        return
    found = IMAML(rule, steps, 2 * sizes[0], strength).estimate(case.problem, case.lam).value
    allowed = dense.error + differences.error
    assert float((found - dense.value).norm()) <= allowed
    assert float((found - differences.value).norm()) <= allowed


def _outer_slope_at_the_start(rule: Langevin, steps: int) -> Estimator:
    def bent(problem: BilevelProblem, lam: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        slope = outer_theta_gradient(problem.outer, lam, problem.initial(lam), None)
        return initial_vjp(problem.initial, lam, slope)

    return Mended(FOMAML(rule, steps), bent)


def _exact(rule: Langevin, steps: int) -> Estimator:
    return MAML(rule, steps)


def _one_step_less(rule: Langevin, steps: int) -> Estimator:
    return FOMAML(rule, steps - 1)


@pytest.mark.parametrize("bug", [_outer_slope_at_the_start, _exact, _one_step_less])
def test_planted_bugs_in_fo_maml_are_rejected(bug: "type[Estimator]") -> None:
    case = build("maml_sinusoid")
    assert not first_order_error("bent", bug).check(case, Context()).judgement.holds


def _negated(rule: Langevin, steps: int) -> Estimator:
    return Mended(Reptile(rule, steps), lambda _, __, h: -h)


def _not_divided(rule: Langevin, steps: int) -> Estimator:
    return Mended(Reptile(rule, steps), lambda _, __, h: rule.step_size * h)


def _averaged(rule: Langevin, steps: int) -> Estimator:
    return Mended(Reptile(rule, steps), lambda _, __, h: h / steps)


def _one_step_more(rule: Langevin, steps: int) -> Estimator:
    return Reptile(rule, steps + 1)


def _gradients_at_the_start(rule: Langevin, steps: int) -> Estimator:
    """Its own first-order part: the batches' gradients without having moved."""
    tiny = Langevin(1e-9)
    return Reptile(tiny, steps)


@pytest.mark.parametrize(
    "bug", [_negated, _not_divided, _averaged, _one_step_more, _gradients_at_the_start]
)
def test_planted_bugs_in_reptile_are_rejected(bug: "type[Estimator]") -> None:
    case = build("maml_sinusoid")
    assert not reptile_expansion("bent", bug).check(case, Context()).judgement.holds


def _without_the_solve(rule: Langevin, steps: int, count: int, strength: float) -> Estimator:
    """J'f_θ at the proximal minimiser."""
    return Mended(
        IMAML(rule, steps, count, strength),
        lambda problem, lam, _: (
            FOMAML(rule, steps).estimate(proximal(problem, strength), lam).value
        ),
    )


def _half_strength(rule: Langevin, steps: int, count: int, strength: float) -> Estimator:
    return IMAML(rule, steps, count, strength / 2)


def _one_iteration(rule: Langevin, steps: int, count: int, strength: float) -> Estimator:
    return IMAML(rule, steps, 1, strength)


def _unconverged(rule: Langevin, steps: int, count: int, strength: float) -> Estimator:
    return IMAML(rule, 3, count, strength)


@pytest.mark.parametrize("bug", [_without_the_solve, _half_strength, _one_iteration, _unconverged])
def test_planted_bugs_in_imaml_are_rejected(bug: "type[Estimator]") -> None:
    case = build("maml_sinusoid")
    assert not implicit_when_solved("bent", bug).check(case, Context()).judgement.holds


@pytest.mark.parametrize("case", CASES)
def test_with_one_step_reptile_is_the_inner_gradient(case: str) -> None:
    built = build(case)
    start = built.problem.initial(built.lam)
    slope = torch.func.grad(lambda at: built.problem.inner(built.lam, at, None))(start)
    tasks = slope.reshape(-1, built.lam.numel()).sum(dim=0)
    found = Reptile(Langevin(0.5), 1).estimate(built.problem, built.lam)
    assert found.cost.hessian_products == 0
    # One subtraction and one division by a power of two, of numbers of the size of θ⁰.
    lost = 4 * torch.finfo(start.dtype).eps * float(start.norm() + slope.norm())
    assert np.linalg.norm(array(found.value - tasks)) <= lost


def test_bad_arguments_say_what_to_do() -> None:
    rule = Langevin(0.1)
    fixed = build("quadratic")
    for method in (MAML(rule, 2), FOMAML(rule, 2), Reptile(rule, 2), IMAML(rule, 2, 2, 1.0)):
        with pytest.raises(ArgumentError, match=r"problem\.initial must depend on lam"):
            method.estimate(fixed.problem, fixed.lam)
    for make in (MAML, FOMAML, Reptile):
        with pytest.raises(ArgumentError, match="steps must be at least 1"):
            make(rule, 0)
    with pytest.raises(ArgumentError, match="strength must be positive"):
        IMAML(rule, 1, 1, 0.0)
    with pytest.raises(ArgumentError, match="strength must be positive"):
        proximal(fixed.problem, -1.0)
