"""Both numbers of one method, and how far apart they are."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

Vector = Float64[np.ndarray, " k"]

DIGITS = 16
"""As many as float64 has: what is shown where the two are equal."""


@final
@dataclass(frozen=True, eq=False)
class Agreement:
    """Both numbers of one method.

    Attributes:
        method: its name.
        library: whose implementation is beside this package's.
        case: of the catalogue.
        what: was compared.
        theirs: shape (p,).
        ours: shape (p,).
        allowed: the rounding of as many steps on this problem.
    """

    method: str
    library: str
    case: str
    what: str
    theirs: Vector
    ours: Vector
    allowed: float

    @property
    def distance(self) -> float:
        """‖theirs − ours‖."""
        return float(np.linalg.norm(self.theirs - self.ours))

    @property
    def holds(self) -> bool:
        """Whether rounding explains the distance."""
        return self.distance <= self.allowed

    @property
    def digits(self) -> float:
        """In how many the two agree."""
        if self.distance == 0:
            return DIGITS
        return min(-math.log10(self.distance / float(np.linalg.norm(self.ours))), DIGITS)

    @property
    def cells(self) -> tuple[str, ...]:
        """A line of the table; the first entry of each vector is shown."""
        return (
            *(self.method, self.library, f"`{self.case}`", self.what),
            *(f"{self.theirs[0]:.15g}", f"{self.ours[0]:.15g}"),
            *(f"{self.distance:.1e}", f"{self.allowed:.1e}", f"{self.digits:.1f}"),
        )
