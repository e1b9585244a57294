"""Every mistake a caller can make gets an error that names it and says what to do about it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.errors import ArgumentError, ArgumentTypeError, LossError, MissingProductError
from refblo.estimators import HPOSGLD
from refblo.noise import Draws
from refblo.problem import BilevelProblem, Composed, FixedInitial, Separable, UniformBatches
from refblo.types import Batch
from refblo.validation import check_arguments
from tests.bad_input.__main__ import CASES, EVERY_METHOD

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def raised() -> dict[str, tuple[str, str]]:
    """Type and text of what each case raises where nothing but refblo checks arguments."""
    finished = subprocess.run(
        [sys.executable, "-m", "tests.bad_input"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name: (kind, text) for name, (kind, text) in json.loads(finished.stdout).items()}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_named_with_what_must_be_what_is_and_what_to_do(
    name: str, raised: dict[str, tuple[str, str]]
) -> None:
    case, (kind, text) = CASES[name], raised[name]
    assert kind == case.error.__name__, text
    statement, _, remedy = text.rpartition("; ")
    assert statement.startswith(case.argument + " "), text
    assert case.must in statement, text
    assert "must" in statement, text
    assert case.got in statement, text
    assert case.remedy in remedy, text


@pytest.mark.parametrize("method", EVERY_METHOD, ids=lambda method: method.name)
def test_every_method_checks_its_arguments(
    method: object, raised: dict[str, tuple[str, str]]
) -> None:
    kind, text = raised[getattr(method, "name", "")]
    assert kind == "ArgumentTypeError"
    assert text.startswith("lam must have a floating-point dtype, got torch.int64; ")


def test_the_package_errors_are_the_built_in_ones_too() -> None:
    assert issubclass(ArgumentError, ValueError)
    assert issubclass(ArgumentTypeError, TypeError)
    assert issubclass(LossError, ValueError)
    assert issubclass(MissingProductError, RuntimeError)


def test_the_losses_are_looked_at_once_for_each_signature() -> None:
    calls = 0

    def inner(lam: Tensor, theta: Tensor, _: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        return lam.sum() * theta.square().sum()

    problem = BilevelProblem(
        inner, lambda _lam, theta, _: theta.sum(), FixedInitial(torch.ones(3, dtype=torch.float64))
    )
    method = HPOSGLD(Langevin(0.1), Schedule.last(2))
    calls_of_a_run = []
    for _ in range(3):
        before = calls
        method.estimate(problem, torch.ones(2, dtype=torch.float64))
        calls_of_a_run.append(calls - before)
    first, *later = calls_of_a_run
    assert later == [2, 2]  # one for each step
    assert first > 2
    before = calls
    warm = problem.starting_at(torch.full((3,), 2.0, dtype=torch.float64))
    method.estimate(warm, torch.ones(2, dtype=torch.float64))
    assert calls - before == 2


def test_an_unhappy_problem_is_looked_at_again() -> None:
    problem = BilevelProblem(
        lambda lam, theta, _: lam.sum() * theta.square().sum(),
        lambda _lam, theta, _: (-theta).log().sum(),
        FixedInitial(torch.ones(3, dtype=torch.float64)),
    )
    method = HPOSGLD(Langevin(0.1), Schedule.last(2))
    for _ in range(2):
        with pytest.raises(LossError, match="outer must be finite"):
            method.estimate(problem, torch.ones(2, dtype=torch.float64))


def test_randomness_that_comes_through_batches_is_no_mistake() -> None:
    def inner(lam: Tensor, theta: Tensor, batch: Batch) -> Tensor:
        assert batch is not None
        return lam.sum() * (theta.square() * batch).sum()

    problem = BilevelProblem(
        inner,
        lambda _lam, theta, _: theta.cos().sum(),
        FixedInitial(torch.ones(3, dtype=torch.float64)),
        inner_batches=UniformBatches(3, 0.5, 1.5),
    )
    method = HPOSGLD(Langevin(0.1, noise_scale=0.1), Schedule.last(4))
    assert torch.isfinite(method.estimate(problem, torch.ones(2, dtype=torch.float64)).value).all()


class Watched(torch.autograd.Function):
    """½ Σ x², which notes whether its backward pass makes a graph of its own."""

    recorded: ClassVar[list[bool]] = []

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return 0.5 * x.square().sum()

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> Tensor:
        Watched.recorded.append(torch.is_grad_enabled())
        pulled: Tensor = weights[0] * ctx.saved_tensors[0]
        return pulled


def watched(x: Tensor) -> Tensor:
    value: Tensor = Watched.apply(x)  # type: ignore[no-untyped-call]  # torch's own
    return value


STRUCTURES: dict[str, Separable | Composed] = {
    "separable": Separable(lambda theta, _: watched(theta), torch.dot),
    "composed": Composed(
        lambda theta, _: torch.stack([watched(theta), theta.sum()]),
        lambda lam, outputs, _: lam.sum() * outputs.square().sum(),
    ),
}


@pytest.mark.parametrize("inner", STRUCTURES.values(), ids=STRUCTURES)
def test_no_graph_of_a_networks_gradient_is_made_where_a_structure_is_declared(
    inner: Separable | Composed,
) -> None:
    Watched.recorded.clear()
    lam = torch.tensor([0.5, 0.7], dtype=torch.float64)
    problem = BilevelProblem(inner, lambda _, theta, __: theta.sum(), FixedInitial(2 * lam))
    check_arguments(problem, lam, Draws(0))
    assert Watched.recorded
    assert not any(Watched.recorded)
