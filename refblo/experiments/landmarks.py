"""The points of Synth-1D that the tables are read against, the exact ones certified by ball arithmetic.

θ*(λ) = √(1 − λ²), and the reduced loss is F(λ) = (λ − θ*)² + (θ* − ½)².
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from flint import acb, arb, ctx, fmpz_poly

DIGITS = 15
"""Digits to which the certified points are printed."""
PRECISION = 256
"""Bits of the ball arithmetic."""
PRINTED_GRID = 1000
"""Points of the line search that gives the printed "true" optimum."""


@final
@dataclass(frozen=True)
class Landmark:
    """A pair (λ, θ)."""

    lam: float
    theta: float


@final
@dataclass(frozen=True)
class Certified:
    """A point every printed digit of which is proved.

    Attributes:
        point: rounded to floats.
        lam_text: λ as a decimal.
        theta_text: θ as a decimal.
    """

    point: Landmark
    lam_text: str
    theta_text: str


def optimum() -> Certified:
    """The minimiser of F on [0, 1].

    Stationarity times θ reads 4λ² + λ − 2 = 2λθ, so λ is a root of the square of this equation,
    20λ⁴ + 8λ³ − 19λ² − 4λ + 4 = 0. Its roots are isolated; those in [0, 1] and the two ends are compared
    by balls that do not overlap.

    Raises:
        ArithmeticError: if the balls overlap, so that nothing is certified.
    """
    with ctx.workprec(PRECISION):
        polynomial = fmpz_poly([4, -4, -19, 8, 20])
        roots: list[tuple[acb, int]] = polynomial.complex_roots()  # type: ignore[assignment]  # the stub forgets the multiplicities
        inside = [root.real for root, _ in roots if root.imag == 0 and 0 <= root.real <= 1]
        candidates = [arb(0), *inside, arb(1)]
        losses = [_loss(lam) for lam in candidates]
        best = min(range(len(losses)), key=lambda index: float(losses[index]))
        if not all(losses[best] < loss for index, loss in enumerate(losses) if index != best):
            raise ArithmeticError("the candidates' losses overlap; raise PRECISION")
        return _certified(candidates[best])


def drift_limit() -> Certified:
    """Where HPO-SGLD's fixed point goes as the number of inner steps grows.

    Its indirect term grows with the number of steps and its direct one does not, so the fixed point
    tends to the root of ∂_θ f = 4θ − 2λ − 1 = 0 on θ = √(1 − λ²): λ = (2√19 − 1)/10, θ = (√19 + 2)/10.
    """
    with ctx.workprec(PRECISION):
        return _certified((2 * arb(19).sqrt() - 1) / 10)


def first_order_limit() -> Certified:
    """RMD-FO's fixed point: ∂_λ f = 2(λ − θ) = 0 on θ = √(1 − λ²), so λ = θ = 1/√2."""
    with ctx.workprec(PRECISION):
        return _certified(1 / arb(2).sqrt())


def grid_optimum(points: int = PRINTED_GRID) -> Landmark:
    """The best of `points` equally spaced λ in [0, 1]."""
    lam = np.linspace(0, 1, points)
    theta = np.sqrt(1 - lam**2)
    best = int(np.argmin((lam - theta) ** 2 + (theta - 0.5) ** 2))
    return Landmark(float(lam[best]), float(theta[best]))


def _loss(lam: arb) -> arb:
    theta = (1 - lam * lam).sqrt()
    return (lam - theta) ** 2 + (theta - arb("0.5")) ** 2


def _certified(lam: arb) -> Certified:
    theta = (1 - lam * lam).sqrt()
    # Without the radius, flint prints a digit only where the ball proves it (to one unit in the last).
    lam_text, theta_text = (str(ball.str(DIGITS, radius=False)) for ball in (lam, theta))
    return Certified(Landmark(float(lam), float(theta)), lam_text, theta_text)
