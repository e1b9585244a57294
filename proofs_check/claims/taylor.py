"""The remainder of Supplement B: (44) to (47)."""

from collections.abc import Iterator

import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.recursion import FF, LEADING, B, Z, leading_tangent
from proofs_check.claims.supplement import taylor_of_g
from proofs_check.evidence import (
    Check,
    EvidenceMethod,
    exact,
    fact,
    identity,
    number,
)
from proofs_check.scope import ALL, FUNCTIONS, Every, Only, Scope, by_hand
from proofs_check.statement import ClaimStatement, choice, coefficient, formula, index
from proofs_check.sums import SIZE
from proofs_check.tools.algebra import EPS

t = sp.symbols("t", real=True)

_ROLLE = by_hand("Rolle's theorem, for h along the segment from a to x")


def _lagrange(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # Φ(t) = h(1) - h(t) - (1-t)h'(t) - K(1-t)² is 0 at 1 and, by the choice of K, at 0.
    h, k, bend = sp.Function("h"), sp.symbols("K"), sp.symbols("bend")
    phi = h(1) - h(t) - (1 - t) * sp.diff(h(t), t) - k * (1 - t) ** 2
    slope = -(1 - t) * (sp.diff(h(t), t, 2) - 2 * k)
    over = {"n": _ROLLE, "f": FUNCTIONS}
    yield identity("Φ at 1", phi.subs(t, 1), sp.S(0))
    yield identity("Φ' vanishes where h'' = 2K", sp.diff(phi, t), slope, over=over)
    chosen = sp.solve(sp.Eq(bend, 2 * k), k)[0]
    value, first = sp.Function("h")(0), sp.Symbol("h1")
    stated = s.formula("taylor", h=value, g=first, d=1, dt=1, H=bend)
    yield identity("Φ at 0", value + first + chosen, stated, over=over)
    yield _quadratic(s)


def _quadratic(s: ClaimStatement) -> Check:
    x1, x2, a1, a2 = sp.symbols("x1 x2 a1 a2")
    quadratic = 3 * x1**2 + x1 * x2 - 2 * x2**2 + x1
    at = {x1: a1, x2: a2}
    gradient = sp.Matrix([[sp.diff(quadratic, v).subs(at, simultaneous=True) for v in (x1, x2)]])
    step = sp.Matrix([x1 - a1, x2 - a2])
    value = sp.Matrix([[quadratic.subs(at, simultaneous=True)]])
    hessian = sp.hessian(quadratic, (x1, x2))
    stated = s.formula("taylor", h=value, g=gradient, d=step, dt=step.T, H=hessian)
    return identity("a quadratic in two variables, any c", quadratic, sp.Matrix(stated)[0])


def _vector_remainder(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield _quadratic(s)
    # G = f_θ·dθ'/dλ with p = 2 components θ³ and θ⁴ along the segment from 0 to 1.
    points = []
    for component in (t**3, t**4):
        start, end = component.subs(t, 0), component.subs(t, 1)
        bend, slope = sp.diff(component, t, 2), sp.diff(component, t).subs(t, 0)
        stated = s.formula("taylor", h=start, g=slope, d=1, dt=1, H=bend)
        found = [x for x in sp.solve(sp.Eq(stated, end), t) if x.is_real and 0 < x < 1]
        points.append(found)
        yield fact(f"{component} has an intermediate point", len(found) == 1, found, "one in (0, 1)",
                   EvidenceMethod.SYMBOLIC)  # fmt: skip
    yield exact("the components", len(points), s["count"])
    distinct = len({root for found in points for root in found})
    yield fact("intermediate points that the two components need", distinct == s["points"],
               f"{distinct}: {[r for f in points for r in f]}", s["points"],
               EvidenceMethod.SYMBOLIC)  # fmt: skip


def _assumption_two(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # The proof drops Δθ'·f_θθ·s_(m-1) with Δθ = √ε·z and s_(m-1) of the lemma.
    yield from leading_tangent(sp.S(0))
    root = sp.symbols("r", positive=True)
    dropped = sp.expand(sp.sqrt(EPS) * Z * FF * (EPS / 2 * (SIZE - 1) * B)).subs(EPS, root**2)
    powers = {term.as_coeff_exponent(root)[1] for term in sp.Add.make_args(sp.expand(dropped))}
    beyond = sp.Rational(powers.pop(), 2) - 1
    stated = number(s["alpha"])
    yield fact("the α that the proof of Theorem 3 drops", beyond == stated, beyond, stated,
               EvidenceMethod.SYMBOLIC, over=LEADING)  # fmt: skip
    covered = beyond >= stated if s.word("relation") == "≥" else beyond > stated
    yield fact("(A2) covers it", covered, beyond, f"α {s.word('relation')} {stated}",
               EvidenceMethod.SYMBOLIC, over=LEADING)  # fmt: skip


_OPS = "h g d dt H z f_θθ f_θθθ S0"
_TAYLOR = "h + g @ d + 1/2*dt @ H @ d"
_POINTS = ClaimStatement(
    "each component of G at the new iterate is {taylor}, H taken at an intermediate point; {count} "
    "components need {points} such points",
    (formula("taylor", _TAYLOR, _OPS), index("count", 2), index("points", 2)),
)
_REST = (formula("rest", "1/2*ε*z[m-1] @ z[m-1] @ f_θθθ @ S0", _OPS),)
_SMALL = ClaimStatement(
    "powers of ε beyond the first by more than α are dropped, for α {relation} {alpha}",
    (choice("relation", "≥", ">"), coefficient("alpha", "1/2")),
)
_EVERY = Scope(n=ALL, p=ALL, m=ALL, f=Every("C³"), inner=Every("C²"))

CLAIMS = (
    Claim(
        "eq-44",
        ClaimSource.KIM,
        "Taylor's theorem with Lagrange's remainder",
        ClaimStatement(
            "h at the end of a segment d from a is {taylor}, with h and its gradient g at a, H at some "
            "point of the segment",
            (formula("taylor", _TAYLOR, _OPS),),
        ),
        _lagrange,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, f=Every("C²")),
    ),
    Claim(
        "eq-45",
        ClaimSource.KIM,
        "(44) applied to G",
        _POINTS.having(points=1),
        _vector_remainder,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=_POINTS,
        slip=True,
        remark="G is vector-valued; harmless, since only the remainder's size is used.",
        scope=Scope(n=ALL, p=Only("2"), f=Every("C³")),
        on="the components θ³ and θ⁴, and a quadratic of two variables",
    ),
    Claim(
        "eq-46",
        ClaimSource.KIM,
        "the remainder's orders put in",
        ClaimStatement("the remainder of (45) starts with {rest}", _REST),
        taylor_of_g,
        ClaimVerdict.HOLDS,
        remark="One intermediate point for each component, as in (45).",
        scope=_EVERY,
    ),
    Claim(
        "eq-47",
        ClaimSource.KIM,
        "what is left of the remainder",
        ClaimStatement("the remainder of (45) is kept as {rest}", _REST),
        taylor_of_g,
        ClaimVerdict.HOLDS,
        remark="The recursion (22) leaves this term out: with θ⁰ = λ its own error is O(ε).",
        scope=_EVERY,
        repeats="eq-46",
    ),
    Claim(
        "text-assumption-2",
        ClaimSource.KIM,
        "assumption (A2)",
        _SMALL.saying(relation=">"),
        _assumption_two,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=_SMALL,
        slip=True,
        remark="The main text and the proof use α ≥ 0.5; the supplement's list says α > 0.5.",
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C²"), inner=Every("C²")),
    ),
)
