"""Bilevel problems on Λ = [0, high] as expressions, and which conditions of a theorem each satisfies.

A condition of a theorem is needed if the theorem fails without it although every other condition holds. So
a counterexample is an instance that satisfies all conditions but one, and one that does not is refused.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from typing import final

import sympy as sp

from proofs_check.claim import Assumption

COMPACT = Assumption("compact", "Λ is compact")
CONTINUOUS = Assumption("continuous-outer", "E is jointly continuous")
CONTINUOUS_INNER = Assumption("continuous-inner", "(w, λ) ↦ L_λ(w) is jointly continuous")
BOUNDED = Assumption("bounded-solutions", "minimisers w_λ exist and stay bounded over Λ")
SINGLETON = Assumption("singleton-argmin", "argmin L_λ is a single point for every λ")
LIPSCHITZ = Assumption("uniform-lipschitz", "E(·, λ) is Lipschitz with one constant for all λ")
UNIFORM = Assumption("uniform-convergence", "w_{T,λ} → w_λ uniformly on Λ")

lam, w = sp.symbols("lambda w", real=True)
T = sp.symbols("T", positive=True, integer=True)
EXISTENCE = (COMPACT, CONTINUOUS, CONTINUOUS_INNER, BOUNDED)
"""The conditions that the existence theorem needs."""
CONVERGENCE = (CONTINUOUS, CONTINUOUS_INNER, BOUNDED, SINGLETON, LIPSCHITZ, UNIFORM)
"""Those that the convergence theorem needs."""


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
        outer_at_0: E(·, 0), where it is not the limit.
        iterates: w_T for λ > 0, in T and λ, of an inner iteration; None where there is none.
        iterates_at_0: w_T for λ = 0.
        ends_in: which of the minimisers the iterates tend to.
        slope: what would bound the slope of E in w.
    """

    name: str
    inner: sp.Expr
    outer: sp.Expr
    minimisers: tuple[sp.Expr, ...]
    minimisers_at_0: tuple[sp.Expr, ...]
    high: sp.Expr = field(default_factory=lambda: sp.S(1))
    inner_at_0: sp.Expr | None = None
    jump: sp.Expr | None = None
    outer_at_0: sp.Expr | None = None
    iterates: sp.Expr | None = None
    iterates_at_0: sp.Expr = field(default_factory=lambda: sp.S(0))
    ends_in: int = 0
    slope: Fraction = Fraction(1)

    def holds(self, condition: Assumption) -> bool:
        """Whether a condition of the theorem holds, from the expressions."""
        answers = {
            COMPACT: lambda: self.high.is_finite,
            CONTINUOUS: lambda: (
                _continuous(self.outer) and self.jump is None and self.outer_at_0 is None
            ),
            CONTINUOUS_INNER: lambda: (
                _continuous(self.inner)
                and (
                    self.inner_at_0 is None
                    or sp.expand(self.inner_at_0 - self.inner.subs(lam, 0)) == 0
                )
            ),
            BOUNDED: lambda: self._minimisers_are_right() and self._bounded(),
            SINGLETON: lambda: len(self.minimisers) == len(self.minimisers_at_0) == 1,
            LIPSCHITZ: self._lipschitz,
            UNIFORM: self._uniform,
        }
        return bool(answers[condition]())

    def _lipschitz(self) -> bool:
        """Whether difference quotients of E in w are at most `slope`, on a grid that holds points near 0."""
        points = [sp.Rational(k, 4) for k in range(-12, 13)] + [sp.Rational(1, 10**6)]
        at_lams = [self.outer.subs(lam, sp.Rational(k, 4)) for k in range(1, 5)]
        at_lams.append(self.outer.subs(lam, 0) if self.outer_at_0 is None else self.outer_at_0)
        slope = sp.Rational(self.slope.numerator, self.slope.denominator)
        return all(
            abs(outer.subs(w, a) - outer.subs(w, b)) <= slope * abs(a - b)
            for outer in at_lams
            for a, b in product(points, repeat=2)
        )

    def _uniform(self) -> bool:
        """Whether ‖w_T - w_λ‖ vanishes; in every instance here it is largest at 1/T or at an end of Λ."""
        if self.iterates is None:
            return False
        away = abs(self.iterates - self.minimisers[self.ends_in])
        there = abs(self.iterates_at_0 - self.minimisers_at_0[self.ends_in])
        distances = [away.subs(lam, 1 / T), away.subs(lam, self.high), sp.sympify(there)]
        return all(sp.limit(distance, T, sp.oo) == 0 for distance in distances)

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
            values.append(self.jump if jumps else self._outer_at(at).subs(w, point).subs(lam, at))
        return sp.Min(*values)

    def _outer_at(self, at: sp.Expr) -> sp.Expr:
        return self.outer_at_0 if at == 0 and self.outer_at_0 is not None else self.outer

    def infimum(self) -> sp.Expr:
        """Inf f over Λ; f is monotone on λ > 0 in every instance here."""
        inner_values = [sp.simplify(self.outer.subs(w, best)) for best in self.minimisers]
        limits = [sp.limit(v, lam, end, "+" if end == 0 else "-")
                  for v in inner_values for end in (sp.S(0), self.high)]  # fmt: skip
        return min([*limits, self.value(sp.S(0), self.minimisers_at_0)])

    def infimum_is_attained(self) -> bool:
        """Whether f takes its infimum on Λ."""
        candidates = [self.value(sp.S(0), self.minimisers_at_0)]
        if self.high.is_finite:
            candidates.append(self.value(self.high, self.minimisers))
        return bool(sp.simplify(min(candidates) - self.infimum()) == 0)

    def _approximate(self) -> list[sp.Expr]:
        """f_T at λ = 1/T, at the upper end and at 0: the least of them is inf f_T in every instance here."""
        along = self.outer.subs(w, self.iterates)
        start = self._outer_at(sp.S(0)).subs(lam, 0).subs(w, self.iterates_at_0)
        return [sp.simplify(v) for v in (along.subs(lam, 1 / T), along.subs(lam, self.high), start)]

    def limit_of_infima(self) -> sp.Expr:
        """The limit of inf f_T."""
        return min(sp.limit(value, T, sp.oo) for value in self._approximate())

    def gap_over_distance(self) -> sp.Expr:
        """The limit of |f_T - f| over ‖w_T - w_λ‖ at λ = 0."""
        gap = abs(self.outer.subs(w, self.iterates_at_0).subs(lam, 0) - self.infimum())
        return sp.limit(gap / abs(self.iterates_at_0), T, sp.oo)

    def limit_points_minimise(self) -> bool:
        """Whether f takes its infimum at 0, where λ = 1/T, whose limit 0 is, minimises each f_T."""
        values = self._approximate()
        least = all((values[0] - value).subs(T, many) <= 0 for value in values for many in (5, 50))
        return not least or self.value(sp.S(0), self.minimisers_at_0) == self.infimum()


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
NO_SOLUTION = {
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

PLAIN = BilevelInstance(
    "L_λ = (w - λ)², E = w, w_T = λ + 4^-T", (w - lam) ** 2, w, (lam,), (sp.S(0),),
    iterates=lam + sp.Rational(1, 4) ** T, iterates_at_0=sp.Rational(1, 4) ** T,
)  # fmt: skip
NO_LIMIT = {
    # f = 0 for λ > 0, but 1 at 0, the limit of the minimisers 1/T of f_T = f.
    CONTINUOUS: BilevelInstance(
        "L_λ = (w - λ)², E = 0, but 1 at λ = 0", (w - lam) ** 2, sp.S(0), (lam,), (sp.S(0),),
        outer_at_0=sp.S(1), iterates=lam,
    ),
    CONTINUOUS_INNER: BilevelInstance(
        "L_λ = (w - λ)², but (w - 1)² at λ = 0, E = |w - λ|", (w - lam) ** 2, abs(w - lam), (lam,),
        (sp.S(1),), inner_at_0=(w - 1) ** 2, iterates=lam, iterates_at_0=sp.S(1),
    ),
    BOUNDED: BilevelInstance(
        "L_λ = (λw - 1)²(w² + λ)/(1 + w⁴), E = min(1, |λw - 1|)",
        (lam * w - 1) ** 2 * (w**2 + lam) / (1 + w**4), sp.Min(1, abs(lam * w - 1)), (1 / lam,),
        (sp.S(0),), iterates=1 / lam,
    ),
    SINGLETON: BilevelInstance(
        "L_λ = (w² - 1)², E = w, w_T = 1 + 4^-T", (w**2 - 1) ** 2, w, (sp.S(1), sp.S(-1)),
        (sp.S(1), sp.S(-1)), iterates=1 + sp.Rational(1, 4) ** T,
        iterates_at_0=1 + sp.Rational(1, 4) ** T,
    ),
    LIPSCHITZ: BilevelInstance(
        "L_λ = w², E = -√|w|, w_T = 4^-T", w**2, -sp.sqrt(abs(w)), (sp.S(0),), (sp.S(0),),
        iterates=sp.Rational(1, 4) ** T, iterates_at_0=sp.Rational(1, 4) ** T,
    ),
    UNIFORM: BilevelInstance(
        "L_λ = w², E = -w, w_T = 2Tλ/(1 + T²λ²)", w**2, -w, (sp.S(0),), (sp.S(0),),
        iterates=2 * T * lam / (1 + T**2 * lam**2),
    ),
}  # fmt: skip
