"""Implicit differentiation: the hypergradient, Neumann and CG errors, rates."""

from collections.abc import Iterator
from fractions import Fraction

import flint
import numpy as np
import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import (
    Check,
    EvidenceMethod,
    at_most,
    fact,
    identity,
    induction,
    matrix_identity,
    rational,
)
from proofs_check.scope import (
    ALL,
    INDUCTION,
    ONE_MATRIX,
    OPERATORS,
    SYMBOL_OF_H,
    SYMBOL_OF_STEP,
    Every,
    Scope,
    by_hand,
)
from proofs_check.statement import ClaimStatement, formula
from proofs_check.tools import field_claims

SCALE_SMALL = Assumption("scale", "α < 2/λ_max(H)")
STRONGLY_CONVEX = Assumption("strongly-convex", "H is positive definite")


def _implicit(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    direct, slope, hess, mixed = sp.symbols("f_λ f_θ H C", commutative=False)
    # The stationarity H·S + C = 0, solved; then the chain rule f_λ + f_θ·S.
    solved = -(hess**-1) * mixed
    implicit = by_hand("the implicit function theorem and the chain rule")
    over = {"n": OPERATORS, "p": OPERATORS, "f": implicit, "inner": implicit}
    yield identity("H·S + C at S = -H⁻¹C", sp.expand(hess * solved + mixed), sp.S(0))
    stated = s.formula("slope", f_λ=direct, f_θ=slope, H=hess, C=mixed)
    yield identity("f_λ + f_θ·S", direct + slope * solved, stated, over=over)
    yield from _implicit_quadratic(s, context)


def _implicit_quadratic(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    # Three parameters, two hyperparameters, all symbols: θ* = H⁻¹(Cλ + c) for a quadratic.
    lam = sp.Matrix(sp.symbols("l1 l2"))
    theta = sp.Matrix(sp.symbols("t1 t2 t3"))
    bend = sp.Integer(1) if context.has(STRONGLY_CONVEX) else sp.Integer(0)
    hessian = sp.Matrix([[2, 1, 0], [1, 3, 1], [0, 1, 4]]) * bend
    cross = sp.Matrix([[1, 2], [0, -1], [3, 1]])
    shift = sp.Matrix([1, 0, 2])
    inner = ((theta.T * hessian * theta) / 2 + theta.T * (cross * lam + shift))[0]
    minors = [hessian[:k, :k].det() for k in (1, 2, 3)]
    yield fact("the leading minors of H", all(x > 0 for x in minors), minors, "all > 0",
               EvidenceMethod.SYMBOLIC)  # fmt: skip
    best = -hessian.inv() * (cross * lam + shift)
    at = dict(zip(theta, best, strict=True))
    slope = sp.Matrix([inner]).jacobian(theta).subs(at)
    yield matrix_identity("the inner gradient at θ*", slope, sp.zeros(1, 3))
    outer = theta[0] ** 2 * lam[1] + theta[1] * theta[2] + lam[0] ** 2
    total = sp.Matrix([outer.subs(at)]).jacobian(lam)
    stated = s.formula(
        "slope",
        f_λ=sp.Matrix([outer]).jacobian(lam).subs(at),
        f_θ=sp.Matrix([outer]).jacobian(theta).subs(at),
        H=hessian,
        C=cross,
    )
    yield matrix_identity(
        "the hypergradient of a quadratic, n = 3, p = 2", total, sp.Matrix(stated)
    )
    yield field_claims.implicit(s)


def _neumann(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    alpha, h, k = sp.symbols("alpha h K", positive=True)

    def error(terms: sp.Expr) -> sp.Expr:
        return s.formula("error", H=h, I=1, α=alpha, K=terms)

    base = identity("without a term", 1 / h, error(sp.S(0)))
    term = s.formula("term", H=h, I=1, α=alpha, j=k)
    step = identity("one more term", error(k) - term, error(k + 1))
    yield induction("every K", base, step, {"n": ONE_MATRIX, "m": INDUCTION})
    yield _rate(context)
    yield from field_claims.neumann(s)


def _rate(context: ClaimContext) -> Check:
    at = Fraction(1, 2) if context.has(SCALE_SMALL) else Fraction(5, 2)
    rate = abs(1 - at)
    return fact(f"|1 - αh| at h = 1, α = {at}", rate < 1, rate, "< 1")


def _unscaled(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    alpha, h, k = sp.symbols("alpha h K", positive=True)
    limit = s.formula("limit", α=alpha, H=h)

    def partial(terms: sp.Expr) -> sp.Expr:
        return limit * (1 - (1 - alpha * h) ** terms)

    over = {"n": ONE_MATRIX, "inner": SYMBOL_OF_H}
    base = identity("without a term", sp.S(0), partial(sp.S(0)))
    step = identity("one more term", partial(k) + (1 - alpha * h) ** k, partial(k + 1))
    yield induction("K terms are the limit times 1 - (1 - αh)^K", base, step, over)
    yield _rate(context)
    # Table 2's row: α = 0.99 without the factor, so its error is 1/α - 1 of the reaction term.
    from proofs_check.tools.hand import solve

    best = 0.748935575424
    without = abs(float(solve("IFT-Neumann", False, 1)[0][0]) - best)
    scaled = abs(float(solve("IFT-Neumann with α", False, 1)[0][0]) - best)
    yield fact("error in λ on Synth-1D with the factor, against without", scaled < without, scaled,
               f"< {without}", EvidenceMethod.NUMERIC)  # fmt: skip


def spd_system() -> tuple[flint.arb_mat, flint.arb_mat, flint.arb]:
    """A symmetric system of condition number 50, exactly diagonal in a rational orthogonal basis.

    Returns:
        H, b and κ.
    """
    eigenvalues = [1, 3, 8, 20, 50]
    n = len(eigenvalues)
    # I - 2vvᵀ/‖v‖² is orthogonal and rational.
    v = [1, 2, -1, 3, 1]
    square = sum(x * x for x in v)
    q = [
        [Fraction(int(i == j)) - Fraction(2 * v[i] * v[j], square) for j in range(n)]
        for i in range(n)
    ]
    entries = [
        [sum(q[i][k] * eigenvalues[k] * q[j][k] for k in range(n)) for j in range(n)]
        for i in range(n)
    ]
    hessian = flint.arb_mat([[rational(e) for e in row] for row in entries])
    right = flint.arb_mat([[rational(Fraction(x))] for x in (1, -2, 3, 1, 2)])
    return hessian, right, rational(50)


def cg_errors() -> list[flint.arb]:
    """‖x_k - x*‖_H / ‖x*‖_H of conjugate gradients from 0, in balls, for k = 0 to n."""
    with flint.ctx.workprec(400):
        hessian, right, _ = spd_system()
        exact = hessian.solve(right)
        size = energy(hessian, exact).sqrt()
        x = flint.arb_mat([[flint.arb(0)] for _ in range(5)])
        residual, direction = right, right
        errors = [flint.arb(1)]
        for _ in range(5):
            product = hessian * direction
            square = (residual.transpose() * residual)[0, 0]
            step = square / (direction.transpose() * product)[0, 0]
            x = x + direction * step
            residual_after = residual - product * step
            factor = (residual_after.transpose() * residual_after)[0, 0] / square
            residual, direction = residual_after, residual_after + direction * factor
            # The last error is a ball around 0: its upper end has a root, its lower end has none.
            errors.append(energy(hessian, x - exact).abs_upper().sqrt() / size)
        return errors


def energy(hessian: flint.arb_mat, x: flint.arb_mat) -> flint.arb:
    """The quadratic form xᵀHx."""
    return (x.transpose() * hessian * x)[0, 0]


_KRYLOV = {
    "n": by_hand("CG minimises over the Krylov space, so the Chebyshev polynomial is a bound"),
    "m": SYMBOL_OF_STEP,
}


def _conjugate_gradient(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    kappa, k = sp.symbols("kappa k", positive=True)

    def bound(steps: sp.Expr) -> sp.Expr:
        return s.formula("bound", κ=kappa, k=steps)

    # 1/T_k(y) at y = (κ+1)/(κ-1) is below 2ρ^k, ρ + 1/ρ = 2y: the bound is 2 at 0, and geometric.
    yield identity("the bound without a step", bound(sp.S(0)), sp.S(2), over=_KRYLOV)
    ratio = bound(sp.S(1)) / 2
    middle = (kappa + 1) / (kappa - 1)
    yield identity("its ratio ρ + 1/ρ", ratio + 1 / ratio, 2 * middle, over=_KRYLOV)
    yield identity("the ratio at κ = 4 is below 1", ratio.subs(kappa, 4), sp.Rational(1, 3),
                   over=_KRYLOV)  # fmt: skip
    log_ratio = sp.log(bound(k + 1) / bound(k))
    off = sp.simplify(sp.exp(log_ratio) - ratio)
    yield identity("the ratio at every k", off, sp.S(0), over=_KRYLOV)
    # T_k(½(x + 1/x)) = ½(x^k + x^-k) ≥ ½ρ^-k at x = 1/ρ, by T_(k+1) = 2yT_k - T_(k-1).
    x = sp.symbols("x", positive=True)

    def closed(j: sp.Expr) -> sp.Expr:
        return (x**j + x**-j) / 2

    y = (x + 1 / x) / 2
    first = identity("T₁(y) = y", closed(sp.S(1)), y)
    next_ = identity("T_(k+1) = 2yT_k - T_(k-1)", 2 * y * closed(k) - closed(k - 1), closed(k + 1))
    yield induction("T_k(½(x + 1/x))", first, next_, {**_KRYLOV, "m": INDUCTION})
    with flint.ctx.workprec(400):
        errors = cg_errors()
        _, _, condition = spd_system()
        for step in range(1, 5):
            value = s.formula("bound", flint.arb, κ=condition, k=step)
            yield at_most(f"error of CG after {step} steps, κ = 50", errors[step], value)
        yield at_most("and after n = 5", errors[5], flint.arb("1e-40"))
    yield from field_claims.conjugate_gradient(s)


_UNROLLED = by_hand(
    "‖Φ'(w_t) - Φ'(w*)‖ ≤ c·q^t from a Lipschitz Φ', so that the tangent's error obeys the recursion"
)
_ITD = {"n": _UNROLLED, "p": _UNROLLED, "T": INDUCTION, "inner": _UNROLLED}


def _iterative(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    q, c, start, t = sp.symbols("q c e T", positive=True)

    def bound(steps: sp.Expr) -> sp.Expr:
        return s.formula("bound", q=q, c=c, e=start, T=steps)

    # e_(t+1) ≤ q·e_t + c·q^t.
    base = identity("no step", bound(sp.S(0)), start)
    step = identity("one step", q * bound(t) + c * q**t, bound(t + 1))
    yield induction("the bound for every t", base, step, _ITD)
    yield from _factor_attained()
    yield field_claims.iterative(s)


def _factor_attained() -> Iterator[Check]:
    """Φ(w) = qw + w²/4, w* = 0: w_t ~ W·q^t, and the tangent's error does have a factor t."""
    q, push = Fraction(1, 2), Fraction(1)
    with flint.ctx.workprec(2000):
        w, tangent = flint.arb("0.25"), flint.arb(0)
        limit = rational(push / (1 - q))
        found = {}
        for t in range(1, 801):
            tangent = (rational(q) + w / 2) * tangent + rational(push)
            w = rational(q) * w + w * w / 4
            if t in {200, 400, 800}:
                found[t] = abs(tangent - limit) / rational(q) ** t
        first, second = found[400] / found[200], found[800] / found[400]
        # error/q^t is affine in t up to terms that die out, so the ratio tends to 2^e.
        extrapolated = float((2 * second - first).mid())
    power = float(np.log2(extrapolated))
    # For αt + β the ratio is 2 - β/(αt) + O(1/t²), and one Richardson step leaves O(1/t²).
    yield fact("power of t in a tangent's error over q^t", abs(power - 1) < 1e-2, power, 1,
               EvidenceMethod.BALL)  # fmt: skip


_TRIANGLE = by_hand(
    "the triangle inequality, ‖XY‖ ≤ ‖X‖‖Y‖, and that ‖I - αH‖ is at most q for the solver's step α"
)
_AID = {"n": OPERATORS, "p": OPERATORS, "f": _TRIANGLE, "inner": _TRIANGLE}


def _approximate(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    d, ds, v, vs, vk, c, cs = sp.symbols("d ds v vs vk C Cs", commutative=False)
    # v solves H v = f_θ at θ_T, vs at θ*; vk is what the solver has after k steps.
    at_last = d - v * c - (ds - vs * cs)
    whole = d - vk * c - (ds - vs * cs)
    yield identity("the error is that of the implicit gradient at θ_T, less (v_k - v)·C", sp.expand(whole),
                   sp.expand(at_last - (vk - v) * c))  # fmt: skip
    moved, power = sp.symbols("W P", commutative=False)  # W = I - αH, P = W^k
    first = identity("v_k - v = -W^k·v, no step, from zero", (1 - sp.S(1)) * v - v, -v)
    after = moved * (v - power * v) + (1 - moved) * v
    one_more = identity("and one step more", sp.expand(after - v), -moved * power * v)
    yield induction("the solver's error for every k", first, one_more, {"m": INDUCTION})
    q, e, lips, size, right, big, k = sp.symbols("q e L C V T k", positive=True)

    def error(inner: sp.Expr, solver: sp.Expr) -> sp.Expr:
        return s.formula("error", q=q, e=e, L=lips, C=size, V=right, T=inner, k=solver)

    # The distance ‖θ_T - θ*‖, at most e at the start, shrinks by q a step; so does ‖v_k - v‖ from V.
    start = identity("neither has made a step", lips * e + right * size, error(sp.S(0), sp.S(0)))
    solved = identity("one more step of the solver", lips * e + q * right * size * q**k,
                      error(sp.S(0), k + 1))  # fmt: skip
    over = {**_AID, "T": INDUCTION, "m": INDUCTION}
    yield induction("at the start, L times the distance plus C times the solver's error", start, solved,
                    over)  # fmt: skip
    base = identity("no inner step", lips * e + right * size * q**k, error(sp.S(0), k))
    moved_on = identity("one more inner step", q * lips * e * q**big + right * size * q**k,
                        error(big + 1, k))  # fmt: skip
    yield induction("the same after T inner steps", base, moved_on, over)
    yield from _attained(s)


def _attained(s: ClaimStatement) -> Iterator[Check]:
    """Inner h/2·θ² - λθ, outer θ³/3 from 0: θ_T = θ*(1 - q^T), and v by k steps: both parts are there."""
    q, star, h, t, k = sp.symbols("q theta_star h T k", positive=True)
    slope = (star * (1 - q**t)) ** 2
    error = star**2 / h - slope / h * (1 - q**k)
    names = {"q": q, "T": t, "k": k, "L": star * (2 - q**t) / h, "e": star, "C": 1, "V": slope / h}
    stated = s.formula("error", **names)
    yield identity("attained on a cubic outer loss", sp.expand(error), sp.expand(stated))
    yield field_claims.approximate(s)


def norm(x: flint.arb_mat) -> flint.arb:
    """The Euclidean norm of a column."""
    return (x.transpose() * x)[0, 0].sqrt()


_H = "H positive definite and symmetric"
CLAIMS = (
    Claim(
        "field-implicit",
        ClaimSource.FIELD,
        "the implicit hypergradient",
        ClaimStatement(
            "the derivative of f at the inner minimiser is {slope}, C the mixed second derivative",
            (formula("slope", "f_λ - f_θ @ H**(-1) @ C", "f_λ f_θ H C"),),
        ),
        _implicit,
        ClaimVerdict.CONDITIONAL,
        added=(STRONGLY_CONVEX,),
        scope=Scope(n=ALL, p=ALL, f=Every("C¹"), inner=Every("C²")),
    ),
    Claim(
        "field-neumann",
        ClaimSource.FIELD,
        "the Neumann series",
        ClaimStatement(
            "the inverse of H less the sum over the j below K of {term} is {error}",
            (
                formula("term", "α*(I - α*H)**j"),
                formula("error", "H**(-1) @ (I - α*H)**K"),
            ),
        ),
        _neumann,
        ClaimVerdict.CONDITIONAL,
        added=(SCALE_SMALL,),
        scope=Scope(n=ALL, m=ALL, about=_H),
    ),
    Claim(
        "text-neumann-factor",
        ClaimSource.OWN,
        "the Neumann series behind Table 2",
        ClaimStatement(
            "the series over the powers of the identity less αH, without the factor α, tends to {limit}",
            (formula("limit", "1/(α*H)"),),
        ),
        _unscaled,
        ClaimVerdict.CONDITIONAL,
        added=(SCALE_SMALL,),
        remark="The printed row needs the factor left out, so that its indirect term is too large by 1/α; "
        "with the factor the row is nearer the optimum. The paper prints no series.",
        scope=Scope(n=ALL, inner=Every("quadratic, H symmetric and positive definite")),
    ),
    Claim(
        "field-cg",
        ClaimSource.FIELD,
        "conjugate gradients",
        ClaimStatement(
            "in the norm of H the error after k steps is at most {bound} times that of the start",
            (formula("bound", "2*((κ**(1/2) - 1)/(κ**(1/2) + 1))**k"),),
        ),
        _conjugate_gradient,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, m=ALL, about=_H),
    ),
    Claim(
        "field-itd",
        ClaimSource.FIELD,
        "iterative differentiation (Grazzi et al. 2020)",
        ClaimStatement(
            "the error of the tangent after T steps is at most {bound}, e that of the start, q the factor "
            "of the map and c what its derivative changes by at the start",
            (formula("bound", "q**T*e + c*T*q**(T - 1)"),),
        ),
        _iterative,
        ClaimVerdict.HOLDS,
        remark="For an affine map c = 0; for Φ(w) = w/2 + w²/4 the factor T is attained.",
        scope=Scope(n=ALL, p=ALL, T=ALL, inner=Every("a contraction with a Lipschitz derivative")),
    ),
    Claim(
        "field-aid",
        ClaimSource.FIELD,
        "approximate implicit differentiation (Grazzi et al. 2020)",
        ClaimStatement(
            "after T inner steps from a distance e and k steps of the fixed-point solver from zero the error "
            "is at most {error}; q is the factor of both, L what the implicit gradient changes by with θ, C "
            "and V are the norms of the mixed derivative and of the solution at the last iterate",
            (formula("error", "L*e*q**T + C*V*q**k"),),
        ),
        _approximate,
        ClaimVerdict.HOLDS,
        scope=Scope(
            n=ALL,
            p=ALL,
            T=ALL,
            m=ALL,
            f=Every("C¹, its derivatives Lipschitz"),
            inner=Every(
                "C², strongly convex, its second derivatives Lipschitz; a step a contraction"
            ),
        ),
    ),
)
