"""Costs are counted exactly: derivative evaluations and live bytes."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.cost import Evaluations, LiveBytes, count, counting
from refblo.estimators import (
    FMD,
    HPOSGLD,
    RMD,
    Estimator,
    IFTConjugateGradient,
    IFTDense,
    IFTNeumann,
    RMDFirstOrder,
)
from refblo.problem import BilevelProblem
from refblo.testing.explicit import ExplicitNumbers
from refblo.testing.tensor_problem import tensor_problem

RULE = Langevin(0.05)
FLOAT64 = 8  # bytes


def problem_of(p: int, n: int, moving_start: bool = False) -> tuple[BilevelProblem, Tensor]:
    problem = tensor_problem(ExplicitNumbers.random(0, p, n, moving_start))
    return problem, torch.full((p,), 0.1, dtype=torch.float64)


def cost_of(
    method: Estimator, p: int = 2, n: int = 3, moving_start: bool = False
) -> tuple[int, int, int, int]:
    problem, lam = problem_of(p, n, moving_start)
    cost = method.estimate(problem, lam).cost
    return (
        cost.inner_gradients,
        cost.outer_gradients,
        cost.hessian_products,
        cost.mixed_products,
    )


@given(st.integers(0, 4), st.integers(1, 4))
def test_hpo_sgld_costs_two_gradients_and_one_mixed_product_a_step(
    burn_in: int, samples: int
) -> None:
    schedule = Schedule(burn_in, samples)
    T = schedule.steps
    assert cost_of(HPOSGLD(RULE, schedule)) == (T, T, 0, T)


@given(st.integers(0, 4), st.integers(1, 4), st.booleans())
def test_reverse_mode_costs_one_product_of_each_kind_a_step(
    burn_in: int, samples: int, moving: bool
) -> None:
    schedule = Schedule(burn_in, samples)
    T, M = schedule.steps, samples
    assert cost_of(RMD(RULE, schedule), moving_start=moving) == (T, M, T, T)
    # Step by step, every gradient but the last is computed again for its graph.
    stored = RMD(RULE, schedule, graph_bytes=0)
    assert cost_of(stored, moving_start=moving) == (2 * T - 1, M, T, T)
    assert cost_of(RMDFirstOrder(RULE, schedule), moving_start=moving) == (T, M, 0, 0)


@given(st.integers(1, 20))
def test_checkpoints_cost_at_most_one_more_run(steps: int) -> None:
    found = cost_of(RMD(RULE, Schedule.last(steps), checkpointed=True, graph_bytes=0))
    inner_gradients, *others = found
    assert inner_gradients <= 3 * steps
    assert others == [1, steps, steps]


def test_forward_mode_costs_one_product_of_each_kind_a_column_and_step() -> None:
    T, p = 4, 3
    assert cost_of(FMD(RULE, Schedule.last(T)), p=p, n=2) == (T, 1, T * p, T * p)
    # A block of two columns and one of one: two inner runs.
    assert cost_of(FMD(RULE, Schedule.last(T), block=2), p=p, n=2) == (2 * T, 2, T * p, T * p)


def test_implicit_methods_cost_their_solve() -> None:
    T, n, K = 5, 3, 4
    assert cost_of(IFTNeumann(RULE, T, 0.1, K), n=n) == (T + 1, 1, K - 1, 1)
    assert cost_of(IFTConjugateGradient(RULE, T, 2), n=n) == (T + 1, 1, 2, 1)
    assert cost_of(IFTDense(RULE, T), n=n) == (T + 1, 1, n, 1)


def test_an_outer_count_includes_the_inner_ones() -> None:
    with counting() as outside:
        count("inner_gradients")
        with counting() as inside:
            count("inner_gradients", 2)
            count("mixed_products")
    assert inside == Evaluations(inner_gradients=2, mixed_products=1)
    assert outside == Evaluations(inner_gradients=3, mixed_products=1)
    assert outside.total == 4


def test_nothing_is_counted_outside() -> None:
    with counting() as counted:
        pass
    count("inner_gradients")
    assert counted == Evaluations()


def test_views_and_arguments_are_not_counted() -> None:
    before = torch.zeros(10, dtype=torch.float64)
    with LiveBytes() as memory:
        views = [before[:5], before.reshape(2, 5), before.detach()]
        before.add_(1)
    assert len(views) == 3
    assert (memory.live, memory.peak) == (0, 0)


def test_a_storage_is_counted_as_long_as_anything_holds_it() -> None:
    with LiveBytes() as memory:
        x = torch.zeros(10, dtype=torch.float64)
        part = x[:2]
        del x
        assert memory.live == 10 * FLOAT64
        del part
        assert memory.live == 0
    assert memory.peak == 10 * FLOAT64


def test_what_a_graph_saves_is_counted() -> None:
    x = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    with LiveBytes() as memory:
        total = x.exp().sum()  # exp keeps its result for the backward pass
        assert memory.live == 11 * FLOAT64
        torch.autograd.grad(total, x)
        assert memory.live == FLOAT64


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.data())
def test_the_peak_is_the_largest_sum_alive(sizes: list[int], data: st.DataObject) -> None:
    alive: dict[int, Tensor] = {}
    expected = 0
    with LiveBytes() as memory:
        for index, size in enumerate(sizes):
            alive[index] = torch.zeros(size, dtype=torch.float64)
            expected = max(expected, sum(len(tensor) for tensor in alive.values()))
            if data.draw(st.booleans()):
                alive.pop(data.draw(st.sampled_from(sorted(alive))))
        assert memory.live == FLOAT64 * sum(len(tensor) for tensor in alive.values())
    assert memory.peak == FLOAT64 * expected


def peak_bytes(method: Estimator, p: int = 20, n: int = 30) -> int:
    problem, lam = problem_of(p, n)
    method.estimate(problem, lam)  # the losses are looked at in a first run only
    with LiveBytes() as memory:
        method.estimate(problem, lam)
    return int(memory.peak)


def test_hpo_sgld_holds_as_much_after_forty_steps_as_after_four() -> None:
    # The benchmarks go up to a thousand.
    few, many = HPOSGLD(RULE, Schedule(2, 2)), HPOSGLD(RULE, Schedule(20, 20))
    assert peak_bytes(few) == peak_bytes(many)


def test_reverse_mode_holds_the_iterates_or_their_square_root() -> None:
    n = 30
    few, many = 9, 36
    stored = [
        peak_bytes(RMD(RULE, Schedule.last(steps), graph_bytes=0), n=n) for steps in (few, many)
    ]
    assert stored[1] - stored[0] == (many - few) * n * FLOAT64
    checkpointed = [
        peak_bytes(RMD(RULE, Schedule.last(steps), checkpointed=True, graph_bytes=0), n=n)
        for steps in (few, many)
    ]
    # √T checkpoints and a segment of √T iterates: from 6 vectors to 12.
    assert checkpointed[1] - checkpointed[0] == (12 - 6) * n * FLOAT64
