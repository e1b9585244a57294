"""The chain is SGLD, and a function of its arguments alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from refblo.chain import SMALL, Chain, Langevin, Schedule, steps_ahead
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial
from refblo.testing.explicit import trajectory
from refblo.testing.strategies import instances
from refblo.testing.tensor_problem import Instance


def chain_of(instance: Instance) -> Chain:
    return Chain(instance.problem, instance.dynamics, instance.draws)


@given(instances())
def test_the_iterates_are_those_of_the_published_step(instance: Instance) -> None:
    expected = trajectory(instance.numbers, instance.lam_numbers, instance.run)
    steps = instance.schedule.steps
    found = list(chain_of(instance).iterates(instance.lam, steps))
    assert len(found) == len(expected) == steps + 1
    for theta, numbers in zip(found, expected, strict=True):
        # At most six steps of rounding in iterates of order one.
        scale = max(1.0, float(np.abs(numbers).max()))
        assert float(np.abs(np.array(theta.tolist()) - numbers).max()) <= 1e-13 * scale


@given(instances(), st.data())
def test_a_run_can_be_stopped_and_taken_up(instance: Instance, data: st.DataObject) -> None:
    chain, lam, steps = chain_of(instance), instance.lam, instance.schedule.steps
    pause = data.draw(st.integers(0, steps))
    theta = chain.last(lam, pause)
    for step in range(pause, steps):
        theta = chain.step(lam, theta, step)
    assert torch.equal(theta, chain.last(lam, steps))


@given(instances())
def test_a_step_changes_neither_its_iterate_nor_its_gradient(instance: Instance) -> None:
    chain = chain_of(instance)
    theta, gradient = chain.initial(instance.lam), torch.ones(len(instance.numbers.start)).double()
    kept = theta.clone(), gradient.clone()
    chain.advance(theta, gradient, 0)
    assert torch.equal(theta, kept[0])
    assert torch.equal(gradient, kept[1])


@given(st.floats(1e-6, 10), st.floats(1e-3, 10), st.floats(0, 5))
def test_epsilon_and_the_step_size_are_one_parameter(
    epsilon: float, temperature: float, noise_scale: float
) -> None:
    rule = Langevin.from_epsilon(epsilon, temperature, noise_scale)
    assert rule.step_size == epsilon / (2 * temperature)
    assert math.isclose(rule.epsilon, epsilon, rel_tol=4 * np.finfo(np.float64).eps)
    assert math.isclose(
        rule.noise, math.sqrt(epsilon) * noise_scale, rel_tol=4 * np.finfo(np.float64).eps
    )


@given(st.integers(0, 20), st.integers(1, 20))
def test_the_last_iterates_are_sampled(burn_in: int, samples: int) -> None:
    schedule = Schedule(burn_in, samples)
    sampled = [step for step in range(1, schedule.steps + 1) if schedule.sampled(step)]
    assert sampled == list(range(burn_in + 1, burn_in + samples + 1))
    assert Schedule.last(schedule.steps).burn_in == schedule.steps - 1
    assert Schedule.last(schedule.steps).samples == 1


def test_the_first_iterate_that_is_not_finite_is_found() -> None:
    # θ^m = (1 − 10)^m = (−9)^m leaves float64 after 323 steps.
    problem = BilevelProblem(
        lambda lam, theta, _: 5 * theta.square().sum() + lam.sum() * 0,
        lambda _lam, theta, _: theta.sum(),
        FixedInitial(torch.ones(1, dtype=torch.float64)),
    )
    chain = Chain(problem, Langevin(1.0), Draws(0))
    lam = torch.ones(1, dtype=torch.float64)
    overflow = math.ceil(math.log(np.finfo(np.float64).max) / math.log(9))
    found = chain.first_non_finite(lam, 400)
    assert found is not None
    assert overflow - 1 <= found <= overflow
    assert chain.first_non_finite(lam, found - 1) is None


def test_stationary_variance_of_the_linear_chain() -> None:
    # ½ h θ² with τ, κ: θ' = (1 − γh) θ + √ε κ z has the stationary variance τκ² / (h (1 − γh/2)).
    h, rule = 2.0, Langevin(0.1, temperature=0.5, noise_scale=0.8)
    problem = BilevelProblem(
        lambda lam, theta, _: 0.5 * h * theta.square().sum() + 0 * lam.sum(),
        lambda _lam, theta, _: theta.sum(),
        FixedInitial(torch.zeros(4000, dtype=torch.float64)),
    )
    chain = Chain(problem, rule, Draws(0))
    theta = chain.last(torch.ones(1, dtype=torch.float64), 60)  # (1 − γh)^120 = 2e-12 of the start
    expected = rule.temperature * rule.noise_scale**2 / (h * (1 - rule.step_size * h / 2))
    # 4,000 independent coordinates: the sample variance has standard error √(2/4000) of itself. Four of
    # them are exceeded by correct code with a probability of 6e-5, once and for all.
    assert theta.var().item() == pytest.approx(expected, rel=4 * math.sqrt(2 / 4000))


@pytest.mark.parametrize("size", [1, 5, SMALL, SMALL + 1, 100_000])
def test_a_step_adds_the_noise_of_its_number(size: int) -> None:
    # Small n: several steps' draws at once, in any order of the steps; large n: a chunk at a time.
    theta, gradient = torch.full((size,), 0.3), torch.full((size,), 0.7)
    rule, draws = Langevin(0.1, temperature=0.5, noise_scale=0.8), Draws(6)
    problem = BilevelProblem(
        lambda lam, theta, _: theta.sum(), lambda lam, theta, _: theta.sum(), FixedInitial(theta)
    )
    chain = Chain(problem, rule, draws)
    later = steps_ahead(20, size)
    assert 20 in later
    for step in (0, 1, 7, 8, later.stop - 1, later.stop, 3 * later.stop, 2):
        moved = theta.add(gradient, alpha=-rule.step_size)
        moved.add_(draws.normal(Stream.LANGEVIN, step, theta), alpha=rule.noise)
        assert torch.equal(chain.advance(theta, gradient, step), moved)
