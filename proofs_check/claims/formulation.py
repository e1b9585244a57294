"""The problem: (1) to (6), when the stochastic objective exists, and what τ → 0 does."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache

import flint
import numpy as np
import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import (
    Check,
    EvidenceMethod,
    Role,
    encloses,
    fact,
    identity,
    less,
    number,
)
from proofs_check.scope import (
    ALL,
    COMPONENT,
    FUNCTIONS,
    JETS,
    ONE,
    Every,
    Only,
    Scope,
    by_hand,
)
from proofs_check.statement import ClaimStatement, coefficient, formula

COERCIVE = Assumption("coercive", "the inner loss plus its penalty is bounded below and coercive")
SINGLETON = Assumption("singleton", "the inner argmin is a single point for every λ")
NORMALISABLE = Assumption("normalisable", "Z(λ) is finite: exp(-E) is integrable over θ")
UNIQUE = Assumption("unique", "the inner minimiser is unique and nondegenerate")

lam, theta, tau, h, c = sp.symbols("lambda theta tau h c", real=True)


def _weight_decay(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    loss = s.formula("loss", h=h, θ=theta, c=c, λ=lam)
    argmin = s.formula("argmin", h=h, c=c, λ=lam)
    yield identity("stationary at the argmin", sp.diff(loss, theta).subs(theta, argmin), sp.S(0))
    # λ = -1 < -h/2 is what an unconstrained λ can reach; its objective falls without bound.
    at = sp.Integer(1) if context.has(COERCIVE) else sp.Integer(-1)
    value = sp.diff(loss, theta, 2).subs({theta: 1, h: 1, lam: at})
    yield fact(
        f"curvature positive at h = 1, λ = {at}", value > 0, value, "> 0", EvidenceMethod.SYMBOLIC
    )


def _gibbs_exists(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    energy = sp.Function("E")(theta)
    score = sp.diff(sp.log(s.formula("density", E=energy)), theta)
    over = {"n": COMPONENT, "inner": FUNCTIONS}
    yield identity("the score of p", score, -sp.diff(energy, theta), over=over)
    density = s.formula("density", E=theta**2 / 2) / sp.sqrt(2 * sp.pi)
    total = sp.integrate(density, (theta, -sp.oo, sp.oo))
    yield fact("total mass of a Gaussian energy", total == 1, total, 1, EvidenceMethod.SYMBOLIC)
    # Where Z is finite the mass of [-R-1, -R] must die out; Synth-1D's cubic on R does not let it.
    energy_at = _gaussian if context.has(NORMALISABLE) else _cubic
    near, far = mass(energy_at, -3, -2), mass(energy_at, -6, -5)
    yield less("mass of [-6, -5] against that of [-3, -2]", far, near)


def _gaussian(z: flint.acb) -> flint.acb:
    return z**2 / 2


def _cubic(z: flint.acb) -> flint.acb:
    return z**3 / 3 - 3 * z / 4


def mass(energy: Callable[[flint.acb], flint.acb], low: int, high: int) -> flint.arb:
    """The integral of exp(-E) over an interval, enclosed.

    Args:
        energy: E as a holomorphic function of one parameter.
        low: lower end.
        high: upper end.

    Returns:
        A ball that contains the integral.
    """

    def density(z: flint.acb, _analytic: bool) -> flint.acb:
        return (-energy(z)).exp()

    return flint.acb.integral(density, flint.acb(low), flint.acb(high)).real


def _bilevel(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    positive = sp.symbols("lambda", positive=True)
    argmin = s.formula("argmin", λ=positive)
    inner = s.formula("inner", θ=theta, λ=positive)
    slope = sp.diff(inner, theta).subs(theta, argmin)
    yield identity("the inner loss is stationary at the stated argmin", slope, sp.S(0))
    wanted = theta**3 / 3 - (1 - positive**2) * theta
    yield identity("the inner loss is that of Synth-1D", sp.expand(inner), sp.expand(wanted))
    bend = sp.diff(inner, theta, 2).subs(theta, argmin).subs(positive, sp.Rational(1, 2))
    yield fact("and convex there, λ = 1/2", bend > 0, bend, "> 0", EvidenceMethod.SYMBOLIC)
    # Two exact minimisers of Figure 1's inner loss at λ = 1/10 (θ2 = -2/5 and θ2 = 1).
    first, second = Fraction(1, 2048), Fraction(1, 2048)
    if not context.has(SINGLETON):
        second = 2 * Fraction(7, 16) ** 2 + Fraction(1, 2048)
    yield fact("every inner minimiser has one outer value", first == second, second, first)


def _outer_is_validation(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    x, y = sp.symbols("x1:4"), sp.symbols("y1:4")
    losses = [(theta * xi - yi) ** 2 for xi, yi in zip(x, y, strict=True)]
    outer = sum(losses) / 3
    mean_of_f = number(s["a"]) * sum(losses) / 3
    yield _outer_of_the_package(s)
    yield _definition(identity("f is the mean validation loss", mean_of_f, outer))


def _outer_of_the_package(s: ClaimStatement) -> Check:
    """Refblo's f on the diabetes data against the half square residuals of the validation patients."""
    import torch

    from refblo.problems import build
    from refblo.problems.data import diabetes

    case, data = build("ridge_diabetes"), diabetes(221, 221)
    # The last parameter is the intercept.
    point = np.linspace(-1.0, 1.0, data.validation.shape[1] + 1)
    residuals = data.validation @ point[:-1] + point[-1] - data.validation_targets[:, 0]
    loss = float(s["a"]) * float((residuals**2 / 2).mean())
    found = case.problem.outer(case.lam, torch.as_tensor(point), None).item()
    # A few hundred roundings of a sum of squares.
    return fact("refblo's f on the diabetes data, against the mean over its validation patients",
                abs(found - loss) <= 1e-12 * found, found, loss, EvidenceMethod.NUMERIC)  # fmt: skip


def _definition(check: Check) -> Check:
    """The same check, as one that says what a symbol means."""
    return replace(check, role=Role.DEFINITION)


@cache
def laplace_correction() -> sp.Expr:
    """E_p[f] - f(θ*) to first order in τ for p ∝ exp(-L/τ), by expanding every factor.

    Returns:
        The coefficient of τ, in f1 = f', f2 = f'', h = L'' and t = L''' at the minimiser.
    """
    u, r, f1, f2, t3, q4 = sp.symbols("u r f1 f2 t q", real=True)
    # θ = θ* + r u with r = √τ; u is Gaussian of variance 1/h under the quadratic part of L.
    tilt = 1 - r * t3 * u**3 / 6 + r**2 * (-q4 * u**4 / 24 + t3**2 * u**6 / 72)
    value = r * f1 * u + r**2 * f2 * u**2 / 2
    moment = {0: 1, 2: 1 / h, 4: 3 / h**2, 6: 15 / h**3, 8: 105 / h**4}

    def gaussian_mean(expression: sp.Expr) -> sp.Expr:
        poly = sp.Poly(sp.expand(expression), u)
        return sum(k * moment.get(p[0], 0) for p, k in poly.terms())

    ratio = gaussian_mean(value * tilt) / gaussian_mean(tilt)
    return sp.simplify(sp.series(ratio, r, 0, 3).removeO().coeff(r, 2))


def _gibbs_limit(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    f1, f2, t3 = sp.symbols("f1 f2 t", real=True)
    stated = s.formula("error", τ=tau, f_θ=f1, f_θθ=f2, h=h, L_θθθ=t3)
    tails = by_hand("Laplace's method: the tails of the integral are exponentially small in 1/τ")
    over = {"f": JETS, "inner": tails}
    yield identity(
        "temperature error to first order", tau * laplace_correction(), stated, over=over
    )
    # f(θ) = θ. One well: L = (θ - 1)²/2, mean 1. Two equal wells at ±1: the mean is 0 at every τ.
    wells = [sp.S(1)] if context.has(UNIQUE) else [sp.S(1), sp.S(-1)]
    mean = sum(wells) / len(wells)
    holds = all(mean == well for well in wells)
    yield fact("limit of E[θ] is a minimiser", holds, mean, wells, EvidenceMethod.SYMBOLIC)


def _energy(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    temperature = sp.symbols("tau", positive=True)
    loss = sp.Function("L")(theta)
    energy = s.formula("energy", L_T=loss, τ=temperature)
    slopes = (sp.diff(-energy, theta), sp.diff(-loss / temperature, theta))
    over = {"n": COMPONENT, "inner": FUNCTIONS}
    yield identity("exp(-E) is proportional to exp(-L_T/τ): their scores", *slopes, over=over)


def _existence(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    def energy(z: flint.acb) -> flint.acb:
        value: flint.acb = s.formula("energy", flint.acb, θ=z)
        return value

    box = mass(energy, 0, 1)
    yield encloses("Z on [0, 1] at τ = 1", box, s["z"], Fraction(1, 20000))
    outside = flint.arb(0) if context.has(NORMALISABLE) else mass(energy, -6, -5)
    yield less("mass of [-6, -5], where the box ends at 0", outside, box)


CLAIMS = (
    Claim(
        "eq-1",
        ClaimSource.KIM,
        "weight-decay learning as a bilevel problem",
        ClaimStatement(
            "λ minimises the validation loss at the minimiser over θ of the training loss plus its "
            "penalty; for {loss} that minimiser is {argmin}",
            (
                formula("loss", "h*(θ - c)**2/2 + λ*θ**2"),
                formula("argmin", "h*c/(h + 2*λ)"),
            ),
        ),
        _weight_decay,
        ClaimVerdict.CONDITIONAL,
        added=(COERCIVE,),
        remark="λ is unconstrained in the text; at λ_j below -h/2 the inner problem has no minimum.",
        scope=Scope(n=ONE, p=ONE, inner=Only("a quadratic with its penalty")),
    ),
    Claim(
        "eq-2",
        ClaimSource.KIM,
        "the stochastic objective",
        ClaimStatement(
            "λ minimises the mean of f under p, whose density is {density} over Z",
            (formula("density", "exp(-E)"),),
        ),
        _gibbs_exists,
        ClaimVerdict.CONDITIONAL,
        added=(NORMALISABLE,),
        remark="Fails for Synth-1D's cubic on R and for any flat direction of an unbounded θ.",
        scope=Scope(n=ALL, inner=ALL),
    ),
    Claim(
        "eq-3",
        ClaimSource.KIM,
        "the bilevel problem",
        ClaimStatement(
            "λ minimises the validation loss at the minimiser of the training loss; for Synth-1D, with "
            "{inner}, that minimiser is {argmin}",
            (
                formula("inner", "θ**3/3 - (1 - λ**2)*θ"),
                formula("argmin", "sqrt(1 - λ**2)"),
            ),
        ),
        _bilevel,
        ClaimVerdict.CONDITIONAL,
        added=(SINGLETON,),
        remark="With '∈ argmin' the outer objective is not a function of λ: Figure 1's data.",
        scope=Scope(n=ONE, p=ONE, inner=Only("Synth-1D")),
    ),
    Claim(
        "eq-4",
        ClaimSource.KIM,
        "the outer function is the validation loss",
        ClaimStatement("f is {a} times the validation loss", (coefficient("a", 1),)),
        _outer_is_validation,
        ClaimVerdict.HOLDS,
        scope=Scope(f=ALL, M=ALL),
        on="ridge on the diabetes data",
    ),
    Claim(
        "eq-5",
        ClaimSource.KIM,
        "the Gibbs distribution and its limit τ → 0",
        ClaimStatement(
            "as τ vanishes the mean of f under p tends to f at the inner minimiser; the difference is "
            "{error} and terms of higher order, h the curvature there",
            (formula("error", "1/2*τ*(f_θθ/h - f_θ*L_θθθ/h**2)"),),
        ),
        _gibbs_limit,
        ClaimVerdict.CONDITIONAL,
        added=(UNIQUE,),
        scope=Scope(n=ONE, f=Every("C²"), inner=Every("C⁴")),
    ),
    Claim(
        "eq-6",
        ClaimSource.KIM,
        "the energy",
        ClaimStatement("the energy is {energy}", (formula("energy", "L_T/τ"),)),
        _energy,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, inner=ALL),
    ),
    Claim(
        "text-existence",
        ClaimSource.KIM,
        "the normaliser of Synth-1D",
        ClaimStatement(
            "for the energy {energy} of Synth-1D the normaliser on the box of the text is {z}",
            (
                formula("energy", "θ**3/3 - 3/4*θ"),
                coefficient("z", "1.3506"),
            ),
        ),
        _existence,
        ClaimVerdict.CONDITIONAL,
        added=(NORMALISABLE,),
        remark="Finite on the box [0, 1] of the text; infinite on R, where the chain runs.",
        scope=Scope(n=ONE, p=ONE, inner=Only("Synth-1D")),
        on="Synth-1D at λ = 1/2 on [0, 1], τ = 1",
    ),
)
