"""Bayesian meta-learners: what is in closed form for a Gaussian, and what a Stein step is."""

from collections.abc import Iterator
from functools import cache

import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.montecarlo import normal_mean
from proofs_check.evidence import Check, fact, identity, number
from proofs_check.scope import ALL, Scope, by_hand
from proofs_check.statement import ClaimStatement, coefficient, exponent

eta, rho, m, mu = sp.symbols("eta rho m mu", real=True)
A, B, G, h, t, w, P = sp.symbols("A B G h t w P", positive=True)


def _bound(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # Two weights: that they are independent matters.
    y, x1, x2, z1, z2, m1, m2, r1, r2 = sp.symbols("y x1 x2 z1 z2 m1 m2 r1 r2", real=True)
    predicted = x1 * (m1 + sp.exp(r1) * z1) + x2 * (m2 + sp.exp(r2) * z2)
    square = normal_mean(normal_mean(sp.expand((y - predicted) ** 2), z1), z2)
    spread = x1**2 * sp.exp(2 * r1) + x2**2 * sp.exp(2 * r2)
    stated = (y - x1 * m1 - x2 * m2) ** 2 + number(st["s"]) * spread
    yield identity("mean of a squared residual, two weights", square, stated)
    # Both log densities at φ = m + e^ρ z, without the constants that they share.
    phi = m + sp.exp(rho) * z1
    own, prior = -(z1**2) / 2 - rho, -((phi - mu) ** 2) * sp.exp(-2 * eta) / 2 - eta
    divergence = normal_mean(sp.expand(own - prior), z1)
    near = sp.exp(2 * (rho - eta)) + (m - mu) ** 2 * sp.exp(-2 * eta)
    stated = eta - rho + number(st["c"]) * near - number(st["d"])
    yield identity("mean of log q - log p", divergence, stated)


_ONE_WEIGHT = by_hand("from one weight to all: the loss is a sum over the weights")


@cache
def _moment(power: int) -> sp.Expr:
    """∫ u^power exp(-(A u - log(u)/2)/t) dρ over u = e^(2ρ), dρ = du/(2u)."""
    u = sp.symbols("u", positive=True)
    density = u ** (1 / (2 * t)) * sp.exp(-A * u / (2 * t)) / (2 * u)
    found: sp.Expr = sp.integrate(u**power * density, (u, 0, sp.oo), conds="none")
    return found


def _mean_field(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    loss = A * sp.exp(2 * rho) / 2 - rho
    at_rest = -sp.log(number(st["k"]) * A) / 2
    over = {"n": _ONE_WEIGHT}
    yield identity("∂L/∂ρ there", sp.diff(loss, rho).subs(rho, at_rest), sp.Integer(0), over=over)
    mean = sp.gammasimp(_moment(1) / _moment(0))
    yield identity("mean of e^(2ρ)", mean, number(st["g"]) * sp.exp(2 * at_rest), over=over)
    # The normaliser's derivative in 1/(2t) at a fixed A/t is the mean of log u.
    shape, rate, u = sp.symbols("k b u", positive=True)
    normaliser = sp.integrate(u ** (shape - 1) * sp.exp(-rate * u), (u, 0, sp.oo), conds="none")
    log_mean = sp.diff(sp.log(normaliser), shape).subs(rate, A / (2 * t))
    off = sp.diff(log_mean / 2 - at_rest, A)
    yield identity("derivative in A of E[ρ] - ρ*", off, sp.Integer(0))
    precision = G + sp.exp(-2 * eta)
    spread = sp.diff(t * B / (2 * precision), eta)
    stated = number(st["c"]) * t * sp.exp(-2 * eta) * B / precision**2
    yield identity("d/dη of tB/(2A), one weight", spread, stated, over=over)


def _stein(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    x, y, a, b, tau = sp.symbols("x y a b tau", real=True)
    kernel = sp.exp(-((x - y) ** 2) / h)
    push = sp.diff(kernel, x) / kernel
    over = {"n": by_hand("a Gaussian kernel is a product over the components")}
    yield identity("∂k(x, y)/∂x over k", push, number(st["c"]) * (y - x) / h, over=over)
    # Over a normal times the kernel the mean is the mode.
    tilted = -P * w ** number(st["e"]) * x**2 / 2 - (x - y) ** 2 / h
    (centre,) = sp.solve(sp.diff(tilted, x), x)
    step = -P * x + w * push
    normal = {"n": by_hand("the mean is executed for a normal p on the line")}
    yield identity("mean of the step over the power of p", step.subs(x, centre), sp.Integer(0),
                   over=normal)  # fmt: skip
    # Two particles on a line, the loss θ²/2.
    near = sp.exp(-((a - b) ** 2) / h)
    first = (a + near * b - tau * sp.diff(near, b)) / 2
    second = (b + near * a - tau * sp.diff(near, a)) / 2
    curl = sp.simplify((sp.diff(first, b) - sp.diff(second, a)).subs({a: 1, b: 2, h: 1}))
    yield fact("∂_b of a's step minus ∂_a of b's", curl != 0, curl, "not 0: no loss's gradient")


CLAIMS = (
    Claim(
        "field-abml",
        ClaimSource.FIELD,
        "ABML's evidence bound for a Gaussian likelihood",
        ClaimStatement(
            "E_q[(y - φ'x)²] = (y - m'x)² + {s}·Σ x_d² e^(2ρ_d); KL(q‖p) = Σ η - ρ + "
            "{c}·[e^(2(ρ-η)) + (m - μ)² e^(-2η)] - {d}",
            (coefficient("s", 1), coefficient("c", "1/2"), coefficient("d", "1/2")),
        ),
        _bound,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, about="a Gaussian likelihood"),
        on="n = 2",
    ),
    Claim(
        "field-abml-gibbs",
        ClaimSource.FIELD,
        "ABML's minimum, and the Gibbs distribution around it",
        ClaimStatement(
            "e^(-2ρ*) = {k}·A_dd; under exp(-L/t) the mean of e^(2ρ) is {g}·e^(2ρ*) and E[ρ] - ρ* does not "
            "depend on A, so that Gibbs - implicit = {c}·t·e^(-2η)·diag(A⁻¹BA⁻¹) in η",
            (coefficient("k", 1), coefficient("g", 1), coefficient("c", 1)),
        ),
        _mean_field,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, about="a Gaussian likelihood"),
        on="n = 1",
    ),
    Claim(
        "field-stein",
        ClaimSource.FIELD,
        "the Stein step that Bayesian MAML differentiates (Liu and Wang 2016)",
        ClaimStatement(
            "∂k(θ_j, θ_i)/∂θ_j = {c}·(θ_i - θ_j)·k/h; with the repulsion weighted by w a step is 0 in the "
            "mean over p^(w^{e})",
            (coefficient("c", 2), exponent("e", -1)),
        ),
        _stein,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, about="a Gaussian kernel"),
        on="n = 1",
    ),
)
