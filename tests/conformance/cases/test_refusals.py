"""What a check refuses to judge: a loss cut off from autograd, a batch not given, a run that diverges.

Share of the quick suite: about 2 s of processor time.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor

from refblo import hypergradient_report
from refblo.conformance.report import Verdict
from refblo.errors import ArgumentError, OracleError

GENERATOR = torch.Generator().manual_seed(8)
X, Y, U, V = (
    torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)
    for shape in ((20, 3), (20,), (20, 3), (20,))
)
LAM, THETA = torch.linspace(-2, 0, 3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
RUN: dict[str, Any] = {"steps": 3, "step_size": 0.1, "diagnosis_seconds": 0}


def fit(theta: Tensor, rows: Any = slice(None)) -> Tensor:
    return (X[rows] @ theta - Y[rows]).square().mean()


def outer(_: Tensor, theta: Tensor) -> Tensor:
    return (U @ theta - V).square().mean()


@pytest.mark.parametrize("cut", [torch.no_grad, torch.inference_mode])
def test_a_zero_truth_of_a_loss_that_is_cut_off_is_no_verdict(
    cut: Callable[[], AbstractContextManager[None]],
) -> None:
    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        with cut():
            penalty = (lam.exp() * theta.square()).sum()
        return fit(theta) + penalty.clone()

    for answer in (torch.zeros(3, dtype=torch.float64), LAM):
        with pytest.raises(OracleError, match=r"inner must be .* torch\.no_grad"):
            hypergradient_report(inner, outer, LAM, THETA, answer, **RUN)


def test_a_loss_that_does_not_couple_lam_and_theta_has_a_verdict() -> None:
    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        with torch.no_grad():
            constant = lam.exp().sum()
        return fit(theta) + constant

    report = hypergradient_report(inner, outer, LAM, THETA, torch.zeros_like(LAM), **RUN)
    assert report.verdict is Verdict.RIGHT


def test_a_batch_that_is_used_and_was_not_given_is_asked_for() -> None:
    def inner(lam: Tensor, theta: Tensor, rows: Tensor) -> Tensor:
        return fit(theta, rows) + (lam.exp() * theta.square()).sum()

    with pytest.raises(ArgumentError, match="inner_batches must be given, as inner takes a batch"):
        hypergradient_report(inner, outer, LAM, THETA, LAM, **RUN)
    rows = [torch.arange(5)]
    with pytest.raises(ArgumentError, match=r"inner_batches=batches \* 3"):
        hypergradient_report(inner, outer, LAM, THETA, LAM, inner_batches=rows, **RUN)


def test_a_batch_that_is_not_used_need_not_be_given() -> None:
    def inner(lam: Tensor, theta: Tensor, _: object) -> Tensor:
        return fit(theta) + (lam.exp() * theta.square()).sum()

    assert hypergradient_report(inner, outer, LAM, THETA, LAM, **RUN).verdict is Verdict.WRONG


@pytest.mark.parametrize("estimand", ["unrolled", "implicit"])
@pytest.mark.parametrize("steps", [80, 3000])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_run_that_diverges_is_told_at_once(estimand: str, steps: int) -> None:
    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        return fit(theta) + (lam.exp() * theta.square()).sum()

    run = {**RUN, "steps": steps, "step_size": 5.0, "estimand": estimand}
    with pytest.raises(OracleError, match=r"the inner run must stay finite, .* it diverges; lower"):
        hypergradient_report(inner, outer, LAM, THETA, LAM, **run)
