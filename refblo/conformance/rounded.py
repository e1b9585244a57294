"""Whether a function's values are rounded to multiples of one number, as a printed loss is.

Between two multiples such a function is constant, so that values very close to each other say that nothing
is rounded, and differences on a short step return any multiple of the quantum over the step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.errors import OracleError

Array = np.ndarray

_FIRST, _LAST, _GROWTH = 2.0**-50, 2.0**-2, 16.0
"""Distances at which the first other value is looked for."""

_POINTS = 17
_SPREADS = (1.0, 4.0, 16.0, 64.0)
"""The points are laid over so many times the step of the first other value; the next where few differ."""

_FARTHEST = 1.0
_NEAR = 2.0**-6
"""How near a function that is constant must change for its slopes to say nothing."""

_OF_ROUNDING = 100.0
"""Units in the last place up to which a first change of value is one of float64 itself."""

_WHOLE = 1e-3
"""How far gaps between values may be from whole multiples of the smallest."""

_DISTINCT = 4
"""Values that there must be: the three gaps of others are whole multiples once in 10⁵ cases."""


@final
class RoundedValuesError(OracleError):
    """A loss that can be differentiated by differences alone has values on which they say nothing."""


@final
@dataclass(frozen=True)
class Plateau:
    """A function of one number that is constant around 0 and takes other values nearby.

    Attributes:
        quantum: the number of which its values are multiples, but for a shift; 0 where there is none.
        step: a distance at which it has another value; at a sixteenth of it, it has not.
    """

    quantum: float
    step: float

    @property
    def hides_slopes(self) -> bool:
        """Whether differences say nothing of the function's slope at 0."""
        return self.quantum > 0 or self.step <= _NEAR

    def describe(self) -> str:
        """What the function is, after "a function that is"."""
        if self.quantum > 0:
            return f"rounded to multiples of {self.quantum:.3g}"
        return (
            f"constant within a relative distance of {self.step / _GROWTH:.1e} and has another value at "
            f"{self.step:.1e}"
        )


def plateau(curve: Callable[[float], float]) -> Plateau | None:
    """What rounding makes of a function; None where float64's own explains it, or where it is constant.

    Args:
        curve: a step of 1 should change its argument by about the size of what it depends on.
    """
    here = curve(0.0)
    step = _first_change(curve, here)
    if step is None:
        return None
    # Points at no regular distances: on them the gaps of a straight line are no multiples of one.
    shares = np.modf(np.arange(1, _POINTS + 1) * (math.sqrt(5) - 1) / 2)[0]
    for spread in _SPREADS:
        if spread * step > _FARTHEST:
            break
        values = np.array([here, *(curve(spread * step * float(share)) for share in shares)])
        distinct = np.unique(values)
        if not np.isfinite(values).all():
            break
        if distinct.size >= _DISTINCT:
            return Plateau(_common_gap(distinct), step)
    return Plateau(0.0, step)


def _first_change(curve: Callable[[float], float], here: float) -> float | None:
    """The first step at which the value is another; None where rounding of float64 explains how it comes."""
    step = _FIRST
    while step <= _LAST:
        change = abs(curve(step) - here)
        if change != 0:
            unit = float(np.finfo(np.float64).eps) * max(abs(here), change)
            return step if step > _FIRST and change > _OF_ROUNDING * unit else None
        step *= _GROWTH
    return None


def _common_gap(values: Float64[Array, " k"]) -> float:
    """The number of which all gaps between sorted values are multiples; 0 where there is none."""
    gaps = np.diff(values)
    ratios = gaps / gaps.min()
    of_rounding = float(np.finfo(np.float64).eps) * np.abs(values).max() / gaps.min()
    near = np.abs(ratios - np.rint(ratios)) <= (_WHOLE + 2 * of_rounding) * np.maximum(1.0, ratios)
    return float(gaps.min()) if near.all() else 0.0
