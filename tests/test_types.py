"""Results: a value can be relied on, or there is none."""

import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from refblo.cost import Evaluations
from refblo.errors import DivergenceError, LossError, RefbloError
from refblo.types import DIVERGED, Ending, Estimand, Hypergradient, Status

VALUE = torch.tensor([1.0, 2.0], dtype=torch.float64)
THETA = torch.zeros(3, dtype=torch.float64)


def result(status: Status, estimate: torch.Tensor | None = VALUE) -> Hypergradient:
    return Hypergradient(estimate, Estimand.UNROLLED, THETA, status, 7)


@pytest.mark.parametrize("status", [status for status in Status if status not in DIVERGED])
def test_a_result_that_ended_has_a_value(status: Status) -> None:
    assert result(status).value is VALUE


@pytest.mark.parametrize("status", DIVERGED)
@pytest.mark.parametrize("estimate", [None, VALUE])
def test_a_diverged_result_has_none_even_where_numbers_are_left(
    status: Status, estimate: torch.Tensor | None
) -> None:
    with pytest.raises(DivergenceError, match="diverged at step 7") as raised:
        _ = result(status, estimate).value
    assert raised.value.step == 7
    assert status.value in str(raised.value)
    assert isinstance(raised.value, ArithmeticError)
    assert isinstance(raised.value, RefbloError)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.COMPLETED])
def test_the_text_of_a_status_names_the_remedy(status: Status) -> None:
    situation, _, remedy = status.value.partition(": ")
    assert situation
    assert remedy


class Look:
    """Counts how often it is asked how a computation ended."""

    def __init__(self, status: Status = Status.COMPLETED) -> None:
        self.calls, self.grad = 0, False
        self.ending = Ending(VALUE, status, 7, 0.5)

    def __call__(self) -> Ending:
        self.calls, self.grad = self.calls + 1, torch.is_grad_enabled()
        return self.ending


def later(look: Look) -> Hypergradient:
    return Hypergradient.later(Estimand.UNROLLED, THETA, Evaluations(), look)


def test_a_late_result_is_looked_at_once_and_when_it_is_read() -> None:
    look = Look()
    result = later(look)
    renamed = result.of(Estimand.PATHWISE)
    assert (result.theta is THETA, result.estimand, look.calls) == (True, Estimand.UNROLLED, 0)
    assert renamed.estimand is Estimand.PATHWISE
    assert look.calls == 0
    assert renamed.value is result.value is VALUE
    assert (result.status, result.diverged_at, result.error) == (Status.COMPLETED, 7, 0.5)
    assert look.calls == 1


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_late_result_may_take_derivatives_wherever_it_is_read(
    mode: Callable[[], AbstractContextManager[object]],
) -> None:
    look = Look()
    result = later(look)
    with mode():
        assert result.value is VALUE
    assert look.grad


@pytest.mark.parametrize("status", DIVERGED)
def test_a_late_divergence_raises_where_the_value_is_read(status: Status) -> None:
    with pytest.raises(DivergenceError, match="diverged at step 7"):
        _ = later(Look(status)).value


def test_a_late_result_can_be_copied_replaced_and_pickled() -> None:
    for copy in (
        deepcopy(later(Look())),
        replace(later(Look()), estimand=Estimand.PATHWISE),
        pickle.loads(pickle.dumps(later(Look()))),
    ):
        assert torch.equal(copy.value, VALUE)
        assert (copy.diverged_at, copy.error) == (7, 0.5)


def test_a_look_that_fails_fails_again() -> None:
    def fails() -> Ending:
        raise LossError("the loss is gone")

    result = Hypergradient.later(Estimand.UNROLLED, THETA, Evaluations(), fails)
    for _ in range(2):
        with pytest.raises(LossError, match="the loss is gone"):
            _ = result.value


def test_what_no_result_has_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'gradient'"):
        _ = later(Look()).gradient  # type: ignore[attr-defined]  # that is the point


def test_a_result_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="cannot assign"):
        result(Status.COMPLETED).status = Status.NOT_CONVERGED  # type: ignore[misc]  # it is frozen: that is the point
