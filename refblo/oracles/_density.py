"""The density exp(−L_T(λ, θ)/t) over few parameters: where it lives, and whether it can be normalised."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
import scipy
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.derivatives import PROCESS_LOCK
from refblo.errors import OracleError
from refblo.problem import BilevelProblem
from refblo.types import Lam

Array = np.ndarray

_STARTS = (0.0, 1.0, 3.0, 10.0)
"""Distances from θ⁰, in both directions of each axis, at which further minima are searched for."""
_RELEVANT = 60.0
"""Minima whose weight is below exp(−60) ≈ 10⁻²⁶ of the largest change no digit of float64."""
_CUT = 100.0
_RAYS = 16
_DOUBLINGS = 60


@final
@dataclass(frozen=True, eq=False)
class GibbsDensity:
    """exp(−(L_T(λ, θ) − least)/t) in coordinates y, θ = centre + axes·(scales y).

    Attributes:
        problem: the problem.
        temperature: t.
        centre: the lowest minimum at the λ that the coordinates were chosen at, shape (n,).
        axes: an orthonormal basis as columns, the Hessian's eigenvectors, shape (n, n).
        scales: the distance along each axis at which L_T has risen by t, shape (n,).
        least: L_T at the centre.
        minima: further minima in y, shape (k, n), where a quadrature should look.
        reach: |y_i| beyond which the density is below exp(−100) along all rays tried.
    """

    problem: BilevelProblem
    temperature: float
    centre: Float64[Array, " n"]
    axes: Float64[Array, "n n"]
    scales: Float64[Array, " n"]
    least: float
    minima: Float64[Array, "k n"]
    reach: float

    def theta(self, y: Float64[Array, "k n"]) -> Float64[Tensor, "k n"]:
        """θ at the points."""
        return torch.as_tensor(self.centre + (self.scales * y) @ self.axes.T)

    def grid(self, points: int) -> Float64[Array, "k n"]:
        """The midpoints of `points` equal intervals of [−reach, reach], along every axis."""
        ticks = self.reach * ((2 * np.arange(points) + 1) / points - 1)
        grids = np.meshgrid(*[ticks] * self.centre.size, indexing="ij")
        return np.stack([grid.ravel() for grid in grids], axis=1)

    def weights(self, lam: Lam, theta: Float64[Tensor, "k n"]) -> Float64[Tensor, " k"]:
        """exp(−(L_T − least)/t), zero where L_T is infinite."""
        risen = (losses(self.problem, lam, theta) - self.least) / self.temperature
        # Far out a loss may overflow to infinity, and beyond that to NaN.
        return torch.exp(-torch.nan_to_num(risen, nan=torch.inf))


def losses(
    problem: BilevelProblem, lam: Lam, theta: Float64[Tensor, "k n"]
) -> Float64[Tensor, " k"]:
    """L_T(λ, ·) at k points."""
    values: Tensor = torch.func.vmap(lambda t: problem.inner(lam, t, None))(theta)
    return values


def locate(problem: BilevelProblem, lam: Lam, temperature: float) -> GibbsDensity:
    """Find where the density lives.

    Raises:
        OracleError: if no minimum is found, or the density does not fall fast enough to be normalised.
    """
    start = problem.initial(lam).detach().numpy()
    n = start.size

    def loss(theta: Array) -> float:
        value = float(problem.inner(lam, torch.as_tensor(theta), None))
        return value if np.isfinite(value) else np.inf

    size = max(1.0, float(np.linalg.norm(start)))
    offsets = np.unique(
        np.concatenate(
            [sign * distance * size * np.eye(n) for distance in _STARTS for sign in (1, -1)]
        ),
        axis=0,
    )
    with np.errstate(all="ignore"):
        options = {"xatol": 1e-8, "fatol": 1e-10 * temperature}
        searches = [
            scipy.optimize.minimize(loss, start + offset, method="Nelder-Mead", options=options)
            for offset in offsets
        ]
    ends = [np.asarray(search.x) for search in searches]
    levels = np.array([loss(end) for end in ends])
    if not np.isfinite(levels).all():
        raise _not_normalisable("it is unbounded or not finite")
    best = int(np.argmin(levels))
    centre, least = ends[best], float(levels[best])
    with PROCESS_LOCK:  # forward mode
        hessian = torch.func.hessian(lambda t: problem.inner(lam, t, None))(torch.as_tensor(centre))
    axes = np.linalg.eigh(hessian.numpy())[1] if bool(hessian.isfinite().all()) else np.eye(n)
    shape = partial(_risen, problem, lam, centre, least, temperature)
    scales = np.array([_scale(shape, axis) for axis in axes.T])
    relevant = [
        (end - centre) @ axes / scales
        for end, level in zip(ends, levels, strict=True)
        if (level - least) / temperature < _RELEVANT
    ]
    reach = _reach(shape, axes * scales)
    return GibbsDensity(
        problem, temperature, centre, axes, scales, least, np.array(relevant), reach
    )


def _risen(
    problem: BilevelProblem,
    lam: Lam,
    centre: Float64[Array, " n"],
    least: float,
    temperature: float,
    offsets: Float64[Array, "k n"],
) -> Float64[Array, " k"]:
    """(L_T − least)/t at the centre plus the offsets."""
    values: Array = losses(problem, lam, torch.as_tensor(centre + offsets)).numpy()
    return (values - least) / temperature


def _scale(shape: Callable[[Array], Array], axis: Float64[Array, " n"]) -> float:
    """About how far along an axis the loss has risen by t."""
    distances = 2.0 ** np.arange(-40, 40)
    risen = shape(np.concatenate([distances, -distances])[:, None] * axis)
    both = np.fmin(risen[: distances.size], risen[distances.size :])
    above = np.flatnonzero(both >= 1)
    if above.size == 0:
        raise _not_normalisable("it stays flat along an axis")
    return float(distances[above[0]])


def _reach(shape: Callable[[Array], Array], frame: Float64[Array, "n n"]) -> float:
    """The smallest tried radius in y beyond which every ray's density stays below exp(−100).

    The loss must rise along every ray, in units of t, by more than (n + 1) log of the radius: a density
    that falls like a power of the radius any slower may not be integrable, and is refused.
    """
    n = len(frame)
    angles = np.linspace(0, 2 * np.pi, _RAYS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rays = (circle if n == 2 else np.array([[1.0], [-1.0]])) @ frame.T
    radii = 2.0 ** np.arange(_DOUBLINGS)
    risen = shape((radii[:, None, None] * rays).reshape(-1, n)).reshape(radii.size, -1)
    # Far out a loss may overflow to infinity, which is as high as it gets; a NaN there comes after it.
    lowest = np.where(np.isnan(risen) & (radii[:, None] > 2.0**20), np.inf, risen).min(axis=1)
    far = slice(10, None)
    if not (lowest[far] > (n + 1) * np.log(radii[far])).all():
        raise _not_normalisable("along some ray it does not grow faster than the logarithm")
    below = np.flatnonzero(~(lowest > _CUT))
    return float(radii[below[-1] + 1])


def _not_normalisable(what: str) -> OracleError:
    return OracleError(
        f"inner must grow in every direction so that exp(−inner/temperature) can be normalised, but {what}; "
        "there is no Gibbs truth here (add a regulariser, or ask for another estimand)"
    )
