"""Meta-learners of the field: iMAML, first-order MAML, Reptile, and their means over batches."""

from collections.abc import Iterator

import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import Check, identity, induction
from proofs_check.scope import ALL, INDUCTION, OPERATORS, Every, Scope, by_hand
from proofs_check.statement import ClaimStatement, formula
from proofs_check.tools import learner_claims

gamma, rho = sp.symbols("gamma rho", positive=True)
T, k = sp.symbols("T k", positive=True)


def _proximal(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    start, slope = sp.symbols("Jt s", commutative=False)
    h = sp.symbols("h", positive=True)
    # ∇L(θ*) + ρ(θ* - Jλ) = 0, differentiated: (H + ρ)·dθ*/dλ = ρJ; H is one matrix between two others.
    stated = st.formula("h", Jt=start, H=h, I=1, ρ=rho, f_θ=slope)
    implicit = by_hand("the implicit function theorem; executed for any loss of one parameter")
    over = {"n": OPERATORS, "p": OPERATORS, "f": by_hand("the chain rule"), "inner": implicit}
    yield identity("J'·ρ(H + ρ)⁻¹·f_θ", start * (rho / (h + rho)) * slope, stated, over=over)
    t, jacobian, lam, s = sp.symbols("t J lambda s")
    curve = sp.Function("L")(t)
    condition = sp.diff(curve, t) + rho * (t - jacobian * lam)
    moved = -sp.diff(condition, lam) / sp.diff(condition, t)
    stated = st.formula("h", Jt=jacobian, H=sp.diff(curve, t, 2), I=1, ρ=rho, f_θ=s)
    yield identity("any loss, n = 1", moved * s, stated)
    yield from _proximal_plane(st)


def _proximal_plane(st: ClaimStatement) -> Iterator[Check]:
    a, b, d, lam = sp.symbols("a b d lambda")
    hessian = sp.Matrix([[a, b], [b, d]])
    start, slope, shift = (sp.Matrix(sp.symbols(f"{letter}1:3")) for letter in ("J", "s", "c"))
    minimiser = (hessian + rho * sp.eye(2)).LUsolve(shift + rho * start * lam)
    found = slope.dot(sp.diff(minimiser, lam))
    stated = st.formula("h", Jt=start.T, H=hessian, I=sp.eye(2), ρ=rho, f_θ=slope)
    value = stated[0] if isinstance(stated, sp.MatrixBase) and stated.shape == (1, 1) else sp.nan
    yield identity("quadratic, n = 2", sp.together(found), sp.together(value))
    yield learner_claims.imaml(st)


l, t = sp.symbols("l t", real=True)  # noqa: E741
c2, c3, c4, k1, k2, j1, o1, o2 = sp.symbols("c2 c3 c4 k1 k2 j1 o1 o2", real=True)
INNER = c2 * t**2 / 2 + c3 * t**3 / 6 + k1 * l * t + k2 * l * t**2 / 2 + c4 * t
OUTER = o1 * t + o2 * t**2 / 2
START = j1 * l

_TAYLOR = by_hand(
    "Taylor: the derivatives at θ^t are those at θ⁰ up to O(γ); executed for T = 1, 2"
)


def _adapted(steps: int) -> sp.Expr:
    """θ^T up to O(γ²), as a polynomial in γ."""
    slope, theta = sp.diff(INNER, t), START
    for _ in range(steps):
        moved = sp.expand(theta - gamma * slope.subs(t, theta))
        theta = sum((moved.coeff(gamma, j) * gamma**j for j in range(3)), sp.Integer(0))
    return theta


def _first_order(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    slope, hess, start, mixed = sp.symbols("f H J C", commutative=False)

    def gap(steps: sp.Expr) -> sp.Expr:
        return sp.expand(st.formula("gap", γ=gamma, T=steps, f_θ=slope, H=hess, J=start, C=mixed))

    # dθ^T/dλ = J - γT(HJ + C) + O(γ²): each step takes away γ(H·J + C), and FO-MAML keeps J.
    base = identity("no step", gap(sp.S(0)), sp.S(0))
    moved = gap(T) + gamma * slope * (hess * start + mixed)
    step = identity("one more step", sp.expand(moved), gap(T + 1))
    over = {"n": OPERATORS, "p": OPERATORS, "T": INDUCTION, "f": _TAYLOR, "inner": _TAYLOR}
    yield induction("the error for every T", base, step, over)
    at_start = {t: START}
    for steps in (1, 2):
        theta = _adapted(steps)
        exact = sp.diff(OUTER.subs(t, theta), l)
        short = sp.diff(OUTER, t).subs(t, theta) * sp.diff(START, l)
        found = sp.expand(short - exact)
        yield identity(f"order 0, T = {steps}", found.coeff(gamma, 0), sp.S(0))
        pieces = {
            "f_θ": sp.diff(OUTER, t),
            "H": sp.diff(INNER, t, 2),
            "J": sp.diff(START, l),
            "C": sp.diff(INNER, t, l),
        }
        stated = st.formula("gap", γ=gamma, T=sp.S(steps), **pieces)
        stated = sp.expand(sp.S(stated).subs(at_start))
        yield identity(f"order 1, T = {steps}", found.coeff(gamma, 1) * gamma, stated)
    yield learner_claims.first_order(st)


def _reptile(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    hess, slope = sp.symbols("H a", commutative=False)

    def moved(steps: sp.Expr) -> sp.Expr:
        return sp.expand(st.formula("moved", γ=gamma, T=steps, H=hess, a=slope))

    # ∇L(θ^T) = a + H(θ^T - θ⁰) + O(γ²) = a - γH·(what (θ⁰ - θ^T)/γ is at γ = 0).
    base = identity("no step", moved(sp.S(0)), sp.S(0))
    gradient = slope - gamma * hess * moved(T).subs(gamma, 0)
    step = identity("one more step", sp.expand(moved(T) + gradient), moved(T + 1))
    over = {"n": OPERATORS, "T": INDUCTION, "inner": _TAYLOR}
    yield induction("(θ⁰ - θ^T)/γ for every T", base, step, over)
    for steps in (1, 2):
        found = sp.expand((START - _adapted(steps)) / gamma)
        first, bend = (sp.diff(INNER, t, j).subs(t, START) for j in (1, 2))
        stated = sp.expand(st.formula("moved", γ=gamma, T=sp.S(steps), H=bend, a=first))
        kept = found.coeff(gamma, 0) + gamma * found.coeff(gamma, 1)
        yield identity(f"to order 1, T = {steps}", kept, stated)
    yield learner_claims.reptile(st)


def _batches(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    """Batches with gradient a_i + H_i θ: a_i has the mean g, and H_i a_j the mean e for i ≠ j."""
    g, e, i, j = sp.symbols("g e i j")
    taylor = by_hand("Taylor in γ, and independent batches: E[H_i a_j] = e for i ≠ j")
    over = {"n": taylor, "M": SYMBOL_K, "inner": taylor}
    names = {"g": g, "e": e, "γ": gamma}
    last = g - gamma * sp.summation(e, (j, 1, k - 1))  # a_k + H_k(θ^(k-1) - θ⁰)
    yield identity("FO-MAML: the last gradient", sp.expand(last),
                   sp.expand(st.formula("first", k=k, **names)), over=over)  # fmt: skip
    through = last - gamma * sp.summation(e, (i, 1, k - 1))  # times Π(I - γH_i)
    yield identity("MAML: times the Jacobians", sp.expand(through),
                   sp.expand(st.formula("maml", k=k, **names)), over=over)  # fmt: skip
    summed = sp.summation(g - gamma * (i - 1) * e, (i, 1, k))
    yield identity("Reptile: the sum of the gradients", sp.expand(summed),
                   sp.expand(st.formula("reptile", k=k, **names)), over=over)  # fmt: skip
    for count in (2, 3):
        for name, found in _executed(count, g, e).items():
            stated = sp.expand(st.formula(name, k=sp.S(count), **names))
            yield identity(f"{name}, k = {count}", found, stated)
    yield from learner_claims.batches(st)


SYMBOL_K = by_hand("k is a symbol of the sums over the batches")


def _executed(count: int, g: sp.Symbol, e: sp.Symbol) -> dict[str, sp.Expr]:
    slopes, bends = sp.symbols(f"a1:{count + 1}"), sp.symbols(f"h1:{count + 1}")
    theta, jacobian = sp.Integer(0), sp.Integer(1)
    for a, bend in zip(slopes[:-1], bends[:-1], strict=True):
        theta = sp.expand(theta - gamma * (a + bend * theta))
        jacobian = jacobian * (1 - gamma * bend)
    last = slopes[-1] + bends[-1] * theta
    ended = theta - gamma * last
    pairs = {x * y: e for a, x in enumerate(bends) for b, y in enumerate(slopes) if a != b}

    def average(expression: sp.Expr) -> sp.Expr:
        flat = sp.expand(expression)
        kept = flat.coeff(gamma, 0) + gamma * flat.coeff(gamma, 1)
        return sp.expand(sp.expand(kept).subs(pairs).subs(dict.fromkeys(slopes, g)))

    found = {"maml": jacobian * last, "first": last, "reptile": -ended / gamma}
    return {name: average(expression) for name, expression in found.items()}


CLAIMS = (
    Claim(
        "field-imaml",
        ClaimSource.FIELD,
        "iMAML: the derivative of a proximal minimiser (Rajeswaran et al. 2019)",
        ClaimStatement(
            "the derivative of f at the proximal minimiser is {h}, Jt the transpose of the start's "
            "Jacobian",
            (formula("h", "Jt @ (I + H/ρ)**(-1) @ f_θ", "Jt H f_θ"),),
        ),
        _proximal,
        ClaimVerdict.HOLDS,
        scope=Scope(
            n=ALL,
            p=ALL,
            f=Every("C¹, of θ alone"),
            inner=Every("C², of θ alone, H + ρI positive definite"),
        ),
    ),
    Claim(
        "field-fo-maml",
        ClaimSource.FIELD,
        "first-order MAML: its error",
        ClaimStatement(
            "to first order in γ, first-order MAML minus MAML is {gap}",
            (formula("gap", "γ*T*f_θ @ (H @ J + C)", "f_θ H J C"),),
        ),
        _first_order,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, T=ALL, f=Every("C²"), inner=Every("C³")),
    ),
    Claim(
        "field-reptile",
        ClaimSource.FIELD,
        "Reptile: its expansion on full batches (Nichol et al. 2018)",
        ClaimStatement(
            "to first order in γ, the way from the start over γ is {moved}, a the gradient at the start",
            (formula("moved", "T*a - 1/2*T*(T - 1)*γ*H @ a", "H a"),),
        ),
        _reptile,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, T=ALL, inner=Every("C³")),
    ),
    Claim(
        "field-nichol",
        ClaimSource.FIELD,
        "MAML, first-order MAML and Reptile in the mean over k batches (Nichol et al. 2018)",
        ClaimStatement(
            "with g the mean gradient and e the mean of a Hessian times another batch's gradient, to "
            "first order in γ: MAML {maml}, first-order MAML {first}, Reptile {reptile}",
            (
                formula("maml", "g - 2*(k - 1)*γ*e"),
                formula("first", "g - (k - 1)*γ*e"),
                formula("reptile", "k*g - 1/2*k*(k - 1)*γ*e"),
            ),
        ),
        _batches,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, M=ALL, inner=Every("C³")),
    ),
)
