"""Whether a function's values are rounded to multiples of one number, as a printed loss is.

Between two multiples such a function is constant, so that values very close to each other say that nothing
is rounded, and differences on a short step return any multiple of the quantum over the step.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from refblo.conformance.black_box.objective import FINE, Objective, line_from
from refblo.errors import OracleError

Array = np.ndarray

_FIRST, _LAST, _GROWTH = 2.0**-50, 2.0**-2, 16.0
"""Relative steps at which the first other value is looked for."""

_POINTS = 17
_SPREADS = (1.0, 4.0, 16.0, 64.0)
"""The points are laid over so many times the step of the first other value; the next where few differ."""

_FARTHEST = 1.0
_NEAR = 2.0**-6
"""How near to λ a function that is constant there must change for its slopes to say nothing."""

_OF_ROUNDING = 100.0
"""Units in the last place up to which a first change of value is one of float64 itself."""

_WHOLE = 1e-3
"""How far gaps between values may be from whole multiples of the smallest."""

_DISTINCT = 4
"""Values that there must be: the three gaps of others are whole multiples once in 10⁵ cases."""


def quantum(objective: Objective, precision: float) -> tuple[float, float]:
    """The number of which the function's values near λ are multiples, but for a shift, and its share of them.

    Zeros where there is none, or where it is as fine as what is known of the function.

    Args:
        objective: the function.
        precision: the relative spacing of the numbers that it is known to compute with.

    Raises:
        OracleError: for a function of float64 that is constant around λ, changes nearby, and has no such
            number.
    """
    found = _near(objective, fine=precision <= FINE)
    if found == 0:
        return 0.0, 0.0
    share = found / max(abs(objective(objective.arrays.vector)), found)
    return (found, share) if share > precision else (0.0, 0.0)


def _near(objective: Objective, *, fine: bool) -> float:
    """The number itself; 0 where there is none."""
    at = line_from(objective)
    here = objective(at(0.0))
    step = _first_change(lambda size: objective(at(size)), here)
    if step is None:
        return 0.0
    # Points at no regular distances: on them the gaps of a straight line are no multiples of one.
    shares = np.modf(np.arange(1, _POINTS + 1) * (math.sqrt(5) - 1) / 2)[0]
    for spread in _SPREADS:
        if spread * step > _FARTHEST:
            break
        values = np.array([here, *(objective(at(spread * step * float(each))) for each in shares)])
        distinct = np.unique(values)
        if not np.isfinite(values).all():
            break
        if distinct.size >= _DISTINCT:
            found = _common_gap(distinct)
            if found > 0:
                return found
            break
    if step > _NEAR or not fine:
        return 0.0
    raise OracleError(
        f"objective must move with lam, got one that is constant within a relative distance of "
        f"{step / _GROWTH:.1e} of lam and has another value at {step:.1e}: no verdict is possible; look for "
        "a number rounded inside, a count, a sort, a limit (max, clip), or an early stop"
    )


def _first_change(value: Callable[[float], float], here: float) -> float | None:
    """The first step at which the value is another; None where rounding of float64 explains how it comes."""
    step = _FIRST
    while step <= _LAST:
        change = abs(value(step) - here)
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
