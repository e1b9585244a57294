"""How the iterates depend on λ: (13) to (16) and Supplement A.1, (30) to (36)."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import Check, at_most, fact, identity, induction, rational
from proofs_check.scope import (
    ALL,
    COMPONENT,
    FUNCTIONS,
    INDUCTION,
    OPERATORS,
    Every,
    Only,
    Scope,
    by_hand,
)
from proofs_check.statement import ClaimStatement, formula
from proofs_check.sums import SIZE, At, Indexed
from proofs_check.tools.algebra import EPS, S0, coefficient_of, matrices, tangent
from proofs_check.tools.world import Exact, World, same, world

FIXED_STEPS = Assumption("fixed-steps", "the number of steps is fixed while ε → 0")
FROZEN_NOISE = Assumption("frozen-noise", "z does not depend on λ")

_CHAIN_RULE = by_hand("the chain rule through one step; executed by dual numbers for one cubic E")
MATRICES = {"n": OPERATORS, "p": OPERATORS, "inner": _CHAIN_RULE}


def equal(name: str, found: Exact, stated: Exact) -> Check:
    """An equality of exact matrices, as a check."""
    shown = f"{found.reshape(-1)[0]}, ... {found.shape}"
    return fact(name, same(found, stated), shown, f"{stated.reshape(-1)[0]}, ... {stated.shape}")


def identity_matrix(n: int) -> Exact:
    """The identity, in fractions."""
    rows = [[Fraction(int(i == j)) for j in range(n)] for i in range(n)]
    return np.array(rows, dtype=object)


def of_world(run: World) -> dict[str, object]:
    """What the letters of a formula stand for in an exact world.

    Args:
        run: the world.

    Returns:
        The matrices and vectors by their names in formulas.
    """
    return {
        "I": identity_matrix(run.n),
        "A": At(run.A),
        "B": At(run.B),
        "S": At(lambda m: run.tangents[m]),
        "f_θ": At(run.f_theta),
        "f_λ": At(run.f_lambda),
        "f_θθ": At(run.f_theta2),
        "θ": At(lambda m: np.array(run.thetas[m], dtype=object)),
        "g": At(run.g),
        "S0": run.tangents[0],
        "ε": run.epsilon,
    }


def start(k: object) -> sp.Expr:
    """The tangent S[k] where only that of θ⁰ is known."""
    return S0 if k == 0 else sp.Symbol(f"S_{k}", commutative=False)


def _operators(m: int) -> dict[str, object]:
    return {
        "I": 1,
        "A": At(lambda k: sp.Symbol(f"A{k}", commutative=False)),
        "B": At(lambda k: sp.Symbol(f"B{k}", commutative=False)),
        "S": At(lambda k: tangent(k) if 0 < k < m else start(k)),
        "S0": S0,
        "ε": EPS,
    }


def _noise(context: ClaimContext) -> sp.Expr:
    """The derivative of √ε·z in λ: zero on frozen noise."""
    return sp.S(0) if context.has(FROZEN_NOISE) else sp.Symbol("dz", commutative=False)


def _tangent_claim(m: int, name: str, s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    """A formula for dθ^(m)/dλ, in operators and in the exact world."""
    found = sp.expand(tangent(m) + _noise(context))
    stated = sp.expand(s.formula(name, **_operators(m)))
    yield identity(f"dθ^({m})/dλ with ordered products", found, stated, over=MATRICES)
    run = world()
    exact = s.formula(name, Fraction, **of_world(run))
    yield equal(f"dθ^({m})/dλ by dual numbers through the step", run.tangents[m], exact)


def _first_tangent(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    yield from _tangent_claim(1, "tangent", s, context)


def _second_tangent(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    yield from _tangent_claim(2, "tangent", s, context)


def _first_derivative(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    a, b = (matrices(letter, 1)[0] for letter in "AB")
    total = a * S0 + b  # the score's derivative along λ
    found = sp.expand(tangent(1) + _noise(context))
    stated = sp.expand(s.formula("tangent", S=At(start), ε=EPS, D=total))
    yield identity("dθ^(1)/dλ with ordered products", found, stated, over=MATRICES)
    run = world()
    inside = run.B(0) + run.A(0) @ run.tangents[0]
    exact = s.formula("tangent", Fraction, **{**of_world(run), "D": inside})
    yield equal("dθ^(1)/dλ by dual numbers through the step", run.tangents[1], exact)


def _curvatures(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    lam, x, y = sp.symbols("lambda x y", real=True)
    energy, normaliser = sp.Function("E")(lam, x, y), sp.Function("Z")(lam)
    score = sp.diff(-energy - sp.log(normaliser), x)
    names = {"E_θθ": sp.diff(energy, x, y), "E_λθ": sp.diff(energy, lam, x)}
    over = {"n": COMPONENT, "p": COMPONENT, "inner": FUNCTIONS}
    yield identity("an entry of A", sp.diff(score, y), s.formula("A", **names), over=over)
    yield identity("an entry of B, where Z drops out", sp.diff(score, lam), s.formula("B", **names),
                   over=over)  # fmt: skip


_EVERY_STEP = {**MATRICES, "m": INDUCTION}


def _tangent_sum(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    letters = {"A": Indexed("A"), "B": Indexed("B"), "S": At(start), "ε": EPS}

    def kept(m: sp.Expr) -> sp.Expr:
        return sp.expand(s.formula("tangent", m=m, **letters))

    def dropped(m: sp.Expr) -> sp.Expr:
        return sp.expand(s.formula("dropped", m=m, **letters))

    # s_(m+1) = s_m + ε/2·(A_m s_m + B_m), power of ε by power of ε.
    a, b = letters["A"][SIZE], letters["B"][SIZE]
    linear = kept(SIZE)
    base = identity("s_0", kept(sp.S(0)), S0)
    step = identity("ε⁰ and ε¹", kept(SIZE + 1),
                    sp.expand(linear + EPS / 2 * (a * linear.coeff(EPS, 0) + b)))  # fmt: skip
    yield induction("the sum for every m", base, step, _EVERY_STEP)
    yield identity("nothing is dropped at m = 1", dropped(sp.S(1)), sp.S(0))
    first, after, push = (letters[x][k] for x, k in (("A", 0), ("A", 1), ("B", 0)))
    base = identity("what is dropped at m = 2", dropped(sp.S(2)),
                    sp.expand(EPS**2 / 4 * after * (first * S0 + push)))  # fmt: skip
    step = identity("ε²", dropped(SIZE + 1),
                    sp.expand(dropped(SIZE) + EPS**2 / 2 * a * linear.coeff(EPS, 1)))  # fmt: skip
    yield induction("what is dropped, for every m", base, step, _EVERY_STEP)
    for m in (2, 3):
        plain = {**letters, "A": _operators(m)["A"], "B": _operators(m)["B"], "m": sp.Integer(m)}
        found = tangent(m)
        for power, name in ((1, "tangent"), (2, "dropped")):
            stated = coefficient_of(s.formula(name, **plain), power)
            yield identity(f"ε^{power}, m = {m}", coefficient_of(found, power), stated)
    yield _remainder_bound()
    yield limit_at(context)


def limit_at(context: ClaimContext) -> Check:
    """The error of (16) for a scalar A = -h, B = b, as ε → 0: at fixed steps, or at a fixed horizon.

    Args:
        context: whether `FIXED_STEPS` is on.

    Returns:
        That the limit is zero.
    """
    h, horizon, b = sp.symbols("h S b", positive=True)
    m = sp.Integer(3) if context.has(FIXED_STEPS) else 2 * horizon / EPS
    decay = (1 - EPS * h / 2) ** m
    exact = decay + b * (1 - decay) / h
    stated = (1 - m * EPS * h / 2) + m * EPS * b / 2
    return identity("limit of the error as ε → 0", sp.limit(exact - stated, EPS, 0), sp.S(0))


def _remainder_bound() -> Check:
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
    return at_most("remainder against its bound, m = 5", rational(error), bound)


def norm(matrix: Exact) -> Fraction:
    """The largest absolute row sum: a norm that fractions keep exact."""
    return max(sum((abs(v) for v in row), start=Fraction(0)) for row in np.atleast_2d(matrix))


def _arranged(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    yield from _tangent_claim(2, "tangent", s, context)
    run = world()
    fits = run.A(0).shape == run.B(0).shape
    shapes = (run.A(0).shape, run.B(0).shape)
    yield fact("A(θ⁰) + B(θ⁰) has no shape (n × n, n × p)", not fits, *shapes)


def _cut(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    found = sp.expand(tangent(2) + _noise(context))
    kept = sp.expand(s.formula("tangent", **_operators(2)))
    dropped = sp.expand(s.formula("dropped", **_operators(2)))
    exact = kept + dropped
    yield identity("what is kept and what is dropped", found, exact, over=MATRICES)
    for name, part, powers in (("kept", kept, (0, 1)), ("dropped", dropped, (2,))):
        own = sum((EPS**k * coefficient_of(part, k) for k in powers), sp.S(0))
        yield identity(f"powers of ε in what is {name}", part, sp.expand(own), over=MATRICES)


_SECOND = Scope(n=ALL, p=ALL, m=Only("2"), inner=Every("C²"))
_FIRST = Scope(n=ALL, p=ALL, m=Only("1"), inner=Every("C²"))
_OPS = "A B S D"
_CURVATURES = ClaimStatement(
    "A, the second derivative of log p in θ, is {A}; B, that in λ and θ, is {B}",
    (formula("A", "-E_θθ"), formula("B", "-E_λθ")),
)
_ONE_STEP = "S[1] + 1/2*ε*(A[1] @ S[1] + B[1])"
_ARRANGED = ClaimStatement(
    "the second tangent is {tangent}",
    (
        formula(
            "tangent",
            "(I + 1/2*ε*(A[0] + A[1])) @ S[0] + 1/2*ε*(B[0] + B[1]) + 1/4*ε**2*A[1] @ (A[0] + B[0])",
            _OPS,
        ),
    ),
)

CLAIMS = (
    Claim(
        "eq-13",
        ClaimSource.KIM,
        "the first transition, differentiated",
        ClaimStatement(
            "the first tangent is {tangent}, D the score's derivative along λ",
            (formula("tangent", "S[0] + 1/2*ε*D", _OPS),),
        ),
        _first_derivative,
        ClaimVerdict.HOLDS,
        assumptions=(FROZEN_NOISE,),
        scope=_FIRST,
    ),
    Claim(
        "eq-14",
        ClaimSource.KIM,
        "the first tangent",
        ClaimStatement(
            "the first tangent is {tangent}",
            (formula("tangent", "(I + 1/2*ε*A[0]) @ S[0] + 1/2*ε*B[0]", _OPS),),
        ),
        _first_tangent,
        ClaimVerdict.HOLDS,
        assumptions=(FROZEN_NOISE,),
        scope=_FIRST,
    ),
    Claim(
        "eq-15",
        ClaimSource.KIM,
        "A and B",
        _CURVATURES,
        _curvatures,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, inner=Every("C²")),
    ),
    Claim(
        "eq-16",
        ClaimSource.KIM,
        "the m-th tangent to first order",
        ClaimStatement(
            "after m steps the tangent is {tangent}; dropped: {dropped} and higher powers",
            (
                formula(
                    "tangent",
                    "S[0] + 1/2*ε*Σ(k, 0, m-1, A[k]) @ S[0] + 1/2*ε*Σ(k, 0, m-1, B[k])",
                    _OPS,
                ),
                formula(
                    "dropped",
                    "1/4*ε**2*Σ(j, 1, m-1, Σ(i, 0, j-1, A[j] @ (A[i] @ S[0] + B[i])))",
                    _OPS,
                ),
            ),
        ),
        _tangent_sum,
        ClaimVerdict.CONDITIONAL,
        added=(FIXED_STEPS,),
        remark="Needs ε·m·‖A‖ ≪ 1, against (A3), where m → ∞; the remainder's bound was held against "
        "one exact run.",
        scope=Scope(n=ALL, p=ALL, m=ALL, inner=Every("C²")),
    ),
    Claim(
        "eq-30",
        ClaimSource.KIM,
        "A and B again",
        _CURVATURES,
        _curvatures,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, inner=Every("C²")),
        repeats="eq-15",
    ),
    Claim(
        "eq-31",
        ClaimSource.KIM,
        "the second transition, differentiated",
        ClaimStatement("the second tangent is {tangent}", (formula("tangent", _ONE_STEP, _OPS),)),
        _second_tangent,
        ClaimVerdict.HOLDS,
        assumptions=(FROZEN_NOISE,),
        scope=_SECOND,
    ),
    Claim(
        "eq-32",
        ClaimSource.KIM,
        "the second tangent, by the chain rule",
        ClaimStatement("the second tangent is {tangent}", (formula("tangent", _ONE_STEP, _OPS),)),
        _second_tangent,
        ClaimVerdict.HOLDS,
        assumptions=(FROZEN_NOISE,),
        scope=_SECOND,
        repeats="eq-31",
    ),
    Claim(
        "eq-33",
        ClaimSource.KIM,
        "the second tangent, factored",
        ClaimStatement(
            "the second tangent is {tangent}",
            (formula("tangent", "(I + 1/2*ε*A[1]) @ S[1] + 1/2*ε*B[1]", _OPS),),
        ),
        _second_tangent,
        ClaimVerdict.HOLDS,
        assumptions=(FROZEN_NOISE,),
        scope=_SECOND,
    ),
    Claim(
        "eq-34",
        ClaimSource.KIM,
        "the first tangent plugged in",
        ClaimStatement(
            "the second tangent is {tangent}",
            (
                formula(
                    "tangent",
                    "(I + 1/2*ε*A[1]) @ ((I + 1/2*ε*A[0]) @ S[0] + 1/2*ε*B[0]) + 1/2*ε*B[1]",
                    _OPS,
                ),
            ),
        ),
        _second_tangent,
        ClaimVerdict.HOLDS,
        assumptions=(FROZEN_NOISE,),
        scope=_SECOND,
    ),
    Claim(
        "eq-35",
        ClaimSource.KIM,
        "the second tangent, arranged",
        _ARRANGED,
        _arranged,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=_ARRANGED.saying(
            tangent="(I + 1/2*ε*(A[0] + A[1])) @ S[0] + 1/2*ε*(B[0] + B[1]) + "
            "1/4*ε**2*A[1] @ (A[0] @ S[0] + B[0])"
        ),
        slip=True,
        assumptions=(FROZEN_NOISE,),
        remark="The printed ε² term adds an n × n to an n × p matrix; it is dropped right after.",
        scope=_SECOND,
    ),
    Claim(
        "eq-36",
        ClaimSource.KIM,
        "the second tangent to first order",
        ClaimStatement(
            "the second tangent is {tangent}, up to {dropped}, which is dropped",
            (
                formula("tangent", "S[0] + 1/2*ε*((A[0] + A[1]) @ S[0] + B[0] + B[1])", _OPS),
                formula("dropped", "1/4*ε**2*A[1] @ (A[0] @ S[0] + B[0])", _OPS),
            ),
        ),
        _cut,
        ClaimVerdict.HOLDS,
        assumptions=(FROZEN_NOISE,),
        remark="With two steps fixed the relative error is O(ε).",
        scope=_SECOND,
    ),
)
