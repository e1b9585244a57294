"""The amortized Bayesian problem: its expectations, its divergence and its closed forms, for any data."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Distribution, Gamma, Independent, Normal, kl_divergence

from refblo.contracts.comparison import compare
from refblo.contracts.rounding import rounding_error, unit_roundoff
from refblo.derivatives import mixed_product
from refblo.estimators.maml import MAML
from refblo.noise import Draws, Stream
from refblo.oracles import (
    ClosedForm,
    GibbsDifference,
    GibbsQuadrature,
    ImplicitDense,
    Oracle,
)
from refblo.oracles.implicit_dense import newton
from refblo.problem import BilevelProblem
from refblo.problems.abml import RATE, SHAPE, VARIANCE, case_of
from refblo.problems.case import Case
from refblo.problems.catalogue import build
from refblo.types import Estimand

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
SEEDS = st.integers(0, 2**32)


def generated(tasks: int, points: int, features: int, seed: int) -> Case:
    """A case with normal features, targets and prior means; deviations around e^{−1/2}."""
    draws = Draws(seed)

    def normal(which: int, *shape: int) -> np.ndarray:
        like = torch.empty(shape, dtype=torch.float64)
        return draws.normal(Stream.INSTANCE, which, like).numpy()

    data = {
        "support_features": normal(0, tasks, points, features),
        "support_targets": normal(1, tasks, points),
        "query_features": normal(2, tasks, points, features),
        "query_targets": normal(3, tasks, points),
    }
    lam = np.concatenate((normal(4, features), 0.3 * normal(5, features) - 0.5))
    return case_of("generated", data, lam)


def log_density(law: Distribution, at: torch.Tensor) -> torch.Tensor:
    """Entry by entry."""
    value: torch.Tensor = law.log_prob(at)
    return value


def expected_surprise(case: Case, which: str, theta: torch.Tensor) -> torch.Tensor:
    """−E_q[log p(D|φ)] by cubature at m ± √d e^ρ_i e_i, which is exact for a quadratic."""
    assert case.statement is not None
    data = case.statement.data
    total = torch.zeros((), dtype=torch.float64)
    tasks, _, features = data["support_features"].shape
    for x, y, (mean, log_deviation) in zip(
        torch.as_tensor(data[f"{which}_features"]),
        torch.as_tensor(data[f"{which}_targets"]),
        theta.reshape(tasks, 2, features),
        strict=True,
    ):
        reach = math.sqrt(features) * torch.diag(log_deviation.exp())
        points = torch.cat((mean + reach, mean - reach))
        seen = log_density(Normal(points @ x.T, math.sqrt(VARIANCE)), y)
        total = total - seen.sum(dim=1).mean()
    return total


@settings(max_examples=6)
@given(SIZES, SEEDS)
def test_the_losses_are_those_of_the_distributions(sizes: tuple[int, int, int], seed: int) -> None:
    case = generated(*sizes, seed)
    tasks, points, features = sizes
    start = case.problem.initial(case.lam)
    theta = start + Draws(seed).normal(Stream.DIRECTIONS, 0, start)
    mu, eta = case.lam.reshape(2, features)
    prior = Independent(Normal(mu, eta.exp()), 1)
    divergence = sum(
        float(kl_divergence(Independent(Normal(m, rho.exp()), 1), prior))
        for m, rho in theta.reshape(tasks, 2, features)
    )
    support, query = (float(expected_surprise(case, name, theta)) for name in ("support", "query"))
    constant = tasks * points / 2 * math.log(2 * math.pi * VARIANCE)
    inner = float(case.problem.inner(case.lam, theta, None))
    size = 1 + abs(support) + abs(query) + abs(divergence)
    # A few hundred operations on numbers of this size.
    slack = 1000 * unit_roundoff(torch.float64) * size
    assert abs(inner - (support + divergence - constant)) <= slack

    def hyper(lam: torch.Tensor) -> torch.Tensor:
        centre, width = lam.reshape(2, features)
        one = torch.ones((), dtype=torch.float64)
        tau = (-2 * width).exp()
        centres = log_density(Normal(0 * one, one), centre)
        return -(centres + log_density(Gamma(SHAPE * one, RATE * one), tau)).sum()

    outer = float(case.problem.outer(case.lam, theta, None))
    at_zero = torch.zeros_like(case.lam)
    # The densities' constants, by their value where μ = η = 0.
    zero = float(hyper(at_zero)) - features * RATE
    claimed = support + query + divergence - 2 * constant + float(hyper(case.lam)) - zero
    assert abs(outer - claimed) <= slack + 1000 * unit_roundoff(torch.float64) * abs(zero)


@settings(max_examples=6)
@given(SIZES, SEEDS)
def test_the_products_of_the_divergence_are_autograds(
    sizes: tuple[int, int, int], seed: int
) -> None:
    case = generated(*sizes, seed)
    inner, lam = case.problem.inner, case.lam
    start = case.problem.initial(lam)
    theta, v = (start + Draws(seed).normal(Stream.DIRECTIONS, k, start) for k in range(2))

    def opaque(at: torch.Tensor, t: torch.Tensor, batch: torch.Tensor | None) -> torch.Tensor:
        return inner(at, t, batch)

    declared, found = (mixed_product(loss, lam, theta, None, v) for loss in (inner, opaque))
    size = float(v.norm()) * (1 + float(found.norm()) + float(theta.exp().norm()) ** 2)
    assert float((declared - found).norm()) <= 100 * unit_roundoff(torch.float64) * size


@settings(max_examples=4)
@given(SIZES, SEEDS)
def test_the_best_factorised_gaussian_has_the_implicit_hypergradient(
    sizes: tuple[int, int, int], seed: int
) -> None:
    case = generated(*sizes, seed)
    # Differences of the minimum, and balls, agree too: the audit has them on the catalogue's case.
    formula = ClosedForm().truth(case, Estimand.IMPLICIT)
    truth = ImplicitDense().truth(case, Estimand.IMPLICIT)
    assert compare(formula.value, truth, formula.error).within


def on_a_grid(case: Case, points: int) -> torch.Tensor:
    """d/dλ Σ f e^{−L_T/t} / Σ e^{−L_T/t} over a grid of (m, ρ), by autograd: the trapezoidal rule.

    Of analytic functions that decay, its error falls exponentially in the number of points.
    """
    inner, outer, temperature = case.problem.inner, case.problem.outer, case.dynamics.temperature
    at_rest = newton(case.problem, case.lam, 200)
    deviation = math.sqrt(temperature / float(at_rest.hessian[0, 0]))
    # To the left ρ decays as e^{ρ/t}, and all else faster.
    reach = torch.linspace(-1, 1, points, dtype=torch.float64)
    grid = torch.cartesian_prod(
        at_rest.theta[0] + 9 * deviation * reach, at_rest.theta[1] + 8 * reach - 4
    )
    lam = case.lam.clone().requires_grad_()
    energy = torch.func.vmap(lambda at: inner(lam, at, None))(grid)
    value = torch.func.vmap(lambda at: outer(lam, at, None))(grid)
    mean = torch.softmax(-energy / temperature, dim=0) @ value
    (gradient,) = torch.autograd.grad(mean, lam)
    return gradient


@settings(max_examples=2)
@given(SEEDS)
def test_the_gibbs_formula_is_the_integrals(seed: int) -> None:
    case = generated(1, 3, 1, seed)
    case = replace(case, dynamics=replace(case.dynamics, temperature=0.3))
    formula = ClosedForm().truth(case, Estimand.GIBBS)
    coarse, fine = on_a_grid(case, 80), on_a_grid(case, 161)
    size = 1 + float(formula.value.norm())
    error = float((fine - coarse).norm()) + 1e5 * unit_roundoff(torch.float64) * size
    assert float((formula.value - fine).norm()) <= error
    implicit = ClosedForm().truth(case, Estimand.IMPLICIT)
    assert float((formula.value - implicit.value).norm()) > 100 * error


@pytest.mark.full
@pytest.mark.parametrize("oracle", [GibbsQuadrature(), GibbsDifference()])
def test_the_gibbs_formula_is_the_oracles(oracle: Oracle) -> None:
    case = generated(1, 3, 1, 1)
    case = replace(case, dynamics=replace(case.dynamics, temperature=0.5))
    formula = ClosedForm().truth(case, Estimand.GIBBS)
    truth = oracle.truth(case, Estimand.GIBBS)
    assert compare(formula.value, truth, formula.error).within


def test_the_prior_acts_through_the_start_and_through_the_regulariser() -> None:
    """Either alone, as someone has it who forgets the other, is far from the hypergradient."""
    case = build("abml_regression")
    problem, lam, method = case.problem, case.lam, MAML(case.dynamics, case.schedule.steps)
    whole = method.estimate(problem, lam).value
    bound = rounding_error(method, problem, lam, Draws(0), whole, case.schedule.steps)

    def held(which: str) -> BilevelProblem:
        inner, outer = problem.inner, problem.outer
        if which == "inner":
            return replace(problem, inner=lambda at, t, b: inner(at.detach(), t, b))
        return replace(problem, outer=lambda at, t, b: outer(at.detach(), t, b))

    for which in ("inner", "outer"):
        part = method.estimate(held(which), lam).value
        assert float((part - whole).norm()) > 1e6 * bound


def test_the_longer_it_adapts_the_closer_the_implicit_hypergradient() -> None:
    """At θ* the prior reaches the outer loss through the regulariser alone."""
    case = build("abml_regression")
    truth = ClosedForm().truth(case, Estimand.IMPLICIT)
    rule = replace(case.dynamics, noise_scale=0.0)
    values = [MAML(rule, steps).estimate(case.problem, case.lam).value for steps in (5, 50, 500)]
    errors = [float((value - truth.value).norm()) for value in values]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
