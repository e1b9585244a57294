"""Results: a value can be relied on, or there is none."""

import pytest
import torch

from refblo.errors import DivergenceError, RefbloError
from refblo.types import DIVERGED, Estimand, Hypergradient, Status

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


def test_a_result_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="cannot assign"):
        result(Status.COMPLETED).status = Status.NOT_CONVERGED  # type: ignore[misc]  # it is frozen: that is the point
