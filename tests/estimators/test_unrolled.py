"""Forward mode, reverse mode and plain NumPy give the same unrolled and pathwise hypergradients."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.cost import machine_memory
from refblo.derivatives import mixed_product
from refblo.estimators import FMD, HPOSGLD, RMD, Estimator, FMDDirectional, RMDFirstOrder
from refblo.problem import BilevelProblem, FixedInitial
from refblo.testing.explicit import ExplicitAnswer, first_order, pathwise
from refblo.testing.strategies import instances, points
from refblo.testing.tensor_problem import Instance, tensor
from refblo.types import Estimand

# The rounding error of a run of at most six steps with matrices of order one is some tens of units
# in the last place of the terms that are summed (2.2e-16 each); 1e-12 of their size is the agreement
# that refblo promises.
AGREEMENT = 1e-12


STANDING = 200
"""Examples of the properties that the package stands on."""


def distance(value: Tensor, answer: ExplicitAnswer) -> float:
    """The distance in units of the terms that the answer sums."""
    return float(np.linalg.norm(np.array(value.tolist()) - answer.value)) / answer.scale


def reverse_methods(instance: Instance) -> dict[str, RMD]:
    rule, schedule = instance.dynamics, instance.schedule
    return {
        "RMD, one graph": RMD(rule, schedule),
        "RMD, stored": RMD(rule, schedule, graph_bytes=0),
        "RMD, checkpointed": RMD(rule, schedule, checkpointed=True, graph_bytes=0),
        "RMD, checkpointed, a graph a segment": RMD(rule, schedule, checkpointed=True),
    }


@settings(max_examples=STANDING)
@given(instances())
def test_every_reverse_mode_and_numpy_agree(instance: Instance) -> None:
    answer = pathwise(instance.numbers, instance.lam_numbers, instance.run)
    for name, method in reverse_methods(instance).items():
        found = method.estimate(instance.problem, instance.lam, instance.draws)
        off = distance(found.value, answer)
        assert off <= AGREEMENT, f"{name} is off by {off:.1e} of the sum's terms"


@settings(max_examples=STANDING)
@given(instances(longest=2), st.none() | st.integers(1, 3))
def test_forward_mode_agrees_with_reverse_mode_and_with_numpy(
    instance: Instance, block: int | None
) -> None:
    answer = pathwise(instance.numbers, instance.lam_numbers, instance.run)
    arguments = (instance.problem, instance.lam, instance.draws)
    forward = FMD(instance.dynamics, instance.schedule, block).estimate(*arguments)
    assert distance(forward.value, answer) <= AGREEMENT
    for name, method in reverse_methods(instance).items():
        off = torch.linalg.vector_norm(forward.value - method.estimate(*arguments).value).item()
        assert off <= AGREEMENT * answer.scale, f"FMD and {name} differ by {off:.1e}"


@given(instances(longest=2), st.data())
def test_a_directional_derivative_is_the_product_with_the_hypergradient(
    instance: Instance, data: st.DataObject
) -> None:
    direction = data.draw(points(len(instance.lam)))
    answer = pathwise(instance.numbers, instance.lam_numbers, instance.run)
    method = FMDDirectional(instance.dynamics, instance.schedule)
    found = method.derivative(instance.problem, instance.lam, direction, instance.draws)
    u = np.array(direction.tolist())
    # The scale of the product is that of the answer and of u.
    assert abs(found - answer.value @ u) <= AGREEMENT * answer.scale * np.linalg.norm(u)


@given(instances(), st.integers(1, 8), st.booleans(), st.sampled_from([0, 2**28]))
def test_truncation_keeps_the_last_transitions(
    instance: Instance, kept: int, checkpointed: bool, graph_bytes: int
) -> None:
    answer = pathwise(instance.numbers, instance.lam_numbers, instance.run, keep=kept)
    method = RMD(instance.dynamics, instance.schedule, checkpointed, kept, graph_bytes=graph_bytes)
    arguments = (instance.problem, instance.lam, instance.draws)
    found = method.estimate(*arguments)
    assert distance(found.value, answer) <= AGREEMENT
    if kept >= instance.schedule.steps:
        whole = replace(method, last_transitions=None)
        assert torch.equal(found.value, whole.estimate(*arguments).value)


def test_by_default_a_graph_takes_4_gib_or_a_quarter_of_the_memory() -> None:
    dynamics, schedule = Langevin(0.1), Schedule.last(3)
    cpu, meta = torch.device("cpu"), torch.device("meta")
    memory = machine_memory(cpu)
    assert memory is not None
    assert RMD(dynamics, schedule).graph_limit(cpu) == min(2**32, memory // 4)
    assert RMD(dynamics, schedule).graph_limit(meta) == 2**32
    assert RMD(dynamics, schedule, states=2).graph_limit(cpu) == 2**28
    assert RMD(dynamics, schedule, checkpointed=True).graph_limit(cpu) == 2**28
    assert RMD(dynamics, schedule, graph_bytes=0).graph_limit(cpu) == 0


@given(instances())
def test_first_order_keeps_the_direct_term_and_the_initial_point(instance: Instance) -> None:
    answer = first_order(instance.numbers, instance.lam_numbers, instance.run)
    method = RMDFirstOrder(instance.dynamics, instance.schedule)
    found = method.estimate(instance.problem, instance.lam, instance.draws)
    assert distance(found.value, answer) <= AGREEMENT


@pytest.mark.parametrize(("samples", "expected"), [(1, Estimand.UNROLLED), (2, Estimand.PATHWISE)])
@pytest.mark.parametrize("method", [FMD, RMD, RMDFirstOrder, HPOSGLD])
def test_the_estimand_depends_on_the_number_of_samples(
    method: Callable[[Langevin, Schedule], Estimator], samples: int, expected: Estimand
) -> None:
    assert method(Langevin(0.1), Schedule(3, samples)).estimand is expected


def strongly_convex_quadratic() -> tuple[BilevelProblem, Tensor, Tensor]:
    """½ θ·Hθ − θ·Cλ with p = 2, n = 4 and eigenvalues 1 … 4 of H; its λ and its eigenvalues."""
    rng = np.random.default_rng(3)
    basis, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    eigenvalues = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    hessian = tensor(basis) @ torch.diag(eigenvalues) @ tensor(basis).T
    mixed = tensor(rng.normal(size=(4, 2)))
    problem = BilevelProblem(
        inner=lambda lam, theta, _: 0.5 * theta @ (hessian @ theta) - theta @ (mixed @ lam),
        outer=lambda _lam, theta, _: 0.5 * (theta - 1).square().sum(),
        initial=FixedInitial(torch.zeros(4, dtype=torch.float64)),
    )
    return problem, torch.tensor([0.5, -1.0], dtype=torch.float64), eigenvalues


def test_the_truncation_error_is_bounded_by_a_geometric_series() -> None:
    problem, lam, eigenvalues = strongly_convex_quadratic()
    rule, schedule = Langevin(0.1), Schedule.last(60)
    exact = RMD(rule, schedule).estimate(problem, lam)
    slope = torch.linalg.vector_norm(exact.theta - 1).item()
    mixed = torch.linalg.matrix_norm(_mixed(problem, lam, exact.theta), 2).item()
    # What K transitions leave out is γ Σ_{j≥K} f_θ (I − γH)^j C, whose norm is at most
    # ‖f_θ‖ ‖C‖ q^K / eig_min(H) with q = max |1 − γ eig(H)|.
    rate = (1 - rule.step_size * eigenvalues).abs().max().item()
    previous = float("inf")
    for kept in range(5, 60, 5):
        cut = RMD(rule, schedule, last_transitions=kept).estimate(problem, lam)
        error = torch.linalg.vector_norm(cut.value - exact.value).item()
        assert error <= slope * mixed * rate**kept / eigenvalues.min().item()
        assert 0 < error < previous
        previous = error


def _mixed(problem: BilevelProblem, lam: Tensor, theta: Tensor) -> Tensor:
    """C by columns of the identity, p × n."""
    return torch.stack(
        [
            mixed_product(problem.inner, lam, theta, None, row)
            for row in torch.eye(4, dtype=lam.dtype)
        ]
    )
