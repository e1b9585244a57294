"""Franceschi et al. (2018): existence of a solution, and convergence of the approximate problems.

f(λ) is the infimum of E(w, λ) over the minimisers w of L_λ, which need not be single. Every condition
has a counterexample of its own, in which all the other conditions hold; that they do is checked.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import final

import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import (
    Check,
    EvidenceMethod,
    at_most,
    fact,
    identity,
    induction,
    rational,
)
from proofs_check.scope import ALL, INDUCTION, NORM, Every, Scope, by_hand
from proofs_check.statement import ClaimStatement, choice, formula

COMPACT = Assumption("compact", "Λ is compact")
CONTINUOUS = Assumption("continuous-outer", "E is jointly continuous")
CONTINUOUS_INNER = Assumption("continuous-inner", "(w, λ) ↦ L_λ(w) is jointly continuous")
BOUNDED = Assumption("bounded-solutions", "minimisers w_λ exist and stay bounded over Λ")
SINGLETON = Assumption("singleton-argmin", "argmin L_λ is a single point for every λ")
LIPSCHITZ = Assumption("uniform-lipschitz", "E(·, λ) is Lipschitz with one constant for all λ")
UNIFORM = Assumption("uniform-convergence", "w_{T,λ} → w_λ uniformly on Λ")

lam, w = sp.symbols("lambda w", real=True)
T = sp.symbols("T", positive=True, integer=True)


@final
@dataclass(frozen=True)
class BilevelInstance:
    """One problem on Λ = [0, high], given by expressions in w and λ.

    Attributes:
        name: what it is.
        inner: L_λ(w) for λ > 0, and at λ = 0 unless `inner_at_0` says otherwise.
        outer: E(w, λ), except where `jump` says otherwise.
        minimisers: the minimisers of L_λ for λ > 0.
        minimisers_at_0: the minimisers of L_0.
        high: the upper end of Λ, or infinity.
        inner_at_0: L_0, where it is not the limit.
        jump: the value of E at w = 0, where it is not the limit.
    """

    name: str
    inner: sp.Expr
    outer: sp.Expr
    minimisers: tuple[sp.Expr, ...]
    minimisers_at_0: tuple[sp.Expr, ...]
    high: sp.Expr = field(default_factory=lambda: sp.S(1))
    inner_at_0: sp.Expr | None = None
    jump: sp.Expr | None = None

    def holds(self, condition: Assumption) -> bool:
        """Whether a condition of the theorem holds, from the expressions."""
        answers = {
            COMPACT: self.high.is_finite,
            CONTINUOUS: _continuous(self.outer) and self.jump is None,
            CONTINUOUS_INNER: _continuous(self.inner)
            and (
                self.inner_at_0 is None or sp.expand(self.inner_at_0 - self.inner.subs(lam, 0)) == 0
            ),
            BOUNDED: self._minimisers_are_right() and self._bounded(),
            SINGLETON: len(self.minimisers) == len(self.minimisers_at_0) == 1,
        }
        return bool(answers[condition])

    def _minimisers_are_right(self) -> bool:
        """L_λ(w) - L_λ(w_λ) is a square times something positive, for every minimiser."""
        pairs = [(self.inner, self.minimisers)]
        at_0 = self.inner_at_0 if self.inner_at_0 is not None else self.inner.subs(lam, 0)
        pairs.append((at_0, self.minimisers_at_0))
        return all(
            _never_negative(sp.factor(loss - loss.subs(w, best)))
            for loss, found in pairs
            for best in found
        )

    def _bounded(self) -> bool:
        ends = [sp.limit(abs(best), lam, end, "+" if end == 0 else "-")
                for best in self.minimisers for end in (sp.S(0), self.high)]  # fmt: skip
        return all(end.is_finite for end in ends)

    def value(self, at: sp.Expr, found: tuple[sp.Expr, ...]) -> sp.Expr:
        """f at a λ: the least outer value over the minimisers there."""
        values = []
        for best in found:
            point = sp.simplify(sp.sympify(best).subs(lam, at))
            jumps = self.jump is not None and point == 0
            values.append(self.jump if jumps else self.outer.subs(w, point).subs(lam, at))
        return sp.Min(*values)

    def infimum_is_attained(self) -> bool:
        """Whether f takes its infimum on Λ; f is monotone on λ > 0 in every instance here."""
        inner_values = [sp.simplify(self.outer.subs(w, best)) for best in self.minimisers]
        limits = [sp.limit(v, lam, end, "+" if end == 0 else "-")
                  for v in inner_values for end in (sp.S(0), self.high)]  # fmt: skip
        infimum = min(limits)
        candidates = [self.value(sp.S(0), self.minimisers_at_0)]
        if self.high.is_finite:
            candidates.append(self.value(self.high, self.minimisers))
        return bool(sp.simplify(min(candidates) - infimum) == 0)


def _continuous(expression: sp.Expr) -> bool:
    """Whether a rational expression, perhaps with a root, has no pole: its denominator is positive."""
    denominator = sp.fraction(sp.together(expression))[1]
    return bool(denominator.is_positive) and not expression.atoms(sp.Piecewise)


def _never_negative(expression: sp.Expr) -> bool:
    """Whether a factored expression is a product of even powers and positive factors, on λ ≥ 0."""
    positive = sp.symbols("lambda", nonnegative=True)
    top, bottom = sp.fraction(sp.factor(expression.subs(lam, positive)))
    factors = sp.Mul.make_args(top)
    even = all(f.is_nonnegative or (isinstance(f, sp.Pow) and f.exp.is_even) for f in factors)
    return bool(even and bottom.is_positive)


RIDGE = BilevelInstance(
    "ridge on [0, 2]",
    (w - 3) ** 2 / 2 + lam * w**2 / 2,
    w**2 / 2,
    (3 / (1 + lam),),
    (sp.S(3),),
    sp.S(2),
)
WITHOUT = {
    COMPACT: BilevelInstance(
        "ridge on [0, ∞)", (w - 3) ** 2 / 2 + lam * w**2 / 2, w**2 / 2, (3 / (1 + lam),), (sp.S(3),), sp.oo
    ),
    CONTINUOUS: BilevelInstance(
        "E = w, but 1 at w = 0", (w - lam) ** 2, w, (lam,), (sp.S(0),), jump=sp.S(1)
    ),
    CONTINUOUS_INNER: BilevelInstance(
        "L_λ = (w - λ)², but (w - 1)² at λ = 0", (w - lam) ** 2, w, (lam,), (sp.S(1),),
        inner_at_0=(w - 1) ** 2,
    ),
    # A second minimiser at 1/λ, which leaves every bounded set as λ → 0.
    BOUNDED: BilevelInstance(
        "L_λ = (λw - 1)²w²/(1 + w⁴), E = 1/(1 + w²)", (lam * w - 1) ** 2 * w**2 / (1 + w**4),
        1 / (1 + w**2), (sp.S(0), 1 / lam), (sp.S(0),),
    ),
}  # fmt: skip
# Two minimisers for every λ, and the infimum over them is attained all the same.
TWO_WELLS = BilevelInstance(
    "L_λ = (w² - 1)², E = w + λ", (w**2 - 1) ** 2, w + lam, (sp.S(1), sp.S(-1)), (sp.S(1), sp.S(-1))
)
_NEEDED = (COMPACT, CONTINUOUS, CONTINUOUS_INNER, BOUNDED)

_LIMITS = by_hand(
    "bounded minimisers w_n at λ_n → λ̄ have a limit point w̄ (Bolzano-Weierstrass), and the outer two "
    "differences vanish with n by the continuity of L"
)


def _existence(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    # L(w̄, λ̄) - L(v, λ̄) in three differences, the middle one at most 0 since w_n minimises at λ_n.
    here, there, other, other_n, gap = sp.symbols("L_bar L_n Lv_bar Lv_n s", real=True)
    split = (here - there) + (there - other_n) + (other_n - other)
    over = {"n": _LIMITS, "p": _LIMITS, "f": _LIMITS, "inner": _LIMITS}
    yield identity("L(w̄, λ̄) - L(v, λ̄) for any v", here - other, split, over=over)
    limit = split.subs({there: here, other_n: other}, simultaneous=True)
    middle = (there - other_n).subs({there: other_n - gap})  # s ≥ 0
    stated = s.word("limit") == "a minimiser"
    yield fact("the limit point is a minimiser", (limit == here - other and middle == -gap) == stated,
               "L(w̄, λ̄) ≤ L(v, λ̄)", s.word("limit"), EvidenceMethod.SYMBOLIC, over=over)  # fmt: skip
    # Then f(λ̄) ≤ E(w̄, λ̄) = lim E(w_n, λ_n) = inf f, by the continuity of E.
    attained = "takes its minimum" if stated else "need not take its minimum"
    yield fact("E(w̄, λ̄) is the infimum, and belongs to λ̄", s.word("minimum") == attained, attained,
               s.word("minimum"), EvidenceMethod.SYMBOLIC, over=over)  # fmt: skip
    yield from _conditions(context)


def _conditions(context: ClaimContext) -> Iterator[Check]:
    """With every condition on: ridge. Without one: its instance, in which all the others hold."""
    for condition in _NEEDED:
        alone = WITHOUT[condition]
        others = [other for other in _NEEDED if other != condition]
        right = all(alone.holds(other) for other in others) and not alone.holds(condition)
        yield fact(f"without {condition.key} alone: {alone.name}", right,
                   [c.key for c in _NEEDED if alone.holds(c)], f"all but {condition.key}",
                   EvidenceMethod.SYMBOLIC)  # fmt: skip
        chosen = RIDGE if context.has(condition) else alone
        yield fact(f"f takes its infimum: {chosen.name}", chosen.infimum_is_attained(), chosen.name,
                   "attained", EvidenceMethod.SYMBOLIC)  # fmt: skip
    every = all(RIDGE.holds(condition) for condition in (*_NEEDED, SINGLETON))
    yield fact("ridge satisfies every condition", every, every, "all", EvidenceMethod.SYMBOLIC)
    enough = all(TWO_WELLS.holds(c) for c in _NEEDED) and not TWO_WELLS.holds(SINGLETON)
    yield fact(f"without singleton-argmin alone: {TWO_WELLS.name}", enough, enough, "all but it",
               EvidenceMethod.SYMBOLIC)  # fmt: skip
    chosen = RIDGE if context.has(SINGLETON) else TWO_WELLS
    yield fact(f"f takes its infimum, whether or not the argmin is single: {chosen.name}",
               chosen.infimum_is_attained(), chosen.name, "attained", EvidenceMethod.SYMBOLIC)  # fmt: skip


# ---------------------------------------------------------------- convergence

_SANDWICH = by_hand("E(w_T, λ) ≤ E(w_λ, λ) + ν‖w_T - w_λ‖ and the same with the two exchanged")
_POINTS = by_hand("a limit point λ̄ of minimisers λ_T: f is continuous, as a uniform limit")
_CONVERGES = {"n": _SANDWICH, "p": _SANDWICH, "f": _SANDWICH, "inner": NORM, "T": NORM}


def _convergence(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    nu, d, slack, least, q, start = sp.symbols("nu d a least q D", positive=True)
    bound = s.formula("bound", ν=nu, d=d)
    # f_T(λ) = f(λ) + νd - a with a ≥ 0, at a minimiser of f: inf f_T ≤ inf f + νd; and exchanged.
    above = (least + nu * d - slack) - least
    yield identity("inf f_T - inf f, with its slack", above, bound - slack, over=_CONVERGES)

    def distance(steps: sp.Expr) -> sp.Expr:
        return s.formula("distance", q=q, D=start, T=steps)

    base = identity("before a step", distance(sp.S(0)), start)
    step = identity("one step of a contraction", q * distance(T), distance(T + 1))
    yield induction("sup‖w_T - w_λ‖ for every T", base, step, {**_CONVERGES, "T": INDUCTION})
    # f(λ̄) = lim f(λ_T) ≤ lim (f_T(λ_T) + νd) = lim (inf f_T + νd) = inf f.
    over = {**_CONVERGES, "n": _POINTS}
    last = sp.limit(
        (least + nu * distance(T)).subs({nu: 1, start: 1, q: sp.Rational(1, 2)}), T, sp.oo
    )
    word = "minimise f" if last == least else "need not minimise f"
    yield fact("limit points of the minimisers of f_T", s.word("points") == word, word, s.word("points"),
               EvidenceMethod.SYMBOLIC, over=over)  # fmt: skip
    yield from _needed_for_it(context)
    yield from _ridge_executed(s)


def _needed_for_it(context: ClaimContext) -> Iterator[Check]:
    """L_λ = w² on Λ = [0, 1]: every other condition holds, the argmin is the single point 0."""
    flat = BilevelInstance("L_λ = w²", w**2, -w, (sp.S(0),), (sp.S(0),))
    every = all(flat.holds(condition) for condition in (*_NEEDED, SINGLETON))
    yield fact("L_λ = w², E = -w: every condition of existence holds, E is 1-Lipschitz", every, every,
               "all", EvidenceMethod.SYMBOLIC)  # fmt: skip
    # w_T = 2Tλ/(1 + T²λ²) tends to 0 at every λ, and is 1 at λ = 1/T.
    moving = 2 * T * lam / (1 + T**2 * lam**2)
    pointwise = sp.limit(moving.subs(lam, sp.Rational(1, 3)), T, sp.oo)
    largest = sp.simplify(moving.subs(lam, 1 / T))
    yield fact("w_T = 2Tλ/(1 + T²λ²) tends to 0 at λ = 1/3 and is 1 at 1/T",
               pointwise == 0 and largest == 1, (pointwise, largest), (0, 1),
               EvidenceMethod.SYMBOLIC)  # fmt: skip
    least = sp.S(0) if context.has(UNIFORM) else -largest
    yield fact("inf f_T, where inf f = 0", least == 0, least, 0, EvidenceMethod.SYMBOLIC)
    # E = -√|w| is jointly continuous, and no constant serves it; w_T = 4^-T for every λ.
    away = sp.Rational(1, 4) ** T
    gap = away if context.has(LIPSCHITZ) else sp.sqrt(away)
    ratio = sp.limit(gap / away, T, sp.oo)
    yield fact("limit of |inf f_T - inf f| over sup|w_T - w|", ratio.is_finite, ratio, "finite",
               EvidenceMethod.SYMBOLIC)  # fmt: skip


def ridge_gap(steps: int, points: int) -> tuple[Fraction, Fraction]:
    """Ridge on Λ = [1/2, 1] by gradient descent of step 1/3 from 0, with E(w) = 2w, on a grid.

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
            now -= Fraction(1, 3) * ((now - 3) + x * now)
        found.append(now)
    gap = max(abs(a - b) for a, b in zip(found, exact, strict=True))
    return 2 * abs(min(found) - min(exact)), gap


def _ridge_executed(s: ClaimStatement) -> Iterator[Check]:
    # The factor of a step is 1 - (1 + λ)/3, at most 1/2; the first distance at most 2; ν = 2.
    for steps in (2, 5, 9):
        gap, distance = ridge_gap(steps, 9)
        bound = s.formula("bound", Fraction, ν=Fraction(2), d=distance)
        yield at_most(
            f"|inf f_T - inf f| against its bound, T = {steps}", rational(gap), rational(bound)
        )
        yield fact("which is not 0", gap > 0, gap, "> 0")
        stated = s.formula("distance", Fraction, q=Fraction(1, 2), D=Fraction(2), T=steps)
        yield at_most(f"sup|w_T - w| against its bound, T = {steps}", rational(distance),
                      rational(stated))  # fmt: skip


CLAIMS = (
    Claim(
        "franceschi-existence",
        ClaimSource.FRANCESCHI,
        "a solution exists",
        ClaimStatement(
            "a limit point of minimisers at the λ of a minimising sequence is {limit} at the limit of "
            "these λ, and f, the infimum of the outer loss over the minimisers, {minimum}",
            (
                choice("limit", "a minimiser", "not always a minimiser"),
                choice("minimum", "takes its minimum", "need not take its minimum"),
            ),
        ),
        _existence,
        ClaimVerdict.HOLDS,
        assumptions=_NEEDED,
        unneeded=(SINGLETON,),
        remark="The paper also asks for a single minimiser at every λ. For the infimum over the argmin, "
        "its own definition, that is not needed: the graph of the argmin is closed.",
        scope=Scope(n=ALL, p=ALL, f=ALL, inner=ALL),
    ),
    Claim(
        "franceschi-convergence",
        ClaimSource.FRANCESCHI,
        "the T-step problems converge",
        ClaimStatement(
            "the infimum of the T-step problem is at most {bound} from that of f, ν what bounds the slope of "
            "E and d the largest distance of the T-th iterate to its limit, at most {distance} where a step "
            "shortens it by the factor q; limit points of the minimisers of the T-step problems {points}",
            (
                formula("bound", "ν*d"),
                formula("distance", "q**T*D"),
                choice("points", "minimise f", "need not minimise f"),
            ),
        ),
        _convergence,
        ClaimVerdict.HOLDS,
        assumptions=(LIPSCHITZ, UNIFORM),
        remark="Without uniform convergence inf f_T can stay at -1 while inf f = 0. Without a Lipschitz "
        "constant the bound fails, but not the limit: on a compact set E is uniformly continuous.",
        scope=Scope(n=ALL, p=ALL, T=ALL, f=Every("jointly continuous"), inner=ALL),
    ),
)
