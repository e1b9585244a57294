"""Single precision inside: the error is rounding noise, far above that of double precision.

An implementation whose answers at one λ differ, or whose own dtype is as coarse as float32, is not accused
of it: `changes` and the accuracy of the setting say so first.

Rounding noise tells itself apart from every other mistake by being rough: between values of λ a few
10⁻⁷ apart every smooth function is a straight line, so that the higher differences of what is returned
are noise alone (Moré and Wild 2011). Noise of the error's own size explains it.
"""

import math

import numpy as np
import torch

from refblo.conformance.diagnosis.setting import Setting
from refblo.conformance.diagnosis.trace import numpy_of

_SPACING = 2.0**-22
"""Between the values of λ, relative: a few units of float32, so that its roundings fall anew."""

_FINE = 2.0**-44
"""Some units of float64, far below those of float32."""

_FEWEST, _REPEATS = 3, 4
"""Calls at the same λ whose answers are compared; the last is made where the others differ."""

_OF_FLOAT32 = 1e-10
"""The relative accuracy above which what is checked computes in float32 itself, or more coarsely."""

COMPARABLE = 0.05
"""The share of the error by which answers at the same λ differ where that explains the error."""

_POINTS = 6
_ORDER = 3

_FIRST_POINTS = 3
"""Points whose second difference says whether more are worth their calls."""

_NOTHING = 0.1
"""The share of the roughness looked for at which the first points show that there is none: roughness of that
size would show so little in one entry once in 12 times, and ten times as much once in 120."""


def halves(setting: Setting) -> str | None:
    """What speaks for half precision, or None."""
    narrow = _narrowest(setting)
    return None if narrow in (None, torch.float32) else _every_entry(narrow)


def explains(setting: Setting) -> str | None:
    """What speaks for single precision, or None."""
    error, scale = setting.error, _scale(setting)
    if not _small(setting):
        return None
    narrow = _narrowest(setting)
    if narrow is not None:
        return _every_entry(narrow)
    if setting.asked is None:
        return None
    least = max(1e-2 * error, 1e-10 * scale)
    noise = _noise(setting, _SPACING, least)
    if noise > least and not _rough_everywhere(setting, noise):
        return (
            f"its value jumps by {noise:.1e} between values of lam that are {_SPACING:.1e} apart, as "
            "float32 does"
        )
    return None


def _scale(setting: Setting) -> float:
    return max(setting.subject.reference.scale, float(np.finfo(np.float64).tiny))


def _small(setting: Setting) -> bool:
    """Whether the error may be rounding of a narrow dtype, and what is checked has a wider one."""
    scale = _scale(setting)
    return setting.error <= 1e-2 * scale and setting.accuracy <= _OF_FLOAT32 * scale


def _every_entry(dtype: torch.dtype | None) -> str:
    return f"every entry is a {str(dtype).removeprefix('torch.')} number"


def _narrowest(setting: Setting) -> torch.dtype | None:
    """The narrowest dtype that holds every entry exactly, and explains so small an error; None if none does.

    Entries of few decimals, which any dtype holds, say nothing.
    """
    observed = setting.observed
    if not _small(setting) or not np.any(observed != np.round(observed, 3)):
        return None
    entries = torch.from_numpy(observed)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        if torch.equal(entries.to(dtype).double(), entries):
            return dtype
    return None


def differences(setting: Setting) -> str | None:
    """What speaks for rounding noise of a difference quotient in float64, or None.

    Roundings of float32 fall anew a few of its units apart, and hardly ever between closer points. Those of
    float64, which a difference quotient multiplies by 1/h, fall anew however close the points are.
    """
    if setting.asked is None or setting.accuracy > _OF_FLOAT32 * setting.subject.reference.scale:
        return None
    least = 1e-2 * setting.error
    noise = _noise(setting, _FINE, least)
    if noise > least and _rough_everywhere(setting, noise):
        return (
            f"its value jumps by {noise:.1e} between values of lam that are {_FINE:.1e} apart, as a "
            "difference quotient with a small step does"
        )
    return None


def _rough_everywhere(setting: Setting, noise: float) -> bool:
    """Whether the answer is as rough between points that are float64's units apart."""
    return _noise(setting, _FINE, 0.1 * noise) > 0.1 * noise


def changes(setting: Setting) -> str | None:
    """What speaks for answers that differ at the same λ by about as much as they are wrong, or None."""
    if setting.asked is None or setting.error == 0:
        return None
    lam, spread = numpy_of(setting.subject.program.lam), 0.0
    for count in (_FEWEST, _REPEATS):
        rows = [setting.along(answer) for answer in setting.asked.repeated(lam, count)]
        spread = max(float(np.linalg.norm(row - rows[0])) for row in rows[1:])
        if spread == 0:
            return None
    if not math.isfinite(spread) or spread <= max(COMPARABLE * setting.error, 10 * setting.noise):
        return None
    return (
        f"{_REPEATS} calls at the same lam return answers that differ by up to {spread:.1e}; "
        f"the error is {setting.error:.1e}"
    )


def _noise(setting: Setting, spacing: float, least: float) -> float:
    """The standard deviation of the roughness of the returned vector, as a norm; 0 far below `least`."""
    asked = setting.asked
    if asked is None:
        return 0.0
    lam = numpy_of(setting.subject.program.lam)
    signs = np.where(np.arange(lam.size) % 2 == 0, 1.0, -1.0)
    step = spacing * np.maximum(np.abs(lam), np.abs(lam).max(initial=0.0) or 1.0) * signs

    def roughness(points: int, order: int) -> float:
        rows = [setting.along(asked.at(lam + index * step)) for index in range(points)]
        differences = np.diff(np.stack(rows), order, axis=0)
        share = math.factorial(order) ** 2 / math.factorial(2 * order)
        return math.sqrt(share * float(np.mean(np.sum(differences**2, axis=1))))

    if roughness(_FIRST_POINTS, _FIRST_POINTS - 1) < _NOTHING * least:
        return 0.0
    return roughness(_POINTS, _ORDER)
