"""Tensors that have a shape and a dtype but no numbers: how a cost is counted without allocating.

Inside torch's FakeTensorMode every kernel runs on shapes alone, so that a network of any size is counted
in seconds. What looks at a number cannot go on there; `decide` says which way it is to be taken instead.
Such a look is a host synchronisation whichever way it is answered, and is counted as one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from refblo.cost.traffic import PRETEND, synchronised


@contextmanager
def shapes_only() -> Iterator[None]:
    """Tensors made inside the block have no numbers and take no memory."""
    with FakeTensorMode():
        yield


def is_fake(tensor: Tensor) -> bool:
    """Whether a tensor has no numbers.

    A program that takes another branch without numbers hides what the branch with numbers does. So a call
    with a tensor of the pretend device (`refblo.cost.pretend_device`) counts as a host synchronisation,
    unless it decides on something that is done once for a problem (`refblo.cost.uncounted`).
    """
    if not isinstance(tensor, FakeTensor):
        return False
    if tensor.device.type == PRETEND:
        synchronised("is_fake")
    return True


def decide(condition: Tensor, without_numbers: bool) -> bool:
    """A one-element condition as a truth value: a host synchronisation.

    Args:
        condition: a tensor of one element.
        without_numbers: the answer where the tensor has none: the branch whose cost is to be counted.
    """
    if isinstance(condition, FakeTensor):
        synchronised("decide")
        return without_numbers
    return bool(condition)


def numbers(values: Tensor, without_numbers: list[float]) -> list[float]:
    """The entries of a vector, or the given ones where it has none: one host synchronisation for all."""
    if isinstance(values, FakeTensor):
        synchronised("numbers")
        return without_numbers
    entries: list[float] = values.tolist()
    return entries


def number(value: Tensor, without_numbers: float = float("nan")) -> float:
    """A one-element tensor as a number, or the given one where it has none: a host synchronisation."""
    if isinstance(value, FakeTensor):
        synchronised("number")
        return without_numbers
    return float(torch.as_tensor(value))
