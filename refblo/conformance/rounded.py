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
_PAIRS, _MOST, _BESIDE = 8, 6, 2.0**-8
"""Pairs of points so far apart, of the step of the first other value: where most of them have the same value,
the function is constant but for jumps."""

_OF_ROUNDING = 100.0
"""Units in the last place up to which a first change of value is one of float64 itself."""

_WHOLE, _BLURRED = 1e-3, 0.05
"""How far gaps between values may be from whole multiples of the smallest, and what rounding may add."""

_DISTINCT = 4
"""Values that there must be: the three gaps of others are whole multiples once in 10⁵ cases."""


@final
class RoundedValuesError(OracleError):
    """A loss that can be differentiated by differences alone has values on which they say nothing."""


@final
@dataclass(frozen=True)
class Steps:
    """How a function of one number moves in steps, so that its slope at 0 says nothing.

    Attributes:
        quantum: the number of which its values are multiples, but for a shift; 0 where there is none.
        first: a distance at which it has another value than at 0; at a sixteenth of it, it has not.
    """

    quantum: float
    first: float

    def describe(self) -> str:
        """What the function is, after "a function that is"."""
        if self.quantum > 0:
            return f"rounded to multiples of {self.quantum:.3g}"
        return f"constant but for jumps, the first within a relative distance of {self.first:.1e}"


def steps(curve: Callable[[float], float]) -> Steps | None:
    """The steps in which a function moves; None where it is smooth, or constant.

    A smooth function that is stationary at 0 is constant for a while as well, and then it is not.

    Args:
        curve: a step of 1 should change its argument by about the size of what it depends on.
    """
    here = curve(0.0)
    first = _first_change(curve, here)
    if first is None:
        return None
    # Points at no regular distances: on them the gaps of a straight line are no multiples of one.
    shares = np.modf(np.arange(1, _POINTS + 1) * (math.sqrt(5) - 1) / 2)[0]
    for spread in _SPREADS:
        if spread * first > _FARTHEST:
            break
        values = np.array([here, *(curve(spread * first * float(share)) for share in shares)])
        if not np.isfinite(values).all():
            break
        found = _common_gap(np.unique(values))
        if found > 0:
            return Steps(found, first)
    beside = [(1 + 3 * float(share)) * first for share in shares[:_PAIRS]]
    still = sum(curve(at) == curve(at + _BESIDE * first) for at in beside)
    return Steps(0.0, first) if still >= _MOST else None


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
    if values.size < _DISTINCT:
        return 0.0
    gaps = np.diff(values)
    ratios = gaps / gaps.min()
    of_rounding = float(np.finfo(np.float64).eps) * np.abs(values).max() / gaps.min()
    blurred = 2 * of_rounding * np.maximum(1.0, ratios)
    whole = np.abs(ratios - np.rint(ratios)) <= blurred + _WHOLE
    return float(gaps.min()) if whole.all() and blurred.max() <= _BLURRED else 0.0
