"""How the iterates depend on λ: (13) to (16) and Supplement A.1, (30) to (36)."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import (
    Check,
    EvidenceMethod,
    at_most,
    fact,
    identity,
    matrix_identity,
    number,
    rational,
)
from proofs_check.scope import ALL, OPERATORS, Every, Only, Scope, by_hand
from proofs_check.statement import ClaimStatement, coefficient, exponent, index, sign
from proofs_check.tools.algebra import EPS, S0, coefficient_of, matrices, tangent
from proofs_check.tools.world import ENERGY, LAMS, THETAS, Exact, same, world

_MATRICES = {"n": OPERATORS, "p": OPERATORS}
_EVERY_STEP = {
    **_MATRICES,
    "m": by_hand("induction over m; its base and its first three steps are executed"),
    "inner": OPERATORS,
}
FIXED_STEPS = Assumption("fixed-steps", "the number of steps is fixed while ε → 0")
FROZEN_NOISE = Assumption("frozen-noise", "z does not depend on λ")


def equal(name: str, found: Exact, stated: Exact) -> Check:
    """An equality of exact matrices, as a check."""
    shown = f"{found.reshape(-1)[0]}, ... {found.shape}"
    return fact(name, same(found, stated), shown, f"{stated.reshape(-1)[0]}, ... {stated.shape}")


def _first_tangent(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    run = world()
    first = run.tangents[0]
    inside = run.A(0) @ first * s["a"] + run.B(0) * s["b"]
    stated = first + run.epsilon * inside
    yield equal("dθ^(1)/dλ by dual numbers through the step", run.tangents[1], stated)


def _first_derivative(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    run = world()
    total = run.B(0) + run.A(0) @ run.tangents[0]
    stated = run.tangents[0] + s["c"] * run.epsilon * total
    yield equal("dθ^(1)/dλ by dual numbers through the step", run.tangents[1], stated)
    lam, root = sp.symbols("lambda r")
    noise = sp.Function("z")(lam) * (1 - number(s["frozen"])) + sp.symbols("z0")
    yield identity("the noise term's derivative", sp.diff(root * noise, lam), sp.S(0))


def _curvatures(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    energy = sp.Matrix([ENERGY])
    normaliser = sp.Function("Z")(*LAMS)
    log_density = sp.Matrix([-ENERGY - sp.log(normaliser)])
    score = log_density.jacobian(THETAS)
    by_theta = energy.jacobian(THETAS)
    found_a, found_b = score.jacobian(THETAS), score.jacobian(LAMS)
    yield matrix_identity("A", found_a, number(s["a"]) * by_theta.jacobian(THETAS))
    yield matrix_identity("B, where Z drops out", found_b, number(s["b"]) * by_theta.jacobian(LAMS))
    yield matrix_identity("A is symmetric", found_a, found_a.T)


def _first_order_sum(s: ClaimStatement, m: int) -> tuple[sp.Expr, sp.Expr]:
    """The ε⁰ and ε¹ coefficients that (16) states, with its own limits of summation."""
    steps = range(s.integer("first"), m + s.integer("last") + 1)
    sum_a = sum(sp.Symbol(f"A{k}", commutative=False) for k in steps)
    sum_b = sum(sp.Symbol(f"B{k}", commutative=False) for k in steps)
    return S0, sp.expand(number(s["a"]) * sum_a * S0 + number(s["b"]) * sum_b)


def _tangent_sum(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    for m in (1, 2, 3, 4):
        constant, linear = _first_order_sum(s, m)
        found = tangent(m)
        yield identity(f"ε⁰, m = {m}", coefficient_of(found, 0), constant)
        yield identity(f"ε¹, m = {m}", coefficient_of(found, 1), linear, over=_EVERY_STEP)
        a, b = matrices("A", m), matrices("B", m)
        pairs = sum((a[j] * (a[i] * S0 + b[i]) for j in range(m) for i in range(j)), start=sp.S(0))
        stated = sp.expand(number(s["r"]) * pairs)
        over = _EVERY_STEP if m > 1 else {}
        yield identity(f"ε², m = {m}", coefficient_of(found, 2), stated, over=over)
    yield from _remainder_bound()
    yield _limit(context)


def _limit(context: ClaimContext) -> Check:
    """The error of (16) for a scalar A = -h, B = b, as ε → 0."""
    h, horizon, b = sp.symbols("h S b", positive=True)
    m = sp.Integer(3) if context.has(FIXED_STEPS) else 2 * horizon / EPS
    decay = (1 - EPS * h / 2) ** m
    exact = decay + b * (1 - decay) / h
    stated = (1 - m * EPS * h / 2) + m * EPS * b / 2
    return identity("limit of the error as ε → 0", sp.limit(exact - stated, EPS, 0), sp.S(0))


def _remainder_bound() -> Iterator[Check]:
    """‖s_m - (16)‖ ≤ (eˣ - 1 - x)‖s_0‖ + (ε/2)Σ‖B‖·(eˣ - 1) with x = (ε/2)Σ‖A‖, in balls."""
    run = world()
    m = 5
    half = run.epsilon / 2
    stated = run.tangents[0] + half * sum(run.A(k) @ run.tangents[0] + run.B(k) for k in range(m))
    error = norm(run.tangents[m] - stated)
    x = rational(half * sum(norm(run.A(k)) for k in range(m)))
    rest = rational(half * sum(norm(run.B(k)) for k in range(m)))
    first = rational(norm(run.tangents[0]))
    bound = (x.exp() - 1 - x) * first + rest * (x.exp() - 1)
    yield at_most("remainder against its bound, m = 5", rational(error), bound)


def norm(matrix: Exact) -> Fraction:
    """The largest absolute row sum: a norm that fractions keep exact."""
    return max(sum((abs(v) for v in row), start=Fraction(0)) for row in np.atleast_2d(matrix))


def _two_steps(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    run = world()
    at = 1 if "at" not in {t.name for t in s.terms} else s.integer("at")
    previous = run.tangents[at]
    stated = previous + run.epsilon * (s["b"] * run.B(at) + s["a"] * run.A(at) @ previous)
    yield equal("dθ^(2)/dλ by dual numbers", run.tangents[2], stated)


def _two_steps_plugged(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    a, b = matrices("A", 2), matrices("B", 2)
    first = (1 + number(s["a"]) * EPS * a[0]) * S0 + number(s["b"]) * EPS * b[0]
    stated = (1 + number(s["a"]) * EPS * a[1]) * first + number(s["b"]) * EPS * b[1]
    yield identity("s_2 with ordered products", tangent(2), sp.expand(stated), over=_MATRICES)


def _two_steps_arranged(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    a, b = matrices("A", 2), matrices("B", 2)
    half = number(s["h"]) * EPS
    linear = (1 + half * (a[0] + a[1])) * S0 + half * (b[0] + b[1])
    tail = number(s["c"]) * EPS ** number(s["e"]) * a[1] * (a[0] * S0 ** number(s["k"]) + b[0])
    stated = sp.expand(linear + tail)
    yield identity("s_2 with ordered products", tangent(2), stated, over=_MATRICES)
    run = world()
    fits = run.A(0).shape == run.B(0).shape
    yield fact(
        "A(θ⁰) + B(θ⁰) has no shape (n × n, n × p)", not fits, run.A(0).shape, run.B(0).shape
    )


def _two_steps_cut(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    a, b = matrices("A", 2), matrices("B", 2)
    stated = number(s["h"]) * ((a[0] + a[1]) * S0 + b[0] + b[1])
    yield identity("ε¹", coefficient_of(tangent(2), 1), sp.expand(stated), over=_MATRICES)
    dropped = sp.expand(tangent(2) - S0 - EPS * stated)
    power = next(k for k in range(4) if coefficient_of(dropped, k) != 0)
    yield fact("the first power dropped", power == s["e"], power, s["e"], EvidenceMethod.SYMBOLIC,
               over=_MATRICES)  # fmt: skip


_HALVES = (coefficient("a", "1/2"), coefficient("b", "1/2"))

CLAIMS = (
    Claim(
        "eq-13",
        ClaimSource.KIM,
        "the first transition, differentiated",
        ClaimStatement(
            "dθ^(1)/dλ = dθ^(0)/dλ + {c}·ε·d/dλ(∂ log p/∂θ) + d/dλ(√ε·z), where the last term is "
            "zero with weight {frozen} on frozen noise",
            (coefficient("c", "1/2"), coefficient("frozen", 1)),
        ),
        _first_derivative,
        ClaimVerdict.HOLDS,
        assumptions=(FROZEN_NOISE,),
        scope=Scope(n=ALL, p=ALL, inner=Every("C²")),
        on="n = 3, p = 2, one cubic E, one rational trajectory",
    ),
    Claim(
        "eq-14",
        ClaimSource.KIM,
        "the first tangent",
        ClaimStatement("dθ^(1)/dλ = (I + {a}·ε·A(θ⁰))·dθ⁰/dλ + {b}·ε·B(θ⁰)", _HALVES),
        _first_tangent,
        ClaimVerdict.HOLDS,
        assumptions=(FROZEN_NOISE,),
        scope=Scope(n=ALL, p=ALL, inner=Every("C²")),
        on="n = 3, p = 2, one cubic E, one rational trajectory",
    ),
    Claim(
        "eq-15",
        ClaimSource.KIM,
        "A and B",
        ClaimStatement(
            "A = ∂² log p/∂θ² = {a}·∂²E/∂θ², B = ∂² log p/∂λ∂θ = {b}·∂²E/∂λ∂θ",
            (sign("a", -1), sign("b", -1)),
        ),
        _curvatures,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, inner=Every("C²")),
        on="n = 3, p = 2, one cubic E",
    ),
    Claim(
        "eq-16",
        ClaimSource.KIM,
        "the m-th tangent to first order",
        ClaimStatement(
            "dθ^(m)/dλ ≃ (I + {a}·ε·ΣA(θ^k))·dθ⁰/dλ + {b}·ε·ΣB(θ^k), k from {first} to m+{last}; "
            "dropped: {r}·ε²·Σ_(i<j) A_j(A_i·dθ⁰/dλ + B_i) and higher",
            (*_HALVES, index("first", 0), index("last", -1), coefficient("r", "1/4")),
        ),
        _tangent_sum,
        ClaimVerdict.CONDITIONAL,
        added=(FIXED_STEPS,),
        by_hand="‖product‖ ≤ product of norms for the remainder's bound.",
        remark="Needs ε·m·‖A‖ ≪ 1, against (A3), where m → ∞.",
        scope=Scope(n=ALL, p=ALL, m=ALL, inner=Every("C²")),
        on="m = 1 to 4",
    ),
    Claim(
        "eq-30",
        ClaimSource.KIM,
        "A and B again",
        ClaimStatement(
            "A = ∂² log p/∂θ² = {a}·∂²E/∂θ², B = ∂² log p/∂λ∂θ = {b}·∂²E/∂λ∂θ",
            (sign("a", -1), sign("b", -1)),
        ),
        _curvatures,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, inner=Every("C²")),
        on="n = 3, p = 2, one cubic E",
        repeats="eq-15",
    ),
    Claim(
        "eq-31",
        ClaimSource.KIM,
        "the second transition, differentiated",
        ClaimStatement(
            "dθ^(2)/dλ = dθ^({at})/dλ + ε·({b}·∂_λ + {a}·∂_θ·dθ^({at})/dλ) of ∂ log p/∂θ at θ^({at})",
            (*_HALVES, index("at", 1)),
        ),
        _two_steps,
        ClaimVerdict.HOLDS,
        assumptions=(FROZEN_NOISE,),
        scope=Scope(n=ALL, p=ALL, m=Only("2"), inner=Every("C²")),
        on="n = 3, p = 2, one cubic E, one rational trajectory",
    ),
    Claim(
        "eq-32",
        ClaimSource.KIM,
        "the second tangent, by the chain rule",
        ClaimStatement("dθ^(2)/dλ = dθ^(1)/dλ + ε·({b}·B(θ¹) + {a}·A(θ¹)·dθ^(1)/dλ)", _HALVES),
        _two_steps,
        ClaimVerdict.HOLDS,
        assumptions=(FROZEN_NOISE,),
        scope=Scope(n=ALL, p=ALL, m=Only("2"), inner=Every("C²")),
        on="n = 3, p = 2, one cubic E, one rational trajectory",
        repeats="eq-31",
    ),
    Claim(
        "eq-33",
        ClaimSource.KIM,
        "the second tangent, factored",
        ClaimStatement("dθ^(2)/dλ = (I + {a}·ε·A(θ¹))·dθ^(1)/dλ + {b}·ε·B(θ¹)", _HALVES),
        _two_steps,
        ClaimVerdict.HOLDS,
        assumptions=(FROZEN_NOISE,),
        scope=Scope(n=ALL, p=ALL, m=Only("2"), inner=Every("C²")),
        on="n = 3, p = 2, one cubic E, one rational trajectory",
        repeats="eq-31",
    ),
    Claim(
        "eq-34",
        ClaimSource.KIM,
        "the first tangent plugged in",
        ClaimStatement(
            "dθ^(2)/dλ = (I + {a}·ε·A(θ¹))·((I + {a}·ε·A(θ⁰))·dθ⁰/dλ + {b}·ε·B(θ⁰)) + {b}·ε·B(θ¹)",
            _HALVES,
        ),
        _two_steps_plugged,
        ClaimVerdict.HOLDS,
        assumptions=(FROZEN_NOISE,),
        scope=Scope(n=ALL, p=ALL, m=Only("2")),
    ),
    Claim(
        "eq-35",
        ClaimSource.KIM,
        "the second tangent, arranged",
        ClaimStatement(
            "dθ^(2)/dλ = (I + {h}·ε·(A₀ + A₁))·S₀ + {h}·ε·(B₀ + B₁) + "
            "{c}·ε^{e}·A₁·(A₀·S₀^{k} + B₀), S₀ = dθ⁰/dλ",
            (
                coefficient("h", "1/2"),
                coefficient("c", "1/4"),
                exponent("e", 2),
                exponent("k", 0),
            ),
        ),
        _two_steps_arranged,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=ClaimStatement(
            "dθ^(2)/dλ = (I + {h}·ε·(A₀ + A₁))·S₀ + {h}·ε·(B₀ + B₁) + "
            "{c}·ε^{e}·A₁·(A₀·S₀^{k} + B₀), S₀ = dθ⁰/dλ",
            (
                coefficient("h", "1/2"),
                coefficient("c", "1/4"),
                exponent("e", 2),
                exponent("k", 1),
            ),
        ),
        slip=True,
        remark="The printed ε² term adds an n × n to an n × p matrix; it is dropped right after.",
        scope=Scope(n=ALL, p=ALL, m=Only("2")),
    ),
    Claim(
        "eq-36",
        ClaimSource.KIM,
        "the second tangent to first order",
        ClaimStatement(
            "dθ^(2)/dλ ≃ S₀ + {h}·ε·((A₀ + A₁)·S₀ + B₀ + B₁), dropping powers from ε^{e} on",
            (coefficient("h", "1/2"), exponent("e", 2)),
        ),
        _two_steps_cut,
        ClaimVerdict.HOLDS,
        remark="With two steps fixed the relative error is O(ε).",
        scope=Scope(n=ALL, p=ALL, m=Only("2")),
    ),
)
