"""hypergradcheck: right code passes with its figures, wrong code is named, and floors are kept."""

from typing import Any

import pytest
import torch
from torch import Tensor

import refblo
from refblo.conformance import (
    HypergradientMismatch,
    Verdict,
    hypergradcheck,
    hypergradient_is_right,
    hypergradient_report,
)
from refblo.errors import OracleError
from tests.conformance.coupled_problem import LAM, THETA, P, T, inner, outer, unrolled


def test_a_right_hypergradient_passes_with_figures() -> None:
    report = hypergradcheck(inner, outer, LAM, THETA, unrolled, steps=T, step_size=0.1)
    assert report.verdict is Verdict.RIGHT
    assert report.relative_error < 1e-14
    assert report.floor <= 1e-9
    assert report.exhaustive
    assert report.miss_rate == 0
    assert "right" in report.describe()


def test_a_wrong_one_raises_with_error_bound_direction_and_diagnosis() -> None:
    def negative(lam: Tensor) -> Tensor:
        direct = lam
        return direct - (unrolled(lam) - direct)

    with pytest.raises(HypergradientMismatch, match="wrong sign of the indirect term") as caught:
        hypergradcheck(inner, outer, LAM, THETA, negative, steps=T, step_size=0.1)
    found = caught.value
    assert isinstance(found, AssertionError)
    assert found.error > found.bound
    assert found.diagnosis is not None
    assert found.diagnosis.name == "wrong sign of the indirect term"
    assert found.direction.shape == (P,)
    assert found.report.observed_slope - found.report.true_slope == pytest.approx(found.error)


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6, 3e-9])
def test_errors_above_the_floor_are_seen(size: float) -> None:
    def off(lam: Tensor) -> Tensor:
        right = unrolled(lam)
        direction = torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64)
        moved: Tensor = right + size * right.norm() * direction
        return moved

    options: dict[str, Any] = {"steps": T, "step_size": 0.1}
    assert not hypergradient_is_right(inner, outer, LAM, THETA, off, **options)


def test_a_finer_floor_can_be_asked_for() -> None:
    report = hypergradcheck(inner, outer, LAM, THETA, unrolled, steps=T, step_size=0.1, floor=1e-12)
    assert report.floor == pytest.approx(1e-12)


def test_a_floor_below_rounding_leaves_it_undecided() -> None:
    report = hypergradient_report(
        inner, outer, LAM, THETA, unrolled, steps=T, step_size=0.1, floor=1e-18
    )
    assert report.verdict is Verdict.UNDECIDED
    assert "rounding alone" in report.describe()
    with pytest.raises(OracleError, match="rounding alone"):
        hypergradcheck(inner, outer, LAM, THETA, unrolled, steps=T, step_size=0.1, floor=1e-18)


def test_single_precision_is_judged_by_what_it_can_do() -> None:
    report = hypergradcheck(
        lambda lam, theta: inner(lam.double(), theta.double()).to(lam.dtype),
        outer,
        LAM.float(),
        THETA.float(),
        lambda lam: unrolled(lam.double()).float(),
        steps=T,
        step_size=0.1,
    )
    assert report.right
    assert report.floor == pytest.approx(1e-4)


def test_a_hypergradient_computed_before_may_be_given() -> None:
    assert hypergradient_is_right(inner, outer, LAM, THETA, unrolled(LAM), steps=T, step_size=0.1)
    assert not hypergradient_is_right(inner, outer, LAM, THETA, LAM, steps=T, step_size=0.1)


def test_it_is_exported() -> None:
    assert refblo.hypergradcheck is hypergradcheck
