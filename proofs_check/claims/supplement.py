"""Supplement A.2: the first-order approximation of one step, (37) to (43)."""

from collections.abc import Iterator

import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.recursion import (
    FF,
    LEADING,
    S0,
    START_FIXED,
    STEP_ERROR,
    STEP_REMARK,
    A,
    B,
    Z,
    first_order,
    leading_tangent,
    series_check,
)
from proofs_check.claims.tangent import FIXED_STEPS
from proofs_check.evidence import Check, EvidenceMethod, fact, identity
from proofs_check.scope import ALL, JETS, OPERATORS, SYMBOL, Cover, Every, Scope, by_hand
from proofs_check.statement import ClaimStatement, choice, formula
from proofs_check.sums import SIZE, At
from proofs_check.tools.algebra import EPS, Jets, chain_series

b0, f2, f3, e2, s0 = sp.symbols("b0 f2 f3 e2 s0")
FFF, SCORE = sp.symbols("f_θθθ score", commutative=False)
_r = sp.symbols("r", positive=True)
_START = by_hand("the tangent before is that of θ⁰ up to O(ε), by the lemma of (20)")
_EVERY_JET = {"n": OPERATORS, "p": OPERATORS, "m": _START, "f": JETS, "inner": JETS}


def noise(at: object) -> sp.Expr:
    """The noise of the step that ends at θ^(m): that of the index m - 1."""
    return Z if sp.sympify(at) == SIZE - 1 else sp.Symbol(f"z_[{at}]", commutative=False)


def leading(expression: sp.Expr) -> sp.Expr:
    """The term of the lowest power of ε of a polynomial in √ε with ordered products."""
    flat = sp.expand(expression.subs(EPS, _r**2))
    power = next(k for k in range(8) if flat.coeff(_r, k) != 0)
    return sp.expand(flat.coeff(_r, power)) * EPS ** sp.Rational(power, 2)


def step_taken() -> sp.Expr:
    """θ^(m) - θ^(m-1) of the chain, with the score an operator."""
    return EPS / 2 * SCORE + sp.sqrt(EPS) * Z


def _size(word: str, order: str, coefficient: sp.Expr, over: dict[str, Cover]) -> Check:
    """That O, not o, is said where the limit of the quotient is not zero."""
    said = f"O({order})" if coefficient != 0 else f"o({order})"
    return fact(f"the limit over {order} is {coefficient}", word == said, said, word,
                EvidenceMethod.SYMBOLIC, over=over)  # fmt: skip


def _increment(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    over = {"n": OPERATORS, "m": SYMBOL, "inner": OPERATORS}
    found = leading(step_taken())
    # A mark on the index, since the noise of this step alone is written z.
    shown = found.subs(Z, sp.Symbol("z_[m - 1]", commutative=False))
    marked = At(lambda k: sp.Symbol(f"z_[{k}]", commutative=False))
    stated = s.formula("step", z=marked, ε=EPS, m=SIZE)
    yield identity("the leading term of a step", shown, stated, over=over)
    yield _size(s.word("size"), "√ε", leading(step_taken()) / sp.sqrt(EPS), over)
    series = chain_series(2, 3, Jets(depends=True))
    plain = At(lambda k: sp.Symbol(f"z{k}"))
    stated = s.formula("step", z=plain, ε=EPS, m=sp.Integer(2))
    yield series_check("n = 1, m = 2", series.delta[2] - series.delta[1], stated)


def _marked(expression: sp.Expr) -> sp.Expr:
    return expression.subs(Z, sp.Symbol("z_[m - 1]", commutative=False))


def taylor_of_g(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    """G(θ^m) against G(θ^(m-1)): its linear term, and the first of what is left.

    Args:
        s: a statement with the formulas `linear` and `rest`, and perhaps the word `size`.

    Yields:
        Both in operators and for one parameter.
    """
    marked = At(lambda k: sp.Symbol(f"z_[{k}]", commutative=False))
    names = {"z": marked, "f_θθ": FF, "f_θθθ": FFF, "S0": S0, "ε": EPS, "m": SIZE}
    moved = step_taken()
    # f_θ(θ + Δ) = f_θ + Δf_θθ + ½Δ(Δf_θθθ) + …, times the tangent, which is that of θ⁰ up to O(ε).
    linear, square = moved * FF * S0, moved * moved * FFF * S0 / 2
    holes = {t.name for t in s.terms}
    if "linear" in holes:
        yield identity("the linear term", _marked(leading(sp.expand(linear))),
                       s.formula("linear", **names), over=_EVERY_JET)  # fmt: skip
    yield identity("the rest", _marked(leading(sp.expand(square))), s.formula("rest", **names),
                   over=_EVERY_JET)  # fmt: skip
    if "size" in holes:
        bound = leading(sp.expand(linear)) / sp.sqrt(EPS)
        yield _size(s.word("size"), "√ε", bound, _EVERY_JET)
    for m in (2, 3):
        series = chain_series(m, 3, Jets(depends=True))
        plain = {**names, "z": At(lambda k: sp.Symbol(f"z{k}")), "m": sp.Integer(m)}
        plain |= {"f_θθ": f2, "f_θθθ": f3, "S0": s0}
        change = series.product(series.f1[m], series.s[m - 1]) - series.g(m - 1)
        if "linear" in holes:
            yield series_check(f"n = p = 1, m = {m}", change, s.formula("linear", **plain))
        kept = series.product(series.delta[m] - series.delta[m - 1], series.f2[m - 1],
                              series.s[m - 1])  # fmt: skip
        yield series_check(
            f"the rest, n = p = 1, m = {m}", change - kept, s.formula("rest", **plain)
        )


def _tangent_increment(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield from leading_tangent(S0)
    found = sp.expand(SIZE * EPS / 2 * (B + A * S0))
    names = {"A": A, "B": B, "S0": S0, "ε": EPS}
    stated = s.formula("moved", m=SIZE, **names)
    yield identity("the lemma at m", found, sp.expand(stated), over=LEADING)
    yield _size(s.word("size"), "ε", found / EPS, LEADING)
    for m in (2, 3):
        series = chain_series(m, 3, Jets(depends=True))
        stated = s.formula("moved", m=sp.Integer(m), A=-e2, B=b0, S0=s0, ε=EPS)
        yield series_check(f"n = p = 1, m = {m}", series.s[m] - series.s[0], stated)


_EVERY = Scope(n=ALL, p=ALL, m=ALL, f=Every("C³"), inner=Every("C²"))
_STEP = Scope(n=ALL, p=ALL, m=ALL, f=Every("C²"), inner=Every("C²"))
_LINEAR = "ε**(1/2)*z[m-1] @ f_θθ @ S0"
_REST = "1/2*ε*z[m-1] @ z[m-1] @ f_θθθ @ S0"
_OPS = "z f_θθ f_θθθ S0 A B"
_INCREMENT = ClaimStatement(
    "a step of the chain is, to leading order, {step}, which is {size}",
    (formula("step", "ε**(1/2)*z[m-1]", _OPS), choice("size", "O(√ε)", "o(√ε)")),
)
_TAYLOR = ClaimStatement(
    "G changes in its first argument, to leading order, by {linear}, which is {size}, and "
    "by a rest that starts with {rest}",
    (
        formula("linear", _LINEAR, _OPS),
        choice("size", "O(√ε)", "o(√ε)"),
        formula("rest", _REST, _OPS),
    ),
)
_TANGENT = ClaimStatement(
    "the tangent differs from its start, to leading order, by {moved}, which is {size}",
    (formula("moved", "1/2*ε*m*(B + A @ S0)", _OPS), choice("size", "O(ε)", "o(ε)")),
)


def _again(key: str, title: str, remark: str = STEP_REMARK) -> Claim:
    return Claim(
        key,
        ClaimSource.KIM,
        title,
        STEP_ERROR,
        first_order,
        ClaimVerdict.CONDITIONAL,
        added=(START_FIXED, FIXED_STEPS),
        remark=remark,
        scope=_STEP,
        repeats="eq-21",
    )


CLAIMS = (
    _again("eq-37", "the approximation to be derived"),
    _again("eq-38", "the approximation in terms of G"),
    Claim(
        "eq-39",
        ClaimSource.KIM,
        "the size of one step",
        _INCREMENT.saying(size="o(√ε)"),
        _increment,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=_INCREMENT,
        slip=True,
        scope=Scope(n=ALL, m=ALL, inner=Every("C¹")),
    ),
    Claim(
        "eq-40",
        ClaimSource.KIM,
        "G, linearised in its first argument",
        _TAYLOR.saying(size="o(√ε)"),
        taylor_of_g,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=_TAYLOR,
        slip=True,
        scope=_EVERY,
    ),
    Claim(
        "eq-41",
        ClaimSource.KIM,
        "the derivative of G",
        _TAYLOR.saying(size="o(√ε)"),
        taylor_of_g,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=_TAYLOR,
        slip=True,
        scope=_EVERY,
        repeats="eq-40",
    ),
    Claim(
        "eq-42",
        ClaimSource.KIM,
        "the tangent against its start",
        _TANGENT.saying(size="o(ε)"),
        _tangent_increment,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=_TANGENT,
        slip=True,
        scope=Scope(n=ALL, p=ALL, m=ALL, inner=Every("C²")),
    ),
    _again(
        "eq-43", "what is left after ε^1.5 ≃ 0", STEP_REMARK + " Its o(√ε) is an O(√ε), as in (39)."
    ),
)
