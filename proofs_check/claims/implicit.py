"""Implicit differentiation: the hypergradient, Neumann and CG errors, rates, a posteriori bounds."""

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
    number,
    rational,
)
from proofs_check.scope import (
    ALL,
    INDUCTION,
    ONE_MATRIX,
    SYMBOL_OF_H,
    SYMBOL_OF_STEP,
    Every,
    Scope,
    by_hand,
)
from proofs_check.statement import ClaimStatement, coefficient, exponent, sign

SCALE_SMALL = Assumption("scale", "α < 2/λ_max(H)")
STRONGLY_CONVEX = Assumption("strongly-convex", "H is positive definite")


def _implicit(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    # Three parameters, two hyperparameters, all symbols: θ* = H⁻¹(Cλ + c) for a quadratic.
    lam = sp.Matrix(sp.symbols("l1 l2"))
    theta = sp.Matrix(sp.symbols("t1 t2 t3"))
    bend = sp.Integer(1) if context.has(STRONGLY_CONVEX) else sp.Integer(0)
    hessian = sp.Matrix([[2, 1, 0], [1, 3, 1], [0, 1, 4]]) * bend
    cross = sp.Matrix([[1, 2], [0, -1], [3, 1]])
    shift = sp.Matrix([1, 0, 2])
    inner = ((theta.T * hessian * theta) / 2 + theta.T * (cross * lam + shift))[0]
    solvable = hessian.det() != 0
    yield fact("H can be solved with", solvable, hessian.det(), "not 0", EvidenceMethod.SYMBOLIC)
    best = -hessian.inv() * (cross * lam + shift)
    slope = sp.Matrix([inner]).jacobian(theta).subs(dict(zip(theta, best, strict=True)))
    yield matrix_identity("the inner gradient at θ*", slope, sp.zeros(1, 3))
    outer = theta[0] ** 2 * lam[1] + theta[1] * theta[2] + lam[0] ** 2
    at = dict(zip(theta, best, strict=True))
    total = sp.Matrix([outer.subs(at)]).jacobian(lam)
    direct = sp.Matrix([outer]).jacobian(lam).subs(at)
    reaction = sp.Matrix([outer]).jacobian(theta).subs(at) * hessian.inv() * cross
    stated = number(s["d"]) * direct + number(s["g"]) * reaction
    yield matrix_identity("the hypergradient", total, stated)


def _neumann(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    alpha, h, terms = sp.symbols("alpha h K", positive=True)
    count = 7
    series = alpha ** number(s["a"]) * sum((1 - alpha * h) ** j for j in range(count))
    left = 1 / h - series
    power = count * number(s["e"])
    base = identity("error of K = 7 terms", left, (1 - alpha * h) ** power / h)
    # One more term takes the stated error after K terms to the stated error after K + 1.
    error = (1 - alpha * h) ** (terms * number(s["e"])) / h
    term = alpha ** number(s["a"]) * (1 - alpha * h) ** terms
    step = identity("from K to K + 1 terms", error - term, error.subs(terms, terms + 1))
    yield induction("every K", base, step, {"n": ONE_MATRIX, "m": INDUCTION})
    at = Fraction(1, 2) if context.has(SCALE_SMALL) else Fraction(5, 2)
    rate = abs(1 - at)
    yield fact(f"|1 - αh| at h = 1, α = {at}", rate < 1, rate, "< 1")


def _unscaled(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    alpha, h = sp.symbols("alpha h", positive=True)
    total = 1 / (1 - (1 - alpha * h))  # Σ (1 - αh)^j
    over = {"n": ONE_MATRIX, "inner": SYMBOL_OF_H}
    yield identity("limit of the series without α", total, alpha ** number(s["a"]) / h, over=over)
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


def _conjugate_gradient(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    kappa = sp.symbols("kappa", positive=True)
    # The Chebyshev polynomial of the interval [1, κ]: 1/T_k((κ+1)/(κ-1)) ≤ 2ρ^k.
    root = kappa ** number(s["e"])
    rho = (root - 1) / (root + 1)
    middle = (kappa + 1) / (kappa - 1)
    krylov = {
        "n": by_hand("CG minimises over the Krylov space, so the Chebyshev polynomial is a bound"),
        "m": SYMBOL_OF_STEP,
    }
    yield identity("ρ + 1/ρ", rho + 1 / rho, 2 * middle, over=krylov)
    # T_k(½(x + 1/x)) = ½(x^k + x^-k) ≥ ½ρ^-k at x = 1/ρ, by T_(k+1) = 2yT_k - T_(k-1).
    x, k = sp.symbols("x k", positive=True)

    def closed(j: sp.Expr) -> sp.Expr:
        return (x**j + x**-j) / number(s["c"])

    y = (x + 1 / x) / 2
    first = identity("T₁(y) = y", closed(sp.S(1)), y)
    next_ = identity("T_(k+1) = 2yT_k - T_(k-1)", 2 * y * closed(k) - closed(k - 1), closed(k + 1))
    yield induction("T_k(½(x + 1/x))", first, next_, {**krylov, "m": INDUCTION})
    with flint.ctx.workprec(400):
        errors = cg_errors()
        _, _, condition = spd_system()
        half = condition ** rational(s["e"])
        ratio = (half - 1) / (half + 1)
        for step in range(1, 5):
            bound = rational(s["c"]) * ratio**step
            yield at_most(f"error of CG after {step} steps, κ = 50", errors[step], bound)
        yield at_most("and after n = 5", errors[5], flint.arb("1e-40"))


def _iterative(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    """Φ(w) = qw + w²/4, w* = 0: w_t ~ W·q^t, and the tangent's error has a factor t."""
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
    yield fact("power of t in the tangent's error over q^t", abs(power - float(s["e"])) < 1e-2,
               power, float(s["e"]), EvidenceMethod.BALL)  # fmt: skip
    # With a linear map (a quadratic inner loss) there is no factor t.
    t_, a = sp.symbols("t a", positive=True)
    geometric = (1 - a**t_) / (1 - a)
    yield identity("a linear map: tangent after t steps", geometric.subs(t_, 3), 1 + a + a**2)
    yield identity("its error over q^t", (1 / (1 - a) - geometric) / a ** (t_ * number(s["k"])),
                   1 / (1 - a))  # fmt: skip


_INSTANCE = by_hand("from the instance to a general contraction: the triangle inequality")
_AID = {"n": _INSTANCE, "p": _INSTANCE, "T": _INSTANCE, "m": _INSTANCE, "f": _INSTANCE,
        "inner": _INSTANCE}  # fmt: skip


def _approximate(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    """AID on inner θ²/2·h - λθ with outer θ³/3: θ_t = θ*(1 - q^t), solve of H v = f_θ by k steps."""
    q, star, h = sp.symbols("q theta_star h", positive=True)
    t, k = sp.symbols("t k", positive=True)
    slope = (star * (1 - q**t)) ** 2
    solved = slope / h * (1 - q**k)
    error = star**2 / h - solved
    in_t = sp.simplify((star**2 / h - slope / h) / q ** (number(s["a"]) * t))
    yield identity("error with an exact solve, over q^t", in_t, star**2 * (2 - q**t) / h, over=_AID)
    in_k = sp.simplify((star**2 / h - star**2 / h * (1 - q**k)) / q ** (number(s["b"]) * k))
    yield identity("error with an exact inner solution, over q^k", in_k, star**2 / h, over=_AID)
    split = sp.expand(error - (star**2 / h - slope / h) - slope / h * q**k)
    yield identity("the two parts add up", split, sp.S(0))


def _posteriori(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # ‖q̂ - H⁻¹b‖ ≤ ‖Hq̂ - b‖/μ, and ‖θ_t - θ*‖ ≤ ‖∇L_T(θ_t)‖/μ: both from μ-strong convexity.
    mu, size = sp.symbols("mu r", positive=True)
    yield identity("error of the solve from its residual", size / mu,
                   size * mu ** number(s["e"]))  # fmt: skip
    with flint.ctx.workprec(200):
        hessian, right, _ = spd_system()
        exact = hessian.solve(right)
        guess = flint.arb_mat([[flint.arb(1) / (j + 2)] for j in range(5)])
        residual = norm(hessian * guess - right)
        smallest = flint.arb(1)
        bound = residual * smallest ** int(s["e"])
        yield at_most("one guess: error against residual over μ = 1", norm(guess - exact), bound)
        yield at_most("and not below residual over λ_max = 50", residual / 50, norm(guess - exact))


def norm(x: flint.arb_mat) -> flint.arb:
    """The Euclidean norm of a column."""
    return (x.transpose() * x)[0, 0].sqrt()


CLAIMS = (
    Claim(
        "field-implicit",
        ClaimSource.FIELD,
        "the implicit hypergradient",
        ClaimStatement(
            "d/dλ f(λ, θ*(λ)) = {d}·f_λ + {g}·f_θ·H⁻¹·C, C = ∂²L_T/∂θ∂λ",
            (coefficient("d", 1), sign("g", -1)),
        ),
        _implicit,
        ClaimVerdict.CONDITIONAL,
        added=(STRONGLY_CONVEX,),
        scope=Scope(n=ALL, p=ALL, f=Every("C¹"), inner=Every("C², one minimiser")),
        on="n = 3, p = 2, one quadratic E and one f",
    ),
    Claim(
        "field-neumann",
        ClaimSource.FIELD,
        "the Neumann series",
        ClaimStatement(
            "1/h - α^{a}·Σ_(j<K) (1 - αh)^j = (1 - αh)^(K·{e})/h for every eigenvalue h of H",
            (exponent("a", 1), exponent("e", 1)),
        ),
        _neumann,
        ClaimVerdict.CONDITIONAL,
        added=(SCALE_SMALL,),
        scope=Scope(n=ALL, m=ALL, about="a symmetric H"),
        on="K = 7 terms",
    ),
    Claim(
        "text-neumann-factor",
        ClaimSource.KIM,
        "the Neumann series behind Table 2",
        ClaimStatement("Σ (1 - αh)^j tends to α^{a}/h", (exponent("a", 0),)),
        _unscaled,
        ClaimVerdict.REFUTED,
        corrected=ClaimStatement("Σ (1 - αh)^j tends to α^{a}/h", (exponent("a", -1),)),
        remark="The printed row needs the factor α left out; with it the row is nearer the optimum.",
        scope=Scope(n=ALL, inner=Every("quadratic, H symmetric and positive definite")),
        on="one eigenvalue",
    ),
    Claim(
        "field-cg",
        ClaimSource.FIELD,
        "conjugate gradients",
        ClaimStatement(
            "‖x_k - x*‖_H ≤ {c}·((κ^{e} - 1)/(κ^{e} + 1))^k·‖x*‖_H, and exact after n steps",
            (coefficient("c", 2), exponent("e", "1/2")),
        ),
        _conjugate_gradient,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, m=ALL, about="a symmetric positive definite H"),
        on="n = 5, condition number 50, four steps",
    ),
    Claim(
        "field-itd",
        ClaimSource.FIELD,
        "iterative differentiation (Grazzi et al. 2020)",
        ClaimStatement(
            "the error of the hypergradient after t steps is of order t^{e}·q^(t-1); for a linear "
            "map it is q^(t·{k})/(1 - q)",
            (exponent("e", 1), exponent("k", 1)),
        ),
        _iterative,
        ClaimVerdict.HOLDS,
        by_hand="The upper bound for a general contraction, by unrolling the tangent's recursion.",
        scope=Scope(n=ALL, p=ALL, T=ALL, inner=Every("a contraction")),
        on="one quadratic map of the line",
    ),
    Claim(
        "field-aid",
        ClaimSource.FIELD,
        "approximate implicit differentiation (Grazzi et al. 2020)",
        ClaimStatement(
            "the error is of order q^({a}·t) + σ(k), with σ(k) = q^({b}·k) for the fixed-point solver",
            (exponent("a", 1), exponent("b", 1)),
        ),
        _approximate,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, T=ALL, m=ALL, f=Every("smooth"), inner=Every("a contraction")),
        on="n = p = 1, one quadratic E",
    ),
    Claim(
        "field-posteriori",
        ClaimSource.FIELD,
        "error from residuals (Ehrhardt and Roberts 2023)",
        ClaimStatement("‖q̂ - H⁻¹b‖ ≤ ‖Hq̂ - b‖·μ^{e}", (exponent("e", -1),)),
        _posteriori,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, about="a symmetric positive definite H"),
        on="one system of five equations, μ = 1",
    ),
)
