"""Losses with hidden state or randomness, and several checks at once. About 3 s."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from refblo.conformance import Verdict, hypergradient_report
from refblo.errors import LossError, OracleError

T, GAMMA = 3, 0.05
DRAW = torch.Generator().manual_seed(7)
X = torch.randn(8, 4, dtype=torch.float64, generator=DRAW)
Y = torch.randn(8, dtype=torch.float64, generator=DRAW)
LAM = torch.full((4,), -1.0, dtype=torch.float64)
MASKS = [(torch.rand(8, 4, generator=DRAW) < 0.5).double() * 2 for _ in range(T)]


def masked(lam: Tensor, theta: Tensor, mask: Tensor) -> Tensor:
    return ((X * mask) @ theta - Y).square().mean() + lam.exp() @ theta.square()


def outer(_: Tensor, theta: Tensor) -> Tensor:
    return (X.flip(0) @ theta - Y).square().mean()


def through(lam: Tensor, masks: list[Tensor]) -> Tensor:
    at, theta = lam.clone().requires_grad_(), torch.zeros(4).double().requires_grad_()
    for mask in masks:
        (slope,) = torch.autograd.grad(masked(at, theta, mask), theta, create_graph=True)
        theta = theta - GAMMA * slope
    return torch.autograd.grad(outer(at, theta), at)[0]


def dropout(lam: Tensor, theta: Tensor) -> Tensor:
    mask = (torch.rand(8, 4) < 0.5).double() * 2
    return masked(lam, theta, mask)


def noisy(lam: Tensor, theta: Tensor) -> Tensor:
    return outer(lam, theta) * (1 + 1e-3 * torch.randn(()).double())


def still(lam: Tensor, theta: Tensor) -> Tensor:
    return masked(lam, theta, MASKS[0])


@pytest.mark.parametrize(
    ("train", "validate", "name"), [(dropout, outer, "inner"), (still, noisy, "outer")]
)
def test_fresh_draws_in_a_loss_are_named(
    train: Callable[..., Tensor], validate: Callable[..., Tensor], name: str
) -> None:
    """θ⁰ = 0, where the value of the inner loss does not show its masks."""
    message = f"{name} .*must return the same value .*hidden randomness.*{name}_batches"
    with pytest.raises(OracleError, match=message):
        hypergradient_report(
            train,
            validate,
            LAM,
            torch.zeros(4).double(),
            torch.zeros_like,
            steps=T,
            step_size=GAMMA,
        )


def test_fresh_draws_in_a_step_are_named() -> None:
    def step(_: Tensor, theta: Tensor, __: int) -> Tensor:
        return theta + torch.randn(4).double()

    with pytest.raises(OracleError, match="step must return the same value"):
        hypergradient_report(
            None, outer, LAM, torch.zeros(4).double(), torch.zeros_like, steps=T, step=step
        )


@pytest.mark.parametrize(
    ("masks", "verdict"), [(MASKS, Verdict.RIGHT), (MASKS[::-1], Verdict.WRONG)]
)
def test_frozen_masks_are_batches(masks: list[Tensor], verdict: Verdict) -> None:
    report = hypergradient_report(
        masked,
        outer,
        LAM,
        torch.zeros(4).double(),
        lambda lam: through(lam, masks),
        steps=T,
        step_size=GAMMA,
        inner_batches=MASKS,
    )
    assert report.verdict is verdict
    if report.diagnosis is not None:
        assert report.diagnosis.name == "minibatch not shared"


@pytest.mark.parametrize("training", [True, False])
def test_batch_normalisation_has_a_verdict(training: bool) -> None:
    """The output in training mode does not depend on the running statistics that it writes."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 1)).double()
    net.train(training)
    theta0 = {name: value.detach().clone() for name, value in net.named_parameters()}

    def train(lam: Tensor, theta: dict[str, Tensor]) -> Tensor:
        decay = sum((value.square().sum() for value in theta.values()), torch.zeros(()).double())
        misfit: Tensor = functional_call(net, theta, (X,)).squeeze(1) - Y
        return misfit.square().mean() + lam.exp().sum() * decay

    def validate(_: Tensor, theta: dict[str, Tensor]) -> Tensor:
        misfit: Tensor = functional_call(net, theta, (X.flip(0) + 0.1,)).squeeze(1) - Y
        return misfit.square().mean()

    def mine(lam: Tensor) -> Tensor:
        at = lam.clone().requires_grad_()
        theta = {name: value.clone().requires_grad_() for name, value in theta0.items()}
        slopes = torch.autograd.grad(train(at, theta), list(theta.values()), create_graph=True)
        moved = {n: v - GAMMA * s for (n, v), s in zip(theta.items(), slopes, strict=True)}
        return torch.autograd.grad(validate(at, moved), at)[0]

    lam = torch.tensor([-2.0]).double()
    value = mine(lam)
    options: dict[str, Any] = {"step_size": GAMMA, "diagnosis_seconds": 0.0}
    assert hypergradient_report(train, validate, lam, theta0, value, **options).right
    assert not hypergradient_report(train, validate, lam, theta0, 1.1 * value, **options).right


def test_a_loss_that_is_not_finite_at_the_start_is_named() -> None:
    def logarithm(lam: Tensor, theta: Tensor) -> Tensor:
        return (theta.log() * lam).sum()

    with pytest.raises(LossError, match=r"^inner .*must be finite at the given lam and theta0"):
        hypergradient_report(
            logarithm, outer, LAM, torch.zeros(4).double(), torch.zeros_like, step_size=GAMMA
        )


def test_checks_in_several_threads_have_their_verdicts() -> None:
    def check(_: int) -> Any:
        return hypergradient_report(
            still,
            outer,
            LAM,
            torch.zeros(4).double(),
            lambda lam: through(lam, MASKS[:1] * T),
            steps=T,
            step_size=GAMMA,
        ).verdict

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(check, range(8))) == {Verdict.RIGHT}
