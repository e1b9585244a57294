"""g′(0) and g″(0) of a vector-valued function g of one number, by central differences of order 8.

Estimates D_k come from the steps h·2⁻ᵏ … h·2⁻ᵏ⁻³, their error from |D_k − D_{k−1}| and from what rounding in
g does; the best one counts. Where g is not finite so far out, or the error stays large, h is made smaller.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import final

import numpy as np
from jaxtyping import Float64

Array = np.ndarray
Curve = Callable[[float], Float64[Array, " n"]]

_HALF_ORDER = 4
_FIRST_STEP = 2.0**-4
_SHRINK = 2.0**-5
_ATTEMPTS = 6
_HALVINGS = 3
_SATISFIED = 1e-11
"""The relative error from which on no smaller step is tried."""

_ROUNDED = 4.0
"""Units in the last place by which a value of g is off, for the choice among steps."""


def slope(curve: Curve) -> Float64[Array, " n"]:
    """g′(0), NaN where no step gives finite values.

    Args:
        curve: g; a step of 1 should change its argument by about the size of what it depends on.
    """
    return _derivative(_First(curve))


def bend(curve: Curve) -> Float64[Array, " n"]:
    """g″(0), likewise."""
    with np.errstate(all="ignore"):
        at_zero = curve(0.0)
    return _derivative(_Second(curve, at_zero))


@final
@dataclass(frozen=True, eq=False)
class _First:
    """(g(h) − g(−h)) / h, a power series in h² that begins with 2g′(0)."""

    curve: Curve
    order: int = 1

    def __call__(self, step: float) -> tuple[Array, float]:
        """It, and the norm of the largest value in it."""
        ahead, behind = self.curve(step), self.curve(-step)
        return (ahead - behind) / step, _largest(ahead, behind)


@final
@dataclass(frozen=True, eq=False)
class _Second:
    """2 (g(h) − 2g(0) + g(−h)) / h², a power series in h² that begins with 2g″(0)."""

    curve: Curve
    at_zero: Float64[Array, " n"]
    order: int = 2

    def __call__(self, step: float) -> tuple[Array, float]:
        """It, and the norm of the largest value in it."""
        ahead, behind = self.curve(step), self.curve(-step)
        bent = (ahead - self.at_zero) + (behind - self.at_zero)
        return 2 * bent / step**2, _largest(ahead, behind)


_Quotient = _First | _Second


def _largest(ahead: Array, behind: Array) -> float:
    return max(float(np.linalg.norm(ahead)), float(np.linalg.norm(behind)))


def _derivative(quotient: _Quotient) -> Float64[Array, " n"]:
    with np.errstate(all="ignore"):
        best = _attempt(quotient, _FIRST_STEP)
        for attempt in range(1, _ATTEMPTS):
            first = _FIRST_STEP * _SHRINK**attempt
            size = float(np.linalg.norm(best.value))
            if best.error <= max(_SATISFIED * size, _rounding(best.largest, first, quotient.order)):
                break
            best = min(best, _attempt(quotient, first), key=lambda one: one.error)
    return best.value


@final
@dataclass(frozen=True, eq=False)
class _Estimate:
    """A derivative from one sequence of steps.

    Attributes:
        value: the best estimate.
        error: of it; infinite if there is none.
        largest: the norm of the largest value of g.
    """

    value: Float64[Array, " n"]
    error: float
    largest: float


def _rounding(largest: float, step: float, order: int) -> float:
    """What rounding in g does to an estimate of a derivative of this order from steps of this size."""
    return _ROUNDED * float(np.finfo(np.float64).eps) * largest / step**order


def _attempt(quotient: _Quotient, first: float) -> _Estimate:
    """The best estimate from one sequence of halved steps."""
    quotients: list[Array] = []
    estimates: list[Array] = []
    largest, best, least = 0.0, 0, np.inf
    for index in range(_HALF_ORDER + _HALVINGS):
        step = first * 0.5**index
        found, size = quotient(step)
        largest = max(largest, size)
        quotients.append(found)
        if len(quotients) < _HALF_ORDER:
            continue
        estimates.append(np.tensordot(_of_quotients(), quotients[-_HALF_ORDER:], 1))
        if len(estimates) > 1:
            rounding = _rounding(largest, step * 2.0 ** (_HALF_ORDER - 1), quotient.order)
            error = float(np.linalg.norm(estimates[-1] - estimates[-2])) + rounding
            if error < least:
                best, least = len(estimates) - 1, error
            if rounding > least or least <= _SATISFIED * float(np.linalg.norm(estimates[best])):
                break
    return _Estimate(estimates[best], least, largest)


@cache
def _of_quotients() -> tuple[float, ...]:
    """Weights of quotients with steps h_i = h·2⁻ⁱ in the estimate of a derivative.

    Those of (g(h_i) − g(−h_i)) / h_i for g′(0), and of what has a series in h_i² with twice the derivative
    as its first term.
    """
    from refblo.derivatives.differences import (
        central_weights,
    )  # it imports scipy, which takes a second

    half = central_weights(_HALF_ORDER)[:_HALF_ORDER]
    return tuple(float(w) * 0.5**i for i, w in enumerate(half))
