"""An estimate beside a truth."""

import math
from dataclasses import dataclass
from typing import final

import torch

from refblo.errors import ArgumentError
from refblo.types import ErrorKind, Lam, Truth


@final
@dataclass(frozen=True)
class Comparison:
    """How far a vector is from a truth, and how far it may be.

    Attributes:
        distance: ‖estimate − truth‖₂.
        bound: how large the distance may be: the truth's error plus the estimate's own rounding.
        truth_norm: ‖truth‖₂.
        cosine: of the angle between the two; NaN when either is zero.
        oracle: the truth's oracle.
        kind: whether the truth's error is certified or estimated.
    """

    distance: float
    bound: float
    truth_norm: float
    cosine: float
    oracle: str
    kind: ErrorKind

    @property
    def within(self) -> bool:
        """Whether the distance is within the bound."""
        return self.distance <= self.bound

    @property
    def relative(self) -> float:
        """Distance over the truth's norm; infinite when the truth is zero and the distance is not."""
        if self.truth_norm > 0:
            return self.distance / self.truth_norm
        return 0.0 if self.distance == 0 else math.inf

    @property
    def digits(self) -> float:
        """Correct decimal digits, −log10 of the relative distance; at most 16."""
        return 16.0 if self.relative < 1e-16 else -math.log10(self.relative)


def compare(estimate: Lam, truth: Truth, rounding: float) -> Comparison:
    """Compare a vector of shape (p,) with a truth.

    Args:
        estimate: the hypergradient to judge, shape (p,).
        truth: what it should be.
        rounding: bound on or estimate of the estimate's own rounding error, ≥ 0.

    Raises:
        ArgumentError: if the shapes differ.
    """
    if estimate.shape != truth.value.shape:
        raise ArgumentError(
            f"estimate must have the truth's shape {tuple(truth.value.shape)}, got {tuple(estimate.shape)}; "
            "a hypergradient has one entry for each hyperparameter"
        )
    left = estimate.detach().to(device="cpu", dtype=torch.float64)
    right = truth.value.detach().to(device="cpu", dtype=torch.float64)
    norms = float(left.norm()) * float(right.norm())
    return Comparison(
        distance=float((left - right).norm()),
        bound=truth.error + rounding,
        truth_norm=float(right.norm()),
        cosine=float(left @ right) / norms if norms > 0 else math.nan,
        oracle=truth.oracle,
        kind=truth.kind,
    )
