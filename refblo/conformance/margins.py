"""How far a hypergradient is from the truth, and how far it may be."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.conformance.truth.reference import Reference

Array = np.ndarray


@final
@dataclass(frozen=True)
class Margin:
    """How far a hypergradient is from the truth and how far it may be, along the directions taken.

    Attributes:
        distance: the norm of the difference.
        noise: what the oracles' error and rounding in the caller's dtype explain.
        allowed: what is not accused: the largest of the noise, floor · scale, and noise + tolerance · scale.
        scale: the norm of the truth (see `Reference.scale`).
    """

    distance: float
    noise: float
    allowed: float
    scale: float

    @property
    def relative(self) -> float:
        """Distance over scale."""
        return ratio(self.distance, self.scale)

    @property
    def floor(self) -> float:
        """The smallest relative error that would be accused."""
        return ratio(self.allowed, self.scale)

    @property
    def right(self) -> bool:
        """Whether the distance is allowed; a distance that is no number is not."""
        return self.distance <= self.allowed


def ratio(part: float, whole: float) -> float:
    """The quotient, with 0 / 0 = 0 and x / 0 = inf."""
    if whole > 0:
        return part / whole
    return 0.0 if part == 0 else math.inf


def margin(
    observed: Float64[Array, " p"], reference: Reference, floor: float, tolerance: float
) -> Margin:
    """Compare a hypergradient with its reference.

    Args:
        observed: the hypergradient, shape (p,).
        reference: the truth.
        floor: the relative error below which nothing is accused.
        tolerance: the relative error that the method itself declares.
    """
    distance = float(np.linalg.norm(reference.of(observed) - reference.value))
    noise = float(np.linalg.norm(reference.rounding + reference.error))
    scale = reference.scale
    allowed = max(noise + tolerance * scale, floor * scale)
    return Margin(distance, noise, allowed, scale)
