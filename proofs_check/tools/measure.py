"""Measured orders: a slope on logarithmic axes with an interval that theory and sampling give."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from proofs_check.evidence import Check, EvidenceMethod, within

Vector = NDArray[np.float64]

STANDARD_ERRORS = 4.0
"""Half-width of every statistical interval: a wrong rejection once in 16 000 for a normal mean."""


@final
@dataclass(frozen=True)
class Slope:
    """The exponent of a power law.

    Attributes:
        value: the mean of the slopes of the runs.
        error: the standard error of `value`.
    """

    value: float
    error: float


def slope(at: Vector, errors: Vector) -> Slope:
    """The exponent q of errors ~ at^q, one least-squares line a run.

    Args:
        at: the abscissae, shape (k,).
        errors: the errors, shape (runs, k), positive.

    Returns:
        The mean slope over the runs and its standard error (0 for a single run).
    """
    x = np.log(at) - np.log(at).mean()
    values = np.log(errors) @ x / (x @ x)
    spread = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return Slope(float(values.mean()), spread)


def slope_check(name: str, at: Vector, errors: Vector, stated: float) -> Check:
    """That the local slope at the fine end is the stated one.

    The slope of c·at^q·(1 + o(1)) tends to q, and it has moved from the coarse end to the fine end by
    more than what is left: that movement, with four standard errors over the runs, is the tolerance.

    Args:
        name: what is measured.
        at: the abscissae, increasing, at least three.
        errors: the errors, shape (runs, k).
        stated: the exponent of the statement.

    Returns:
        The check.
    """
    local = np.diff(np.log(errors), axis=1) / np.diff(np.log(at))
    fine, coarse = local[:, 0], local[:, -1]
    half = float(np.abs(coarse - fine).mean())
    if len(fine) > 1:
        half += STANDARD_ERRORS * float(fine.std(ddof=1) / np.sqrt(len(fine)))
    return within(name, float(fine.mean()), stated - half, stated + half)


def limit_check(name: str, fine: Vector, coarse: Vector, stated: float) -> Check:
    """That values at two resolutions tend to the stated limit in every run.

    Args:
        name: what is measured.
        fine: the values at the finer resolution, one a run.
        coarse: the values at the coarser resolution, one a run.
        stated: the limit of the statement.

    Returns:
        The check: each fine value is nearer to the limit than it is to its coarse one.
    """
    left, moved = np.abs(fine - stated), np.abs(coarse - fine)
    worst = int(np.argmax(left - moved))
    holds = bool((left <= moved).all())
    text = f"{fine[worst]:.8g}, moved by {moved[worst]:.2g}"
    return Check(name, holds, EvidenceMethod.NUMERIC, text, f"tends to {stated:.8g}")


def mean_check(name: str, samples: Vector, stated: float, bias: float = 0.0) -> Check:
    """That the mean of independent samples is the stated one, within 4 standard errors.

    Args:
        name: what is measured.
        samples: independent samples, shape (k,).
        stated: the mean of the statement.
        bias: a known bound on the bias of the samples.

    Returns:
        The check.
    """
    error = float(samples.std(ddof=1) / np.sqrt(samples.size))
    half = STANDARD_ERRORS * error + bias
    return within(name, float(samples.mean()), stated - half, stated + half)
