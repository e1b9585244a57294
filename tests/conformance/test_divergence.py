"""Runs that diverge, for every estimand and every way to give a run: refused by name, after one forward run.

No warning of NumPy's reaches the caller: the test settings make every warning an error. About 2 s.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from refblo import Rule, Schedule, rules
from refblo.conformance import Verdict, hypergradient_report
from refblo.conformance.truth.program import Frozen, Losses, build
from refblo.errors import ArgumentError, OracleError, RefbloError

DRAW = torch.Generator().manual_seed(8)
X = torch.randn(20, 3, dtype=torch.float64, generator=DRAW)
Y = torch.randn(20, dtype=torch.float64, generator=DRAW)
LAM = torch.linspace(-3, 0, 3).double()
THETA = 0.1 * torch.randn(3, dtype=torch.float64, generator=DRAW)


def inner(lam: Tensor, theta: Tensor) -> Tensor:
    data, target = X.to(theta.dtype), Y.to(theta.dtype)
    return (data @ theta - target).square().mean() + lam.exp() @ theta.square()


def outer(_: Tensor, theta: Tensor) -> Tensor:
    return (X.to(theta.dtype) @ theta - Y.to(theta.dtype)).cos().mean() + theta.square().sum()


def logistic(lam: Tensor, theta: Tensor) -> Tensor:
    return torch.nn.functional.softplus(-X @ theta).mean() + lam.exp() @ theta.square()


def long_step(_: Tensor, theta: Tensor, __: int) -> Tensor:
    return theta - 5 * (X.T @ (X @ theta - Y))


WAYS: dict[str, dict[str, Any]] = {
    "step_size": {"step_size": 5.0},
    "rule": {"rule": rules.SGD(lr=5.0, momentum=0.5)},
    "step": {"step": long_step},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("estimand", ["unrolled", "pathwise", "implicit"])
def test_it_is_refused_before_anything_else(estimand: str, way: str) -> None:
    def unasked(lam: Tensor) -> Tensor:
        raise AssertionError("called")

    trained = None if way == "step" else inner
    grows = r"\|theta\| grows from 0.* by step \d+ of 1000"
    message = rf"{way} must keep the inner run bounded.*{grows}.*lower"
    with pytest.raises(OracleError, match=message):
        hypergradient_report(
            trained, outer, LAM, THETA, unasked, estimand=estimand, steps=1000, **WAYS[way]
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_in_a_smaller_dtype(dtype: torch.dtype) -> None:
    with pytest.raises(OracleError, match=r"the inner run bounded.*\|theta\| grows"):
        hypergradient_report(
            inner, outer, LAM.to(dtype), THETA.to(dtype), LAM.to(dtype), steps=60, step_size=5.0
        )


@pytest.mark.parametrize("step_size", [0.5, 5.0])
def test_a_logistic_loss_on_the_way_to_its_minimiser(step_size: float) -> None:
    """Neither a root nor a norm is at fault, which is what derivatives that are not finite are taken for."""
    lam = torch.tensor([-24.0, -10.0, 4.0]).double()
    with pytest.raises(OracleError, match=r"\|theta\| grows from .*lower step_size"):
        hypergradient_report(
            logistic, outer, lam, THETA, lam, estimand="implicit", steps=3000, step_size=step_size
        )


def test_a_loss_that_is_too_large_where_the_run_ends() -> None:
    def exponential(_: Tensor, theta: Tensor) -> Tensor:
        return (300 + theta.sum()).exp()

    with pytest.raises(OracleError, match=r"outer must be at most 1e\+100, got"):
        hypergradient_report(inner, exponential, LAM, THETA, LAM, steps=2, step_size=0.1)


def test_a_run_that_grows_and_can_be_judged() -> None:
    """The growth is a finding: the hypergradient exists, and may be right."""

    def zero(lam: Tensor) -> Tensor:
        return torch.zeros_like(lam)

    report = hypergradient_report(
        inner, outer, LAM, THETA, zero, steps=15, step_size=5.0, diagnosis_seconds=0
    )
    assert report.verdict is Verdict.WRONG
    assert any("the inner run diverges: |theta| grows" in text for text in report.findings)


@pytest.mark.parametrize("steps", [5, 70, 250])
def test_as_one_function(steps: int) -> None:
    def train(lam: Tensor) -> float:
        theta = THETA.clone().requires_grad_()
        for _ in range(steps):
            (slope,) = torch.autograd.grad(inner(lam, theta), theta)
            theta = (theta - 5.0 * slope).detach().requires_grad_()
        return float(outer(lam, theta).detach())

    if steps == 5:
        report = hypergradient_report(
            objective=train, lam=LAM, hypergradient=LAM, diagnosis_seconds=0
        )
        assert report.verdict is Verdict.WRONG
        return
    with pytest.raises(RefbloError, match=r"objective must .* step size") as raised:
        hypergradient_report(objective=train, lam=LAM, hypergradient=LAM)
    assert isinstance(raised.value, ArgumentError if steps == 250 else OracleError)


@pytest.mark.parametrize("batched", [False, True])
def test_a_run_that_has_stopped_moving_is_not_computed_to_its_end(batched: bool) -> None:
    calls = 0

    def inner(lam: Tensor, theta: Tensor, _: object) -> Tensor:
        nonlocal calls
        calls += 1
        return (theta - lam).square().sum() + lam.exp() @ theta.square()

    lam, steps = torch.tensor([-1.0, 0.3], dtype=torch.float64), 1000
    frozen = Frozen(inner_batches=[None] * steps if batched else None)
    losses = Losses(inner, lambda *_: lam.sum(), torch.zeros_like, Rule(0.1), frozen)
    states = build(losses, lam, Schedule.last(steps)).states(lam)
    theta, wanted = torch.zeros_like(lam), [torch.zeros_like(lam)]
    for _ in range(steps):
        theta = theta - 0.1 * (2 * (theta - lam) + 2 * lam.exp() * theta)
        wanted.append(theta)
    assert len(states) == steps + 1
    torch.testing.assert_close(torch.stack(states), torch.stack(wanted), rtol=1e-14, atol=1e-15)
    assert calls == steps if batched else calls < steps / 4
