"""What the implicit and the Gibbs estimand take from the rule and the batches; 3 s of processor time.

No test here is statistical.
"""

import pytest
import torch
from torch import Tensor

from refblo.conformance import Rule, Verdict, hypergradient_report
from refblo.errors import ArgumentError


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, Y, XV, YV = _normal(8, 3), _normal(8, seed=1), _normal(7, 3, seed=2), _normal(7, seed=3)
LAM, THETA = torch.tensor([-1.0, 0.2], dtype=torch.float64), _normal(3, seed=4)


def outer(lam: Tensor, theta: Tensor) -> Tensor:
    return (XV @ theta - YV).square().mean() + 0.1 * lam.square().sum()


def test_the_implicit_estimand_obeys_batches_and_decay() -> None:
    first, decay = torch.arange(4), 0.3

    def inner(lam: Tensor, theta: Tensor, rows: Tensor) -> Tensor:
        return (X[rows] @ theta - Y[rows]).square().mean() + (lam[0].exp() * theta.square()).sum()

    def answer(rows: Tensor) -> Tensor:
        def value(lam: Tensor) -> Tensor:
            factor = X[rows].T @ X[rows] / len(rows)
            hessian = factor + (lam[0].exp() + decay / 2) * torch.eye(3, dtype=torch.float64)
            return outer(lam, torch.linalg.solve(hessian, X[rows].T @ Y[rows] / len(rows)))

        result: Tensor = torch.func.grad(value)(LAM)
        return result

    def verdict(rows: Tensor) -> Verdict:
        return hypergradient_report(
            inner,
            outer,
            LAM,
            THETA,
            answer(rows),
            rule=Rule(0.1, weight_decay=decay),
            steps=200,
            inner_batches=[first] * 200,
            estimand="implicit",
            diagnosis_seconds=0,
        ).verdict

    assert verdict(first) is Verdict.RIGHT
    assert verdict(torch.arange(8)) is Verdict.WRONG


@pytest.mark.parametrize(
    ("rule", "right"),
    [
        pytest.param(Rule(0.1, temperature=0.5), (0.0, 0.5), marks=pytest.mark.full),
        (Rule(0.1, temperature=0.5, weight_decay=3.0), (3.0, 0.5)),
    ],
)
def test_the_gibbs_estimand_obeys_the_rule(rule: Rule, right: tuple[float, float]) -> None:
    # p ∝ exp(−(a/2 (θ − λ)² + w/2 θ²)/τ) has mean aλ/(a + w) and variance τ/(a + w); f = λθ².
    lam, a = torch.tensor([0.7], dtype=torch.float64), 2.0

    def value(decay: float, temperature: float) -> Tensor:
        return 3 * (a / (a + decay)) ** 2 * lam.square() + temperature / (a + decay)

    def verdict(answer: Tensor) -> Verdict:
        return hypergradient_report(
            lambda lam, theta: a / 2 * (theta - lam).square().sum(),
            lambda lam, theta: (lam * theta.square()).sum(),
            lam,
            torch.zeros(1, dtype=torch.float64),
            answer,
            rule=rule,
            estimand="gibbs",
            diagnosis_seconds=0,
        ).verdict

    assert verdict(value(*right)) is Verdict.RIGHT
    assert verdict(value(0.0, 1.0)) is Verdict.WRONG


def test_the_gibbs_estimand_refuses_momentum() -> None:
    with pytest.raises(ArgumentError, match="rule must be plain Langevin dynamics"):
        hypergradient_report(
            lambda lam, theta: (theta - lam).square().sum(),
            lambda lam, theta: (lam * theta.square()).sum(),
            torch.ones(1, dtype=torch.float64),
            torch.zeros(1, dtype=torch.float64),
            torch.ones(1, dtype=torch.float64),
            rule=Rule(0.1, momentum=0.9),
            estimand="gibbs",
        )
