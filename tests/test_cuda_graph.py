"""A kernel as a CUDA graph: on a GPU the plain run's bits; without one what is said, and the way around it.

About 2 s. What surrounds torch's capture is tried on the CPU, with a capture that runs its function again.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.estimators import RMD, Compiled, IFTConjugateGradient, IFTNeumann
from refblo.estimators.compiled import Method, PlainWayWarning
from refblo.kernel import NotRecordableError
from refblo.kernel.cuda_graph import GraphKernel
from refblo.noise import Draws
from refblo.problem import BilevelProblem, FixedInitial

RULE = Langevin(0.05, temperature=0.5, noise_scale=0.3)
METHODS: dict[str, Method] = {
    "RMD": RMD(RULE, Schedule(4, 3)),
    "IFT-CG": IFTConjugateGradient(RULE, 7, 3),
    "IFT-Neumann": IFTNeumann(RULE, 7, 0.1, 6),
}


def problem_on(device: str) -> tuple[BilevelProblem, Tensor]:
    """A strongly convex problem with p = n = 5, and λ."""
    weights = torch.linspace(0.5, 1.5, 5, dtype=torch.float64, device=device)
    problem = BilevelProblem(
        lambda lam, theta, _: (weights * (theta - lam).square()).sum() + theta.cos().sum() / 10,
        lambda _, theta, __: theta.exp().sum(),
        FixedInitial(torch.zeros_like(weights)),
    )
    return problem, weights.sin()


def again(
    run: Callable[[], tuple[Tensor, ...]], _: torch.device
) -> tuple[Callable[[], Any], tuple[Tensor, ...]]:
    """A capture that runs the function at each replay, into the outputs of the first run."""
    outputs = run()

    def replay() -> None:
        for output, value in zip(outputs, run(), strict=True):
            output.copy_(value)

    return replay, outputs


def test_arguments_are_copied_in_and_outputs_out_and_data_is_read_where_it_is() -> None:
    data = torch.tensor([1.0, 2.0])

    def run(held: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return held * x + y, x - y

    kernel = GraphKernel(run, (data,), (torch.zeros(2), torch.zeros(2)), again)
    x, y = torch.tensor([3.0, 4.0]), torch.tensor([5.0, 6.0])
    first = kernel(x, y)
    data.mul_(10)
    second = kernel(y, x)
    assert [each.tolist() for each in first] == [[8.0, 14.0], [-2.0, -2.0]]
    assert [each.tolist() for each in second] == [[53.0, 124.0], [2.0, 2.0]]
    assert (x.tolist(), y.tolist()) == ([3.0, 4.0], [5.0, 6.0])


def test_what_cannot_be_captured_is_told() -> None:
    def refusing(_: Any, __: torch.device) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    with pytest.raises(NotRecordableError, match=r"cannot hold \(RuntimeError: operation not perm"):
        GraphKernel(lambda x: (x,), (), (torch.zeros(2),), refusing)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_on_a_cpu_the_estimator_runs_as_it_is_and_says_why(method: Method) -> None:
    problem, lam = problem_on("cpu")
    with pytest.warns(PlainWayWarning, match="tensors on cpu, and a CUDA graph needs one CUDA"):
        found = Compiled(method, backend="cuda-graph").estimate(problem, lam, Draws(1))
    assert torch.equal(found.value, method.estimate(problem, lam, Draws(1)).value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_on_a_gpu_a_cuda_graph_gives_the_bits_of_the_plain_run(method: Method) -> None:
    problem, lam = problem_on("cuda")
    graphs = Compiled(method, backend="cuda-graph")
    for at in (lam, 2 * lam):
        found = graphs.estimate(problem, at, Draws(1))
        assert torch.equal(found.value, method.estimate(problem, at, Draws(1)).value)
    assert not graphs.is_refused(problem)
