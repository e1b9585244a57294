"""The oracles of the implicit and the Gibbs truth: what they refuse, and their settings."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.errors import ArgumentError, OracleError
from refblo.oracles import (
    ClosedForm,
    GibbsDifference,
    GibbsQuadrature,
    ImplicitDense,
    ImplicitDifference,
    Oracle,
    implicit_difference,
    quadrature,
)
from refblo.oracles._density import locate
from refblo.problem import BilevelProblem, FixedInitial, Minibatches
from refblo.problems import build
from refblo.problems.case import Case
from refblo.testing.problems import random_composed, random_quadratic, random_separable
from refblo.types import Estimand
from tests.oracles.generated import agree, story

IMPLICIT = (ImplicitDense(), ImplicitDifference())
GIBBS = (GibbsQuadrature(), GibbsDifference())
LAM = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)


def case_of(inner: Callable[[Tensor, Tensor], Tensor], start: list[float]) -> Case:
    """A case with p = 3 of an inner loss without batches."""
    problem = BilevelProblem(
        lambda lam, theta, _: inner(lam, theta),
        lambda lam, theta, _: theta.square().sum() + lam.sum(),
        FixedInitial(torch.tensor(start, dtype=torch.float64)),
    )
    return Case("test", problem, LAM, Langevin(0.1, 0.5, 1.0), Schedule(1, 1))


# Larger than what ball arithmetic takes in a test; some seconds each.
@settings(max_examples=5)
@given(st.integers(0, 2**32), st.sampled_from([(6, 2), (2, 4)]))
def test_both_implicit_oracles_agree_on_larger_problems(seed: int, size: tuple[int, int]) -> None:
    for case in (random_separable(seed, *size), random_quadratic(seed, *size, curvature=0.5)):
        dense, differences = (oracle.truth(case, Estimand.IMPLICIT) for oracle in IMPLICIT)
        assert agree(dense, differences), story(dense, differences)


def test_a_gibbs_formula_is_asked_at_the_temperature_that_the_chain_samples() -> None:
    """τκ²: it is neither τ nor τκ where κ is neither 0 nor 1."""
    case = build("abml_regression")
    case = replace(case, dynamics=replace(case.dynamics, temperature=0.3, noise_scale=0.5))
    assert case.closed_forms is not None
    formula = case.closed_forms.gibbs(np.array(case.lam.tolist()), 0.3 * 0.5**2)
    found = ClosedForm().truth(case, Estimand.GIBBS).value
    assert formula is not None
    assert np.array_equal(np.array(found.tolist()), formula)


def test_differences_along_directions_are_components() -> None:
    case = random_separable(4, 6, 9)
    dense = ImplicitDense().truth(case, Estimand.IMPLICIT)
    for found in ImplicitDifference().directional(case, 3):
        component = float(dense.value @ found.direction)
        assert abs(found.value - component) <= found.error + dense.error


@pytest.mark.parametrize("oracle", IMPLICIT, ids=lambda oracle: oracle.name)
@pytest.mark.parametrize(
    ("inner", "start"),
    [
        (lambda lam, theta: torch.exp(theta).sum() + 0 * lam.sum() * theta.sum(), [0.0, 0.0]),
        (lambda lam, theta: (theta.sum() - lam.sum()) ** 2, [1.0, 0.0]),  # a line of minima
        (lambda lam, theta: (theta**4).sum() / 4 + lam.sum() * 0 * theta.sum(), [0.0, 0.0]),
        (lambda lam, theta: (theta**4 / 4 - theta**2 / 2 + 0 * lam.sum() * theta).sum(), [0.0]),
    ],
    ids=["no minimum", "singular", "degenerate", "a maximum"],
)
def test_no_strict_minimiser_no_answer(
    oracle: Oracle, inner: Callable[[Tensor, Tensor], Tensor], start: list[float]
) -> None:
    with pytest.raises(OracleError, match="inner must have"):
        oracle.truth(case_of(inner, start), Estimand.IMPLICIT)


def test_no_root_is_told_where_no_inner_minimum_is() -> None:
    # e^θ − λθ has the minimiser log λ for λ > 0 and none for λ ≤ 0.
    problem = BilevelProblem(
        lambda lam, theta, _: (theta.exp() - lam[0] * theta).sum(),
        lambda lam, theta, _: theta.square().sum() + lam.sum(),
        FixedInitial(torch.tensor([-2.0], dtype=torch.float64)),
    )
    near = implicit_difference._Stationary(np.log([0.05]), np.array([[20.0]]))
    lams = torch.tensor([[0.06], [-0.05]], dtype=torch.float64)
    found = implicit_difference._roots(problem, lams, near)
    assert abs(found[0, 0] - math.log(0.06)) <= 1e-14 * abs(math.log(0.06))
    assert np.isnan(found[1, 0])


def test_the_axes_of_a_density_are_columns() -> None:
    # What numpy finds for two parameters is a reflection, which is symmetric; a rotation is not.
    found = locate(case_of(lambda lam, theta: theta.square().sum(), [0.3, 0.1]).problem, LAM, 1.0)
    turned = replace(found, axes=np.array([[0.8, -0.6], [0.6, 0.8]]))
    along = turned.theta(np.array([[1.0, 0.0]])).numpy()[0] - found.centre
    assert np.allclose(along, found.scales[0] * np.array([0.8, 0.6]), rtol=1e-12)


def test_a_rough_quadrature_says_how_rough_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # N(Λ, 1/2·1/4): E[θ²] + Λ has the derivative 2Λ + 1, Λ = Σ λ.
    monkeypatch.setattr(quadrature, "_TOLERANCE", 1e-2)
    case = case_of(lambda lam, theta: (2 * (theta - lam.sum()) ** 2 + 0 * lam.sum()).sum(), [0.9])
    found = GibbsQuadrature().truth(case, Estimand.GIBBS)
    off = float((found.value - 2.2).norm())
    assert 1e-12 < off <= found.error


def test_newton_says_when_its_steps_do_not_suffice() -> None:
    case = case_of(lambda lam, theta: torch.cosh(theta - lam.sum()).sum(), [9.0, -7.0])
    with pytest.raises(OracleError, match="max_steps = 2"):
        ImplicitDense(max_steps=2).truth(case, Estimand.IMPLICIT)
    dense, differences = (oracle.truth(case, Estimand.IMPLICIT) for oracle in IMPLICIT)
    assert agree(dense, differences), story(dense, differences)


@pytest.mark.parametrize("oracle", GIBBS, ids=lambda oracle: oracle.name)
@pytest.mark.parametrize(
    ("inner", "start"),
    [
        (lambda lam, theta: -(theta**2).sum() + lam.sum() * theta.sum(), [0.0]),
        (lambda lam, theta: (theta**3 / 3 - theta).sum() * lam.exp().sum(), [1.0]),
        (lambda lam, theta: theta.sum() * lam.sum(), [0.0, 0.0]),
        (lambda lam, theta: (theta.sum() - lam.sum()) ** 2, [1.0, 0.0]),  # a line of minima
        (lambda lam, theta: torch.tanh(theta).square().sum() * lam.exp().sum(), [0.5]),
        (
            lambda lam, theta: torch.log1p(theta**2).sum() / 8 * lam.exp().sum(),
            [0.0],
        ),  # heavy tails
    ],
    ids=["a maximum", "a cubic", "linear", "a valley", "bounded", "logarithmic"],
)
def test_a_density_that_cannot_be_normalised_is_refused(
    oracle: Oracle, inner: Callable[[Tensor, Tensor], Tensor], start: list[float]
) -> None:
    with pytest.raises(OracleError, match="there is no Gibbs truth here"):
        oracle.truth(case_of(inner, start), Estimand.GIBBS)


@pytest.mark.parametrize("seed", range(3))
def test_a_bounded_network_without_a_regulariser_has_no_gibbs_truth(seed: int) -> None:
    for oracle in GIBBS:
        with pytest.raises(OracleError, match="there is no Gibbs truth here"):
            oracle.truth(random_composed(seed, 2, 1), Estimand.GIBBS)


def test_two_wells_far_apart_are_both_seen() -> None:
    # Minima near ±1 of width 0.07: the wells' weights depend on λ, and are what the answer is about.
    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        return (theta**4 / 4 - theta**2 / 2 + 0.02 * lam.sum() * theta).sum()

    case = replace(case_of(inner, [0.9]), dynamics=Langevin(0.1, 0.01, 1.0))
    outer = replace(case.problem, outer=lambda lam, theta, _: theta.sum() + 0 * lam.sum())
    quadrature, differences = (
        oracle.truth(replace(case, problem=outer), Estimand.GIBBS) for oracle in GIBBS
    )
    assert agree(quadrature, differences), story(quadrature, differences)
    # d tanh(−0.02 Λ/t)/dλ = −2 (1 − tanh²(1.2)) to the width of the wells, Λ = Σ λ = 0.6; one well alone
    # would give some −0.02/(2 t) · t = −0.01.
    assert -0.75 < quadrature.value[0].item() < -0.5


@pytest.mark.parametrize("oracle", [*IMPLICIT, *GIBBS], ids=lambda oracle: oracle.name)
def test_stochastic_losses_define_no_such_truth(oracle: Oracle) -> None:
    case = case_of(lambda lam, theta: ((theta - lam.sum()) ** 2).sum(), [0.0])
    batched = replace(case, problem=replace(case.problem, inner_batches=Minibatches(4, 2)))
    for estimand in (Estimand.IMPLICIT, Estimand.GIBBS):
        assert not oracle.applies(batched, estimand)
        with pytest.raises(ArgumentError, match="estimand must be one that"):
            oracle.truth(batched, estimand)


def test_what_is_too_large_is_left_to_others() -> None:
    assert not GibbsQuadrature().applies(build("quadratic"), Estimand.GIBBS)
    assert not GibbsDifference().applies(build("quadratic"), Estimand.GIBBS)
    assert not ImplicitDense(largest=4).applies(build("quadratic"), Estimand.IMPLICIT)
    assert not ImplicitDifference(largest=14).applies(build("quadratic"), Estimand.IMPLICIT)
    assert ImplicitDifference(largest=15).applies(build("quadratic"), Estimand.IMPLICIT)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: ImplicitDense(max_steps=0), "max_steps must be at least 1"),
        (lambda: ImplicitDense(largest=0), "largest must be at least 1"),
        (lambda: ImplicitDifference(largest=0), "largest must be at least 1"),
        (lambda: ImplicitDifference().directional(build("quadratic"), 0), "count must be"),
        (
            lambda: ImplicitDifference().directional(build("noisy_synth_1d")),
            "case must have losses without batches",
        ),
    ],
)
def test_bad_arguments_are_named(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ask()
