"""A run's counts: the same with and without numbers, at a first and a later run, and as torch counts."""

import subprocess
import sys

import pytest
import torch
from _pytest.mark import ParameterSet
from torch import Tensor
from torch.distributed._tools.mem_tracker import MemTracker

from refblo.chain import Langevin, Schedule
from refblo.cost import Cost, LiveBytes, measure, shapes_only
from refblo.derivatives import inner_gradient, outer_theta_gradient
from refblo.estimators import (
    HPOSGLD,
    RMD,
    Estimator,
    IFTConjugateGradient,
    IFTDense,
    IFTNeumann,
    RMDFirstOrder,
)
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems import build
from refblo.problems.vit_b_16 import Size, VisionTransformer, vit_problem

PARAMETERS = 86_567_656  # of ViT-B/16 with 1000 classes, as everybody's model cards say
RULE = Langevin(1e-3)
SMALL = Size(image=8, patch=4, layers=1, width=4, heads=2, hidden=4, classes=3)


def methods() -> list[Estimator]:
    return [
        HPOSGLD(RULE, Schedule(1, 2)),
        RMD(RULE, Schedule.last(2)),
        RMD(RULE, Schedule.last(2), graph_bytes=0, name="RMD-stored"),
        RMD(RULE, Schedule.last(4), checkpointed=True, graph_bytes=0, name="RMD-checkpointed"),
        RMDFirstOrder(RULE, Schedule.last(2)),
        IFTNeumann(RULE, 1, 1e-3, 3),
    ]


def small() -> tuple[BilevelProblem, Tensor]:
    return vit_problem(2, SMALL, attention="plain")


def quick_and_full(quick: set[str]) -> list[ParameterSet]:
    return [
        pytest.param(m, id=m.name, marks=() if m.name in quick else pytest.mark.full)
        for m in methods()
    ]


@pytest.mark.parametrize("method", quick_and_full({"HPO-SGLD", "RMD"}))
def test_shapes_alone_give_the_same_counts_as_numbers(method: Estimator) -> None:
    # In a process of its own: autograd asks for shapes by operations on the meta device, which count, and
    # which ones it takes depends on whether a check has told it shapes before (`told_shapes`).
    code = f"from tests.cost.test_run_cost import compare; compare({method.name!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def compare(name: str) -> None:
    """Compare the counts of an estimator on numbers with those on shapes."""
    (method,) = (one for one in methods() if one.name == name)
    problem, lam = small()
    real = measure(lambda: method.estimate(problem, lam))
    with shapes_only():
        problem, lam = small()
        fake = measure(lambda: method.estimate(problem, lam))
    assert fake == real


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_a_first_run_costs_what_a_later_one_does(method: Estimator) -> None:
    case = build("softmax_digits")
    first, second = (measure(lambda: method.estimate(case.problem, case.lam)) for _ in range(2))
    assert first == second


@pytest.mark.full
def test_conjugate_gradients_without_numbers_run_to_their_last_iteration() -> None:
    method = IFTConjugateGradient(RULE, 1, 5)
    with shapes_only():
        problem, lam = small()
        fake = measure(lambda: method.estimate(problem, lam))
    assert fake.evaluations.hessian_products == 5


@pytest.mark.parametrize("T", [1, 5])
def test_bytes_are_those_that_torch_tracks(T: int) -> None:
    n, p = 30, 20
    matrix, start = torch.ones(n, p, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    problem = BilevelProblem(
        inner=lambda lam, theta, _: ((matrix @ lam).exp() * theta.square()).sum(),
        outer=lambda _, theta, __: theta.sin().sum(),
        initial=FixedInitial(start),
    )
    lam = torch.full((p,), 0.1, dtype=torch.float64)
    method = RMD(RULE, Schedule.last(T))
    method.estimate(problem, lam)  # torch's tracker counts what is done once, too

    def run() -> None:
        # The tracker counts what it meets, made inside or not: let it meet all of it at once.
        for tensor in (matrix, start, lam):
            tensor.view_as(tensor)
        method.estimate(problem, lam)

    with LiveBytes() as ours:
        run()
    with MemTracker() as theirs:
        run()
    (device,) = theirs.get_tracker_snapshot("peak").values()
    constant = 8  # the kept seed of a recorded gradient
    assert device["Total"] - ours.peak == (n * p + n + p) * 8 + constant


def test_the_network_is_vit_b_16() -> None:
    with torch.device("meta"):
        module = VisionTransformer(Size())
    assert sum(parameter.numel() for parameter in module.parameters()) == PARAMETERS
    assert module(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)


def test_fused_and_written_out_attention_agree() -> None:
    fused, plain = (vit_problem(2, SMALL, attention)[0] for attention in ("fused", "plain"))
    _, lam = small()
    theta = fused.initial(lam)
    one, other = (problem.outer(lam, theta, None) for problem in (fused, plain))
    torch.testing.assert_close(one, other)


def costs_of_hpo_sgld(steps: int) -> tuple[Cost, Cost, Cost, int]:
    """A run, one inner and one outer gradient, on ViT-B/16 with batch 8; and the bytes of a vector."""
    with shapes_only():
        problem, lam = vit_problem(8)
        theta = problem.initial(lam)
        method = HPOSGLD(RULE, Schedule(steps // 2, steps - steps // 2))
        return (
            measure(lambda: method.estimate(problem, lam)),
            measure(lambda: inner_gradient(problem.inner, lam, theta, None)),
            measure(lambda: outer_theta_gradient(problem.outer, lam, theta, None)),
            lam.numel() * lam.element_size(),
        )


@pytest.mark.full  # the page on costs shows the same in the quick suite
def test_a_step_of_hpo_sgld_at_scale_costs_its_two_gradients() -> None:
    run, inner, outer, vector = costs_of_hpo_sgld(1)
    assert vector == 4 * PARAMETERS
    assert run.flops <= 1.10 * (inner.flops + outer.flops)
    assert run.peak_bytes <= outer.peak_bytes + 6 * vector


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_thousand_steps_at_scale_hold_no_more_than_ten() -> None:
    few, inner, outer, vector = costs_of_hpo_sgld(10)
    many, *_ = costs_of_hpo_sgld(1000)
    assert many.peak_bytes == few.peak_bytes <= outer.peak_bytes + 6 * vector
    assert many.flops == 100 * few.flops <= 1.10 * 1000 * (inner.flops + outer.flops)


@pytest.mark.full
def test_the_thousand_steps_follow_from_three_counts() -> None:
    counts = [costs_of_hpo_sgld(steps)[0] for steps in (10, 20, 30)]
    assert counts[0].peak_bytes == counts[1].peak_bytes == counts[2].peak_bytes
    assert counts[2].flops - counts[1].flops == counts[1].flops - counts[0].flops


def test_a_dense_solve_needs_numbers_only_for_its_outcome() -> None:
    case = build("quadratic")
    cost = measure(lambda: IFTDense(RULE, 3).estimate(case.problem, case.lam))
    assert cost.flops > 0
    assert cost.uncountable == ()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU to compare with")
def test_bytes_are_those_that_a_gpu_allocates() -> None:
    size = Size(image=64, patch=8, layers=2, width=192, heads=3, hidden=768, classes=10)
    problem, lam = vit_problem(16, size, device="cuda")
    method = HPOSGLD(RULE, Schedule(1, 2))
    method.estimate(problem, lam)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    cost = measure(lambda: method.estimate(problem, lam))
    allocated = torch.cuda.max_memory_allocated() - before
    assert cost.peak_bytes == pytest.approx(allocated, rel=0.05)
