"""The implicit estimators against NumPy's solves, and what they say when a solve fails."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from refblo.chain import Langevin
from refblo.errors import DivergenceError
from refblo.estimators import IFTConjugateGradient, IFTDense, IFTNeumann, NeumannScaling
from refblo.problem import BilevelProblem, FixedInitial
from refblo.testing.explicit import Linearised, Matrix, Vector, linearised
from refblo.testing.strategies import instances, seeds
from refblo.testing.tensor_problem import Instance, tensor
from refblo.types import Hypergradient, Status

EPS = float(np.finfo(np.float64).eps)


def at_the_end(instance: Instance) -> Linearised:
    return linearised(instance.numbers, instance.lam_numbers, instance.run)


def solved(matrix: Matrix, rhs: Vector) -> Vector:
    return np.asarray(np.linalg.solve(matrix, rhs), dtype=np.float64)


def distance(found: Hypergradient, expected: Vector) -> float:
    return float(np.linalg.norm(np.array(found.value.tolist()) - expected))


def solve_error(linear: Linearised, steps: int) -> float:
    """A bound on what `steps` backward stable operations with H can be off by, after the solve.

    Each perturbs H by some n units in the last place, relative to its norm, and a relative change
    δ of H changes the solution by at most κ(H) δ.
    """
    return steps * 8 * len(linear.slope) * EPS * linear.condition * linear.scale


@given(instances())
def test_the_dense_solve_is_that_of_numpy(instance: Instance) -> None:
    linear = at_the_end(instance)
    method = IFTDense(instance.dynamics, instance.schedule.steps)
    found = method.estimate(instance.problem, instance.lam, instance.draws)
    expected = linear.hypergradient(solved(linear.hessian, linear.slope))
    assert distance(found, expected) <= solve_error(linear, 2)
    assert found.status is Status.COMPLETED


@given(instances(), st.sampled_from([0.0, 0.3]))
def test_conjugate_gradients_end_at_the_damped_solution(instance: Instance, damping: float) -> None:
    linear = at_the_end(instance)
    n = len(linear.slope)
    method = IFTConjugateGradient(instance.dynamics, instance.schedule.steps, 10 * n, damping)
    found = method.estimate(instance.problem, instance.lam, instance.draws)
    damped = linear.hessian + damping * np.eye(n)
    expected = linear.hypergradient(solved(damped, linear.slope))
    assert distance(found, expected) <= solve_error(linear, 10 * n)


@given(instances(), st.floats(0.05, 1.9), st.integers(1, 8), st.sampled_from(NeumannScaling))
def test_the_neumann_series_has_the_published_terms(
    instance: Instance, fraction: float, terms: int, scaling: NeumannScaling
) -> None:
    linear = at_the_end(instance)
    alpha = fraction / float(np.linalg.eigvalsh(linear.hessian)[-1])
    method = IFTNeumann(instance.dynamics, instance.schedule.steps, alpha, terms, scaling)
    found = method.estimate(instance.problem, instance.lam, instance.draws)
    term, q = linear.slope, np.zeros_like(linear.slope)
    for _ in range(terms):
        q = q + term
        term = term - alpha * linear.hessian @ term
    factor = alpha if scaling is NeumannScaling.SCALED else 1.0
    # No term exceeds f_θ: its error is some n units in the last place of f_θ for each factor.
    bound = terms**2 * 8 * len(q) * EPS * linear.scale * max(1.0, factor) * linear.condition
    assert distance(found, linear.hypergradient(factor * q)) <= bound


@given(instances(), st.integers(2, 30))
def test_the_neumann_error_is_geometric_in_the_terms(instance: Instance, terms: int) -> None:
    linear = at_the_end(instance)
    eigenvalues = np.linalg.eigvalsh(linear.hessian)
    alpha = 1 / float(eigenvalues[-1])
    rate = 1 - alpha * float(eigenvalues[0])
    method = IFTNeumann(instance.dynamics, instance.schedule.steps, alpha, terms)
    found = method.estimate(instance.problem, instance.lam, instance.draws)
    exact = linear.hypergradient(solved(linear.hessian, linear.slope))
    remainder = rate**terms * linear.scale
    assert distance(found, exact) <= remainder + solve_error(linear, terms)


@given(seeds(), st.integers(2, 8), st.integers(1, 8))
def test_conjugate_gradients_keep_their_bound(seed: int, n: int, iterations: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    matrix, rhs = root @ root.T + 0.1 * np.eye(n), rng.normal(size=n)
    hessian = tensor(matrix)
    method = IFTConjugateGradient(Langevin(0.1), 1, iterations)
    q = np.array(method.solve(lambda v: hessian @ v, tensor(rhs)).q.tolist())
    exact = solved(matrix, rhs)

    def energy(vector: Vector) -> float:
        return math.sqrt(max(0.0, float(vector @ matrix @ vector)))

    # The classical bound in the norm of the matrix, and rounding on top.
    condition = float(np.linalg.cond(matrix))
    rate = (math.sqrt(condition) - 1) / (math.sqrt(condition) + 1)
    rounding = 8 * n * iterations * EPS * condition
    assert energy(q - exact) <= (2 * rate**iterations + rounding) * energy(exact)


def quadratic(curvatures: list[float]) -> tuple[BilevelProblem, Tensor]:
    """½ θ·diag(h)θ − θ·Cλ from θ⁰ = 0, f = Σ θ, with p = n + 1; and a λ."""
    n = len(curvatures)
    h = torch.tensor(curvatures, dtype=torch.float64)
    mixed = torch.arange(1.0, 1 + n * (n + 1), dtype=torch.float64).reshape(n, n + 1)
    problem = BilevelProblem(
        inner=lambda lam, theta, _: 0.5 * (h * theta.square()).sum() - theta @ (mixed @ lam),
        outer=lambda _lam, theta, _: theta.sum(),
        initial=FixedInitial(torch.zeros(n, dtype=torch.float64)),
    )
    return problem, torch.ones(n + 1, dtype=torch.float64)


def test_a_series_with_too_large_a_scale_is_reported_with_the_term() -> None:
    problem, lam = quadratic([1.0, 10.0])
    found = IFTNeumann(Langevin(0.01), 3, scale=0.5, terms=6).estimate(problem, lam)
    assert found.status is Status.SERIES_DIVERGED
    # |1 − 0.5 · 10| = 4: the second term is the first that exceeds the first.
    assert found.diverged_at == 1
    with pytest.raises(DivergenceError, match=r"diverged at step 1;.*lower the scale") as raised:
        _ = found.value
    assert raised.value.step == 1


def test_a_series_that_overflows_has_no_estimate() -> None:
    problem, lam = quadratic([1.0, 10.0])
    # 4^j leaves float64 (1.8e308) after j = 511, but the terms grow from the second on.
    found = IFTNeumann(Langevin(0.01), 3, scale=0.5, terms=600).estimate(problem, lam)
    assert (found.estimate, found.status) == (None, Status.SERIES_DIVERGED)
    assert found.diverged_at == 1


def test_a_flat_direction_alone_is_no_divergence() -> None:
    # Terms along it stay as they are; those along the other shrink.
    problem, lam = quadratic([0.0, 1.0])
    found = IFTNeumann(Langevin(0.01), 3, scale=0.5, terms=100).estimate(problem, lam)
    assert found.status is Status.COMPLETED


def test_negative_curvature_stops_conjugate_gradients() -> None:
    problem, lam = quadratic([1.0, -3.0])
    found = IFTConjugateGradient(Langevin(0.01), 3, iterations=5).estimate(problem, lam)
    assert (found.status, found.diverged_at) == (Status.SERIES_DIVERGED, 0)
    with pytest.raises(DivergenceError, match="indefinite"):
        _ = found.value


def test_a_tolerance_that_is_missed_is_said() -> None:
    problem, lam = quadratic([1.0, 3.0, 9.0])
    few = IFTConjugateGradient(Langevin(0.01), 3, iterations=1, tolerance=1e-6)
    enough = IFTConjugateGradient(Langevin(0.01), 3, iterations=9, tolerance=1e-6)
    assert few.estimate(problem, lam).status is Status.NOT_CONVERGED
    assert enough.estimate(problem, lam).status is Status.COMPLETED


def test_conjugate_gradients_keep_a_converged_iterate() -> None:
    # For 2x = 1 the first iterate is exact; what follows must not throw it away.
    method = IFTConjugateGradient(Langevin(0.1), 1, iterations=10)
    solve = method.solve(lambda v: 2 * v, torch.ones(1, dtype=torch.float64))
    assert solve.q.item() == 0.5


def test_a_singular_hessian_is_reported() -> None:
    problem, lam = quadratic([0.0, 1.0])
    found = IFTDense(Langevin(0.01), 3).estimate(problem, lam)
    assert found.status is Status.SERIES_DIVERGED
    # The solve itself says so, and at which pivot: a q that is finite by chance is none.
    zero = torch.zeros(2, dtype=torch.float64)
    solve = IFTDense(Langevin(0.01), 3).solve(lambda v: v * torch.tensor([1.0, 0.0]).to(v), zero)
    assert (solve.status, solve.diverged_at) == (Status.SERIES_DIVERGED, 2)


@pytest.mark.parametrize(
    "method",
    [
        IFTNeumann(Langevin(1.0), 400, scale=0.1, terms=3),
        IFTConjugateGradient(Langevin(1.0), 400, iterations=3),
        IFTDense(Langevin(1.0), 400),
    ],
    ids=lambda method: method.name,
)
def test_a_chain_that_diverges_is_reported_with_the_step(
    method: IFTNeumann | IFTConjugateGradient | IFTDense,
) -> None:
    # |1 − γh| = 9 leaves float64 after some 320 steps.
    problem, lam = quadratic([1.0, 10.0])
    found = method.estimate(problem, lam)
    assert (found.estimate, found.status) == (None, Status.CHAIN_DIVERGED)
    assert found.diverged_at is not None
    assert 300 < found.diverged_at < 330
