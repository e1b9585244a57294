"""Gradient descent with a noisy field: instances of the convergence theorems, each with all its constants.

The field is h̄(x) = (a + bJ)·(x - x̃) in the plane, J a quarter turn, or on the line where b = 0. Then the
mean square distance to the root is known exactly, whatever the noise's law: a step multiplies it by
(1 - ηa)² + η²b² and adds η²·Var h.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import final

from proofs_check.claim import Assumption

MONOTONE = Assumption("monotone", "the mean field h̄ is μ-strongly monotone")
LIPSCHITZ = Assumption("lipschitz-field", "the mean field h̄ is ℓ-Lipschitz")
STEP = Assumption("small-step", "the step η is below the stated limit")
FIXED = Assumption(
    "fixed-samples",
    "each outer step begins its inner chain anew, with B and M fixed, and V = V(B, M) bounds E‖h - h̄‖² at "
    "every λ",
)
COCOERCIVE = Assumption(
    "cocoercive",
    "the mean field h̄ has a root x̃, and ⟨h̄(x), x - x̃⟩ ≥ ‖h̄(x)‖²/L (the gradient of a convex F with a "
    "minimiser, if it is L-Lipschitz)",
)


@final
@dataclass(frozen=True)
class DescentInstance:
    """A field, its noise, a step, and the constants that a theorem is given for them.

    Attributes:
        name: what it is.
        along: a, the field's slope along the way from its root.
        across: b, its slope across that way.
        noise: Var h.
        rate: η.
        mu: μ, the stated constant of strong monotonicity.
        ell: ℓ or L, the stated Lipschitz constant, or that of cocoercivity.
        variance: V, the stated bound of the variance.
        start: D, the square of the first distance.
    """

    name: str
    along: Fraction
    rate: Fraction
    mu: Fraction
    ell: Fraction
    across: Fraction = Fraction(0)
    noise: Fraction = Fraction(0)
    variance: Fraction = Fraction(0)
    start: Fraction = Fraction(1, 100)

    def holds(self, condition: Assumption) -> bool:
        """Whether a condition holds, for the stated constants.

        For `STEP` the limit is the larger one of 2μ/ℓ² and, where μ is left out, 2/L.
        """
        square = self.along**2 + self.across**2
        answers = {
            MONOTONE: self.along >= self.mu > 0,
            LIPSCHITZ: square <= self.ell**2,
            STEP: 0 < self.rate < (2 * self.mu / self.ell**2 if self.mu else 2 / self.ell),
            FIXED: self.noise <= self.variance,
            COCOERCIVE: self.along * self.ell >= square,
        }
        return answers[condition]

    def factor(self) -> Fraction:
        """What one step multiplies the mean square distance by."""
        return (1 - self.rate * self.along) ** 2 + (self.rate * self.across) ** 2

    def squares(self, steps: int) -> list[Fraction]:
        """E‖d_k‖² for k = 0, …, steps, exactly."""
        found = [self.start]
        for _ in range(steps):
            found.append(self.factor() * found[-1] + self.rate**2 * self.noise)
        return found

    def products(self, steps: int) -> Fraction:
        """The mean over the first iterates of E⟨h̄(x_k), d_k⟩, exactly."""
        return self.along * sum(self.squares(steps - 1), Fraction(0)) / steps
