"""A gross error in one small entry of λ is seen, or the report says that it would not be. About 5 s."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo import hypergradient_report, rules
from refblo.conformance.entries import Entries
from refblo.conformance.margins import judge
from refblo.conformance.report import Report, Verdict
from refblo.conformance.truth.ladder import Rung
from refblo.conformance.truth.reference import Reference

Array = np.ndarray
ULP = 2.0**-52


def reference(truth: Array, rounding: float) -> Reference:
    """A truth of all coordinates, whose every entry rounding changes by so much."""
    none, noise = np.zeros(truth.size), np.full(truth.size, rounding)
    eye = np.eye(truth.size)
    return Reference(eye, True, none, truth, noise, none, 0.0, Rung.BATCHED, noise)


WRONG: dict[str, Callable[[float], float]] = {
    "sign": lambda entry: -entry,
    "zero": lambda entry: 0.0,
    "five times": lambda entry: 5 * entry,
    "double": lambda entry: 2 * entry,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_gross_error_in_any_entry_is_accused_or_said_to_be_unseen(name: str) -> None:
    draw = np.random.default_rng(0)
    seen = 0
    for _ in range(100):
        p = int(draw.integers(2, 33))
        truth = draw.normal(size=p) * 10.0 ** -draw.uniform(0, 17, size=p)
        known = reference(truth, float(np.linalg.norm(truth)) * 10.0 ** -draw.uniform(12, 16))
        entry = int(draw.integers(p))
        observed = truth.copy()
        observed[entry] = WRONG[name](truth[entry])
        found = judge(observed, known, 1e-9, 0.0, {}, ULP)
        assert found.entries is not None
        assert not found.right or entry in found.entries.unseen
        if found.wrong_entry is not None:
            assert found.wrong_entry == entry
            assert f"entry {entry} of lam is wrong" in found.where_wrong
        seen += not found.right
    assert seen > 50


def test_an_answer_that_is_off_by_rounding_is_not_accused() -> None:
    """Rounding of every entry by up to what is allowed for the whole, in 300 vectors."""
    draw = np.random.default_rng(1)
    for _ in range(300):
        p = int(draw.integers(2, 33))
        truth = draw.normal(size=p) * 10.0 ** -draw.uniform(0, 20, size=p)
        truth[draw.random(p) < 0.1] = 0.0
        known = reference(truth, 1e-14 * float(np.linalg.norm(truth)) / math.sqrt(p))
        noise = draw.normal(size=p)
        observed = truth + 1e-14 * np.linalg.norm(truth) * noise / np.linalg.norm(noise)
        assert judge(observed, known, 1e-9, 0.0, {}, ULP).right


def test_a_solver_that_has_converged_is_not_accused() -> None:
    truth = np.array([1.0, 1e-3, 1e-8])
    observed = truth + np.array([1e-10, -1e-10, 1e-10])
    assert judge(observed, reference(truth, 1e-16), 1e-9, 0.0, {}, ULP).right


def test_a_declared_tolerance_may_sit_in_one_entry() -> None:
    truth = np.array([1.0, 1e-3])
    known = reference(truth, 1e-16)
    assert judge(np.array([1.0, -1e-3]), known, 1e-9, 1e-2, {}, ULP).right
    entries = judge(truth, known, 1e-9, 1e-2, {}, ULP).entries
    assert isinstance(entries, Entries)
    assert entries.unseen == [1]
    assert "entries [1] of lam were not seen" in entries.describe_unseen()


GENERATOR = torch.Generator().manual_seed(7)
X, Y, U, V = (
    torch.randn(*shape, generator=GENERATOR) for shape in ((30, 6), (30,), (30, 6), (30,))
)
STEPS = 10


def rate_and_decay(decay: float, factor: float, dtype: torch.dtype) -> Report:
    """λ = [log learning rate, log weight decay] of a ridge regression, its second entry times a factor."""
    data, held, targets, held_targets = (part.to(dtype) for part in (X, U, Y, V))

    def inner(_: Tensor, theta: Tensor) -> Tensor:
        return (data @ theta - targets).square().mean()

    def outer(_: Tensor, theta: Tensor) -> Tensor:
        return (held @ theta - held_targets).square().mean()

    def answer(lam: Tensor) -> Tensor:
        at = lam.clone().requires_grad_()
        theta = torch.zeros(6, dtype=dtype, requires_grad=True)
        for _ in range(STEPS):
            (slope,) = torch.autograd.grad(inner(at, theta), theta, create_graph=True)
            theta = theta - at[0].exp() * (slope + at[1].exp() * theta)
        (gradient,) = torch.autograd.grad(outer(at, theta), at)
        return gradient * torch.tensor([1.0, factor], dtype=dtype)

    lam, theta0 = torch.tensor([-3.0, decay], dtype=dtype), torch.zeros(6, dtype=dtype)
    rule = rules.SGD(lr=lambda lam: lam[0].exp(), weight_decay=lambda lam: lam[1].exp())
    run: dict[str, Any] = {"steps": STEPS, "rule": rule, "diagnosis_seconds": 0}
    return hypergradient_report(inner, outer, lam, theta0, answer(lam), **run)


@pytest.mark.parametrize(
    ("decay", "dtype"), [(-9.2103, torch.float32), (-26.0, torch.float64)], ids=str
)
def test_a_wrong_sign_beside_a_larger_entry_is_wrong(decay: float, dtype: torch.dtype) -> None:
    assert rate_and_decay(decay, 1.0, dtype).verdict is Verdict.RIGHT
    report = rate_and_decay(decay, -1.0, dtype)
    assert report.verdict is Verdict.WRONG
    assert report.entry == 1
    assert "over entry 1 of lam" in report.describe()


def test_an_entry_that_cannot_be_seen_is_told() -> None:
    report = rate_and_decay(-42.0, -1.0, torch.float64)
    assert report.verdict is Verdict.RIGHT
    assert "entries [1] of lam were not seen" in report.describe().splitlines()[0]


def test_a_small_entry_of_a_black_box_is_seen() -> None:
    lam = np.linspace(-20, 2, 4)
    for factor, verdict in ((1.0, True), (0.5, False), (-1.0, False)):
        gradient = np.exp(lam) * np.array([factor, 1, 1, 1])
        report = hypergradient_report(
            objective=lambda at: float(np.exp(at).sum()), lam=lam, hypergradient=gradient
        )
        assert report.right is verdict
