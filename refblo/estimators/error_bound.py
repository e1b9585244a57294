"""How far an implicit hypergradient can be off, from what was computed along with it.

With L_T μ-strongly convex in θ, g = ‖∂_θ L_T(θ)‖, an approximate solution q of H(θ) q = f_θ(θ) with
residual r = ‖H(θ) q − f_θ(θ)‖, and θ*, q* exact,

    ‖θ − θ*‖ ≤ δ = g/μ,
    ‖q − q*‖ ≤ (r + L_H δ ‖q‖ + L_s δ) / μ,
    ‖f_λ(θ) − q·C(θ) − truth‖ ≤ L_d δ + ‖q‖ L_C δ + ‖C(θ*)‖ ‖q − q*‖,

where L_H, L_s, L_C, L_d are Lipschitz constants in θ, on the ball of radius δ around θ, of H, f_θ, C and f_λ.
Everything but the constants is computed: an a posteriori bound in the sense of Ehrhardt and Roberts
(2023). It is certified as far as the constants are, and up to rounding.

Claims: field-a-posteriori, field-posteriori.
"""

import math
from dataclasses import dataclass, fields
from typing import final

from refblo.errors import require

__all__ = ["Constants"]
"""What `refblo.estimators` exports: a user states the constants, the bound itself is in the results."""


@final
@dataclass(frozen=True)
class Constants:
    """What must be known of a problem, at one λ, on the ball that the bound speaks of.

    Args:
        strong_convexity: μ > 0, a lower bound on the eigenvalues of H.
        coupling: an upper bound on ‖C(θ*)‖₂.
        hessian: L_H, the Lipschitz constant of H in θ.
        mixed: L_C, that of C.
        slope: L_s, that of f_θ.
        direct: L_d, that of f_λ.

    Raises:
        ArgumentError: if μ is not positive, or another is negative or not finite.
    """

    strong_convexity: float
    coupling: float
    hessian: float
    mixed: float
    slope: float
    direct: float

    def __post_init__(self) -> None:
        remedy = "give constants of a strongly convex inner problem"
        mu = self.strong_convexity
        require(mu > 0 and math.isfinite(mu), "strong_convexity", "be positive", mu, remedy)
        for each in fields(self):
            value = getattr(self, each.name)
            good = math.isfinite(value) and value >= 0
            require(good, each.name, "be finite and non-negative", value, remedy)


@final
@dataclass(frozen=True)
class BoundParts:
    """The two parts of the bound.

    Attributes:
        inner: what ‖∂_θ L_T‖ leaves.
        solve: what the residual of the linear system leaves.
    """

    inner: float
    solve: float

    @property
    def total(self) -> float:
        """Their sum, the bound."""
        return self.inner + self.solve


def error_bound(constants: Constants, gradient: float, residual: float, q: float) -> BoundParts:
    """The bound above.

    Args:
        constants: of the problem.
        gradient: ‖∂_θ L_T(θ)‖.
        residual: ‖H(θ) q − f_θ(θ)‖.
        q: ‖q‖.
    """
    mu, delta = constants.strong_convexity, gradient / constants.strong_convexity
    off_q = (constants.hessian * q + constants.slope) * delta / mu
    inner = (constants.direct + q * constants.mixed) * delta + constants.coupling * off_q
    return BoundParts(inner, constants.coupling * residual / mu)
