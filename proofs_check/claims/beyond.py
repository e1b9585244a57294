"""Methods beyond the papers' own: running solves, random tangents, UORO, bounds from residuals."""

import itertools
from collections.abc import Iterator

import flint
import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.implicit import norm, spd_system
from proofs_check.claims.montecarlo import normal_mean
from proofs_check.evidence import Check, at_most, identity, induction, matrix_identity, number
from proofs_check.scope import (
    ALL,
    INDUCTION,
    ONE_MATRIX,
    OPERATORS,
    SYMBOL,
    SYMBOL_OF_H,
    Every,
    Scope,
    by_hand,
)
from proofs_check.statement import ClaimStatement, coefficient, formula
from proofs_check.tools import field_claims

gamma, h, s, model = sp.symbols("gamma h s hbar", positive=True)
m, T, M, p, K, N = sp.symbols("m T M p K N", positive=True)


def _running_solve(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # One eigenvector of H at a time: the iteration does not mix them.
    def error(steps: sp.Expr) -> sp.Expr:
        return st.formula("error", H=h, I=1, γ=gamma, f_θ=s, m=steps)

    base = identity("q_0 - q*, from q_0 = 0", -s / h, error(sp.S(0)))
    q = error(m) + s / h
    step = identity("one step from q_m", q - gamma * (h * q - s) - s / h, error(m + 1))
    over = {"n": ONE_MATRIX, "m": INDUCTION, "inner": SYMBOL_OF_H}
    yield induction("q_m - q* for every m", base, step, over)
    yield from field_claims.running_solve(st)


def _discounted(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    slope, mixed = sp.symbols("f C", commutative=False)

    def stated(steps: sp.Expr) -> sp.Expr:
        return st.formula("g", f_θ=slope, C=mixed, ħ=model, γ=gamma, T=steps)

    base = identity("g_0", stated(sp.S(0)), sp.S(0))
    moved = (1 - gamma * model) * stated(T) - gamma * slope * mixed
    step = identity("one step from g_T at θ*", moved, stated(T + 1))
    over = {"n": OPERATORS, "p": OPERATORS, "T": INDUCTION, "inner": SYMBOL_OF_H}
    yield induction("g_T for every T", base, step, over)
    yield from field_claims.discounted(st)


def _mean(values: list[sp.Expr]) -> sp.Expr:
    return sp.expand(sum(values, sp.Integer(0)) / len(values))


def _signs(count: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=count))


_ODD = by_hand("the odd moments of independent components vanish; executed at p = 3")
_DIRECTIONS = by_hand("the square error of a mean of independent directions is that of one over K")


def _tangents(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    z = sp.symbols("z", real=True)
    square, component = sp.symbols("m2 F")
    for law, second in {"signs": _mean([sp.S(1), sp.S(1)]), "normal": normal_mean(z**2, z)}.items():
        # E[u_i(u·F)] = E[u_i²]·F_i.
        found = (square * component).subs(square, second)
        yield identity(f"mean, {law}", found, number(st["mean"]) * component,
                       over={"p": _ODD, "M": _DIRECTIONS})  # fmt: skip
    fourth = {"signs": _mean([sp.S(sign) ** 4 for sign in (-1, 1)]), "normal": normal_mean(z**4, z)}
    for law, moment in fourth.items():
        # E[‖u‖²(u·F)²] - N: each F_j² has E[u_j⁴] once and E[u_i²]E[u_j²] p - 1 times.
        one = N * (moment + (p - 1)) - N
        stated = st.formula(law, p=p, K=K, N=N)
        yield identity(f"square error, {law}", one / K, stated, over={"p": _ODD, "M": _DIRECTIONS})
    # (p/K)²·E[F'QQ'F] - 2(p/K)·E[F'QQ'F] + N with E[QQ'] = (K/p)·I.
    kept = N * K / p
    found = (p / K) ** 2 * kept - 2 * (p / K) * kept + N
    turned = by_hand("E[QQ'] = (K/p)·I, since the law is invariant under rotations")
    stated = st.formula("orthogonal", p=p, K=K, N=N)
    yield identity("square error, orthogonal", found, stated, over={"p": turned, "M": turned})
    yield from _tangents_executed(st)


def _tangents_executed(st: ClaimStatement) -> Iterator[Check]:
    slope = sp.Matrix(sp.symbols("F1:4"))
    size = slope.dot(slope)
    drawn = [sp.Matrix(signs) for signs in _signs(3)]
    estimates = [u * u.dot(slope) for u in drawn]
    mean = sp.Matrix([_mean([each[i] for each in estimates]) for i in range(3)])
    yield matrix_identity("mean over all signs, p = 3", mean, number(st["mean"]) * slope)
    off = _mean([sp.expand((each - slope).dot(each - slope)) for each in estimates])
    stated = st.formula("signs", p=sp.S(3), K=sp.S(1), N=size)
    yield identity("square error over all signs, p = 3", off, stated)
    u = sp.Matrix(sp.symbols("u1:4", real=True))
    square = sp.expand((u * u.dot(slope) - slope).dot(u * u.dot(slope) - slope))
    for symbol in u:
        square = normal_mean(sp.expand(square), symbol)
    stated = st.formula("normal", p=sp.S(3), K=sp.S(1), N=size)
    yield identity("square error, normal numbers, p = 3", square, stated)
    # A uniform rotation of the plane; K columns of length √2.
    angle = sp.symbols("phi", real=True)
    turn = sp.Matrix([[sp.cos(angle), -sp.sin(angle)], [sp.sin(angle), sp.cos(angle)]])
    flat = sp.Matrix(slope[:2])
    for count in (1, 2):
        basis = sp.sqrt(2) * turn[:, :count]
        away = basis * (basis.T * flat) / count - flat
        mean_square = sp.integrate(sp.expand(away.dot(away)), (angle, 0, 2 * sp.pi)) / (2 * sp.pi)
        stated = st.formula("orthogonal", p=sp.S(2), K=sp.S(count), N=flat.dot(flat))
        yield identity(f"square error, orthogonal, p = 2, K = {count}", mean_square, stated)
    yield from field_claims.random_tangents(st)


def _pairs(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    u, ut, slope = sp.symbols("u ut F", commutative=False)
    same = identity("the estimates of u and of -u", u * ut * slope, (-u) * (-ut) * slope,
                    over={"p": OPERATORS})  # fmt: skip
    yield same
    # M directions in pairs are M/2 different estimates.
    v = sp.symbols("v", positive=True)
    pairs, alone = v / (M / 2), v / M
    stated = number(st["ratio"]) * alone
    over = {"p": by_hand("the two estimates of a pair are equal, as checked"), "M": SYMBOL}
    yield identity("square error of M directions in pairs", pairs, stated, over=over)
    yield field_claims.pairs()


def _uoro(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    a, b, tangent, carried, nu, nut = sp.symbols("A B s w nu nut", commutative=False)
    rho, sigma = sp.symbols("rho sigma", positive=True)
    # One step on s and w', expanded; what is linear in ν has the mean 0, and E[νν'] = I.
    product = sp.expand((rho * a * tangent + sigma * nu) * (carried / rho + nut * b / sigma))
    kept = sp.S(0)
    for term in sp.Add.make_args(product):
        _, letters = term.args_cnc()
        drawn = [x for x in letters if x in (nu, nut)]
        if not drawn:
            kept += term
        elif drawn == [nu, nut]:
            kept += term.subs(nu, 1).subs(nut, 1)
    step = st.formula("step", A=a, B=b, Z=tangent * carried)
    base = identity("E[s_0 w_0']", st.formula("step", A=sp.S(0), B=b, Z=sp.S(0)), b)
    over = {"n": OPERATORS, "p": OPERATORS, "T": INDUCTION}
    yield induction("E[s w'] for every T", base, identity("one step", sp.expand(kept), step), over)
    yield _uoro_variance(st)
    yield from field_claims.uoro(st)


def _uoro_variance(st: ClaimStatement) -> Check:
    left, right = sp.Matrix(sp.symbols("a1:5")), sp.Matrix(sp.symbols("b1:5"))
    drawn = [sp.Matrix(signs) for signs in _signs(4)]
    second = _mean([sp.expand((left.dot(nu) * right.dot(nu)) ** 2) for nu in drawn])
    variance = sp.expand(second - left.dot(right) ** 2)
    both = sum((x**2 * y**2 for x, y in zip(left, right, strict=True)), sp.Integer(0))
    stated = st.formula(
        "variance", aa=left.dot(left), bb=right.dot(right), ab=left.dot(right), d=both
    )
    few = by_hand(
        "every monomial of the variance has at most four coordinates: n = 4 settles all n"
    )
    over = {"n": few, "p": few, "T": by_hand("it is the variance of the last product a'ν·ν'b")}
    return identity("variance over all signs, n = 4", variance, sp.expand(stated), over=over)


_NORMS = by_hand("the triangle inequality, ‖XY‖ ≤ ‖X‖‖Y‖, the Lipschitz constants and ‖H⁻¹‖ ≤ 1/μ")
_ALL_BY_NORMS = {"n": _NORMS, "p": _NORMS, "f": _NORMS, "inner": _NORMS}


def _posterior(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    """Rows: f_λ - q·C at θ̂ against the same at θ*; a hat is written H, S, C, q and a star Hs, Ss, …."""
    q, qs, cross, cross_s, hess, hess_s, slope, slope_s, lam, lam_s = sp.symbols(
        "q qs C Cs H Hs S Ss L Ls", commutative=False
    )
    error = (lam - q * cross) - (lam_s - qs * cross_s)
    split = (lam - lam_s) - q * (cross - cross_s) - (q - qs) * cross_s
    over = {"n": OPERATORS, "p": OPERATORS, "f": OPERATORS, "inner": OPERATORS}
    yield identity("the error in three parts", error, split, over=over)
    inside = (q * hess - slope) - q * (hess - hess_s) + (slope - slope_s)
    solved = (q - qs) * hess_s
    yield identity(
        "(q - q*)·H(θ*) in three parts, q*·H(θ*) = f_θ(θ*)",
        sp.expand(solved + qs * hess_s - slope_s),
        sp.expand(inside),
        over=over,
    )
    mu, away, size, r = sp.symbols("mu delta q r", positive=True)
    constants = dict(zip(("L_d", "L_C", "L_H", "L_s"), sp.symbols("Ld LC LH Ls", positive=True),
                         strict=True))  # fmt: skip
    cross_size, gradient = sp.symbols("C G", positive=True)
    env = {**constants, "C": cross_size, "q": size, "r": r, "μ": mu}
    ld, lc, lh, ls = constants.values()
    # ‖C(θ*)‖ ≤ ‖C(θ̂)‖ + L_C·δ, so that the bound contains what was computed alone.
    parts = (
        ld * away,
        size * lc * away,
        (cross_size + lc * away) * (r + size * lh * away + ls * away) / mu,
    )
    bound = st.formula("bound", δ=away, **env)
    yield identity("the norms of the parts, summed", sum(parts), bound, over=_ALL_BY_NORMS)
    # μ-strong convexity: ‖∇L_T(θ̂)‖ ≥ μ‖θ̂ - θ*‖.
    yield identity("the distance from the gradient", gradient / mu,
                   st.formula("distance", G=gradient, μ=mu), over=_ALL_BY_NORMS)  # fmt: skip
    yield from _posterior_executed(st)
    yield from field_claims.bounded(st)


def _posterior_executed(st: ClaimStatement) -> Iterator[Check]:
    """L_T = θ²/2·μ + θ³/6·b - λ(θ + cθ²/2), f = θ + eθ²/2 at θ* = 0, λ = 0; not a quadratic."""
    t = sp.symbols("t", positive=True)
    mu, b, c, e = sp.Rational(3, 2), sp.Rational(1, 3), sp.Rational(1, 5), sp.Rational(1, 7)
    for away in (sp.Rational(1, 2), sp.Rational(1, 10), sp.Rational(1, 1000)):
        hess, cross, slope = mu + b * t, -(1 + c * t), 1 + e * t
        at = {t: away}
        residual = sp.Rational(1, 50)
        q = (slope.subs(at) + residual) / hess.subs(at)
        error = abs(-q * cross.subs(at) + (slope / hess * cross).subs(t, 0))
        gradient = mu * away + b * away**2 / 2
        bound = st.formula(
            "bound", C=abs(cross.subs(at)), q=q, r=residual, μ=mu, L_d=sp.S(0), L_C=c, L_H=b, L_s=e,
            δ=st.formula("distance", G=gradient, μ=mu),
        )  # fmt: skip
        holds = [flint.arb(flint.fmpq(int(v.p), int(v.q))) for v in (error, sp.nsimplify(bound))]
        yield at_most(f"a cubic inner loss, θ̂ - θ* = {away}", holds[0], holds[1])


def _posteriori(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    hessian, guess, right = sp.symbols("H q b", commutative=False)
    inverse = hessian**-1
    yield identity("the error is H⁻¹ times the residual", guess - inverse * right,
                   sp.expand(inverse * (hessian * guess - right)), over={"n": OPERATORS})  # fmt: skip
    mu, size, above = sp.symbols("mu r d", positive=True)
    bound = st.formula("bound", r=size, μ=mu)
    spectral = {"n": by_hand("the spectral theorem: ‖H⁻¹v‖ ≤ ‖v‖ over the least eigenvalue")}
    yield identity("attained at the least eigenvalue", size / mu, bound, over=spectral)
    slack = sp.factor(size / mu - size / (mu + above))
    yield identity("and larger by a positive number at any other", slack,
                   size * above / (mu * (mu + above)))  # fmt: skip
    with flint.ctx.workprec(200):
        system, load, _ = spd_system()
        system = system * flint.arb(3)
        exact = system.solve(load)
        tried = flint.arb_mat([[flint.arb(1) / (j + 2)] for j in range(5)])
        off = norm(tried - exact)
        left = norm(system * tried - load)
        value = st.formula("bound", float, r=left, μ=flint.arb(3))
        yield at_most("one guess, least eigenvalue 3: error against the bound", off, value)
        yield at_most("and not below residual over the largest, 150", left / 150, off)
    yield field_claims.residual(st)


CLAIMS = (
    Claim(
        "field-running-solve",
        ClaimSource.FIELD,
        "the running solve: HPO-SGLD's loop with H q beside it",
        ClaimStatement(
            "from a start at zero and at θ*, the error of q after m steps is {error}",
            (formula("error", "-H**(-1) * (I - γ*H)**m @ f_θ"),),
        ),
        _running_solve,
        ClaimVerdict.HOLDS,
        remark="Its hypergradient is f_λ - q·C, so that this times C is its error.",
        scope=Scope(n=ALL, m=ALL, inner=Every("quadratic, H symmetric")),
    ),
    Claim(
        "field-discounted",
        ClaimSource.FIELD,
        "HPO-SGLD's recursion, discounted by a scalar curvature",
        ClaimStatement(
            "at θ*, after T steps g is {g}",
            (formula("g", "-f_θ @ C * ħ**(-1) * (1 - (1 - γ*ħ)**T)", "f_θ C"),),
        ),
        _discounted,
        ClaimVerdict.HOLDS,
        remark="Divided by the last factor it is the implicit term with H replaced by ħ, at once.",
        scope=Scope(n=ALL, p=ALL, T=ALL, inner=ALL),
    ),
    Claim(
        "field-random-tangents",
        ClaimSource.FIELD,
        "random tangents: the mean, and the square error for each law",
        ClaimStatement(
            "the mean is {mean} times the gradient, and with N its square norm the square error of K "
            "directions is {signs} for signs, {normal} for normal numbers and {orthogonal} for "
            "orthogonal directions",
            (
                coefficient("mean", 1),
                formula("signs", "(p - 1)*N/K"),
                formula("normal", "(p + 1)*N/K"),
                formula("orthogonal", "(p/K - 1)*N"),
            ),
        ),
        _tangents,
        ClaimVerdict.HOLDS,
        scope=Scope(p=ALL, M=ALL),
        on="p = 3",
    ),
    Claim(
        "field-antithetic-tangents",
        ClaimSource.FIELD,
        "antithetic directions are useless for directional derivatives",
        ClaimStatement(
            "directions in pairs of u and its negative have {ratio} times the square error of as many "
            "drawn alone",
            (coefficient("ratio", 2),),
        ),
        _pairs,
        ClaimVerdict.HOLDS,
        scope=Scope(p=ALL, M=ALL),
    ),
    Claim(
        "field-uoro",
        ClaimSource.FIELD,
        "UORO: unbiased, and its variance without balancing (Tallec and Ollivier 2018)",
        ClaimStatement(
            "the mean of s w', written Z, becomes {step} in a step, as the tangent does; the variance of "
            "one component is {variance}, where aa and bb are square norms of the last a and b, ab their "
            "product and d the sum of the squares of its summands",
            (
                formula("step", "A @ Z + B", "A Z B"),
                formula("variance", "aa*bb + ab**2 - 2*d"),
            ),
        ),
        _uoro,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, T=ALL),
    ),
    Claim(
        "field-a-posteriori",
        ClaimSource.FIELD,
        "the error of an implicit hypergradient, from what was computed (Ehrhardt and Roberts 2023)",
        ClaimStatement(
            "the norm of the error is at most {bound}, the distance δ to the inner minimiser being at "
            "most {distance}; C and q are norms at the computed point, r is the residual of the solve, G "
            "the norm of the inner gradient",
            (
                formula(
                    "bound",
                    "L_d*δ + q*L_C*δ + (C + L_C*δ)*(r + L_H*δ*q + L_s*δ)/μ",
                ),
                formula("distance", "G/μ"),
            ),
        ),
        _posterior,
        ClaimVerdict.HOLDS,
        remark="Everything in it is computed, but for the Lipschitz constants. With C at the computed "
        "point alone, without L_C·δ, it is not a bound.",
        scope=Scope(
            n=ALL,
            p=ALL,
            f=Every("f_λ and f_θ Lipschitz, constants L_d and L_s"),
            inner=Every("μ-strongly convex, H and C Lipschitz, constants L_H and L_C"),
        ),
    ),
    Claim(
        "field-posteriori",
        ClaimSource.FIELD,
        "error from residuals (Ehrhardt and Roberts 2023)",
        ClaimStatement(
            "a solution with a residual of norm r is off by at most {bound}, μ the least eigenvalue",
            (formula("bound", "r/μ"),),
        ),
        _posteriori,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, about="a symmetric positive definite H"),
    ),
)
