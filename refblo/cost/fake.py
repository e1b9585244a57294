"""Tensors that have a shape and a dtype but no numbers: how a cost is counted without allocating.

Inside torch's FakeTensorMode every kernel runs on shapes alone, so that a network of any size is counted
in seconds. What looks at a number cannot go on there; `decide` says which way it is to be taken instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode


@contextmanager
def shapes_only() -> Iterator[None]:
    """Tensors made inside the block have no numbers and take no memory."""
    with FakeTensorMode():
        yield


def is_fake(tensor: Tensor) -> bool:
    """Whether a tensor has no numbers."""
    return isinstance(tensor, FakeTensor)


def decide(condition: Tensor, without_numbers: bool) -> bool:
    """A one-element condition as a truth value.

    Args:
        condition: a tensor of one element.
        without_numbers: the answer where the tensor has none: the branch whose cost is to be counted.
    """
    return without_numbers if is_fake(condition) else bool(condition)


def number(value: Tensor, without_numbers: float = float("nan")) -> float:
    """A one-element tensor as a number, or the given one where it has none."""
    return without_numbers if is_fake(value) else float(torch.as_tensor(value))
