"""Derivatives of a deterministic scalar function by differences, with the error of each.

`scipy.differentiate.derivative` supplies central differences of order 8 on ever smaller steps. Its own
error estimate for step size h is |D(h) − D(2h)|, which rounding in the function can make too small by
chance, so the function's noise is measured as well (Moré and Wild 2011) and what it can do to D(h) is
added. Of all steps the one with the smallest total is taken.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from refblo.errors import OracleError
from refblo.noise import Draws, Stream

Array = np.ndarray
ScalarFunction = Callable[[Tensor], float]
BatchFunction = Callable[[Tensor], Array]
"""Points in the rows, shape (k, p), to the values there, shape (k,)."""

_HALF_ORDER = 4
_HALVINGS = 9
_FIRST_STEP = 0.125  # of max(1, size of λ along the direction); smaller ones follow where it fails
_SHRINK = 2.0**-6
_ATTEMPTS = 6
_BESIDE = 2.0**-5
_SATISFIED = 1e-6  # relative error from which on no smaller first step is tried
NOISE_SAFETY = 10.0
"""Standard deviations of the noise counted as its bound. The estimate rests on half a dozen degrees of
freedom: a Student variable with 6 exceeds 10 with probability 6·10⁻⁵."""


@final
@dataclass(frozen=True, eq=False)
class Differences:
    """Directional derivatives.

    Attributes:
        values: shape (k,).
        errors: an estimate of the error of each, shape (k,).
        noise: the function's estimated rounding error at the point.
        here: the function's values in two evaluations at the point itself.
    """

    values: Float64[Array, " k"]
    errors: Float64[Array, " k"]
    noise: float
    here: tuple[float, float]


class _Iterate(Protocol):
    """What scipy hands to a callback: the estimates and their errors."""

    df: Array
    error: Array


@final
@dataclass(frozen=True, eq=False)
class Frugal:
    """How to spend few evaluations: differences of order 2, from a step that rounding allows at once.

    Attributes:
        enough: the relative error from which on no more evaluations are spent.
        expected: what the derivatives are thought to be, shape (k,): it chooses the step, and nothing else.
    """

    enough: float
    expected: Float64[Array, " k"]

    def step(self, noise: float) -> Float64[Array, " k"]:
        """The first step, such that at half of it rounding is a tenth of what is enough."""
        wanted = 0.1 * self.enough * np.abs(self.expected)
        steps: Array = 2 * noise / np.maximum(wanted, np.finfo(np.float64).tiny)
        return steps

    def content(self, values: Float64[Array, " k"], errors: Float64[Array, " k"]) -> bool:
        """Whether all estimates are good enough."""
        return bool((errors <= self.enough * np.abs(values)).all())


def directional_derivatives(
    function: ScalarFunction,
    point: Float64[Tensor, " p"],
    directions: Float64[Tensor, "p k"],
    draws: Draws,
    precision: float | None = None,
    frugal: Frugal | None = None,
) -> Differences:
    """The derivatives of a function along the columns of `directions`, each with its error.

    Args:
        function: a deterministic function from (p,) to a number; not finite where it is not defined.
        point: where, shape (p,).
        directions: the directions, shape (p, k).
        draws: where the direction along which the noise is measured comes from.
        precision: relative spacing of the numbers that the function computes with; float64's if None.
        frugal: for a function that takes long; some fifteen evaluations are then enough as a rule.

    Raises:
        OracleError: if no step size gives finite values.
    """
    return batched_derivatives(one_by_one(function), point, directions, draws, precision, frugal)


def one_by_one(function: ScalarFunction) -> BatchFunction:
    """The function on a batch of points, a point at a time."""

    def batch(points: Tensor) -> Array:
        return np.array([function(point) for point in points])

    return batch


def batched_derivatives(
    function: BatchFunction,
    point: Float64[Tensor, " p"],
    directions: Float64[Tensor, "p k"],
    draws: Draws,
    precision: float | None = None,
    frugal: Frugal | None = None,
) -> Differences:
    """`directional_derivatives` of a function that takes many points at once."""
    precision = precision or float(np.finfo(np.float64).eps)
    noise, value = _noise_and_value(function, point, draws, precision)
    if frugal is None and _is_special(point):
        # There hardly anything is rounded: look at a point beside it as well.
        moved = _BESIDE * draws.normal(Stream.DIRECTIONS, 1, point) * point.abs().clamp(min=1)
        with contextlib.suppress(OracleError):
            noise = max(noise, function_noise(function, point + moved, draws, precision))
    count = directions.shape[1]
    along = (directions.T @ point).abs().numpy() / directions.square().sum(dim=0).numpy()
    first = _FIRST_STEP * np.maximum(1.0, along)
    if frugal is not None:
        first = np.minimum(first, frugal.step(noise))
    # A step t moves λ by t·u only up to the spacing of the numbers around λ.
    slips = precision * along
    again = float(function(point[None])[0])
    values, errors = np.full(count, np.nan), np.full(count, np.inf)
    pending = np.arange(count)
    for _ in range(_ATTEMPTS):
        found, accuracy, exhausted = _attempt(
            function,
            point,
            again,
            directions[:, pending],
            first[pending],
            noise,
            slips[pending],
            precision,
            frugal,
        )
        better = accuracy < errors[pending]
        values[pending[better]], errors[pending[better]] = found[better], accuracy[better]
        scale = np.linalg.norm(values[np.isfinite(values)])
        done = errors <= (_SATISFIED if frugal is None else frugal.enough) * scale
        done[pending] |= exhausted
        pending = np.flatnonzero(~done)
        if pending.size == 0:
            break
        first = first * _SHRINK
    if not np.isfinite(errors).all():
        position = int(np.flatnonzero(~np.isfinite(errors))[0])
        raise OracleError(
            f"the outer objective must be finite around lam, got no step along direction {position} at "
            "which it is; choose a lam inside its domain"
        )
    return Differences(values, errors, noise, (value, again))


_USUAL = 0.9
"""The share of the entries of a point that must be as most numbers are: in their size and in their digits."""


def _is_special(point: Float64[Tensor, " p"]) -> bool:
    """Whether many entries are small, as 0, or have few digits, as 1: less is rounded there than beside."""
    sizes = point.abs().numpy()
    digits = np.ldexp(np.frexp(sizes)[0], 33)
    usual = (digits != np.rint(digits)) & (sizes >= _BESIDE)
    return float(np.mean(usual)) < _USUAL


def function_noise(
    function: BatchFunction, point: Float64[Tensor, " p"], draws: Draws, precision: float
) -> float:
    """The standard deviation of the function's rounding error near a point, times `NOISE_SAFETY`.

    ECNoise (Moré and Wild 2011): on points so close that the function is linear there, the k-th
    differences of its values are all noise, with variance σ² (2k)!/(k!)²; the largest σ for k ≥ 2 counts.
    """
    return _noise_and_value(function, point, draws, precision)[0]


def _noise_and_value(
    function: BatchFunction, point: Float64[Tensor, " p"], draws: Draws, precision: float
) -> tuple[float, float]:
    """`function_noise`, and the value at the point, which is the first of those that it needs."""
    direction = draws.normal(Stream.DIRECTIONS, 0, point)
    direction = direction / direction.norm() * point.abs().clamp(min=1.0)
    spacing = 64 * precision  # far above the spacing of the numbers, far below any curvature
    offsets = spacing * torch.arange(9, dtype=torch.float64, device=point.device)
    values = function(point + offsets[:, None] * direction)
    if not np.isfinite(values).all():
        raise OracleError(
            "the outer objective must be finite at lam, got a value that is not; lower the step size"
        )
    deviations = []
    for order in range(2, 7):
        differences = np.diff(values, order)
        share = math.factorial(order) ** 2 / math.factorial(2 * order)
        deviations.append(math.sqrt(share * float(np.mean(differences**2))))
    noise = NOISE_SAFETY * max(deviations) + precision * float(np.abs(values).max())
    return noise, float(values[0])


def _attempt(
    function: BatchFunction,
    point: Float64[Tensor, " p"],
    here: float,
    directions: Float64[Tensor, "p k"],
    first: Float64[Array, " k"],
    noise: float,
    slips: Float64[Array, " k"],
    precision: float,
    frugal: Frugal | None,
) -> tuple[Float64[Array, " k"], Float64[Array, " k"], Bool[Array, " k"]]:
    """One sequence of steps; `here` is the function's value at the point.

    Returns:
        The best estimates; their errors, infinite where there is none; whether rounding makes up most of
        the error, so that smaller steps would be worse.
    """
    count = directions.shape[1]
    half_order = _HALF_ORDER if frugal is None else 1
    amplification = float(np.abs(central_weights(half_order)).sum())
    values, errors = np.full(count, np.nan), np.full(count, np.inf)
    exhausted = np.zeros(count, dtype=bool)
    largest = np.zeros(count)
    halvings = 0

    def along(t: Array, which: Array) -> Array:
        if not t.any():  # scipy's first call, which is for the shape
            np.fmax.at(largest, which, abs(here))
            return np.full(t.shape, here)
        steps, indices = (
            torch.as_tensor(part.ravel(), device=point.device)
            for part in np.broadcast_arrays(t, which)
        )
        results = function(point + steps[:, None] * directions.T[indices])
        np.fmax.at(largest, indices.cpu().numpy(), np.abs(results))
        return results.reshape(t.shape)

    def keep_best(iterate: _Iterate) -> None:
        nonlocal values, errors, exhausted, halvings
        # The first call comes before the first estimate, the second has nothing to compare with.
        if halvings >= 1:
            step = first * 0.5 ** (halvings - 1)
            # What the values, the weights and the steps are rounded by.
            off = noise + 2 * precision * largest + slips * np.abs(iterate.df)
            rounding = amplification * off / step
            total = iterate.error + rounding
            better = total < errors
            values, errors = np.where(better, iterate.df, values), np.where(better, total, errors)
            exhausted = np.where(better, 2 * rounding > total, exhausted)
            if (rounding > errors).all() or (frugal is not None and frugal.content(values, errors)):
                raise StopIteration
        halvings += 1

    with np.errstate(all="ignore"):
        scipy.differentiate.derivative(
            along,
            np.zeros(count),
            args=(np.arange(count),),
            # Never "converged": which estimate is best is decided above.
            tolerances={"atol": 0.0, "rtol": 0.0},
            maxiter=_HALVINGS,
            order=2 * half_order,
            initial_step=first,
            callback=keep_best,
        )
    return values, errors, exhausted


def central_weights(half_order: int) -> Float64[Array, " m"]:
    """The weights of f(±h 2^−i), i < half_order, in the estimate of h·f′ (both signs: twice the half)."""
    nodes = 0.5 ** np.arange(half_order)
    powers = nodes[None, :] ** (2 * np.arange(half_order)[:, None] + 1)
    target = np.zeros(half_order)
    target[0] = 0.5
    half: Array = np.linalg.solve(powers, target)
    return np.concatenate([half, -half])


def random_directions(p: int, count: int, draws: Draws) -> Float64[Tensor, "p k"]:
    """Random unit vectors as columns; uniform on the sphere."""
    directions = draws.normal(
        Stream.DIRECTIONS, 1, torch.empty(p, count, dtype=torch.float64, device="cpu")
    )
    lengths: Tensor = torch.linalg.vector_norm(directions, dim=0)
    return directions / lengths
