"""Reverse mode from few stored states: the fewest repeated steps, the memory promised, the same answer.

Share of the quick suite: about 5 s of processor time.
"""

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from refblo.chain import Chain, Langevin, Schedule
from refblo.cost import LiveBytes, counting
from refblo.errors import ArgumentError
from refblo.estimators import RMD
from refblo.estimators.checkpointing import advances, next_state, reach, repetitions
from refblo.noise import SEED_ZERO
from refblo.problem import BilevelProblem, FixedInitial
from refblo.testing.explicit import pathwise
from refblo.testing.strategies import instances
from refblo.testing.tensor_problem import Instance

ROOT = Path(__file__).resolve().parent.parent.parent

AGREEMENT = 1e-12
"""See tests/estimators/test_unrolled.py."""


@lru_cache(None)
def fewest(steps: int, states: int) -> int:
    """A(l, s) by trying every place for the next state."""
    if steps == 1:
        return 0
    if states == 1:
        return steps * (steps - 1) // 2
    return min(split(steps, states, k) for k in range(1, steps))


def split(steps: int, states: int, k: int) -> int:
    return k + fewest(steps - k, states - 1) + fewest(k, states)


@pytest.mark.parametrize("states", range(1, 8))
def test_the_formula_counts_the_fewest_advances(states: int) -> None:
    for steps in range(1, 60):
        assert advances(steps, states) == fewest(steps, states)


@pytest.mark.parametrize("states", range(2, 8))
def test_the_next_state_is_stored_where_the_fewest_advances_are_needed(states: int) -> None:
    for steps in range(2, 60):
        k = next_state(steps, states)
        assert 1 <= k < steps
        assert split(steps, states, k) == fewest(steps, states)


def test_a_long_run_is_within_reach_of_few_repetitions() -> None:
    assert repetitions(100_000, 20) == 6
    assert reach(20, 5) < 100_000 <= reach(20, 6)


@given(
    instances(),
    st.integers(2, 5),
    st.sampled_from((0, 2**10, 2**28)),
    st.none() | st.integers(1, 4),
)
def test_few_states_give_the_answer_of_all(
    instance: Instance, states: int, graph_bytes: int, kept: int | None
) -> None:
    arguments = (instance.dynamics, instance.schedule)
    few = RMD(*arguments, states=states, graph_bytes=graph_bytes, last_transitions=kept)
    found = few.estimate(instance.problem, instance.lam, instance.draws)
    stored = RMD(*arguments, graph_bytes=graph_bytes, last_transitions=kept)
    plain = stored.estimate(instance.problem, instance.lam, instance.draws)
    # The unit of both is the size of the terms that the hypergradient sums.
    scale = pathwise(instance.numbers, instance.lam_numbers, instance.run).scale
    assert float((found.value - plain.value).norm()) <= AGREEMENT * scale
    assert torch.equal(found.theta, plain.theta)


def diagonal(n: int) -> tuple[BilevelProblem, torch.Tensor]:
    weights = torch.linspace(1, 2, n, dtype=torch.float64)
    problem = BilevelProblem(
        inner=lambda lam, theta, _: (weights * (theta - lam).square()).sum(),
        outer=lambda _, theta, __: theta.sin().sum(),
        initial=FixedInitial(torch.zeros(n, dtype=torch.float64)),
    )
    return problem, torch.linspace(0, 1, n, dtype=torch.float64)


def test_no_graph_is_longer_than_a_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    whole = RMD.pull_through_graph

    def recorded(
        method: RMD, chain: Chain, lam: torch.Tensor, theta: torch.Tensor, run: range,
        alpha: torch.Tensor, h: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        lengths.append(len(run))
        return whole(method, chain, lam, theta, run, alpha, h)

    monkeypatch.setattr(RMD, "pull_through_graph", recorded)
    problem, lam = diagonal(3)
    rule = Langevin(0.01)
    method = RMD(rule, Schedule.last(7))
    chain, zero = Chain(problem, rule, SEED_ZERO), torch.zeros_like(lam)
    method._pull_from_few(chain, lam, zero, range(7), 2, 2, torch.ones_like(lam), zero)
    assert lengths == [1, 2, 2, 2]


@pytest.mark.parametrize(("steps", "states"), [(12, 2), (20, 3), (40, 5), (7, 20)])
def test_the_gradients_taken_are_those_of_the_formula(steps: int, states: int) -> None:
    problem, lam = diagonal(3)
    method = RMD(Langevin(0.01), Schedule.last(steps), states=states, graph_bytes=0)
    with counting() as cost:
        method.estimate(problem, lam)
    assert cost.inner_gradients == advances(steps, states) + steps
    assert cost.hessian_products == steps


def test_the_memory_is_that_of_the_states_whatever_the_number_of_steps() -> None:
    n, states = 1000, 6
    problem, lam = diagonal(n)

    def peak(steps: int, allowed: int) -> int:
        method = RMD(Langevin(0.01), Schedule.last(steps), states=allowed, graph_bytes=0)
        with LiveBytes() as memory:
            method.estimate(problem, lam)
        return int(memory.peak)

    assert peak(40, states) == peak(20, states)
    # Four more states, four more vectors.
    assert peak(40, states + 4) - peak(40, states) == 4 * n * 8


def test_a_memory_limit_is_kept() -> None:
    n, T = 1000, 60
    problem, lam = diagonal(n)
    limit = 30 * n * 8
    method = RMD(Langevin(0.01), Schedule.last(T), memory_bytes=limit)
    stored = RMD(Langevin(0.01), Schedule.last(T))
    # Beside states and graph: λ's sum, the adjoint, the moving iterate and its gradient.
    with LiveBytes() as memory:
        found = method.estimate(problem, lam).value
    assert memory.peak <= limit + 6 * n * 8
    truth = stored.estimate(problem, lam).value
    assert float((found - truth).norm()) <= AGREEMENT * float(truth.norm())


def test_a_memory_limit_below_two_states_is_refused() -> None:
    problem, lam = diagonal(10_000)
    method = RMD(Langevin(0.01), Schedule.last(5), memory_bytes=10_000)
    with pytest.raises(ArgumentError, match=r"memory_bytes must be at least .* two states"):
        method.estimate(problem, lam)


def test_two_limits_at_once_are_refused() -> None:
    with pytest.raises(ArgumentError, match="states must stand alone"):
        RMD(Langevin(0.01), Schedule.last(5), checkpointed=True, states=3)
    with pytest.raises(ArgumentError, match="states must be at least 2"):
        RMD(Langevin(0.01), Schedule.last(5), states=1)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_steps_with_twenty_stored_states() -> None:
    # In a process of its own: the tests' shape checker would look at every step.
    command = [sys.executable, "-m", "asv_bench.long_run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
