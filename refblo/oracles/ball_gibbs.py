"""Balls around the Gibbs truth where its integrals have a rigorous value.

Two cases. Where L_T and f are quadratic in θ the distribution p ∝ exp(−L_T/t) is the Gaussian
N(μ, t H⁻¹) with μ = −H⁻¹ ∂_θ L_T(λ, 0), and

    E_p[f] = f(λ, μ) + (t/2) tr(Q H⁻¹),   Q = ∂²f/∂θ²,

    d/dλ_j = f_λj + f_θ·dμ/dλ_j + (t/2) (tr(∂_jQ H⁻¹) − tr(Q H⁻¹ ∂_jH H⁻¹)),   dμ/dλ = −H⁻¹ C(μ).

Where n = 1 and both are polynomials in θ, the moments m_k = ∫ θ^k exp(−(L_T − E₀)/t) dθ give every
expectation in d/dλ E_p[f] = E_p[f_λ] − Cov_p(f, ∂_λ L_T)/t. They are integrated over [−R, R] by arb's
rigorous adaptive quadrature. Beyond R, where all Taylor coefficients e₁, e₂, … of s ↦ L_T(R + s) are proved
non-negative, L_T(R + s) ≥ e₀ + e₁ s, so that

    ∫_R^∞ θ^k exp(−(L_T − E₀)/t) dθ ≤ exp(−(e₀ − E₀)/t) Σ_j C(k, j) R^{k−j} j! (t/e₁)^{j+1}.

Claims: field-covariance.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import numpy as np
import sympy
from flint import acb, arb, arb_mat, arb_poly, ctx

from refblo.balls.derivatives import (
    BallTape,
    Derivatives,
    differentiate,
    positive_definite,
    symmetric,
    tape,
)
from refblo.balls.graph import Balls
from refblo.errors import OracleError
from refblo.problems.symbolic import SymbolicProblem

_RADII = 60  # doublings of R


@final
@dataclass(frozen=True, eq=False)
class Gaussian:
    """A problem quadratic in θ.

    Attributes:
        derivatives: of the problem.
        curvatures: (λ, θ) ↦ the upper triangles of Q, of ∂_jQ and of ∂_jH for each j, whatever θ.
    """

    derivatives: Derivatives
    curvatures: BallTape


@final
@dataclass(frozen=True, eq=False)
class Polynomial:
    """A problem with n = 1 that is polynomial in θ.

    Attributes:
        coefficients: λ ↦ the coefficients, lowest first, of L_T, f, f_λ1 … f_λp, ∂_λ1 L_T … ∂_λp L_T.
        lengths: how many coefficients each of these has.
    """

    coefficients: BallTape
    lengths: tuple[int, ...]


@lru_cache(maxsize=32)
def gibbs_form(problem: SymbolicProblem) -> Gaussian | Polynomial | None:
    """The rigorous form that a problem without batches has, if any."""
    if problem.inner_batch or problem.outer_batch:
        return None
    derivatives = differentiate(problem)
    if derivatives.curvatures is not None:
        return Gaussian(derivatives, derivatives.curvatures)
    if len(problem.theta) == 1:
        return _polynomial(problem)
    return None


def gibbs(form: Gaussian | Polynomial, lam: Balls, temperature: arb) -> Balls:
    """d/dλ E_p[f] at the current precision.

    Raises:
        OracleError: if p cannot be proved normalisable.
    """
    if isinstance(form, Gaussian):
        return _gaussian(form, lam, temperature)
    return _by_moments(form, lam, temperature)


def _polynomial(problem: SymbolicProblem) -> Polynomial | None:
    (theta,) = problem.theta
    inner, outer = sympy.sympify(problem.inner), sympy.sympify(problem.outer)
    losses = [
        inner,
        outer,
        *(outer.diff(symbol) for symbol in problem.lam),
        *(inner.diff(symbol) for symbol in problem.lam),
    ]
    coefficients = []
    for loss in losses:
        if not loss.is_polynomial(theta):
            return None
        coefficients.append(sympy.Poly(loss, theta).all_coeffs()[::-1])
    flat = [entry for part in coefficients for entry in part]
    return Polynomial(tape(problem.lam, flat), tuple(len(part) for part in coefficients))


def _gaussian(form: Gaussian, lam: Balls, temperature: arb) -> Balls:
    n, p = form.derivatives.n, form.derivatives.p
    size = n * (n + 1) // 2
    inner, outer = form.derivatives.inner.compile(), form.derivatives.outer.compile()
    origin = inner([*lam, *[arb(0)] * n])
    hessian = symmetric(origin[n : n + size], n)
    if not positive_definite(hessian):
        raise OracleError(
            "inner must grow in every direction so that exp(−inner/temperature) can be normalised, got a "
            "Hessian that could not be proved positive definite; there may be no Gibbs truth here"
        )
    covariance = hessian.inv()
    mean = -(covariance * arb_mat(n, 1, origin[:n]))
    parts = inner([*lam, *mean.entries()])
    tangent = -(covariance * arb_mat(n, p, parts[n + size :]))
    slopes = outer([*lam, *mean.entries()])
    at_mean = arb_mat(1, p, slopes[:p]) + arb_mat(1, n, slopes[p:]) * tangent
    triangles = form.curvatures.compile()([*lam, *mean.entries()])
    matrices = [
        symmetric(triangles[index * size : (index + 1) * size], n) for index in range(2 * p + 1)
    ]
    sandwich = covariance * matrices[0] * covariance
    spread = [
        (matrices[1 + j] * covariance).trace() - (sandwich * matrices[1 + p + j]).trace()
        for j in range(p)
    ]
    half = temperature / 2
    return [value + half * wide for value, wide in zip(at_mean.entries(), spread, strict=True)]


def _by_moments(form: Polynomial, lam: Balls, temperature: arb) -> Balls:
    flat, polynomials, first = form.coefficients.compile()(lam), [], 0
    for length in form.lengths:
        polynomials.append(arb_poly(flat[first : first + length]))
        first += length
    energy, outer, *slopes = polynomials
    p = len(slopes) // 2
    products = [outer * slope for slope in slopes[p:]]
    highest = max(part.degree() for part in (outer, *slopes, *products))
    moments = _moments(energy, temperature, max(highest, 0))

    def mean(polynomial: arb_poly) -> arb:
        terms = zip(polynomial.coeffs(), moments, strict=False)
        total = sum((coefficient * moment for coefficient, moment in terms), arb(0))
        return total / moments[0]

    expected = mean(outer)
    return [
        mean(direct) - (mean(product) - expected * mean(slope)) / temperature
        for direct, slope, product in zip(slopes[:p], slopes[p:], products, strict=True)
    ]


def _moments(energy: arb_poly, temperature: arb, highest: int) -> Balls:
    """∫ θ^k exp(−(L_T − E₀)/t) dθ for k = 0 … highest; E₀, any number near the minimum, cancels."""
    shift, reach = _bottom(energy)
    for _ in range(_RADII):
        tails = _tails(energy, shift, temperature, reach, highest)
        if tails is not None and all(tail < arb(2) ** -ctx.prec for tail in tails):
            break
        reach = 2 * reach
    else:
        raise OracleError(
            "inner must grow like a power of |theta| on both sides so that exp(−inner/temperature) can be "
            "normalised, got a polynomial that does not; there is no Gibbs truth here"
        )
    coefficients = [acb(coefficient) for coefficient in energy.coeffs()]

    def weight(z: acb) -> acb:
        value = acb(0)
        for coefficient in reversed(coefficients):
            value = value * z + coefficient
        return ((shift - value) / temperature).exp()

    def moment(k: int) -> arb:
        def integrand(z: acb, analytic: bool) -> acb:  # noqa: ARG001  (entire: analytic everywhere)
            return z**k * weight(z)

        return acb.integral(integrand, -reach, reach).real

    return [moment(k) + arb(0, tail.upper()) for k, tail in enumerate(tails)]


def _bottom(energy: arb_poly) -> tuple[arb, arb]:
    """About the least value at the stationary points, and a distance beyond all of them."""
    slopes = [float(coefficient.mid()) for coefficient in energy.derivative().coeffs()]
    roots = np.roots(slopes[::-1]) if len(slopes) > 1 else np.zeros(1)
    real = roots.real[np.abs(roots.imag) <= 1e-6 * (1 + np.abs(roots.real))]
    points = real if real.size else np.zeros(1)
    least = min((energy(arb(float(point))).mid() for point in points), key=float)
    return least, arb(2.0 * (1.0 + float(np.abs(roots).max(initial=0.0))))


def _tails(
    energy: arb_poly, shift: arb, temperature: arb, reach: arb, highest: int
) -> Balls | None:
    """Bounds on both tails of each moment together; None where L_T is not proved to grow from there on."""
    totals = [arb(0)] * (highest + 1)
    for sign in (1, -1):
        outward = energy(arb_poly([sign * reach, sign]))
        start, *growth = outward.coeffs()
        if not growth or not growth[0] > 0 or not all(e >= 0 for e in growth):
            return None
        scale, base = temperature / growth[0], ((shift - start) / temperature).exp()
        for k in range(highest + 1):
            terms = [
                math.comb(k, j) * reach ** (k - j) * math.factorial(j) * scale ** (j + 1)
                for j in range(k + 1)
            ]
            totals[k] = totals[k] + base * sum(terms, arb(0))
    return totals
