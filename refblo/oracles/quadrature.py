"""The Gibbs truth by quadrature over n ≤ 2 parameters, in two ways that share only the density.

`GibbsQuadrature` integrates the identity

    d/dλ E_p[f] = E_p[∂_λ f] − Cov_p(f, ∂_λ L_T)/t,   p ∝ exp(−L_T/t),   t = τκ²,

by scipy's adaptive cubature over the whole space; its error follows from scipy's estimates for each
integral by first-order propagation through the quotients. `GibbsDifference` takes finite differences of
λ ↦ E_p[f] on a fixed grid by the trapezoidal rule, which converges exponentially for smooth densities
(Trefethen and Weideman 2014); the difference to the grid of twice the spacing is added to its error.

Claims: field-covariance.
"""

from dataclasses import dataclass, field
from typing import final

import numpy as np
import scipy
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.derivatives.differences import Differences, directional_derivatives
from refblo.errors import OracleError
from refblo.noise import SEED_ZERO, Draws
from refblo.oracles._density import GibbsDensity, locate
from refblo.oracles.protocol import check_applies, gibbs_temperature, is_deterministic
from refblo.problems.case import Case
from refblo.types import ErrorKind, Estimand, Lam, Truth
from refblo.validation import check_arguments

Array = np.ndarray

_UNIT = float(np.finfo(np.float64).eps) / 2
_TOLERANCE = (
    1e-11  # of each integral of absolute values; the true error is orders below the estimate
)
_SUBDIVISIONS = 200
_POINTS = {1: 1024, 2: 96}  # intervals per axis of the first grid
_REFINEMENTS = 3
_SIZING = 128


@final
@dataclass(frozen=True)
class GibbsQuadrature:
    """The covariance identity by adaptive cubature."""

    name: str = field(default="quadrature of the covariance identity", kw_only=True)

    def applies(self, case: Case, estimand: Estimand) -> bool:
        """For noisy chains over at most two parameters whose losses see no batches, in float64."""
        return _applies(case, estimand)

    def truth(self, case: Case, estimand: Estimand, draws: Draws = SEED_ZERO) -> Truth:
        """The Gibbs hypergradient, shape (p,), with an estimated error.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a case that cannot be used.
            OracleError: if the density cannot be normalised, or the integrals do not converge.
        """
        check_applies(self, case, estimand)
        lam, temperature = case.lam.detach(), gibbs_temperature(case.dynamics)
        check_arguments(case.problem, lam, draws)
        density = locate(case.problem, lam, temperature)
        middle, p = torch.as_tensor(density.centre), lam.numel()
        offset = case.problem.outer(lam, middle, None).item()
        slope = torch.func.grad(lambda at: case.problem.inner(at, middle, None))(lam) / temperature

        def integrands(y: Array) -> Array:
            return _integrands(density, lam, y, offset, slope)

        # Sizes of the integrals, from a grid: each is scaled to about 1 for one tolerance to fit all.
        grid = density.grid(_SIZING)
        volume = (2 * density.reach / _SIZING) ** density.centre.size
        sizes = np.abs(integrands(grid)).sum(axis=0) * volume
        sizes = np.where(sizes > 0, sizes, 1.0)
        breaks = [point for point in density.minima if np.linalg.norm(point) > 1]
        infinite = np.full(density.centre.size, np.inf)
        with np.errstate(all="ignore"):
            found = scipy.integrate.cubature(
                lambda y: integrands(y) / sizes,
                -infinite,
                infinite,
                rtol=0,
                atol=_TOLERANCE,
                max_subdivisions=_SUBDIVISIONS,
                points=breaks or None,
            )
        # Summation, and the exponent's own rounding: exp(−L/t) is known to u (1 + |L|/t).
        rounding = 8 * _UNIT * (1 + abs(density.least) / temperature)
        totals = np.asarray(found.estimate) * sizes
        errors = (np.asarray(found.error) + rounding) * sizes
        if not (np.isfinite(totals).all() and totals[0] > 10 * errors[0]):
            raise OracleError(
                "inner must give a density that scipy's cubature can normalise, got a normalising constant "
                f"of {totals[0]:.3g} ± {errors[0]:.3g}; use a smoother loss or a higher temperature"
            )
        value, error = _combine(totals, errors, p)
        return Truth(torch.as_tensor(value), error, ErrorKind.ESTIMATED, estimand, self.name)


@final
@dataclass(frozen=True)
class GibbsDifference:
    """Differences of the expectation itself, by the trapezoidal rule."""

    name: str = field(default="differences of the expectation", kw_only=True)

    def applies(self, case: Case, estimand: Estimand) -> bool:
        """For noisy chains over at most two parameters whose losses see no batches, in float64."""
        return _applies(case, estimand)

    def truth(self, case: Case, estimand: Estimand, draws: Draws = SEED_ZERO) -> Truth:
        """The Gibbs hypergradient, shape (p,), with an estimated error.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a case that cannot be used.
            OracleError: if the density cannot be normalised.
        """
        check_applies(self, case, estimand)
        lam, temperature = case.lam.detach(), gibbs_temperature(case.dynamics)
        check_arguments(case.problem, lam, draws)
        density = locate(case.problem, lam, temperature)
        points = _POINTS[density.centre.size]
        coarse = _difference(density, lam, points, draws)
        for _ in range(_REFINEMENTS):
            points *= 2
            fine = _difference(density, lam, points, draws)
            change = np.abs(fine.values - coarse.values)
            if (change <= fine.errors).all():
                break
            coarse = fine
        error = float(np.linalg.norm(fine.errors + change))
        value = torch.as_tensor(fine.values)
        return Truth(value, error, ErrorKind.ESTIMATED, estimand, self.name)


def _applies(case: Case, estimand: Estimand) -> bool:
    if estimand is not Estimand.GIBBS or not is_deterministic(case.problem):
        return False
    theta = case.problem.initial(case.lam.detach())
    on_cpu = theta.dtype is torch.float64 and theta.device.type == "cpu"
    return on_cpu and theta.numel() <= 2 and gibbs_temperature(case.dynamics) > 0


def _integrands(
    density: GibbsDensity,
    lam: Lam,
    y: Float64[Array, "k n"],
    offset: float,
    slope: Float64[Tensor, " p"],
) -> Float64[Array, "k m"]:
    """w, w f, w f_λ, w g and w f g at k points: w the density, g = ∂_λ L_T/t, f and g less constants.

    The covariance does not see the constants; with them near the middle of f and g it loses fewer digits.
    """
    problem, theta = density.problem, density.theta(y)

    def inner(at: Tensor, point: Tensor) -> Tensor:
        return problem.inner(at, point, None)

    def outer(at: Tensor, point: Tensor) -> Tensor:
        return problem.outer(at, point, None)

    over = (None, 0)
    weight = density.weights(lam, theta)
    value = torch.func.vmap(outer, in_dims=over)(lam, theta) - offset
    direct = torch.func.vmap(torch.func.grad(outer), in_dims=over)(lam, theta)
    energy = torch.func.vmap(torch.func.grad(inner), in_dims=over)(lam, theta) / density.temperature
    energy = energy - slope
    parts = [
        torch.ones_like(value)[:, None],
        value[:, None],
        direct,
        energy,
        value[:, None] * energy,
    ]
    together = torch.cat(parts, dim=1) * weight[:, None]
    # Far out f may overflow where the density is zero.
    result: Array = torch.where(weight[:, None] > 0, together, 0.0).numpy()
    return result


def _combine(
    totals: Float64[Array, " m"], errors: Float64[Array, " m"], p: int
) -> tuple[Float64[Array, " p"], float]:
    """E[f_λ] − (E[f g] − E[f] E[g]) from the integrals, and the norm of its error to first order."""
    mass, slack = totals[0], errors[0]
    means = totals / mass
    spread = (errors + np.abs(means) * slack) / (mass - slack)
    f, direct, g, product = means[1], *np.split(means[2:], 3)
    df, ddirect, dg, dproduct = spread[1], *np.split(spread[2:], 3)
    value = direct - product + f * g
    error = ddirect + dproduct + np.abs(f) * dg + np.abs(g) * df + df * dg
    # The three parts are added in float64.
    error = error + 2 * _UNIT * (np.abs(direct) + np.abs(product) + np.abs(f * g))
    return value.reshape(p), float(np.linalg.norm(error))


def _difference(density: GibbsDensity, lam: Lam, points: int, draws: Draws) -> Differences:
    """Differences of E_p[f] on a grid with so many intervals along each axis."""
    theta = density.theta(density.grid(points))

    def expectation(at: Tensor) -> float:
        weight = density.weights(at, theta)
        value = torch.func.vmap(lambda point: density.problem.outer(at, point, None))(theta)
        return float((torch.where(weight > 0, value, 0.0) * weight).sum() / weight.sum())

    directions = torch.eye(lam.numel(), dtype=torch.float64)
    return directional_derivatives(expectation, lam, directions, draws)
