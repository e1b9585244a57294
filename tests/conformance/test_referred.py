"""Which tensors and modules a caller's function can reach: below 1 s of processor time."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from refblo.conformance.truth import referred
from refblo.conformance.truth.referred import held

TENSOR = torch.ones(2)
MODULE = nn.Linear(2, 2)


class Holder:
    """Holds a tensor, and reads it in a method."""

    def __init__(self) -> None:
        self.kept = TENSOR

    def value(self) -> Tensor:
        return self.kept


def of(value: Any) -> Callable[[], Any]:
    return lambda: value


def reads_a_global() -> Tensor:
    return TENSOR


def with_a_default(value: Tensor = TENSOR) -> Tensor:
    return value


def reached(function: Callable[..., Any]) -> list[object]:
    return [thing for _, thing in held(function)]


@pytest.mark.parametrize(
    "function",
    [
        of(TENSOR),
        of([TENSOR]),
        of((1, [TENSOR])),
        of({"a": {"b": TENSOR}}),
        of(Holder()),
        of(of(TENSOR)),
        functools.partial(of, TENSOR),
        functools.partial(of, value=TENSOR),
        Holder().value,
        reads_a_global,
        with_a_default,
    ],
)
def test_a_tensor_is_found_wherever_it_is_kept(function: Callable[..., Any]) -> None:
    assert any(thing is TENSOR for thing in reached(function))


def test_a_module_is_found_and_not_walked_into() -> None:
    assert reached(of([MODULE])) == [MODULE]


@pytest.mark.parametrize("make", [list, tuple, lambda some: dict(enumerate(some))])
def test_long_containers_are_left_alone(make: Callable[[list[object]], object]) -> None:
    few = [*range(referred._ENTRIES - 1), TENSOR]
    assert any(thing is TENSOR for thing in reached(of(make(few))))
    assert reached(of(make([*few, 0]))) == []
