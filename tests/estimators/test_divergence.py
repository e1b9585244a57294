"""A run that leaves the finite numbers is reported with the step, never as a NaN hypergradient."""

import math

import pytest
import torch
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.errors import DivergenceError
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
from refblo.problem import BilevelProblem, FixedInitial
from refblo.types import Batch, Loss, Status

STEPS = 40
# From θ⁰ = 1 the iterates are GROWTH^m in size, which leaves float64 at this m.
STEP_SIZE, GROWTH = 1.0, 1e10
LEAVES_AT = math.ceil(math.log(torch.finfo(torch.float64).max) / math.log(GROWTH))


def methods(rule: Langevin, steps: int) -> list[Estimator]:
    schedule = Schedule(steps - 2, 2)
    return [
        FMD(rule, schedule),
        RMD(rule, schedule),
        RMD(rule, schedule, graph_bytes=0, name="RMD, stored"),
        RMD(rule, schedule, checkpointed=True, graph_bytes=0, name="RMD, checkpointed"),
        RMD(rule, schedule, last_transitions=3, name="RMD, truncated"),
        RMDFirstOrder(rule, schedule),
        HPOSGLD(rule, schedule),
        IFTNeumann(rule, steps, 0.01, 3),
        IFTConjugateGradient(rule, steps, 3),
        IFTDense(rule, steps),
    ]


def bowl(curvature: float, outer: Loss | None = None) -> tuple[BilevelProblem, Tensor]:
    """½ h θ² − θλ in each of two coordinates, λ shared; p = 1, n = 2."""

    def inner(lam: Tensor, theta: Tensor, _: Batch) -> Tensor:
        return 0.5 * curvature * theta.square().sum() - theta.sum() * lam.sum()

    def total(_: Tensor, theta: Tensor, __: Batch) -> Tensor:
        return theta.sum()

    start = FixedInitial(torch.ones(2, dtype=torch.float64))
    return BilevelProblem(inner, outer or total, start), torch.zeros(1, dtype=torch.float64)


@pytest.mark.parametrize(
    "method", methods(Langevin(STEP_SIZE), STEPS), ids=lambda method: method.name
)
def test_a_diverging_chain_is_reported_with_its_step(method: Estimator) -> None:
    problem, lam = bowl(1 + GROWTH)
    found = method.estimate(problem, lam)
    assert found.status is Status.CHAIN_DIVERGED
    assert found.estimate is None
    assert found.diverged_at is not None
    # The iterate overflows at the step of its size, or one before, where its gradient (h times as
    # large) already does.
    assert LEAVES_AT - 1 <= found.diverged_at <= LEAVES_AT
    with pytest.raises(DivergenceError, match=f"diverged at step {found.diverged_at}") as raised:
        _ = found.value
    assert raised.value.step == found.diverged_at
    assert "lower the step size" in str(raised.value)


def test_a_directional_derivative_raises_with_the_step() -> None:
    problem, lam = bowl(1 + GROWTH)
    method = FMDDirectional(Langevin(STEP_SIZE), Schedule.last(STEPS))
    with pytest.raises(DivergenceError, match="lower the step size") as raised:
        method.derivative(problem, lam, torch.ones_like(lam))
    assert LEAVES_AT - 1 <= raised.value.step <= LEAVES_AT


@pytest.mark.parametrize(
    "method",
    # RMD-FO does not use ∂_θ f where θ⁰ is fixed.
    [method for method in methods(Langevin(0.01), 6) if not isinstance(method, RMDFirstOrder)],
    ids=lambda method: method.name,
)
def test_an_outer_loss_without_a_finite_gradient_is_named(method: Estimator) -> None:
    # θ falls from 1 by a tenth a step: at step 5 it is below 0.6, where this outer loss ends.
    def outer(_: Tensor, theta: Tensor, __: Batch) -> Tensor:
        return (theta - 0.6).sqrt().sum()

    problem, lam = bowl(10.0, outer)
    found = method.estimate(problem, lam)
    assert (found.status, found.estimate) == (Status.OUTER_NOT_FINITE, None)
    assert found.diverged_at == 5
    with pytest.raises(DivergenceError, match=r"at step 5; the outer loss has no finite gradient"):
        _ = found.value


def test_a_sensitivity_that_overflows_alone_is_named() -> None:
    # The iterates stay at the fixed point θ = 0, while dθ/dλ grows like GROWTH^m.
    problem, lam = bowl(1 + GROWTH)
    problem = problem.starting_at(torch.zeros(2, dtype=torch.float64))
    found = RMD(Langevin(STEP_SIZE), Schedule.last(STEPS)).estimate(problem, lam)
    assert (found.status, found.estimate) == (Status.SENSITIVITY_DIVERGED, None)
    with pytest.raises(DivergenceError, match="sensitivity to lam overflows"):
        _ = found.value
