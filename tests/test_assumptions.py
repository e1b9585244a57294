"""The assumptions as measured: constants that are known in closed form, and a bound that bounds."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import refblo
from refblo.chain import Langevin, Schedule
from refblo.errors import ArgumentError, DivergenceError, LossError
from refblo.noise import Draws
from refblo.problem import BilevelProblem, FixedInitial, identity_initial
from refblo.problems import build
from refblo.theory.assumptions import SMALL_ERROR, check_assumptions
from refblo.theory.stationarity import effective_samples, split_rhat

LAM = torch.tensor([0.4, -0.3], dtype=torch.float64)
CURVATURES = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
CROSS = torch.tensor([[1.0, 0.5], [-2.0, 0.0], [0.3, 1.0]], dtype=torch.float64)


def quadratic(outer_weight: float = 1.0) -> BilevelProblem:
    """Inner ½θᵀdiag(1, 2, 5)θ − θᵀCλ, outer ½w‖θ‖² + ⟨a, λ⟩."""
    return BilevelProblem(
        inner=lambda lam, t, _: (CURVATURES * t * t).sum() / 2 - t @ CROSS @ lam,
        outer=lambda lam, t, _: outer_weight * t.square().sum() / 2 + 3 * lam[0] - 4 * lam[1],
        initial=FixedInitial(torch.tensor([0.5, -0.1, 0.2], dtype=torch.float64)),
    )


def test_constants_of_a_quadratic_are_found() -> None:
    report = check_assumptions(quadratic(), LAM, Langevin(0.2), Schedule.last(100), pairs=4)
    assert report.initial.holds
    assert report.dense
    # Rounding of an eigenvalue routine on a 3 x 3 matrix.
    assert report.conditioning.value == pytest.approx(5.0, rel=1e-12)
    assert report.stable.value == pytest.approx(1.0, rel=1e-12)
    assert report.stable.holds
    assert report.lipschitz.value == pytest.approx(5.0, rel=1e-12)
    # F(λ) = ½‖H⁻¹Cλ‖² + ⟨a, λ⟩ after 100 steps: 0.8^100 < 1e-9 of the start is left.
    reduced = torch.linalg.eigvalsh((CROSS / CURVATURES[:, None]).T @ (CROSS / CURVATURES[:, None]))
    assert report.smooth.value <= float(reduced[-1]) * (1 + 1e-6)
    assert report.convex.value >= float(reduced[0]) * (1 - 1e-6)
    assert report.convex.holds
    assert not report.theorem_1


def test_a_concave_outer_objective_is_not_called_convex() -> None:
    report = check_assumptions(quadratic(-1.0), LAM, Langevin(0.2), Schedule.last(20), pairs=2)
    assert report.convex.holds is False
    assert not report.theorem_2


def test_few_small_steps_satisfy_the_first_theorem() -> None:
    report = check_assumptions(quadratic(), LAM, Langevin(1e-5), Schedule.last(3))
    assert report.theorem_1
    assert report.resolution.value <= SMALL_ERROR
    assert report.error_bound is not None
    assert report.error_found <= report.error_bound


@given(
    step=st.floats(1e-4, 0.2),
    burn_in=st.integers(0, 6),
    samples=st.integers(1, 5),
    noise=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 50),
)
@settings(max_examples=25)
def test_the_bound_bounds(step: float, burn_in: int, samples: int, noise: float, seed: int) -> None:
    problem = BilevelProblem(
        inner=lambda lam, t, _: (t**4).sum() / 4 + (CURVATURES * t * t).sum() / 2 - t @ CROSS @ lam,
        outer=lambda lam, t, _: (t.sin() * lam[0]).sum() + t.square().sum() + (lam**2).sum(),
        initial=FixedInitial(torch.tensor([0.5, -0.1, 0.2], dtype=torch.float64)),
    )
    report = check_assumptions(
        problem, LAM, Langevin(step, 1.0, noise), Schedule(burn_in, samples), Draws(seed), pairs=1
    )
    assert report.error_bound is not None
    # The exact and the approximate value agree to rounding where there is one step only.
    assert report.error_found <= report.error_bound + 1e-13 * report.estimate


def test_a_start_that_depends_on_lam_has_no_bound() -> None:
    problem = BilevelProblem(
        inner=lambda _lam, t, _: t.square().sum() / 2,
        outer=lambda _lam, t, _: t.sum(),
        initial=identity_initial(),
    )
    report = check_assumptions(problem, LAM, Langevin(0.1), Schedule.last(5))
    assert report.initial.holds is False
    assert report.error_bound is None
    assert not report.theorem_1
    assert "bound none" in str(report)


def test_large_problems_are_measured_by_power_iterations() -> None:
    case = build("softmax_digits")
    report = check_assumptions(case.problem, case.lam, case.dynamics, Schedule.last(1), pairs=1)
    assert not report.dense
    assert report.conditioning.holds is None
    assert report.stable.holds


def test_a_chain_that_diverges_says_where() -> None:
    with pytest.raises(DivergenceError, match="lower the step size"):
        check_assumptions(build("synth_1d").problem, LAM[:1], Langevin(50.0), Schedule.last(50))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"chains": 1}, ArgumentError),
        ({"pairs": 0}, ArgumentError),
        ({"radius": -1.0}, ArgumentError),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, float], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(arguments))):
        check_assumptions(quadratic(), LAM, Langevin(0.1), Schedule.last(5), **arguments)  # type: ignore[arg-type]  # on purpose


def test_a_sampling_chain_is_stationary_and_one_cut_short_is_not() -> None:
    dynamics = Langevin(0.3, 1.0, 1.0)
    long = check_assumptions(quadratic(), LAM, dynamics, Schedule(20, 250), chains=6, pairs=1)
    assert long.stationary.holds
    assert long.samples.value > 400
    slow = Langevin(1e-3, 1.0, 1.0)
    short = check_assumptions(quadratic(), 20 * LAM, slow, Schedule(0, 60), pairs=1)
    assert short.stationary.holds is False


def test_it_is_a_public_name() -> None:
    assert refblo.check_assumptions is check_assumptions


# ---------------------------------------------------------------- R̂ and effective sample size


def autoregressive(rho: float, chains: int, length: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(chains, length)) * np.sqrt(1 - rho**2)
    rows = np.empty((chains, length))
    rows[:, 0] = rng.normal(size=chains)
    for k in range(1, length):
        rows[:, k] = rho * rows[:, k - 1] + noise[:, k]
    return rows


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.5])
def test_the_effective_sample_size_of_an_autoregression_is_that_of_theory(rho: float) -> None:
    chains, length = 8, 20_000
    found = np.array([effective_samples(autoregressive(rho, chains, length, s)) for s in range(8)])
    theory = chains * length * (1 - rho) / (1 + rho)
    # Eight independent estimates: four standard errors of their mean, wrong once in 16 000; Geyer's
    # cut leaves a bias of a few parts in a hundred.
    error = 4 * found.std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean() - theory) <= error + 0.05 * theory


def test_chains_of_one_distribution_have_an_rhat_near_one() -> None:
    assert split_rhat(autoregressive(0.3, 4, 4000, 1)) < 1.01


def test_chains_that_differ_have_a_large_rhat() -> None:
    rows = autoregressive(0.3, 4, 400, 2)
    rows[0] += 3
    assert split_rhat(rows) > 1.5


def test_a_trend_within_each_chain_is_seen() -> None:
    rows = autoregressive(0.0, 4, 400, 3) + np.linspace(0, 4, 400)
    assert split_rhat(rows) > 1.2


def test_constant_chains_are_one_or_infinitely_apart() -> None:
    assert split_rhat(np.ones((2, 10))) == 1.0
    assert split_rhat(np.stack([np.zeros(10), np.ones(10)])) == float("inf")
    assert effective_samples(np.ones((2, 10))) == 4


def test_too_short_a_chain_is_refused() -> None:
    with pytest.raises(ArgumentError, match="at least 4 samples"):
        split_rhat(np.zeros((2, 3)))


@pytest.mark.parametrize(
    "root", [lambda t: t.square().sum().sqrt(), lambda t: t.square().sqrt().sum()]
)
def test_a_root_at_zero_is_named(root: Callable[[Tensor], Tensor]) -> None:
    problem = BilevelProblem(
        lambda lam, theta, _: (theta - 1).square().sum() + lam[0].exp() * root(theta),
        lambda lam, theta, _: theta.square().sum(),
        FixedInitial(torch.zeros(3, dtype=torch.float64)),
    )
    with pytest.raises(LossError, match="∂_θ inner is not finite at step 0 although theta"):
        check_assumptions(problem, torch.zeros(1).double(), Langevin(0.1), Schedule.last(3))
