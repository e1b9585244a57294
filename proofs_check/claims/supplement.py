"""Supplement A.2: the first-order approximation of one step, (37) to (43)."""

from collections.abc import Iterator

import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.recursion import (
    START_FIXED,
    STEP_ERROR,
    STEP_REMARK,
    first_order,
    order_check,
)
from proofs_check.claims.tangent import FIXED_STEPS
from proofs_check.evidence import Check, identity, number
from proofs_check.scope import ALL, Every, Scope
from proofs_check.statement import ClaimStatement, coefficient, exponent
from proofs_check.tools.algebra import Jets, chain_series, lowest

b0, f2, f3, e2, s0, z1 = sp.symbols("b0 f2 f3 e2 s0 z1")


def _increment(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    series = chain_series(2, 3, Jets(depends=True))
    power, leading = lowest(series.delta[2] - series.delta[1])
    yield order_check("order in ε of θ^(2) - θ^(1)", power, s["e"])
    yield identity("limit of (θ^(2) - θ^(1))/√ε", leading, number(s["L"]) * z1)


def _taylor_step(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    m = 2
    series = chain_series(m, 3, Jets(depends=True))
    found = series.product(series.f1[m], series.s[m - 1]) - series.g(m - 1)
    power, leading = lowest(found)
    yield order_check("order in ε of the increment of G", power, s["p"])
    yield identity("its coefficient", leading, number(s["c"]) * z1 * f2 * s0)
    moved = series.delta[m] - series.delta[m - 1]
    power, leading = lowest(found - series.product(moved, series.f2[m - 1], series.s[m - 1]))
    yield order_check("order in ε of the rest", power, s["e"])
    yield identity("its coefficient", leading, z1**2 * f3 * s0 / 2)


def _tangent_increment(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    m = 3
    series = chain_series(m, 3, Jets(depends=True))
    power, leading = lowest(series.s[m] - series.s[0])
    yield order_check("order in ε of dθ^(3)/dλ - dθ⁰/dλ", power, s["e"])
    yield identity("its coefficient", leading, number(s["c"]) * 3 * (b0 - e2 * s0))


CLAIMS = (
    Claim(
        "eq-37",
        ClaimSource.KIM,
        "the approximation to be derived",
        STEP_ERROR,
        first_order,
        ClaimVerdict.CONDITIONAL,
        added=(START_FIXED, FIXED_STEPS),
        remark=STEP_REMARK,
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C³"), inner=Every("C³")),
        on="n = p = 1, m = 3",
        repeats="eq-21",
    ),
    Claim(
        "eq-38",
        ClaimSource.KIM,
        "the approximation in terms of G",
        STEP_ERROR,
        first_order,
        ClaimVerdict.CONDITIONAL,
        added=(START_FIXED, FIXED_STEPS),
        remark=STEP_REMARK,
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C³"), inner=Every("C³")),
        on="n = p = 1, m = 3",
        repeats="eq-21",
    ),
    Claim(
        "eq-39",
        ClaimSource.KIM,
        "the size of one step",
        ClaimStatement(
            "(θ^(m) - θ^(m-1))/ε^{e} → {L}·z, that is o(√ε)",
            (exponent("e", "1/2"), coefficient("L", 0)),
        ),
        _increment,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=ClaimStatement(
            "(θ^(m) - θ^(m-1))/ε^{e} → {L}·z, that is O(√ε)",
            (exponent("e", "1/2"), coefficient("L", 1)),
        ),
        slip=True,
        scope=Scope(n=ALL, m=ALL, inner=Every("C¹")),
        on="n = 1, m = 2",
    ),
    Claim(
        "eq-40",
        ClaimSource.KIM,
        "G, linearised in its first argument",
        ClaimStatement(
            "G(θ^m, θ^(m-1)) = G(θ^(m-1), θ^(m-1)) + {c}·ε^{p}·z·∂G/∂θ (an o(√ε)) + O(ε^{e})",
            (coefficient("c", 0), exponent("p", "1/2"), exponent("e", 1)),
        ),
        _taylor_step,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=ClaimStatement(
            "G(θ^m, θ^(m-1)) = G(θ^(m-1), θ^(m-1)) + {c}·ε^{p}·z·∂G/∂θ (an O(√ε)) + O(ε^{e})",
            (coefficient("c", 1), exponent("p", "1/2"), exponent("e", 1)),
        ),
        slip=True,
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C³"), inner=Every("C²")),
        on="n = p = 1, m = 2",
    ),
    Claim(
        "eq-41",
        ClaimSource.KIM,
        "the derivative of G",
        ClaimStatement(
            "the same with ∂G/∂θ = f_θθ·dθ^(m-1)/dλ: {c}·ε^{p}·z (an o(√ε)), rest O(ε^{e})",
            (coefficient("c", 0), exponent("p", "1/2"), exponent("e", 1)),
        ),
        _taylor_step,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=ClaimStatement(
            "the same with ∂G/∂θ = f_θθ·dθ^(m-1)/dλ: {c}·ε^{p}·z (an O(√ε)), rest O(ε^{e})",
            (coefficient("c", 1), exponent("p", "1/2"), exponent("e", 1)),
        ),
        slip=True,
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C³"), inner=Every("C²")),
        on="n = p = 1, m = 2",
        repeats="eq-40",
    ),
    Claim(
        "eq-42",
        ClaimSource.KIM,
        "the tangent against its start",
        ClaimStatement(
            "(dθ^(m)/dλ - dθ⁰/dλ)/ε^{e} → {c}·Σ(B + A·dθ⁰/dλ), that is o(ε)",
            (exponent("e", 1), coefficient("c", 0)),
        ),
        _tangent_increment,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=ClaimStatement(
            "(dθ^(m)/dλ - dθ⁰/dλ)/ε^{e} → {c}·Σ(B + A·dθ⁰/dλ), that is O(ε)",
            (exponent("e", 1), coefficient("c", "1/2")),
        ),
        slip=True,
        scope=Scope(n=ALL, p=ALL, m=ALL, inner=Every("C²")),
        on="n = p = 1, m = 3",
    ),
    Claim(
        "eq-43",
        ClaimSource.KIM,
        "what is left after ε^1.5 ≃ 0",
        STEP_ERROR,
        first_order,
        ClaimVerdict.CONDITIONAL,
        added=(START_FIXED, FIXED_STEPS),
        remark=STEP_REMARK + " Its o(√ε) is an O(√ε), as in (39).",
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C³"), inner=Every("C³")),
        on="n = p = 1, m = 3",
        repeats="eq-21",
    ),
)
