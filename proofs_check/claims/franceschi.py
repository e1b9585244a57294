"""Franceschi et al. (2018): existence of a solution, and convergence of the approximate problems.

f(λ) is the infimum of E(w, λ) over the minimisers w of L_λ, which need not be single. Every condition
has a counterexample of its own, in which all the other conditions hold; that they do is checked.
"""

from collections.abc import Iterator
from fractions import Fraction

import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
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
from proofs_check.tools.alone import refuse_other_violations, satisfies
from proofs_check.tools.bilevel_instances import (
    COMPACT,
    CONVERGENCE,
    EXISTENCE,
    LIPSCHITZ,
    NO_LIMIT,
    NO_SOLUTION,
    PLAIN,
    RIDGE,
    SINGLETON,
    TWO_WELLS,
    T,
)

_LIMITS = by_hand(
    "λ_n has a limit point λ̄ in the compact Λ, bounded minimisers w_n at λ_n → λ̄ have a limit point w̄ "
    "(Bolzano-Weierstrass), and the outer two differences vanish with n by the continuity of L"
)
_ATTAINED = by_hand(
    "take w_n with E(w_n, λ_n) - f(λ_n) → 0 and f(λ_n) → inf f: E(w̄, λ̄) = lim E(w_n, λ_n) = inf f by the "
    "continuity of E, and f(λ̄) ≤ E(w̄, λ̄) since w̄ is a minimiser at λ̄"
)


def _existence(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    # L(w̄, λ̄) - L(v, λ̄) in three differences, the middle one at most 0 since w_n minimises at λ_n.
    here, there, other, other_n, gap = sp.symbols("L_bar L_n Lv_bar Lv_n s", real=True)
    split = (here - there) + (there - other_n) + (other_n - other)
    over = {"n": _LIMITS, "p": _LIMITS, "f": _LIMITS, "inner": _LIMITS}
    name = (
        "for any v, L(w̄, λ̄) - L(v, λ̄) = [L(w̄, λ̄) - L(w_n, λ_n)] + [L(w_n, λ_n) - L(v, λ_n)] + "
        "[L(v, λ_n) - L(v, λ̄)], the middle part at most 0"
    )
    yield identity(name, here - other, split, over=over)
    limit = split.subs({there: here, other_n: other}, simultaneous=True)
    middle = (there - other_n).subs({there: other_n - gap})  # s ≥ 0
    stated = s.word("limit") == "a minimiser"
    yield fact("the limit point is a minimiser", (limit == here - other and middle == -gap) == stated,
               "L(w̄, λ̄) ≤ L(v, λ̄)", s.word("limit"), EvidenceMethod.SYMBOLIC, over=over)  # fmt: skip
    # Then f(λ̄) ≤ E(w̄, λ̄) = lim E(w_n, λ_n) = inf f, by the continuity of E.
    attained = "takes its minimum" if stated else "need not take its minimum"
    yield fact("E(w̄, λ̄) is the infimum, and belongs to λ̄", s.word("minimum") == attained, attained,
               s.word("minimum"), EvidenceMethod.SYMBOLIC,
               over=dict.fromkeys(over, _ATTAINED))  # fmt: skip
    yield from _conditions(context)


def _conditions(context: ClaimContext) -> Iterator[Check]:
    """With every condition on: ridge. Without one: its instance, in which all the others hold."""
    off = [condition for condition in EXISTENCE if not context.has(condition)]
    for condition, alone in NO_SOLUTION.items():
        refuse_other_violations(alone, condition, EXISTENCE)
    refuse_other_violations(TWO_WELLS, SINGLETON, (*EXISTENCE, SINGLETON))
    yield _alone(len(NO_SOLUTION))
    every = satisfies(RIDGE, (*EXISTENCE, SINGLETON))
    yield fact("ridge satisfies every condition", every, every, "all", EvidenceMethod.SYMBOLIC)
    chosen = {
        "f takes its infimum": NO_SOLUTION[off[0]] if off else RIDGE,
        "f takes its infimum with or without a single argmin": RIDGE
        if context.has(SINGLETON)
        else TWO_WELLS,
    }
    for name, instance in chosen.items():
        attained = instance.infimum_is_attained()
        yield fact(f"{name}: {instance.name}", attained, "it does" if attained else "it does not",
                   "it does", EvidenceMethod.SYMBOLIC)  # fmt: skip


def _alone(count: int) -> Check:
    """That each counterexample violates its own condition alone; one that does not is refused before."""
    return fact("counterexamples, each of which satisfies all conditions but its own", True, count, count,
                EvidenceMethod.SYMBOLIC)  # fmt: skip


# ---------------------------------------------------------------- convergence

_SANDWICH = by_hand(
    "E(w_T, λ) ≤ E(w_λ, λ) + ν‖w_T - w_λ‖ for the single minimiser w_λ, and the same with the two exchanged"
)
_POINTS = by_hand(
    "f is continuous: a limit point of w_λ for λ → λ̄ is a minimiser at λ̄, as in the existence theorem, and "
    "the argmin is a single point"
)
_CONVERGES = {"n": _SANDWICH, "p": _SANDWICH, "f": _SANDWICH, "inner": NORM, "T": NORM}


def _convergence(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    nu, d, slack, least, q, start = sp.symbols("nu d a least q D", positive=True)
    bound = s.formula("bound", ν=nu, d=d)
    # f_T = f + νd - a with a ≥ 0 for every λ, so that inf f_T ≤ inf f + νd; and exchanged.
    above = (least + nu * d - slack) - least
    yield identity("inf f_T - inf f, where f_T(λ) = f(λ) + νd - a with a ≥ 0", above, bound - slack,
                   over=_CONVERGES)  # fmt: skip

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
    name = "f(λ̄) = lim f(λ_T) ≤ lim (inf f_T + νd) = inf f: limit points of minimisers of f_T"
    yield fact(name, s.word("points") == word, word, s.word("points"), EvidenceMethod.SYMBOLIC,
               over=over)  # fmt: skip
    yield from _needed_for_it(context)
    yield from _ridge_executed(s)


def _needed_for_it(context: ClaimContext) -> Iterator[Check]:
    """With every condition on: a problem in which all hold. Without one: that in which it alone fails."""
    off = [condition for condition in CONVERGENCE if not context.has(condition)]
    for condition, alone in NO_LIMIT.items():
        refuse_other_violations(alone, condition, (COMPACT, *CONVERGENCE))
    yield _alone(len(NO_LIMIT))
    every = satisfies(PLAIN, (COMPACT, *CONVERGENCE))
    yield fact(f"every condition holds: {PLAIN.name}", every, every, "all", EvidenceMethod.SYMBOLIC)
    chosen = NO_LIMIT[off[0]] if off else PLAIN
    limit, infimum = chosen.limit_of_infima(), chosen.infimum()
    yield fact(f"lim inf f_T: {chosen.name}", limit == infimum, limit, f"inf f = {infimum}",
               EvidenceMethod.SYMBOLIC)  # fmt: skip
    right = chosen.limit_points_minimise()
    yield fact(f"limit points of minimisers of f_T: {chosen.name}", right,
               "minimise f" if right else "0 does not minimise f", "minimise f",
               EvidenceMethod.SYMBOLIC)  # fmt: skip
    # Without a Lipschitz constant the infima converge all the same, but not within any ν·d.
    chosen = PLAIN if context.has(LIPSCHITZ) else NO_LIMIT[LIPSCHITZ]
    ratio = chosen.gap_over_distance()
    yield fact(f"limit of |inf f_T - inf f| over sup‖w_T - w_λ‖: {chosen.name}", ratio.is_finite,
               ratio, "finite", EvidenceMethod.SYMBOLIC)  # fmt: skip


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
        assumptions=EXISTENCE,
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
        assumptions=CONVERGENCE,
        remark="Compactness of Λ serves the existence of minimisers and of their limit points. Without a "
        "Lipschitz constant the bound fails, but not the limit: on a compact set E is uniformly continuous.",
        scope=Scope(n=ALL, p=ALL, T=ALL, f=Every("jointly continuous"), inner=ALL),
    ),
)
