"""Slips in the arguments of a call, each told beside the verdict. 8 s of processor time."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from refblo.conformance import Verdict, hypergradient_report
from refblo.conformance.report import Report
from refblo.errors import LossError

Loss = Callable[[Any, Any], Tensor]


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


X, Y = _normal(9, 3), _normal(9, 1, seed=1)
NET = nn.Linear(3, 1).double()
WEIGHTS = {name: _normal(*part.shape, seed=2) for name, part in NET.named_parameters()}
LAM = torch.tensor(-1.0).double()
VECTOR = torch.ones(3).double()


def _of_theta(lam: Tensor, theta: Any) -> Tensor:
    fit: Tensor = (functional_call(NET, theta, (X,)) - Y).square().mean()
    penalised: Tensor = fit + lam.exp() * theta["weight"].square().sum()
    return penalised


def _of_the_module(lam: Tensor, theta: Any) -> Tensor:
    value: Tensor = (NET(X) - Y).square().mean() + lam.exp()
    return value


def _tied(lam: Tensor, theta: Any) -> Tensor:
    distance: Tensor = (theta["a"] * lam.exp() - 1).square().sum() + theta["b"].cos().sum()
    return distance


def _report(inner: Loss, outer: Loss, lam: Tensor, theta0: Any, answer: float) -> Report:
    return hypergradient_report(
        inner,
        outer,
        lam,
        theta0,
        lambda at: torch.full_like(at, answer),
        steps=3,
        step_size=0.1,
        diagnosis_seconds=0,
    )


@pytest.mark.parametrize(
    ("arguments", "finding"),
    [
        ((_of_theta, _of_the_module, LAM, WEIGHTS), "outer does not depend on theta"),
        ((_of_the_module, _of_theta, LAM, WEIGHTS), "inner does not depend on theta"),
        (
            (_tied, _tied, LAM, {"a": VECTOR, "b": VECTOR}),
            "theta0['a'] and theta0['b'] are the same tensor",
        ),
        (
            (lambda _, t: t.square().sum(), lambda _, t: t.cos().sum(), VECTOR, VECTOR),
            "theta0=lambda lam: lam",
        ),
    ],
    ids=["outer", "inner", "tied", "start"],
)
def test_a_slip_is_told(arguments: tuple[Loss, Loss, Tensor, Any], finding: str) -> None:
    report = _report(*arguments, answer=1.5)
    assert report.verdict is Verdict.WRONG
    assert any(finding in told for told in report.findings), report.describe()


def test_a_direct_term_that_is_right_for_want_of_theta_is_told() -> None:
    report = hypergradient_report(
        _of_theta, _of_the_module, LAM, WEIGHTS, lambda lam: lam.exp(), steps=3, step_size=0.1
    )
    assert report.verdict is Verdict.RIGHT
    assert any("outer does not depend on theta" in told for told in report.findings)


def test_data_made_in_inference_mode_are_told() -> None:
    with torch.inference_mode():
        data = X[:, 0].clone()
    with pytest.raises(LossError, match=r"data outside torch.inference_mode"):
        _report(lambda _, t: (data[:3] * t).square().sum(), _tied, VECTOR, VECTOR, answer=1.5)


def test_a_zero_that_a_slip_has_made_right_is_told() -> None:
    report = _report(lambda _, t: NET(X).sum(), lambda _, t: NET(X).sum(), LAM, WEIGHTS, answer=0.0)
    assert report.verdict is Verdict.RIGHT
    told = " ".join(report.findings)
    assert "inner does not depend on theta" in told
    assert "outer does not depend on theta" in told


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_the_verdict_is_the_same_where_gradients_are_off(
    context: Callable[[], AbstractContextManager[None]],
) -> None:
    def mine(lam: Tensor) -> Tensor:
        with torch.enable_grad():
            lam = lam.clone().requires_grad_()
            theta = {name: part.clone().requires_grad_() for name, part in WEIGHTS.items()}
            for _ in range(3):
                slopes = torch.autograd.grad(
                    _of_theta(lam, theta), list(theta.values()), create_graph=True
                )
                pairs = zip(theta.items(), slopes, strict=True)
                theta = {name: part - 0.1 * slope for (name, part), slope in pairs}
            return torch.autograd.grad(_of_theta(lam, theta), lam)[0]

    with context():
        for factor, verdict in ((1.0, Verdict.RIGHT), (0.0, Verdict.WRONG)):
            report = hypergradient_report(
                _of_theta,
                _of_theta,
                LAM,
                WEIGHTS,
                lambda lam, c=factor: c * mine(lam),
                steps=3,
                step_size=0.1,
                diagnosis_seconds=0,
            )
            assert report.verdict is verdict
            assert report.findings == ()
