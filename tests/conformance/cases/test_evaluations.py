"""What the diagnosis evaluates: how often, with which numbers, and what it does with what has no value.

The quick ones take about 5 s of processor time.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from refblo.conformance import Verdict, hypergradient_report
from refblo.conformance.diagnosis import Mistake


def _draw(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator).double()


def test_a_step_is_called_with_its_own_numbers_alone() -> None:
    """λ holds one learning rate for each step; a first-order implementation is named so."""
    normal, steps = _draw(0), 3
    x, y = normal(20, 3), normal(20)
    seen: list[int] = []

    def loss(theta: Tensor) -> Tensor:
        return (x @ theta - y).square().mean()

    def step(lam: Tensor, theta: Tensor, t: int) -> Tensor:
        seen.append(t)
        moved: Tensor = theta - lam[t] * torch.func.grad(loss)(theta)
        return moved

    def outer(_: Tensor, theta: Tensor) -> Tensor:
        return (x @ theta + y).square().mean()

    def mine(lam: Tensor) -> Tensor:
        lam, theta = lam.clone().requires_grad_(), torch.zeros(3).double().requires_grad_()
        for t in range(steps):
            theta = theta - lam[t] * torch.autograd.grad(loss(theta), theta)[0]
        return torch.autograd.grad(outer(lam, theta), lam)[0]

    lam = torch.full((steps,), 0.1).double()
    start = torch.zeros(3).double()
    report = hypergradient_report(None, outer, lam, start, mine, steps=steps, step=step)
    assert report.verdict is Verdict.WRONG
    assert report.diagnosis is not None
    assert report.diagnosis.name == Mistake.FIRST_ORDER.printed
    assert report.diagnosis.cut_off == ()
    assert set(seen) == {0, 1, 2}
    other = hypergradient_report(
        None, outer, lam, start, lambda at: mine(at).flip(0) + 1, steps=steps, step=step
    )
    assert other.diagnosis is not None
    assert other.diagnosis.failed == ()
    assert set(seen) == {0, 1, 2}


def test_a_deep_network_is_diagnosed_with_few_evaluations() -> None:
    """n = 960: the Hessian's rows alone would be 960 passes."""
    normal = _draw(3)
    x, y, weights = normal(16, 4), normal(16), 0.5 * normal(60, 4, 4)
    evaluations = 0

    def net(theta: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        h = x
        for w in theta:
            h = h + torch.tanh(h @ w)
        return h.sum(1)

    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        pull = theta.reshape(60, -1)[:8].square()
        return (net(theta) - y).square().mean() + (lam.exp() @ pull).sum()

    def outer(_: Tensor, theta: Tensor) -> Tensor:
        return (net(theta) + y).square().mean()

    def mine(lam: Tensor) -> Tensor:
        lam, theta = lam.clone().requires_grad_(), weights.clone().requires_grad_()
        (g,) = torch.autograd.grad(inner(lam, theta), theta, create_graph=True)
        return torch.autograd.grad(outer(lam, theta - 0.001 * g), lam)[0]

    lam = torch.full((8,), -3.0).double()
    counts = []
    for wrong in (False, True):
        evaluations = 0
        report = hypergradient_report(
            inner,
            outer,
            lam,
            weights,
            lambda at, wrong=wrong: mine(at) * 1.01 + 1e-3 if wrong else mine(at),
            steps=1,
            step_size=0.001,
        )
        assert report.right is not wrong
        counts.append(evaluations)
    assert counts[1] <= 5 * counts[0]


def test_families_that_cannot_be_evaluated_are_listed_and_cost_no_verdict() -> None:
    """An inner Hessian of zeros (dead units), and an outer loss that depends on nothing."""
    normal = _draw(0)
    x, y = normal(20, 3), normal(20)
    lam, theta0 = torch.full((3,), -1.0).double(), torch.full((3,), 0.1).double()

    def dead(at: Tensor, theta: Tensor) -> Tensor:
        return torch.relu(x[:2] @ theta - 5).square().sum() * at.exp().sum()

    def inner(at: Tensor, theta: Tensor) -> Tensor:
        return (x @ theta - y).square().mean() + at.exp() @ theta.square()

    def outer(at: Tensor, theta: Tensor) -> Tensor:
        return (x @ theta - 1).square().mean() + 0.01 * at.square().sum()

    answer = torch.tensor([1.0, -0.3, 0.7]).double()
    for trained, measured in (
        (dead, outer),
        (inner, lambda *_: torch.tensor(1.0).double()),
    ):
        report = hypergradient_report(
            trained, measured, lam, theta0, answer, steps=5, step_size=0.1
        )
        assert report.verdict is Verdict.WRONG
        assert report.diagnosis is not None
        assert report.diagnosis.name is None


class _WrongBackward(torch.autograd.Function):
    """exp t, whose reverse mode has a factor too much and whose forward mode is right."""

    generate_vmap_rule = True

    @staticmethod
    def forward(t: Tensor) -> Tensor:
        return t.exp()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> Tensor:
        slope: Tensor = 3 * ctx.saved_tensors[0] * weight
        return slope

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        slope: Tensor = ctx.saved_tensors[0] * tangent
        return slope


@pytest.mark.parametrize(
    "exponential",
    [lambda lam: lam.data.exp(), _WrongBackward.apply],
    ids=["data", "wrong backward"],
)
def test_no_mistake_is_named_where_autograd_itself_is_wrong(
    exponential: Callable[[Tensor], Tensor],
) -> None:
    normal = _draw(5)
    x, y, start, lam = normal(15, 3), normal(15), normal(3), 0.2 * normal(3)

    def inner(at: Tensor, theta: Tensor) -> Tensor:
        return (x @ theta - y).square().mean() + exponential(at) @ theta.square()

    def outer(_: Tensor, theta: Tensor) -> Tensor:
        return (torch.tanh(x @ theta) - y).square().mean()

    def by_autograd(at: Tensor) -> Tensor:
        at, theta = at.clone().requires_grad_(), start
        for _ in range(4):
            theta = theta.detach().requires_grad_() if theta is start else theta
            slope = torch.autograd.grad(inner(at, theta), theta, create_graph=True)[0]
            theta = theta - 0.1 * slope
        found = torch.autograd.grad(outer(at, theta), at, allow_unused=True, materialize_grads=True)
        return found[0]

    report = hypergradient_report(inner, outer, lam, start, by_autograd, steps=4, step_size=0.1)
    assert report.verdict is Verdict.WRONG
    assert report.diagnosis is not None
    assert report.diagnosis.names == ()
    assert report.diagnosis.cut_off == ()
    assert "which is the one that was given" in report.diagnosis.failed[0]
    assert "wrong backward" in report.describe()
