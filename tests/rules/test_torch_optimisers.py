"""The optimisers of a run step as torch's own do. About 1 s."""

from typing import Any

import pytest
import torch
from torch import Tensor

from refblo.errors import ArgumentError
from refblo.rules import Rule

GAMMA, DECAY = 0.01, 0.3
STEPS = 6


def loss(theta: Tensor) -> Tensor:
    target = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
    return (theta - target).pow(4).sum() / 4 + theta.prod()


def by_rule(rule: Rule) -> Tensor:
    theta = torch.tensor([1.0, 0.5, -0.7], dtype=torch.float64)
    state = rule.state(theta)
    for step in range(STEPS):
        gradient = torch.func.grad(loss)(state[:3])
        state = rule.advance(state, gradient, step, None)
    return state[:3]


def by_torch(optimiser: type[torch.optim.Optimizer], **options: Any) -> Tensor:
    theta = torch.tensor([1.0, 0.5, -0.7], dtype=torch.float64, requires_grad=True)
    made = optimiser([theta], **options, lr=GAMMA)  # type: ignore[call-arg]  # each has one
    for _ in range(STEPS):
        made.zero_grad()
        loss(theta).backward()  # type: ignore[no-untyped-call]  # torch's own
        made.step()
    return theta.detach()


@pytest.mark.parametrize(
    ("rule", "optimiser", "options"),
    [
        (Rule(GAMMA), torch.optim.SGD, {}),
        (Rule(GAMMA, weight_decay=DECAY), torch.optim.SGD, {"weight_decay": DECAY}),
        (
            Rule(GAMMA, momentum=0.9, weight_decay=DECAY),
            torch.optim.SGD,
            {"momentum": 0.9, "weight_decay": DECAY},
        ),
        (
            Rule(GAMMA, momentum=0.9, nesterov=True),
            torch.optim.SGD,
            {"momentum": 0.9, "nesterov": True},
        ),
        (
            Rule(GAMMA, momentum=0.9, weight_decay=DECAY, nesterov=True),
            torch.optim.SGD,
            {"momentum": 0.9, "weight_decay": DECAY, "nesterov": True},
        ),
        (Rule(GAMMA, betas=(0.9, 0.99)), torch.optim.Adam, {"betas": (0.9, 0.99)}),
        (
            Rule(GAMMA, betas=(0.9, 0.99), weight_decay=DECAY),
            torch.optim.Adam,
            {"betas": (0.9, 0.99), "weight_decay": DECAY},
        ),
        (
            Rule(GAMMA, betas=(0.9, 0.99), weight_decay=DECAY, decoupled_decay=True),
            torch.optim.AdamW,
            {"betas": (0.9, 0.99), "weight_decay": DECAY},
        ),
    ],
)
def test_a_rule_is_the_optimiser_of_torch(
    rule: Rule, optimiser: type[torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    torch.testing.assert_close(by_rule(rule), by_torch(optimiser, **options), rtol=1e-13, atol=0)


def test_decoupled_decay_of_gradient_descent_is_the_same_as_coupled_decay() -> None:
    coupled = by_rule(Rule(GAMMA, weight_decay=DECAY))
    decoupled = by_rule(Rule(GAMMA, weight_decay=DECAY, decoupled_decay=True))
    torch.testing.assert_close(coupled, decoupled, rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": (0.9, 0.99), "nesterov": True}, "nesterov must be used with a momentum"),
        ({"momentum": 1.0}, r"lie in \[0, 1\)"),
        ({"momentum": float("nan")}, "momentum must be non-negative and finite"),
    ],
)
def test_a_rule_that_is_none_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Rule(GAMMA, **options)
