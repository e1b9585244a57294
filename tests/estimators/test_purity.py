"""Every estimator is a pure function: same arguments, same bits, and nothing else touched."""

import copy

import numpy as np
import torch
from hypothesis import given

from refblo.chain import Langevin, Schedule
from refblo.estimators import (
    FMD,
    HPOSGLD,
    RMD,
    Estimator,
    FMDDirectional,
    IFTConjugateGradient,
    IFTDense,
    IFTNeumann,
    RMDFirstOrder,
)
from refblo.noise import Draws
from refblo.problem import BilevelProblem, FixedInitial, Initial, LamInitial
from refblo.testing.strategies import instances
from refblo.testing.tensor_problem import Instance


def methods(rule: Langevin, schedule: Schedule) -> list[Estimator]:
    return [
        FMD(rule, schedule, block=2),
        RMD(rule, schedule),
        RMD(rule, schedule, checkpointed=True, graph_bytes=0),
        RMDFirstOrder(rule, schedule),
        HPOSGLD(rule, schedule),
        IFTNeumann(rule, schedule.steps, 0.01, 3),
        IFTConjugateGradient(rule, schedule.steps, 3),
        IFTDense(rule, schedule.steps),
    ]


@given(instances(longest=2))
def test_arguments_and_global_state_stay_as_they_were(instance: Instance) -> None:
    # One draw of a problem runs eight methods twice, so 50 draws are 800 runs.
    problem, draws = instance.problem, instance.draws
    # A caller's λ may be a leaf that collects gradients.
    lam = instance.lam.clone().requires_grad_()
    kept = lam.detach().clone()
    start = problem.initial(lam).detach().clone()
    torch_state, numpy_state = torch.get_rng_state(), copy.deepcopy(np.random.get_state())  # noqa: NPY002  # the global state is what is looked at
    grad_mode = torch.is_grad_enabled()
    for method in methods(instance.dynamics, instance.schedule):
        first = method.estimate(problem, lam, draws)
        second = method.estimate(problem, lam, draws)
        assert torch.equal(first.value, second.value), method.name
        assert torch.equal(first.theta, second.theta), method.name
        assert not first.value.requires_grad, method.name
        assert not first.theta.requires_grad, method.name
        assert lam.grad is None, method.name
        assert first.value.data_ptr() != lam.data_ptr(), method.name
        assert first.cost == second.cost, method.name
    assert torch.equal(lam.detach(), kept)
    assert lam.requires_grad
    assert torch.equal(problem.initial(lam).detach(), start)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.is_grad_enabled() is grad_mode
    now = np.random.get_state()  # noqa: NPY002  # as above
    assert all(np.array_equal(a, b) for a, b in zip(now, numpy_state, strict=True))


@given(instances())
def test_a_result_does_not_change_when_it_is_changed_by_its_owner(instance: Instance) -> None:
    method = HPOSGLD(instance.dynamics, instance.schedule)
    arguments = (instance.problem, instance.lam, instance.draws)
    first = method.estimate(*arguments)
    expected = first.value.clone()
    first.value.zero_()
    first.theta.zero_()
    assert torch.equal(method.estimate(*arguments).value, expected)


@given(instances())
def test_another_seed_gives_another_run_only_where_something_is_drawn(instance: Instance) -> None:
    method = HPOSGLD(instance.dynamics, instance.schedule)
    other = Draws(instance.draws.seed + 1)
    first = method.estimate(instance.problem, instance.lam, instance.draws)
    second = method.estimate(instance.problem, instance.lam, other)
    if instance.dynamics.noise_scale > 0:
        assert not torch.equal(first.theta, second.theta)
    elif "FullBatch" in repr(instance.problem.inner_batches):
        assert torch.equal(first.theta, second.theta)


@given(instances(longest=2))
def test_methods_share_the_run(instance: Instance) -> None:
    """Whoever asks for iterate T of one run gets the same one: noise and batches are common."""
    ends = [
        method.estimate(instance.problem, instance.lam, instance.draws).theta
        for method in methods(instance.dynamics, instance.schedule)
    ]
    scale = max(1.0, ends[0].abs().max().item())
    for end in ends[1:]:
        # Declared structure sums the gradient in another order: some units in the last place a step.
        assert (end - ends[0]).abs().max().item() <= 1e-13 * scale


def test_a_point_whose_entries_share_one_place_in_memory_gives_the_same_numbers() -> None:
    """λ = x.expand(p) and θ⁰ = x.expand(n) are of stride 0, which torch's forward mode refuses."""
    narrow, start = (torch.full((1,), x, dtype=torch.float64) for x in (-1.0, 0.3))
    shared, theta = narrow.expand(3), start.expand(2)

    def problem(initial: Initial) -> BilevelProblem:
        return BilevelProblem(
            lambda lam, theta, _: (lam[:2].exp() @ theta.square()) + (theta * lam[2]).sum(),
            lambda lam, theta, _: (theta - 1).square().sum() + lam.square().sum(),
            initial,
        )

    for initial in (FixedInitial(theta), LamInitial(lambda lam: lam[:2] * 0.5)):
        for method in methods(Langevin(0.1), Schedule.last(3)):
            expected = method.estimate(problem(initial), shared.clone())
            found = method.estimate(problem(initial), shared)
            assert torch.equal(found.value, expected.value), method.name
    direction, rule = torch.ones(1, dtype=torch.float64).expand(3), Langevin(0.1)
    along = FMDDirectional(rule, Schedule.last(3)).derivative
    at = problem(FixedInitial(theta))
    assert along(at, shared, direction) == along(at, shared.clone(), direction.clone())
