"""How often a hypergradient is called, and that a call which takes too long for the diagnosis is not made.

Share of the quick suite: below 2 s of processor time.
"""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo import hypergradient_report
from refblo.conformance import Verdict
from refblo.conformance.diagnosis.asked import Asked
from refblo.conformance.diagnosis.budget import OutOfTime, time_limit

Array = np.ndarray
RIGHT_CALLS = 3
MOST_CALLS = 9
"""Of a wrong hypergradient that no mistake explains: three times as many as of a right one."""

DIRECTION = torch.tensor([0.3, -0.2, 0.5]).double()


def inner(lam: Tensor, theta: Tensor) -> Tensor:
    return (theta - lam.cumsum(0)).square().sum() / 2 + lam.exp() @ theta.square() / 9


def outer(_: Tensor, theta: Tensor) -> Tensor:
    return theta.sin().sum()


def right(lam: Tensor) -> Tensor:
    lam = lam.clone().requires_grad_()
    theta = torch.zeros(3).double().requires_grad_()
    for _ in range(3):
        (gradient,) = torch.autograd.grad(inner(lam, theta), theta, create_graph=True)
        theta = theta - 0.2 * gradient
    return torch.autograd.grad(outer(lam, theta), lam)[0]


def off_by(size: float) -> Callable[[Tensor], Tensor]:
    """An error that no mistake explains."""
    return lambda lam: right(lam) + size * DIRECTION * lam.sin()


@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-3, 0.3, 30.0])
def test_an_error_without_a_name_costs_few_calls(size: float) -> None:
    calls = 0

    def mine(lam: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return off_by(size)(lam)

    lam, theta0 = torch.tensor([0.4, 0.7, -0.9]).double(), torch.zeros(3).double()
    report = hypergradient_report(inner, outer, lam, theta0, mine, steps=3, step_size=0.2)
    assert report.right == (size == 0)
    assert report.diagnosis is None or report.diagnosis.name is None
    assert calls == RIGHT_CALLS if report.right else RIGHT_CALLS < calls <= MOST_CALLS


def test_no_call_is_made_that_would_not_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call takes 10 s of a clock that only the calls move, and the diagnosis may take 15 s."""
    now, calls = 0.0, 0

    def slow(lam: Tensor) -> Tensor:
        nonlocal now, calls
        now, calls = now + 10, calls + 1
        return off_by(0.3)(lam)

    monkeypatch.setattr(time, "monotonic", lambda: now)
    lam, theta0 = torch.tensor([0.4, 0.7, -0.9]).double(), torch.zeros(3).double()
    report = hypergradient_report(
        inner, outer, lam, theta0, slow, steps=3, step_size=0.2, diagnosis_seconds=15
    )
    assert report.verdict is Verdict.WRONG
    assert calls == RIGHT_CALLS + 1
    assert report.diagnosis is not None
    assert report.diagnosis.cut_off == ("float32 inside",)


def test_what_was_answered_is_not_asked_again() -> None:
    calls = list[Array]()

    def call(lam: Array) -> Array:
        calls.append(lam)
        return 2 * lam + len(calls)

    one, other = np.array([1.0, 0.0]), np.array([3.0, 4.0])
    asked = Asked(call, ((one, np.array([7.0, 7.0])), (one, np.array([8.0, 8.0]))))
    assert [answer[0] for answer in asked.repeated(one, 3)] == [7, 8, 3]
    assert asked.at(-one * -1)[0] == 7
    assert asked.at(np.array([1.0, -0.0]))[0] == 7
    np.testing.assert_array_equal(asked.at(other), asked.at(other))
    assert len(calls) == 2


def test_a_call_that_takes_longer_than_is_left_is_not_begun() -> None:
    def never(_: Array) -> Array:
        raise AssertionError("it was called")

    with time_limit(5), pytest.raises(OutOfTime):
        Asked(never, seconds=6).at(np.zeros(2))
