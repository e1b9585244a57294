"""Evolution strategies: the predicted moments, the bias of smoothing, and planted bugs."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo.chain import Chain, Langevin, Schedule
from refblo.contracts.context import Context
from refblo.contracts.evolution import Strategies, order_in_sigma, smoothed, variance
from refblo.errors import ArgumentError
from refblo.estimators import RMD
from refblo.estimators.evolution import EvolutionStrategies, Variant
from refblo.noise import Draws
from refblo.outer.loop import OuterLoop
from refblo.problem import BilevelProblem
from refblo.problems import build
from refblo.types import Lam


@pytest.mark.parametrize("case", ["quadratic", "maml_quadratic"])
@pytest.mark.parametrize("variant", list(Variant))
def test_the_moments_are_the_predicted_ones(variant: Variant, case: str) -> None:
    built, contract = build(case), smoothed("ES", EvolutionStrategies, variant)
    assert contract.applies(built)
    judgement = contract.check(built, Context()).judgement
    assert judgement.holds, judgement


@dataclass(frozen=True)
class Bent:
    right: EvolutionStrategies
    factor: float

    def samples(self, problem: BilevelProblem, lam: Lam, draws: Draws) -> Tensor:
        return self.factor * self.right.samples(problem, lam, draws)


BUGS: dict[str, Strategies] = {
    "another σ": lambda r, s, sigma, n, v: EvolutionStrategies(r, s, 8 * sigma, n, v),
    "half": lambda r, s, sigma, n, v: Bent(EvolutionStrategies(r, s, sigma, n, v), 0.5),
    "other steps": lambda r, s, sigma, n, v: EvolutionStrategies(
        r, Schedule.last(6 * s.steps), sigma, n, v
    ),
    "no baseline": lambda r, s, sigma, n, _: EvolutionStrategies(r, s, sigma, n, Variant.PRINTED),
}


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_planted_bugs_are_rejected(bug: str) -> None:
    contract = smoothed("bent", BUGS[bug], Variant.BASELINE)
    assert not contract.check(build("quadratic"), Context()).judgement.holds


def test_the_variance_of_the_printed_form_is_that_of_the_value() -> None:
    """σ → 0: σ² Var h → F², whatever the gradient; with a baseline it stays that of the gradient."""
    gradient, hessian = np.array([1.0, -2.0, 0.5]), np.diag([1.0, 2.0, 3.0])
    small = 1e-6
    printed = variance(3.0, gradient, hessian, small, Variant.PRINTED) * small**2
    assert np.allclose(printed, 9.0, rtol=0, atol=1e-10)  # what is left out is O(σ²) = 1e-12·‖g‖²
    based = variance(3.0, gradient, hessian, small, Variant.BASELINE)
    assert np.allclose(based, gradient @ gradient + gradient**2, rtol=0, atol=1e-10)  # and here


def test_the_bias_of_smoothing_is_half_sigma_squared_times_the_third_derivative() -> None:
    """On Synth-1D, with the mean over z by Gauss–Hermite quadrature: no Monte Carlo in it."""
    case = build("synth_1d")
    schedule, rule = Schedule.last(20), Langevin(0.05)
    exact = RMD(rule, schedule)

    def gradient(lam: float) -> float:
        at = torch.tensor([lam], dtype=torch.float64)
        return float(exact.estimate(case.problem, at).value)

    # E F'(λ + σz) = ∇F_σ by parts; 7 nodes are exact to degree 13.
    nodes, weights = np.polynomial.hermite_e.hermegauss(7)
    weights = weights / weights.sum()
    third = (gradient(0.11) - 2 * gradient(0.1) + gradient(0.09)) / 1e-4
    ratios = []
    for sigma in (0.04, 0.02, 0.01):
        mean = sum(w * gradient(0.1 + sigma * z) for w, z in zip(weights, nodes, strict=True))
        ratios.append((mean - gradient(0.1)) / (sigma**2 / 2 * third))
    gaps = np.abs(np.array(ratios) - 1)
    # The next term is O(σ²) smaller: each halving of σ divides the gap by about four, down to that of
    # the difference for F''', (0.01)² like the last σ's own.
    assert gaps[2] < gaps[1] < gaps[0]
    assert gaps[0] / gaps[1] > 2


def test_bad_arguments_say_what_to_do() -> None:
    with pytest.raises(ArgumentError, match="sigma must be positive"):
        EvolutionStrategies(Langevin(0.1), Schedule.last(1), 0.0, 1)
    with pytest.raises(ArgumentError, match="draws_of_z must be at least 1"):
        EvolutionStrategies(Langevin(0.1), Schedule.last(1), 0.1, 0)


@pytest.mark.parametrize(
    "name", ["synth_1d", pytest.param("taylor_loss_iris", marks=pytest.mark.full)]
)
def test_the_order_in_sigma_holds_and_rejects_planted_bugs(name: str) -> None:
    case = build(name)
    contract = order_in_sigma("ES", EvolutionStrategies)
    assert contract.applies(case)
    assert contract.check(case, Context()).judgement.holds
    for factory in (
        lambda r, s, sigma, n, v: EvolutionStrategies(r, s, 2 * sigma, n, v),
        lambda r, s, sigma, n, _: EvolutionStrategies(r, s, sigma, n, Variant.BASELINE),
        lambda r, s, sigma, n, v: EvolutionStrategies(r, Schedule.last(s.steps + 1), sigma, n, v),
    ):
        bent = order_in_sigma("bent", factory)
        assert not bent.check(case, Context()).judgement.holds


def test_a_loss_is_searched_for_by_values_alone() -> None:
    """The eight coefficients of a learnt loss, by evolution strategies through a short training run."""
    case = build("taylor_loss_iris")
    quiet, schedule = Langevin(case.dynamics.step_size), Schedule.last(5)
    method = EvolutionStrategies(quiet, schedule, sigma=0.05, draws_of_z=16)
    loop = OuterLoop(case.problem, method, lambda lams: torch.optim.SGD(lams, lr=0.1), steps=10)
    ended = loop.run(case.lam)

    def after_training(lam: Tensor) -> float:
        theta = Chain(case.problem, quiet, Draws(0)).last(lam, schedule.steps)
        return float(case.problem.outer(lam, theta, None))

    assert after_training(ended.lam) < after_training(case.lam)
