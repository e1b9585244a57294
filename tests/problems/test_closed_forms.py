"""The closed forms against exact differentiation of the tensor program, and against each other."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from refblo.chain import Langevin, Schedule
from refblo.contracts.rounding import rounding_error, unit_roundoff
from refblo.derivatives import outer_gradients
from refblo.estimators import FMD, RMD, IFTDense
from refblo.noise import Draws, Stream
from refblo.problems import Case, build
from refblo.testing.problems import random_quadratic

DIRECTIONS = 4.0
"""κ of `rounding_error` is measured along random signs. With at most 16 entries of λ and θ⁰, the worst
direction of the same size is √16 times as bad as their root mean square."""

U = unit_roundoff(torch.float64)


def noise_of(case: Case, schedule: Schedule, draws: Draws) -> np.ndarray:
    """The chain's own normal draws, shape (T, n)."""
    like = case.problem.initial(case.lam)
    rows = [draws.normal(Stream.LANGEVIN, step, like).numpy() for step in range(schedule.steps)]
    return np.stack(rows)


def check_unrolled(
    case: Case, schedule: Schedule, draws: Draws, *methods: type[FMD] | type[RMD]
) -> None:
    """The methods and the closed form agree within their rounding."""
    assert case.closed_forms is not None
    form = case.closed_forms.unrolled(
        case.lam.numpy(), case.dynamics, schedule, noise_of(case, schedule, draws)
    )
    assert form is not None
    for estimator in (method(case.dynamics, schedule) for method in methods):
        value = estimator.estimate(case.problem, case.lam, draws).value
        bound = rounding_error(estimator, case.problem, case.lam, draws, value, schedule.steps)
        distance = float(np.linalg.norm(value.numpy() - form))
        assert distance <= 2 * DIRECTIONS * bound, f"{estimator.name}: {distance} > {bound}"


def unequal(sizes: tuple[int, int]) -> bool:
    """Sizes with p ≠ n."""
    return sizes[0] != sizes[1]


sizes = st.tuples(st.integers(1, 5), st.integers(1, 5)).filter(unequal)


@given(
    seed=st.integers(0, 10**6),
    sizes=sizes,
    condition=st.floats(1, 1e3),
    curvature=st.sampled_from([0.0, 0.3]),
    moving=st.sampled_from([0.0, 1.0]),
    burn_in=st.integers(0, 4),
    samples=st.integers(1, 4),
)
def test_unrolled_is_what_rmd_computes(
    seed: int,
    sizes: tuple[int, int],
    condition: float,
    curvature: float,
    moving: float,
    burn_in: int,
    samples: int,
) -> None:
    n, p = sizes
    case = random_quadratic(seed, n, p, condition, curvature=curvature, moving_start=moving)
    check_unrolled(case, Schedule(burn_in, samples), Draws(seed), RMD)


NAMED = (
    *("cubic_toy", "quadratic", "quadratic_ill_conditioned", "quadratic_curvature"),
    *("maml_quadratic", "maml_sinusoid", "ridge_diabetes"),
)


@pytest.mark.parametrize("name", NAMED)
def test_unrolled_of_the_catalogue(name: str) -> None:
    case = build(name)
    check_unrolled(case, case.schedule, Draws(5), RMD)
    check_unrolled(case, Schedule(2, 3), Draws(6), FMD, RMD)


@given(seed=st.integers(0, 10**6), curvature=st.sampled_from([0.0, 0.5]), samples=st.integers(1, 2))
def test_mean_pathwise_is_the_mean_of_unrolled(seed: int, curvature: float, samples: int) -> None:
    """In each noise entry `unrolled` is a polynomial of degree 2, whose mean ± e_i give exactly.

    E[g(z)] = g(0) + ½ Σ_i (g(e_i) + g(−e_i) − 2g(0)) for a quadratic g and independent standard z_i.
    """
    case = random_quadratic(seed, 3, 2, curvature=curvature, schedule=Schedule(1, samples))
    forms, lam = case.closed_forms, case.lam.numpy()
    assert forms is not None
    count = case.schedule.steps * 3

    def g(entries: np.ndarray) -> np.ndarray:
        value = forms.unrolled(lam, case.dynamics, case.schedule, entries.reshape(-1, 3))
        assert value is not None
        return value

    rest = g(np.zeros(count))
    pairs = [g(e) + g(-e) - 2 * rest for e in np.eye(count)]
    mean = rest + 0.5 * np.sum(pairs, axis=0)
    claimed = forms.mean_pathwise(lam, case.dynamics, case.schedule)
    assert claimed is not None
    # 2·count + 1 evaluations, each of a few dozen roundings of terms of the size of the largest.
    size = max(np.linalg.norm(g(e)) for e in np.eye(count))
    assert np.linalg.norm(claimed - mean) <= 100 * count * U * size
    if curvature:
        assert np.linalg.norm(claimed - rest) > 1e-6 * np.linalg.norm(rest), (
            "the covariance must matter where H depends on λ"
        )


def gauss_hermite(n: int) -> list[tuple[np.ndarray, float]]:
    """Nodes and weights of the standard normal in n dimensions, exact to degree 5 in each."""
    nodes = (-math.sqrt(3), 0.0, math.sqrt(3))
    weights = {0.0: 2 / 3}
    return [
        (np.array(point), math.prod(weights.get(x, 1 / 6) for x in point))
        for point in itertools.product(nodes, repeat=n)
    ]


@given(
    seed=st.integers(0, 10**6),
    temperature=st.floats(0.01, 2.0),
    curvature=st.sampled_from([0.0, 0.5]),
)
def test_gibbs_obeys_the_covariance_identity(
    seed: int, temperature: float, curvature: float
) -> None:
    """E_p[∂_λ f] − Cov_p(f, ∂_λ L_T)/temperature, with autograd's derivatives, by exact quadrature."""
    case = random_quadratic(seed, 3, 2, curvature=curvature)
    lam, problem = case.lam, case.problem
    numbers = case.closed_forms.numbers  # type: ignore[union-attr]  # a QuadraticForms
    hessian = numbers.inner_hessian(lam.numpy())
    centre = np.linalg.solve(hessian, numbers.pull(lam.numpy()))
    root = np.linalg.cholesky(np.linalg.inv(hessian)) * math.sqrt(temperature)
    weights, values, direct, energy = [], [], [], []
    for node, weight in gauss_hermite(3):
        theta = torch.as_tensor(centre + root @ node)
        weights.append(weight)
        values.append(float(problem.outer(lam, theta, None)))
        direct.append(outer_gradients(problem.outer, lam, theta, None)[0].numpy())
        energy.append(outer_gradients(problem.inner, lam, theta, None)[0].numpy())
    w, f = np.array(weights), np.array(values)
    f_lam, l_lam = np.array(direct), np.array(energy)
    centred = f - w @ f
    truth = w @ f_lam - (w * centred) @ (l_lam - w @ l_lam) / temperature
    assert case.closed_forms is not None
    claimed = case.closed_forms.gibbs(lam.numpy(), temperature)
    assert claimed is not None
    # The covariance is a small difference of large numbers: its error is that of its terms.
    size = np.abs(f).max() * np.abs(l_lam).max() / temperature + np.abs(f_lam).max()
    assert np.linalg.norm(claimed - truth) <= 1000 * U * size  # 27 terms of a few dozen roundings


@given(
    seed=st.integers(0, 10**6),
    sizes=sizes,
    condition=st.floats(1, 1e3),
    curvature=st.sampled_from([0.0, 0.3]),
)
def test_implicit_is_the_dense_solve_at_the_minimum(
    seed: int, sizes: tuple[int, int], condition: float, curvature: float
) -> None:
    n, p = sizes
    case = random_quadratic(seed, n, p, condition, curvature=curvature)
    lam = case.lam.numpy()
    numbers = case.closed_forms.numbers  # type: ignore[union-attr]  # a QuadraticForms
    hessian = numbers.inner_hessian(lam)
    minimum = np.linalg.solve(hessian, numbers.pull(lam))
    # At the minimum a step goes nowhere, so one step is as good as any number.
    problem = case.problem.starting_at(torch.as_tensor(minimum))
    value = IFTDense(Langevin(case.dynamics.step_size), 1).estimate(problem, case.lam).value
    assert case.closed_forms is not None
    claimed = case.closed_forms.implicit(lam)
    assert claimed is not None
    # Two solves, each amplifying rounding by the condition number.
    scale = np.linalg.norm(claimed) + np.linalg.norm(
        np.linalg.solve(hessian, numbers.coupling)
    ) * np.linalg.norm(numbers.outer_hessian @ minimum)
    bound = 50 * n * U * float(np.linalg.cond(hessian)) * float(scale)
    assert np.linalg.norm(value.numpy() - claimed) <= bound


def test_gibbs_differs_from_implicit_where_the_hessian_depends_on_lam() -> None:
    for name, differs in (("quadratic", False), ("quadratic_curvature", True)):
        case = build(name)
        assert case.closed_forms is not None
        gibbs = case.closed_forms.gibbs(case.lam.numpy(), 0.5)
        implicit = case.closed_forms.implicit(case.lam.numpy())
        assert gibbs is not None
        assert implicit is not None
        assert bool(np.linalg.norm(gibbs - implicit) > 0) is differs


def test_the_cubic_toy_has_neither_a_gibbs_nor_an_implicit_truth() -> None:
    case = build("cubic_toy")
    assert case.closed_forms is not None
    assert case.closed_forms.gibbs(case.lam.numpy(), 0.1) is None
    assert case.closed_forms.implicit(case.lam.numpy()) is None


def test_figure_1_of_the_paper_has_its_printed_losses() -> None:
    """At λ = 0.1 on θ₂ ∈ {−1, −0.8, …, 1}: a good inner minimiser with 0.0083, the worst with 0.3833."""
    case = build("cubic_toy")
    losses = []
    for quadratic in np.linspace(-1, 1, 11):
        # The line of inner minimisers: both training residuals vanish.
        matrix = np.array([[1, -0.75], [1, 0.75]])
        cubic = np.array([-0.1, 0.1]) * 0.75**3
        constant, linear = np.linalg.solve(
            matrix, np.array([-0.375, -0.675]) - cubic - quadratic * 0.75**2
        )
        theta = torch.tensor([constant, linear, quadratic], dtype=torch.float64)
        assert float(case.problem.inner(case.lam, theta, None)) < 1e-25
        losses.append(round(float(case.problem.outer(case.lam, theta, None)), 4))
    assert 0.0083 in losses
    assert max(losses) == 0.3833


def test_maml_forgets_where_it_started() -> None:
    for name in ("maml_quadratic", "maml_sinusoid"):
        case = build(name)
        assert case.closed_forms is not None
        implicit = case.closed_forms.implicit(case.lam.numpy())
        gibbs = case.closed_forms.gibbs(case.lam.numpy(), 0.3)
        assert implicit is not None
        assert gibbs is not None
        assert not implicit.any()
        assert not gibbs.any()


@given(lam=st.floats(-0.95, 0.95))
def test_synth_1d_has_its_implicit_truth(lam: float) -> None:
    case = build("synth_1d")
    at = torch.tensor([lam], dtype=torch.float64)
    problem = case.problem.starting_at(torch.sqrt(1 - at**2))
    value = IFTDense(Langevin(1e-300), 1).estimate(problem, at).value  # a step that goes nowhere
    assert case.closed_forms is not None
    claimed = case.closed_forms.implicit(at.numpy())
    assert claimed is not None
    # θ* = √(1 − λ²) carries the rounding of 1 − λ², amplified by 1/θ*² in the quotient λ/θ*.
    theta = math.sqrt(1 - lam**2)
    assert abs(value.item() - claimed.item()) <= 20 * U * (2 + 6 / theta**3)


def test_synth_1d_has_no_minimum_beyond_one() -> None:
    case = build("synth_1d")
    assert case.closed_forms is not None
    assert case.closed_forms.implicit(np.array([1.0])) is None
