"""Bayesian meta-learners: what is in closed form for a Gaussian, and what a Stein step is."""

from collections.abc import Iterator
from functools import cache

import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.montecarlo import normal_mean
from proofs_check.evidence import Check, fact, identity
from proofs_check.scope import ALL, Scope, by_hand
from proofs_check.statement import ClaimStatement, formula
from proofs_check.sums import At
from proofs_check.tools import learner_claims

eta, rho, m, mu = sp.symbols("eta rho m mu", real=True)
A, B, G, h, t, w = sp.symbols("A B G h t w", positive=True)


def _bound(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # A residual r of the other weights, then one more weight of mean m and spread e^ρ.
    r, x1, z1, m1, r1 = sp.symbols("r x1 z1 m1 r1", real=True)
    left = r - x1 * (m1 + sp.exp(r1) * z1)
    square = normal_mean(sp.expand(left**2), z1)
    weights = by_hand(
        "one weight at a time: the residual of the others is a symbol, independent of it"
    )
    over = {"n": weights}
    found = square - (r - x1 * m1) ** 2
    yield identity("what a weight adds to the mean of a squared residual", found,
                   st.formula("spread", x=x1, ρ=r1), over=over)  # fmt: skip
    # Both log densities at φ = m + e^ρ z, without the constants that they share.
    phi = m + sp.exp(rho) * z1
    own, prior = -(z1**2) / 2 - rho, -((phi - mu) ** 2) * sp.exp(-2 * eta) / 2 - eta
    divergence = normal_mean(sp.expand(own - prior), z1)
    stated = st.formula("divergence", η=eta, ρ=rho, m=m, μ=mu)
    yield identity("mean of log q - log p", divergence, stated, over=over)
    yield learner_claims.abml(st)


_ONE_WEIGHT = by_hand(
    "from one weight to all: the loss is a sum of a function of each ρ and one of the means"
)


@cache
def _moment(power: int) -> sp.Expr:
    """∫ u^power exp(-(A u - log(u)/2)/t) dρ over u = e^(2ρ), dρ = du/(2u)."""
    u = sp.symbols("u", positive=True)
    density = u ** (1 / (2 * t)) * sp.exp(-A * u / (2 * t)) / (2 * u)
    found: sp.Expr = sp.integrate(u**power * density, (u, 0, sp.oo), conds="none")
    return found


def _mean_field(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    loss = A * sp.exp(2 * rho) / 2 - rho
    at_rest = st.formula("rho", A=A)
    over = {"n": _ONE_WEIGHT}
    yield identity("∂L/∂ρ there", sp.diff(loss, rho).subs(rho, at_rest), sp.Integer(0), over=over)
    mean = sp.gammasimp(_moment(1) / _moment(0))
    yield identity("mean of e^(2ρ)", mean, st.formula("mean", ρ=at_rest), over=over)
    # The normaliser's derivative in 1/(2t) at a fixed A/t is the mean of log u.
    shape, rate, u = sp.symbols("k b u", positive=True)
    normaliser = sp.integrate(u ** (shape - 1) * sp.exp(-rate * u), (u, 0, sp.oo), conds="none")
    log_mean = sp.diff(sp.log(normaliser), shape).subs(rate, A / (2 * t))
    off = sp.diff(log_mean / 2 - at_rest, A)
    yield identity("derivative in A of E[ρ] - ρ*", off, sp.Integer(0))
    yield from _shift(st)
    yield from learner_claims.abml_gibbs(st)


_TRACE = by_hand(
    "m is normal with covariance tP⁻¹, so that ½m'Bm has the mean ½t·tr(BP⁻¹) and a constant in t, and a "
    "trace is cyclic"
)


def _shift(st: ClaimStatement) -> Iterator[Check]:
    """d/dη of ½t·tr(BP⁻¹); P changes by -2e^(-2η) in the weight's own entry."""
    whole, query, moved = sp.symbols("P B N", commutative=False)
    # (P + xN)(P⁻¹ - xP⁻¹NP⁻¹) = I + O(x²), for any N.
    inverse = -(whole**-1) * moved * whole**-1
    first = sp.expand(moved * whole**-1 + whole * inverse)
    yield identity("(P + xN)(P⁻¹ - xP⁻¹NP⁻¹) at first order in x", first, sp.S(0))
    by_eta = sp.diff(sp.exp(-2 * eta), eta)
    found = -t / 2 * by_eta * whole**-1 * query * whole**-1
    stated = st.formula("shift", t=t, η=eta, P=whole, B=query)
    over = {"n": _TRACE}
    yield identity("-½t·dP/dη·P⁻¹BP⁻¹, the weight's own entry", sp.expand(found), sp.expand(stated),
                   over=over)  # fmt: skip
    a, b, c, d, e, f = sp.symbols("a b c d e f")
    precision = sp.Matrix([[a + sp.exp(-2 * eta), b], [b, c]])
    bend = sp.Matrix([[d, e], [e, f]])
    spread = sp.diff(t / 2 * (bend * precision.inv()).trace(), eta)
    of_two = st.formula("shift", t=t, η=eta, P=precision, B=bend)
    entry = of_two[0, 0] if isinstance(of_two, sp.MatrixBase) else sp.nan
    yield identity("d/dη of ½t·tr(BP⁻¹), two weights", sp.together(spread), sp.together(entry))


def _stein(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    x, y, a, b, tau = sp.symbols("x y a b tau", real=True)
    kernel = sp.exp(-((x - y) ** 2) / h)
    push = sp.diff(kernel, x) / kernel
    over = {"n": by_hand("a Gaussian kernel is a product over the components")}
    i, j = sp.symbols("i j")
    particles = At(lambda k: {i: y, j: x}.get(k, sp.Symbol(f"theta_{k}")))
    stated = st.formula("push", θ=particles, h=h, i=i, j=j)
    yield identity("∂k(x, y)/∂x over k", push, stated, over=over)
    # k·∂log p + w·∂k is w times the derivative of k·p^(1/w), over that power of p.
    law, any_kernel = sp.Function("p")(x), sp.Function("k")(x)
    tilted = law ** st.formula("power", w=w)
    drift = any_kernel * sp.diff(sp.log(law), x) + w * sp.diff(any_kernel, x)
    stein = {"n": by_hand("one component at a time; the integral of a derivative that decays is 0")}
    yield identity("the step times the power of p is a derivative", sp.expand(drift),
                   sp.expand(w * sp.diff(any_kernel * tilted, x) / tilted), over=stein)  # fmt: skip
    # Two particles on a line, the loss θ²/2.
    near = sp.exp(-((a - b) ** 2) / h)
    first = (a + near * b - tau * sp.diff(near, b)) / 2
    second = (b + near * a - tau * sp.diff(near, a)) / 2
    curl = sp.simplify((sp.diff(first, b) - sp.diff(second, a)).subs({a: 1, b: 2, h: 1}))
    yield fact("∂_b of a's step minus ∂_a of b's", curl != 0, curl, "not 0: no loss's gradient")
    yield learner_claims.bmaml(st)
    yield learner_claims.stein_mean(st)


CLAIMS = (
    Claim(
        "field-abml",
        ClaimSource.FIELD,
        "ABML's evidence bound for a Gaussian likelihood",
        ClaimStatement(
            "each weight, with input x, adds {spread} to the mean of a squared residual at the mean "
            "weights, and {divergence} to the divergence of q from p",
            (
                formula("spread", "x**2*exp(2*ρ)"),
                formula("divergence", "η - ρ + 1/2*(exp(2*(ρ - η)) + (m - μ)**2*exp(-2*η)) - 1/2"),
            ),
        ),
        _bound,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, about="a Gaussian likelihood"),
    ),
    Claim(
        "field-abml-gibbs",
        ClaimSource.FIELD,
        "ABML's minimum, and the Gibbs distribution around it",
        ClaimStatement(
            "for a weight with its own entry A of the posterior's precision P the minimum over ρ is at "
            "{rho}; around it the mean of the squared spread is {mean} at any temperature t, and the Gibbs "
            "gradient in η less the implicit one is the weight's own entry of {shift}, B the query points' "
            "precision",
            (
                formula("rho", "-1/2*log(A)"),
                formula("mean", "exp(2*ρ)"),
                formula("shift", "t*exp(-2*η) * P**(-1) @ B @ P**(-1)", "P B"),
            ),
        ),
        _mean_field,
        ClaimVerdict.HOLDS,
        remark="E[ρ] - ρ* does not depend on A, so that the spread itself contributes nothing.",
        scope=Scope(n=ALL, about="a Gaussian likelihood"),
    ),
    Claim(
        "field-stein",
        ClaimSource.FIELD,
        "the Stein step that Bayesian MAML differentiates (Liu and Wang 2016)",
        ClaimStatement(
            "the repulsion of a particle i by another j over their kernel is {push}; with the repulsion "
            "weighted by w a step vanishes in the mean over p to the power {power}",
            (formula("push", "2*(θ[i] - θ[j])/h"), formula("power", "1/w")),
        ),
        _stein,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, about="a Gaussian kernel"),
    ),
)
