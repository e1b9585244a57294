"""The remainder of Supplement B: (44) to (47)."""

from collections.abc import Iterator
from fractions import Fraction

import sympy as sp
from sympy.polys.rings import PolyElement

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.recursion import order_check
from proofs_check.evidence import Check, EvidenceMethod, fact, identity, number
from proofs_check.scope import ALL, Every, Only, Scope
from proofs_check.statement import ClaimStatement, coefficient, exponent, index, sign
from proofs_check.tools.algebra import Jets, Series, chain_series, generator, lowest, root, weight

t = sp.symbols("t", real=True)


def _intermediate(s: ClaimStatement, component: sp.Expr) -> list[sp.Expr]:
    """Where on the segment, as t in (0, 1), the remainder equals that of (44).

    Args:
        s: a statement with the terms c (weight of the remainder) and g (of the gradient).
        component: h along the segment from a (t = 0) to x (t = 1).

    Returns:
        Every t that solves the equation.
    """
    start, end = component.subs(t, 0), component.subs(t, 1)
    slope = sp.diff(component, t).subs(t, 0)
    remainder = end - start - number(s["g"]) * slope
    bend = number(s["c"]) * sp.diff(component, t, 2)
    return [root for root in sp.solve(sp.Eq(bend, remainder), t) if root.is_real and 0 < root < 1]


def _quadratic(s: ClaimStatement) -> Check:
    x1, x2, a1, a2 = sp.symbols("x1 x2 a1 a2")
    quadratic = 3 * x1**2 + x1 * x2 - 2 * x2**2 + x1
    gradient = [sp.diff(quadratic, v).subs({x1: a1, x2: a2}) for v in (x1, x2)]
    step = sp.Matrix([x1 - a1, x2 - a2])
    curve = (step.T * sp.hessian(quadratic, (x1, x2)) * step)[0]
    linear = sum(g * d for g, d in zip(gradient, step, strict=True))
    stated = quadratic.subs({x1: a1, x2: a2}, simultaneous=True)
    stated += number(s["g"]) * linear + number(s["c"]) * curve
    return identity("a quadratic in two variables, any c", quadratic, stated)


def _lagrange(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield _quadratic(s)
    u, v = 1 + 2 * t, 2 - t
    along = u**3 * v + v**2
    found = _intermediate(s, along)
    yield fact("a quartic has its c on the segment", len(found) > 0, found, "in (0, 1)",
               EvidenceMethod.SYMBOLIC)  # fmt: skip


def _vector_remainder(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield _quadratic(s)
    # G = f_θ·dθ'/dλ with p = 2 components θ³ and θ⁴ along the segment from 0 to 1.
    components = (t**3, t**4)
    points = [_intermediate(s, c) for c in components]
    for k, found in enumerate(points):
        yield fact(f"component {k + 1} has an intermediate point", len(found) == 1, found,
                   "one in (0, 1)", EvidenceMethod.SYMBOLIC)  # fmt: skip
    distinct = len({root for found in points for root in found})
    yield fact("intermediate points that p = 2 components need", distinct == s["points"],
               f"{distinct}: {[r for f in points for r in f]}", s["points"],
               EvidenceMethod.SYMBOLIC)  # fmt: skip


def _remainder(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    m = 2
    series = chain_series(m, 4, Jets(depends=True))
    error = _second_order_rest(series, m)
    power, leading = lowest(error)
    yield order_check("order in ε of the remainder of (45)", power, s["e"])
    z, f3, s0 = sp.symbols("z1 f3 s0")
    yield identity("its leading term", leading, number(s["c"]) * z**2 * f3 * s0)
    kept = weight(s["c"]) * root() ** int(2 * s["e"])
    z_ring = generator("z1") ** 2 * generator("f3") * generator("s0")
    rest, _ = lowest(error - kept * z_ring)
    yield order_check("order in ε of what (47) leaves out", rest, s["r"])


def _second_order_rest(series: Series, m: int) -> PolyElement:
    moved = series.delta[m] - series.delta[m - 1]
    linear = series.product(moved, series.f2[m - 1], series.s[m - 1])
    return series.product(series.f1[m], series.s[m - 1]) - series.g(m - 1) - linear


def _assumption_two(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # The proof drops O(√ε)·f_θθ·O(ε) = O(ε^1.5): α = 1/2 must be covered by (A2).
    series = chain_series(3, 3, Jets())
    moved = series.delta[3] - series.delta[2]
    power, _ = lowest(series.product(moved, series.f2[2], series.s[2]))
    dropped = Fraction(power, 2) - 1
    yield fact("the α that the proof of Theorem 3 drops", dropped == s["alpha"], dropped,
               s["alpha"], EvidenceMethod.SYMBOLIC)  # fmt: skip
    covered = dropped >= s["alpha"] if s["included"] == 1 else dropped > s["alpha"]
    yield fact("(A2) covers it", covered, dropped, "α ≥ 1/2")


_REMAINDER = (coefficient("c", "1/2"), exponent("e", 1), exponent("r", "3/2"))

CLAIMS = (
    Claim(
        "eq-44",
        ClaimSource.KIM,
        "Taylor's theorem with Lagrange's remainder",
        ClaimStatement(
            "h(x) = h(a) + {g}·∇h(a)·(x - a) + {c}·(x - a)ᵀ∇²h(c)(x - a), c on the segment",
            (coefficient("g", 1), coefficient("c", "1/2")),
        ),
        _lagrange,
        ClaimVerdict.HOLDS,
        by_hand="Rolle's theorem along the segment, for h in C².",
        scope=Scope(n=ALL, f=Every("C²")),
        on="a quadratic of two variables, a quartic along a line",
    ),
    Claim(
        "eq-45",
        ClaimSource.KIM,
        "(44) applied to G",
        ClaimStatement(
            "G(θ^m) = G(θ^(m-1)) + {g}·∂G·Δθ + {c}·Δθᵀ∂²G(θ̄)Δθ, with {points} point θ̄ for p = 2",
            (coefficient("g", 1), coefficient("c", "1/2"), index("points", 1)),
        ),
        _vector_remainder,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=ClaimStatement(
            "G(θ^m) = G(θ^(m-1)) + {g}·∂G·Δθ + {c}·Δθᵀ∂²G(θ̄)Δθ, with {points} points θ̄ for p = 2, "
            "one for each component",
            (coefficient("g", 1), coefficient("c", "1/2"), index("points", 2)),
        ),
        slip=True,
        remark="G is vector-valued; harmless, since only the remainder's size is used.",
        scope=Scope(n=ALL, p=Only("2"), f=Every("C³")),
        on="the components θ³ and θ⁴",
    ),
    Claim(
        "eq-46",
        ClaimSource.KIM,
        "the remainder's orders put in",
        ClaimStatement("the remainder of (45) is {c}·ε^{e}·z²·f_θθθ·dθ⁰/dλ + O(ε^{r})", _REMAINDER),
        _remainder,
        ClaimVerdict.HOLDS,
        remark="One intermediate point for each component, as in (45).",
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C³"), inner=Every("C²")),
        on="n = p = 1, m = 2",
    ),
    Claim(
        "eq-47",
        ClaimSource.KIM,
        "what is left of the remainder",
        ClaimStatement(
            "after ε^1.5 ≃ 0 the remainder of (45) is {c}·ε^{e}·z²·f_θθθ·dθ⁰/dλ; left out: O(ε^{r})",
            _REMAINDER,
        ),
        _remainder,
        ClaimVerdict.HOLDS,
        remark="The recursion (22) leaves this term out: with θ⁰ = λ its own error is O(ε).",
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C³"), inner=Every("C²")),
        on="n = p = 1, m = 2",
        repeats="eq-46",
    ),
    Claim(
        "text-assumption-2",
        ClaimSource.KIM,
        "assumption (A2)",
        ClaimStatement(
            "ε^(1+α) ≃ 0 for α > {alpha} ({included}: 1 if equality is included, -1 if not)",
            (coefficient("alpha", "1/2"), sign("included", -1)),
        ),
        _assumption_two,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=ClaimStatement(
            "ε^(1+α) ≃ 0 for α ≥ {alpha} ({included}: 1 if equality is included, -1 if not)",
            (coefficient("alpha", "1/2"), sign("included", 1)),
        ),
        slip=True,
        remark="The main text and the proof use α ≥ 0.5; the supplement's list says α > 0.5.",
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C²"), inner=Every("C²")),
        on="n = p = 1, m = 3",
    ),
)
