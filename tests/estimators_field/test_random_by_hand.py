"""What the random methods draw, and one run of each by hand in numpy: 2 s of the quick suite.

The moments of whole estimates do not see a sign that is −1 a little more often, or a scale that cancels.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from refblo.chain import Langevin, Schedule
from refblo.contracts.selection import array
from refblo.estimators.covariance import CovarianceIdentity
from refblo.estimators.discounted import DiscountedHPOSGLD
from refblo.estimators.evolution import EvolutionStrategies, Variant
from refblo.estimators.random_tangents import Law, directions
from refblo.estimators.uoro import UORO
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial

Vector = NDArray[np.float64]

MANY = 40_000
# Five standard errors of a mean of MANY signs: a false alarm in 10⁶.
ROOM = 5 / MANY**0.5
HESSIAN = np.array([[1.5, 0.4, 0.0], [0.4, 0.9, -0.2], [0.0, -0.2, 2.0]])
COUPLING = np.array([[1.0, -0.5], [0.3, 0.8], [-0.7, 0.2]])
TARGET = np.array([0.2, -0.4, 1.0])
START, LAM = np.array([0.5, -1.0, 0.8]), np.array([0.4, -0.7])
GAMMA = 0.1


def _problem() -> BilevelProblem:
    """Inner ½θ'Hθ - θ'Kλ, outer ½‖θ - t‖² + ½‖λ‖²."""
    hessian, coupling, target = map(torch.as_tensor, (HESSIAN, COUPLING, TARGET))
    return BilevelProblem(
        lambda lam, theta, _: theta @ hessian @ theta / 2 - theta @ coupling @ lam,
        lambda lam, theta, _: ((theta - target).square().sum() + lam.square().sum()) / 2,
        FixedInitial(torch.as_tensor(START)),
    )


def test_signs_of_directions_are_fair() -> None:
    lam = torch.zeros(MANY // 4, dtype=torch.float64)
    signs = directions(Draws(1), Law.RADEMACHER, lam, 4, 0)
    assert torch.equal(signs.abs(), torch.ones_like(signs))
    assert abs(float(signs.mean())) <= ROOM


def test_signs_of_uoro_are_fair_and_new_at_every_step() -> None:
    theta = torch.zeros(MANY, dtype=torch.float64)
    method = UORO(Langevin(GAMMA), Schedule.last(2))
    first, second = (method.signs(Draws(1), theta, m) for m in (1, 2))
    assert abs(float(first.mean())) <= ROOM
    assert abs(float((first * second).mean())) <= ROOM


def test_orthogonal_directions_favour_no_side() -> None:
    lam, count = torch.zeros(3, dtype=torch.float64), 400
    entries = torch.stack([directions(Draws(1), Law.ORTHOGONAL, lam, 1, g) for g in range(count)])
    # Every entry of a uniformly distributed direction of length √p has mean 0 and variance 1.
    assert float(entries.mean(dim=0).abs().max()) <= 5 / count**0.5


def test_balanced_uoro_is_its_recursion() -> None:
    method, draws, steps = UORO(Langevin(GAMMA), Schedule.last(4)), Draws(3), 4
    theta, s, w = START, np.zeros(3), np.zeros(2)
    for m in range(1, steps + 1):
        nu = method.signs(draws, torch.as_tensor(theta), m).numpy()
        pushed, fresh = s - GAMMA * HESSIAN @ s, GAMMA * COUPLING.T @ nu
        # Both factors get the same length: ‖ρ·pushed‖ = ‖w/ρ‖, ‖σν‖ = ‖fresh/σ‖.
        rho = (np.linalg.norm(w) / np.linalg.norm(pushed)) ** 0.5 if m > 1 else 1.0
        sigma = (np.linalg.norm(fresh) / np.linalg.norm(nu)) ** 0.5
        s, w = rho * pushed + sigma * nu, w / rho + fresh / sigma
        theta = theta - GAMMA * (HESSIAN @ theta - COUPLING @ LAM)
    expected = LAM + (theta - TARGET) @ s * w
    found = method.estimate(_problem(), torch.as_tensor(LAM), draws)
    np.testing.assert_allclose(array(found.value), expected, rtol=0, atol=1e-13)


def test_evolution_searches_the_mean_over_the_samples() -> None:
    problem = _problem()
    constant = BilevelProblem(
        problem.inner, lambda lam, theta, _: 7.0 + 0 * (theta.sum() + lam.sum()), problem.initial
    )
    method = EvolutionStrategies(Langevin(GAMMA), Schedule(1, 3), 0.5, 4, Variant.PRINTED)
    draws = Draws(2)
    rows = method.samples(constant, torch.as_tensor(LAM), draws)
    z = draws.normal(Stream.DIRECTIONS, 0, torch.empty(4, 2, dtype=torch.float64))
    assert torch.allclose(rows, z * 7 / 0.5, rtol=1e-15, atol=0)


def test_the_chain_samples_at_its_temperature_times_the_noise_scale_squared() -> None:
    method = CovarianceIdentity(Langevin(GAMMA, 0.3, 0.5), Schedule(1, 1), 3)
    assert method.temperature == 0.3 * 0.25


def test_the_covariance_of_one_sample_is_not_zero() -> None:
    # θ ~ N(λ, τ) and f = θ: d E[f]/dλ = 1. About its own mean one sample has no covariance.
    problem = BilevelProblem(
        lambda lam, theta, _: (theta - lam).square().sum() / 2,
        lambda _, theta, __: theta.sum(),
        FixedInitial(torch.zeros(1, dtype=torch.float64)),
    )
    method = CovarianceIdentity(Langevin(0.5, 1.0, 1.0), Schedule(20, 1), 500, control=0)
    found = method.estimate(problem, torch.zeros(1, dtype=torch.float64), Draws(4))
    assert found.error is not None
    assert found.error < 0.1
    assert abs(found.value.item() - 1) <= 5 * found.error


def test_the_measured_curvature_is_the_rayleigh_quotient() -> None:
    gamma, slope = 0.2, START - TARGET
    curvature = slope @ HESSIAN @ slope / (slope @ slope)
    assert 1 / (10 * gamma) < curvature < 1 / (2 * gamma)  # neither bound takes part
    moved = START - gamma * (HESSIAN @ START - COUPLING @ LAM)
    # g = γK'f_θ(θ¹), and the weight is γħ.
    expected = LAM + COUPLING.T @ (moved - TARGET) / curvature
    method = DiscountedHPOSGLD(Langevin(gamma), Schedule.last(1))
    found = method.estimate(_problem(), torch.as_tensor(LAM)).value
    np.testing.assert_allclose(array(found), expected, rtol=0, atol=1e-13)
