"""Theorems 2 and 4, (26) and (48): what converges, how fast, to which point."""

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import Check, EvidenceMethod, fact, identity, number, within
from proofs_check.scope import ALL, NORM, SYMBOL_OF_STEP, Every, Scope, by_hand
from proofs_check.statement import ClaimStatement, choice, coefficient, formula
from proofs_check.tools.measure import slope
from proofs_check.tools.refblo_runs import RefbloRun, Small, reverse_mode

CONVEX = Assumption("convex", "the expected outer loss F is convex")
NOISELESS = Assumption("noiseless", "the hypergradient has no variance")
UNBIASED = Assumption(
    "unbiased", "the hypergradient is that of F: no recursion, burn-in or step bias"
)

eta, k = sp.symbols("eta k", positive=True)

_DESCENT = by_hand("the descent lemma: F(x⁺) ≤ F(x) + ⟨g, x⁺ - x⟩ + L/2·‖x⁺ - x‖²")
_CONVEXITY = by_hand("convexity: F(x) - F(u) ≤ ⟨g, x - u⟩")
_SUMMED = by_hand("F decreases by the first step, so k times the last gap is at most the sum")
_STEPS = {"p": NORM, "m": SYMBOL_OF_STEP, "f": _DESCENT}


def _bound_proof(s: ClaimStatement) -> Iterator[Check]:
    """Descent, convexity, telescoping, in the inner products ⟨g, d⟩, ‖g‖², ‖d‖² with d = x - u alone."""
    gg, gd, dd, room, start = sp.symbols("gg gd dd s D", positive=True)
    smooth = sp.symbols("L", positive=True)
    # What bounds the curvature of F: L, if L is the constant of its gradient, and nothing else.
    gradient = s.word("what") == _OF_GRADIENT
    curvature = smooth if gradient else sp.symbols("curvature", positive=True)
    descent = -eta * gg + curvature / 2 * eta**2 * gg
    allowed = {smooth: (1 - room) / eta}  # ηL = 1 - s with s ≥ 0
    slack = -eta / 2 * gg - room * eta / 2 * gg
    name = "F(x⁺) - F(x) ≤ -η·gg + L/2·η²·gg with ηL = 1 - s, s ≥ 0"
    yield identity(name, sp.expand(descent.subs(allowed)), sp.expand(slack), over=_STEPS)
    # Convexity: F(x) ≤ F(u) + ⟨g, d⟩ with d = x - u; together they telescope.
    moved = dd - 2 * eta * gd + eta**2 * gg
    yield identity("F(x⁺) - F(u) ≤ gd - η/2·gg is a difference of squares, (dd - dd⁺)/(2η)",
                   gd - eta / 2 * gg, (dd - moved) / (2 * eta),
                   over={**_STEPS, "f": _CONVEXITY})  # fmt: skip
    total = start / (2 * eta)
    over = {**_STEPS, "f": _SUMMED}
    yield identity("the sum of k of them is at most D/(2η), and the last gap its k-th part",
                   total / k, s.formula("bound", D=start, η=eta, k=k), over=over)  # fmt: skip


def _theorem(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    yield _step_rule(s)
    yield from _bound_proof(s)
    yield from _instances(s, context)


def _step_rule(s: ClaimStatement) -> Check:
    """One step from λ = 1 on F = 2λ² + ½: f = θ²/2 does not contain λ, and θ ~ N(2λ, 1).

    F' is 4-Lipschitz; f as a function of λ changes by nothing, so that any L bounds it, such as 1/10.
    """
    constant = Fraction(4) if s.word("what") == _OF_GRADIENT else Fraction(1, 10)
    step = 1 / constant
    gap = 2 * (1 - step * 4) ** 2
    bound = s.formula("bound", Fraction, D=Fraction(1), η=step, k=Fraction(1))
    name = f"f = θ²/2, θ ~ N(2λ, 1), so that F = 2λ² + 1/2: after a step η = 1/L = {step} from 1 the gap"
    return fact(name, gap <= bound, gap, f"<= {bound}")


def _instances(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    steps = 4000
    if context.has(CONVEX):
        value, slope_at, start, best, step = _quadratic, _quadratic_slope, 1.5, 0.0, 0.5
        name = "F = λ²/2"
    else:
        # Many wells, with a slope that is 21/20-Lipschitz; the run ends in one that is not the lowest.
        value, slope_at, start, best, step = _wells, _wells_slope, 2.0, _LOWEST, 0.2
        name = "F = cos λ + λ²/40 + λ/20 (L = 21/20)"
    bias = 0.0 if context.has(UNBIASED) else 0.3
    spread = 0.0 if context.has(NOISELESS) else 1.0
    name += "" if context.has(UNBIASED) else ", gradient off by 3/10"
    name += "" if context.has(NOISELESS) else ", gradient with noise of variance 1"
    lam, gaps = start, 0.0
    draws = np.random.default_rng(11).normal(size=steps)
    for j in range(steps):
        lam -= step * (slope_at(lam) + bias + spread * draws[j])
        if j >= steps - 200:
            gaps += (value(lam) - value(best)) / 200
    bound = s.formula("bound", float, D=(start - best) ** 2, η=step, k=steps - 200)
    yield fact(f"gap to the minimiser after {steps} steps on {name}", gaps <= bound, gaps,
               f"<= {bound:.3g}", EvidenceMethod.NUMERIC)  # fmt: skip


def _quadratic(lam: float) -> float:
    return lam * lam / 2


def _quadratic_slope(lam: float) -> float:
    return lam


def _wells(lam: float) -> float:
    return math.cos(lam) + lam * lam / 40 + lam / 20


def _wells_slope(lam: float) -> float:
    return -math.sin(lam) + lam / 20 + 0.05


_LOWEST = -3.0394429508126715
"""The lowest well: the zero of the slope near -3."""


def _rate_word(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    error = s.formula("error", k=k)
    ratio = sp.limit(error.subs(k, k + 1) / error, k, sp.oo)
    stated = number(s["q"])
    yield fact("limit of successive errors", ratio == stated, ratio, stated,
               EvidenceMethod.SYMBOLIC)  # fmt: skip
    accuracy = sp.symbols("epsilon", positive=True)
    count = s.formula("count", ε=accuracy)
    yield identity("the error after that many iterations", error.subs(k, count), accuracy)
    yield identity("the bound of Theorem 2, over its constant", error, 1 / k)
    # The slowest power that a smooth convex F can show: F = λ^p, gap ~ k^(-p/(p-2)) → 1/k.
    yield from _measured_rate()
    yield from _measured_with_package(2000 if context.full else 400)


def _measured_rate() -> Iterator[Check]:
    power = 12
    lam, step, gaps, at = 1.0, 1.0 / (power * (power - 1)), [], []
    for j in range(1, 200_001):
        lam -= step * power * lam ** (power - 1)
        if j in {25_000, 50_000, 100_000, 200_000}:
            gaps.append(lam**power)
            at.append(float(j))
    found = slope(np.array(at), np.array([gaps])).value
    stated = -power / (power - 2)
    # The next order of the continuous-time solution is O(1/k) relative.
    yield within("measured exponent on F = λ^12", found, stated - 1e-3, stated + 1e-3)


def _measured_with_package(steps: int) -> Iterator[Check]:
    """F = λ⁴ through an inner problem solved in one step: the package's exact hypergradient."""
    small = Small(lambda lam, t: ((t - lam) ** 2).sum() / 2, lambda _, t: (t**4).sum(), np.zeros(1))
    lam, at, gaps = np.array([1.0]), [], []
    for j in range(1, steps + 1):
        lam = lam - reverse_mode(small, RefbloRun(1.0, 0, 1), lam) / 12
        if j in {steps // 8, steps // 4, steps // 2, steps}:
            gaps.append(float(lam[0]) ** 4)
            at.append(float(j))
    # λ² = 1/(2ηk·4)·(1 + O(log k / k)): the slope of the gap tends to -2 from above.
    room = 4 * float(np.log(at[0])) / at[0]
    found = slope(np.array(at), np.array([gaps])).value
    yield within("refblo's reverse mode: exponent on F = λ⁴", found, -2 - room, -2 + room)


_OF_GRADIENT = "the gradient of F"
_HOLDS = ClaimStatement(
    "gradient descent whose step η is at most the inverse of what bounds the change of {what} in λ reaches, "
    "after k steps, an F that exceeds that at any point by at most {bound}, D the square of the distance "
    "between the start and the point",
    (choice("what", _OF_GRADIENT, "f"), formula("bound", "D/(2*η*k)")),
)
_THEOREM_REMARK = (
    "Smoothness of F is needed, not Lipschitz continuity of f; without convexity only "
    "stationarity follows (Ghadimi and Lan 2013, Theorem 2.1); with noise there is a floor; with "
    "a biased hypergradient the limit is another point: see text-corrected-theorem. In the counterexample p "
    "is a normal distribution, from which the chain starts independently of λ: (A1) to (A3) hold."
)
_RATE = ClaimStatement(
    "an error of {error} shrinks by the factor {q} a step in the limit, and needs {count} iterations for "
    "an accuracy ε",
    (formula("error", "1/k"), coefficient("q", 1), formula("count", "1/ε")),
)


def _bound_claim(key: str, title: str) -> Claim:
    return Claim(
        key,
        ClaimSource.KIM,
        title,
        _HOLDS.saying(what="f"),
        _theorem,
        ClaimVerdict.REFUTED,
        corrected=_HOLDS,
        added=(CONVEX, NOISELESS, UNBIASED),
        remark=_THEOREM_REMARK,
        scope=Scope(p=ALL, m=ALL, f=Every("F convex, its gradient Lipschitz")),
        on="F = 2λ² + 1/2 and F = λ²/2",
        repeats="" if key == "thm-2" else "thm-2",
    )


CLAIMS = (
    _bound_claim("thm-2", "convergence of HPO-SGLD"),
    _bound_claim("thm-4", "convergence of HPO-SGLD, restated"),
    _bound_claim("eq-26", "the bound of Theorem 2"),
    _bound_claim("eq-48", "the bound of Theorem 4"),
    Claim(
        "text-linear-rate",
        ClaimSource.KIM,
        "the rate O(1/k) is called linear",
        _RATE.having(q="1/2"),
        _rate_word,
        ClaimVerdict.REFUTED,
        corrected=_RATE,
        remark="A factor 1/2 stands for any factor below 1, which is what 'linear' means; 1 is "
        "sublinear.",
        scope=Scope(about="an error of 1/k"),
    ),
)
