"""The loss that reads a number a from somewhere."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Change = Callable[[float], object]
Place = Callable[[], tuple[Loss, Change]]

NUMBER = 1.0
STEADY = torch.tensor([1.0, 0.7, 1.3], dtype=torch.float64)


def value(a: Any, lam: Tensor, theta: Tensor) -> Tensor:
    """A loss that is smooth and strongly convex in θ for a near 1, and needs all derivatives."""
    terms = 0.5 * a * STEADY * (theta - lam).square() + 0.1 * a * a * lam * theta.cos()
    total: Tensor = terms.sum()
    return total


def reading(get: Callable[[], Any]) -> Loss:
    return lambda lam, theta, _: value(get(), lam, theta)


def scalar(number: float) -> Tensor:
    return torch.tensor(number, dtype=torch.float64)
