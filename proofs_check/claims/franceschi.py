"""Franceschi et al. (2018): existence of a solution, and convergence of the approximate problems."""

from collections.abc import Iterator
from fractions import Fraction

import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import (
    Check,
    EvidenceMethod,
    Role,
    at_most,
    fact,
    identity,
    number,
    rational,
)
from proofs_check.scope import ALL, Every, Scope
from proofs_check.statement import ClaimStatement, coefficient, exponent

COMPACT = Assumption("compact", "Λ is compact")
CONTINUOUS = Assumption("continuous-outer", "E is jointly continuous")
SINGLETON = Assumption("singleton-argmin", "argmin L_λ is a single point for every λ")
BOUNDED = Assumption("bounded-solutions", "w_λ stays bounded over Λ")
LIPSCHITZ = Assumption("uniform-lipschitz", "E(·, λ) is Lipschitz with one constant for all λ")
UNIFORM = Assumption("uniform-convergence", "w_{T,λ} → w_λ uniformly on Λ")

lam, w = sp.symbols("lambda w", positive=True)


def _attained(value: sp.Expr, low: sp.Expr, high: sp.Expr) -> bool:
    """Whether a monotone function takes its infimum over [low, high], high possibly infinite."""
    infimum = sp.limit(value, lam, high)
    if high == sp.oo:
        return bool(sp.solveset(sp.Eq(value, infimum), lam, sp.Interval(low, sp.oo)) != sp.EmptySet)
    return bool(sp.simplify(value.subs(lam, high) - infimum) == 0)


def _existence(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    # Ridge: L_λ(w) = (w - 3)²/2 + λw²/2 on Λ = [0, 2].
    inner = (w - 3) ** 2 / 2 + lam * w**2 / 2
    solution = 3 * (1 + lam) ** number(s["e"])
    yield identity("w_λ solves the inner problem", sp.diff(inner, w).subs(w, solution), sp.S(0))
    yield identity("L_λ is strictly convex", sp.diff(inner, w, 2), 1 + lam)
    outer = number(s["c"]) * solution**2
    found = sp.diff(outer, lam)
    yield identity("the slope of f(λ) = w_λ²/2", found, -9 / (1 + lam) ** 3)
    yield from _conditions(context)


def _conditions(context: ClaimContext) -> Iterator[Check]:
    """Each condition's own instance: f takes its infimum with it and not without."""
    ridge = sp.Rational(9, 2) / (1 + lam) ** 2
    edge = sp.Integer(2) if context.has(COMPACT) else sp.oo
    yield fact(f"compact: f takes its infimum on [0, {edge}]", _attained(ridge, sp.S(0), edge),
               sp.limit(ridge, lam, edge), "attained", EvidenceMethod.SYMBOLIC)  # fmt: skip
    # E = λ for λ > 0 but E(0) = 1: lower semicontinuity fails at the infimum.
    at_zero = sp.S(0) if context.has(CONTINUOUS) else sp.S(1)
    yield fact("continuous: E at the limit point is the limit", at_zero == sp.limit(lam, lam, 0),
               at_zero, 0, EvidenceMethod.SYMBOLIC)  # fmt: skip
    # L_0(w) = (w² - 1)²: two minimisers, E(w) = w, and a rule that picks +1 has f(0) = 1, not -1.
    minimisers = [sp.S(1)] if context.has(SINGLETON) else [sp.S(1), sp.S(-1)]
    yield fact("singleton: f(0) does not depend on which minimiser is picked",
               len(set(minimisers)) == 1, minimisers, "one value", EvidenceMethod.SYMBOLIC)  # fmt: skip
    # a(w) = w²/(1 + w⁴) with a well of depth 2λ² at w = 1/λ: w_0 = 0, w_λ ≈ 1/λ, E = 1/(1 + w²).
    path = lam if context.has(BOUNDED) else 1 / lam
    limit = sp.limit(1 / (1 + path**2), lam, 0)
    yield fact(
        "bounded: f(0) = E(w_0) is the limit of f", limit == 1, limit, 1, EvidenceMethod.SYMBOLIC
    )


def ridge_gap(steps: int, points: int) -> tuple[Fraction, Fraction]:
    """Ridge on Λ = [1/2, 1] by gradient descent of step 1/2 from 0, with E(w) = w, on a grid.

    Args:
        steps: T.
        points: grid points of λ.

    Returns:
        |inf f_T - inf f| and sup |w_T - w|, over the grid, exactly.
    """
    lams = [Fraction(1, 2) + Fraction(k, 2 * (points - 1)) for k in range(points)]
    exact = [Fraction(3) / (1 + x) for x in lams]
    found = []
    for x in lams:
        now = Fraction(0)
        for _ in range(steps):
            now -= Fraction(1, 2) * ((now - 3) + x * now)
        found.append(now)
    gap = max(abs(a - b) for a, b in zip(found, exact, strict=True))
    return abs(min(found) - min(exact)), gap


def _convergence(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    t = sp.symbols("T", positive=True)
    # Step 1/2 on a curvature 1 + λ: w_T - w_λ = -(1 - (1 + λ)/2)^T·w_λ.
    start, now = sp.S(0), sp.S(0)
    for _ in range(3):
        now = sp.expand(now - ((now - 3) + lam * now) / 2)
    target = 3 / (1 + lam)
    rate = 1 - (1 + lam) / 2
    yield identity("inner error after T = 3 steps", now - target, -(rate ** (3 * number(s["e"])))
                   * (target - start))  # fmt: skip
    for steps in (2, 5, 9):
        gap, distance = ridge_gap(steps, 9)
        yield at_most(f"|inf f_T - inf f| against ν·sup|w_T - w|, T = {steps}", rational(gap),
                      rational(s["nu"]) * rational(distance))  # fmt: skip
        bound = Fraction(2) * Fraction(1, 4) ** steps
        yield at_most(f"sup|w_T - w| against q^T·sup|w_λ|, q = 1/4, T = {steps}",
                      rational(distance), rational(bound))  # fmt: skip
    yield fact("the constant is that of E(w) = w", s["nu"] == 1, s["nu"], 1, role=Role.DEFINITION)
    # Curvature λ on (0, 1], start 1, step 1, E = -w: every λ converges, no rate serves them all.
    edge = sp.Rational(1, 10) if context.has(UNIFORM) else sp.S(0)
    least = -((1 - edge) ** t)
    limit = sp.limit(least, t, sp.oo)
    yield identity(f"limit of inf f_T on [{edge}, 1]; inf f = 0", limit, sp.S(0))
    slope = sp.S(1) if context.has(LIPSCHITZ) else 2**t
    moved = sp.limit(slope * sp.Rational(1, 2) ** t, t, sp.oo)
    yield identity("limit of |f_T - f| for an error 2^-T and E's slope there", moved, sp.S(0))
    # E = (w - 1)² with w_T = λ(1 - 2^-T): the minimiser of f_T in closed form, and its limit.
    minimiser = sp.solve(sp.diff((lam * (1 - 2**-t) - 1) ** 2, lam), lam)[0]
    yield identity("limit of argmin f_T", sp.limit(minimiser, t, sp.oo), sp.S(1))


CLAIMS = (
    Claim(
        "franceschi-existence",
        ClaimSource.FRANCESCHI,
        "a solution exists",
        ClaimStatement(
            "Λ compact, E and (w, λ) ↦ L_λ(w) jointly continuous, singleton argmin, bounded w_λ: f "
            "takes its minimum; for ridge w_λ = 3(1 + λ)^{e} and f = {c}·w_λ²",
            (exponent("e", -1), coefficient("c", "1/2")),
        ),
        _existence,
        ClaimVerdict.HOLDS,
        assumptions=(COMPACT, CONTINUOUS, SINGLETON, BOUNDED),
        tested=(COMPACT, CONTINUOUS, SINGLETON, BOUNDED),
        by_hand="w_λ is continuous (a bounded sequence of minimisers has all its limits in the "
        "singleton argmin), so f is continuous on a compact set.",
        scope=Scope(n=ALL, p=ALL, f=Every("jointly continuous"), inner=Every("jointly continuous")),
        on="ridge on [0, 2]",
    ),
    Claim(
        "franceschi-convergence",
        ClaimSource.FRANCESCHI,
        "the T-step problems converge",
        ClaimStatement(
            "E(·, λ) Lipschitz with one constant ν = {nu} and w_{{T,λ}} → w_λ uniformly: inf f_T → "
            "inf f and limit points of argmin f_T minimise f; for ridge the error is q^(T·{e})",
            (coefficient("nu", 1), exponent("e", 1)),
        ),
        _convergence,
        ClaimVerdict.HOLDS,
        assumptions=(LIPSCHITZ, UNIFORM),
        tested=(LIPSCHITZ, UNIFORM),
        by_hand="|inf f_T - inf f| ≤ sup|f_T - f| ≤ ν·sup‖w_T - w‖; limit points by continuity.",
        remark="Without uniform convergence inf f_T can stay at -1 while inf f = 0.",
        scope=Scope(n=ALL, p=ALL, T=ALL, f=Every("Lipschitz in w"), inner=ALL),
        on="ridge on [1/2, 1], T = 2, 5, 9",
    ),
)
