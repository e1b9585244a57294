"""hypergradcheck refuses arguments that do not fit, and says why no verdict is possible."""

from typing import Any

import pytest
import torch
from torch import Tensor

from refblo.conformance import (
    Rule,
    hypergradcheck,
)
from refblo.errors import ArgumentError, ArgumentTypeError, OracleError
from tests.conformance.coupled_problem import LAM, THETA, T, inner, outer, unrolled


class TestNoVerdict:
    def test_a_detached_loss(self) -> None:
        def detached(lam: Tensor, theta: Tensor) -> Tensor:
            return outer(lam, theta.detach())

        with pytest.raises(OracleError, match=r"no verdict is possible; look for \.detach"):
            hypergradcheck(inner, detached, LAM, THETA, LAM, steps=T, step_size=0.1)

    def test_a_random_loss(self) -> None:
        def random(lam: Tensor, theta: Tensor) -> Tensor:
            return outer(lam, theta) + 1e-3 * torch.rand(()).double() * theta.sum()

        with pytest.raises(OracleError, match="no verdict is possible"):
            hypergradcheck(inner, random, LAM, THETA, LAM, steps=T, step_size=0.1)

    def test_a_run_that_diverges(self) -> None:
        with pytest.raises(OracleError, match="lower step_size"):
            hypergradcheck(inner, outer, LAM, THETA, LAM, steps=40, step_size=50.0)

    def test_an_inner_problem_without_a_solution(self) -> None:
        def flat(lam: Tensor, theta: Tensor) -> Tensor:
            return (lam.sum() * theta).sum()

        with pytest.raises(OracleError, match=r"isolated solution|depends on theta"):
            hypergradcheck(
                flat, outer, LAM, THETA, LAM, steps=1, step_size=0.1, estimand="implicit"
            )


def test_the_gibbs_estimand_of_a_large_problem_cannot_be_decided() -> None:
    with pytest.raises(OracleError, match="at most two parameters"):
        hypergradcheck(inner, outer, LAM, THETA, unrolled, steps=T, step_size=0.1, estimand="gibbs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"step_size": -1.0}, "step_size must be positive"),
        ({"estimand": "exact"}, "estimand must be one of"),
        ({"burn_in": 2}, "pathwise mean"),
        ({"noise": torch.zeros(2, 2)}, r"noise must have shape \(steps, n\)"),
        ({"inner_batches": [torch.arange(2)]}, "inner_batches must have at least 8"),
        ({"directions": 0}, "directions must be at least 1"),
        ({"floor": -1.0}, "floor must be non-negative"),
        ({"rule": Rule(0.1)}, "beside rule"),
        ({"step": lambda lam, state, t: state}, "step must be given without"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    options: dict[str, Any] = {"steps": T, "step_size": 0.1} | change
    with pytest.raises(ArgumentError, match=message):
        hypergradcheck(inner, outer, LAM, THETA, unrolled, **options)


def test_results_that_are_no_hypergradient_are_refused() -> None:
    options: dict[str, Any] = {"steps": T, "step_size": 0.1}
    with pytest.raises(ArgumentError, match=r"must have the shape of lam, \(3,\), got \(2,\)"):
        hypergradcheck(inner, outer, LAM, THETA, lambda lam: lam[:2], **options)
    with pytest.raises(ArgumentError, match="no path from lam to the outer loss"):
        hypergradcheck(inner, outer, LAM, THETA, lambda lam: None, **options)
    with pytest.raises(ArgumentTypeError, match="floating-point"):
        hypergradcheck(inner, outer, torch.arange(3), THETA, unrolled, **options)
