"""Single precision inside: the error is rounding noise, far above that of double precision.

Rounding noise tells itself apart from every other mistake by being rough: between values of λ a few
10⁻⁷ apart every smooth function is a straight line, so that the higher differences of what is returned
are noise alone (Moré and Wild 2011). Noise of the error's own size explains it.
"""

import math

import numpy as np

from refblo.conformance.diagnosis.setting import Setting
from refblo.conformance.diagnosis.trace import numpy_of

_SPACING = 2.0**-22
"""Between the values of λ, relative: a few units of float32, so that its roundings fall anew."""

_POINTS = 6
_ORDER = 3


def explains(setting: Setting) -> str | None:
    """What speaks for single precision, or None."""
    observed, error = setting.observed, setting.error
    scale = max(setting.subject.reference.scale, float(np.finfo(np.float64).tiny))
    if error > 1e-2 * scale:
        return None
    rounded = observed.astype(np.float32).astype(np.float64)
    if np.array_equal(observed, rounded) and np.any(observed != np.round(observed, 3)):
        return "every entry is a float32 number"
    if setting.again is None:
        return None
    noise = _noise(setting)
    if noise > 1e-2 * error and noise > 1e-10 * scale:
        return (
            f"its value jumps by {noise:.1e} between values of lam that are {_SPACING:.1e} apart, as "
            "float32 does"
        )
    return None


def _noise(setting: Setting) -> float:
    """The standard deviation of the roughness of the returned vector, as a norm."""
    lam = numpy_of(setting.subject.program.lam)
    signs = np.where(np.arange(lam.size) % 2 == 0, 1.0, -1.0)
    step = _SPACING * np.maximum(np.abs(lam), np.abs(lam).max(initial=0.0) or 1.0) * signs
    if setting.again is None:
        return 0.0
    rows = [setting.along(setting.again(lam + index * step)) for index in range(_POINTS)]
    differences = np.diff(np.stack(rows), _ORDER, axis=0)
    share = math.factorial(_ORDER) ** 2 / math.factorial(2 * _ORDER)
    return math.sqrt(share * float(np.mean(np.sum(differences**2, axis=1))))
