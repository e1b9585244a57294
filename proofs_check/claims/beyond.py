"""Methods beyond the papers' own: what their docstrings claim, derived."""

import itertools
from collections.abc import Callable, Iterator

import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.montecarlo import normal_mean
from proofs_check.evidence import Check, identity, matrix_identity, number
from proofs_check.scope import ALL, Every, Scope, by_hand
from proofs_check.statement import ClaimStatement, coefficient, exponent, index

gamma, h, s, C, model = sp.symbols("gamma h s C hbar", positive=True)


def _running_solve(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # One eigenvector of H at a time: the iteration does not mix them.
    q = sp.Integer(0)
    for m in range(1, 5):
        q = q - gamma * (h * q - s)
        stated = (
            number(st["c"]) * s * h ** number(st["e"]) * (1 - gamma * h) ** (m + st.integer("i"))
        )
        yield identity(f"q_m - q* along an eigenvector, m = {m}", q - s / h, stated)


def _discounted(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    g = sp.Integer(0)
    for steps in range(1, 5):
        g = (1 - gamma * model) * g - gamma * s * C
        power = steps + st.integer("i")
        weight = 1 - (1 - number(st["k"]) * gamma * model) ** power
        stated = number(st["c"]) * s * C * model ** number(st["e"]) * weight
        yield identity(f"g_T at θ*, T = {steps}", g, stated)


def _mean(values: list[sp.Expr]) -> sp.Expr:
    return sp.expand(sum(values, sp.Integer(0)) / len(values))


def _signs(count: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=count))


def _tangents(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    slope = sp.Matrix(sp.symbols("F1:4"))
    size = slope.dot(slope)
    drawn = [sp.Matrix(signs) for signs in _signs(3)]
    estimates = [u * u.dot(slope) for u in drawn]
    mean = sp.Matrix([_mean([each[i] for each in estimates]) for i in range(3)])
    yield matrix_identity("mean over all signs, p = 3", mean, slope)
    off = _mean([sp.expand((each - slope).dot(each - slope)) for each in estimates])
    over = {
        "p": by_hand("other p change the sums' length alone"),
        "M": by_hand("independent directions divide by K"),
    }
    yield identity(
        "square error over all signs, p = 3", off, (3 + number(st["r"])) * size, over=over
    )
    u = sp.Matrix(sp.symbols("u1:4", real=True))
    square = sp.expand((u * u.dot(slope) - slope).dot(u * u.dot(slope) - slope))
    for symbol in u:
        square = normal_mean(sp.expand(square), symbol)
    yield identity("square error, normal numbers, p = 3", square, (3 + number(st["g"])) * size,
                   over=over)  # fmt: skip
    # A uniform rotation of the plane; K columns of length √2.
    angle = sp.symbols("phi", real=True)
    turn = sp.Matrix([[sp.cos(angle), -sp.sin(angle)], [sp.sin(angle), sp.cos(angle)]])
    flat = sp.Matrix(slope[:2])
    for count in (1, 2):
        basis = sp.sqrt(2) * turn[:, :count]
        away = basis * (basis.T * flat) / count - flat
        mean_square = sp.integrate(sp.expand(away.dot(away)), (angle, 0, 2 * sp.pi)) / (2 * sp.pi)
        stated = (2 * sp.Integer(count) ** number(st["e"]) + number(st["o"])) * flat.dot(flat)
        yield identity(f"square error, orthogonal, p = 2, K = {count}", mean_square, stated)


def _pairs(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    slope = sp.Matrix(sp.symbols("F1:4"))

    def off(count: int, make: Callable[[tuple[int, ...]], list[sp.Matrix]]) -> sp.Expr:
        """The mean square error of `count` directions made from independent signs."""
        squares = []
        for signs in _signs(3 * count):
            columns = make(signs)
            mean = sum((u * u.dot(slope) for u in columns), sp.zeros(3, 1)) / len(columns)
            squares.append(sp.expand((mean - slope).dot(mean - slope)))
        return _mean(squares)

    pair = off(1, lambda signs: [sp.Matrix(signs), -sp.Matrix(signs)])
    one = off(1, lambda signs: [sp.Matrix(signs)])
    two = off(2, lambda signs: [sp.Matrix(signs[:3]), sp.Matrix(signs[3:])])
    yield identity("two in a pair against two independent ones", pair, number(st["c"]) * two)
    yield identity("two in a pair against one", pair, one)


def _uoro(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    first, second = (sp.Matrix(2, 2, sp.symbols(f"{letter}1:5")) for letter in "AB")
    fresh = sp.Matrix(2, 2, sp.symbols("b1:5"))
    rho, sigma = sp.symbols("rho sigma", positive=True)
    total = sp.zeros(2, 2)
    for signs in _signs(4):
        left, right = sp.zeros(2, 1), sp.zeros(2, 1)
        for t, (transition, jump) in enumerate(((first, fresh), (second, fresh.T))):
            nu = sp.Matrix(signs[2 * t : 2 * t + 2])
            left = rho * transition * left + sigma * nu
            right = right / rho + jump.T * nu / sigma
        total += left * right.T
    exact = second * fresh + fresh.T
    mean = (total / 16).applyfunc(sp.expand)
    yield matrix_identity("E[s w'] over all signs, T = 2", mean, number(st["m"]) * exact)
    a, b = sp.Matrix(sp.symbols("a1:4")), sp.Matrix(sp.symbols("b1:4"))
    drawn = [sp.Matrix(signs) for signs in _signs(3)]
    second_moment = _mean([sp.expand((a.dot(nu) * b.dot(nu)) ** 2) for nu in drawn])
    variance = sp.expand(second_moment - a.dot(b) ** 2)
    fourth = sum((x**2 * y**2 for x, y in zip(a, b, strict=True)), sp.Integer(0))
    stated = number(st["v"]) * a.dot(a) * b.dot(b) + number(st["w"]) * a.dot(b) ** 2
    yield identity("variance over all signs", variance, stated - number(st["c"]) * fourth)


def _posterior(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    """One dimension and one cause at a time: each term is attained, so that no constant is too large."""
    mu, away, q, slope, r, L, coupling = sp.symbols("mu d q s r L C", positive=True)
    delta = (mu * away) * mu ** number(st["f"])
    off_q = number(st["c"]) * coupling * mu ** number(st["e"])
    yield identity("only f_λ moves with θ", L * away, number(st["d"]) * L * delta)
    yield identity("only C moves with θ", q * (L * away), number(st["q"]) * q * L * delta)
    solved = (slope + r) / mu
    yield identity("only the system is not solved", coupling * (solved - slope / mu), off_q * r)
    yield identity("only f_θ moves with θ", coupling * (L * away) / mu, off_q * L * delta)
    # H = μ + L·d at distance d from θ*: the gradient is μd + L·d²/2, and q is off by q·L·d/μ.
    bent = mu + L * away
    found = coupling * (slope / mu - slope / bent)
    gradient = mu * away + L * away**2 / 2
    bound = off_q * L * (gradient * mu ** number(st["f"])) * (slope / bent)
    yield identity("only H moves: the ratio as θ → θ*", sp.limit(found / bound, away, 0), sp.S(1))
    yield identity("and never above 1", sp.simplify(found / bound), 1 / (1 + L * away / (2 * mu)))


def _proximal(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    rho = sp.symbols("rho", positive=True)
    a, b, d, lam = sp.symbols("a b d lambda")
    hessian = sp.Matrix([[a, b], [b, d]])
    start, slope, shift = (sp.Matrix(sp.symbols(f"{letter}1:3")) for letter in ("J", "s", "c"))
    held = hessian + rho * sp.eye(2)
    minimiser = held.LUsolve(shift + rho * start * lam)
    found = slope.dot(sp.diff(minimiser, lam))
    damped = sp.eye(2) + number(st["c"]) * hessian * rho ** number(st["e"])
    stated = slope.dot(damped.LUsolve(start))
    yield identity("quadratic, n = 2", sp.together(found), sp.together(stated))
    # Any smooth loss in one dimension: the derivative of θ*(λ) from L'(θ*) + ρ(θ* - Jλ) = 0.
    t, jacobian = sp.symbols("t J")
    curve = sp.Function("L")(t)
    condition = sp.diff(curve, t) + rho * (t - jacobian * lam)
    moved = -sp.diff(condition, lam) / sp.diff(condition, t)
    bend = sp.diff(curve, t, 2)
    stated = jacobian / (1 + number(st["c"]) * bend * rho ** number(st["e"]))
    yield identity("any loss, n = 1", moved, stated)


l, t = sp.symbols("l t", real=True)  # noqa: E741
c2, c3, c4, k1, k2, j1, o1, o2 = sp.symbols("c2 c3 c4 k1 k2 j1 o1 o2", real=True)
INNER = c2 * t**2 / 2 + c3 * t**3 / 6 + k1 * l * t + k2 * l * t**2 / 2 + c4 * t
OUTER = o1 * t + o2 * t**2 / 2
START = j1 * l


def _adapted(steps: int) -> sp.Expr:
    """θ^T up to O(γ²), as a polynomial in γ."""
    slope, theta = sp.diff(INNER, t), START
    for _ in range(steps):
        moved = sp.expand(theta - gamma * slope.subs(t, theta))
        theta = sum((moved.coeff(gamma, k) * gamma**k for k in range(3)), sp.Integer(0))
    return theta


def _first_order(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    for steps in (1, 2, 3):
        theta = _adapted(steps)
        exact = sp.diff(OUTER.subs(t, theta), l)
        short = sp.diff(OUTER, t).subs(t, theta) * sp.diff(START, l)
        gap = sp.expand(short - exact)
        at_start = {t: START}
        through = sp.diff(INNER, t, 2) * sp.diff(START, l) + sp.diff(INNER, t, l)
        leading = number(st["c"]) * (steps + st.integer("i")) * through * sp.diff(OUTER, t)
        yield identity(f"order 0, T = {steps}", gap.coeff(gamma, 0), sp.S(0))
        stated = sp.expand(leading.subs(at_start)) * gamma ** number(st["e"])
        yield identity(f"order 1, T = {steps}", gap.coeff(gamma, 1) * gamma, stated)


def _reptile(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    for steps in (1, 2, 3, 4):
        moved = sp.expand((START - _adapted(steps)) / gamma)
        slope, bend = (sp.diff(INNER, t, k).subs(t, START) for k in (1, 2))
        yield identity(
            f"order 0, T = {steps}",
            moved.coeff(gamma, 0),
            sp.expand((steps + st.integer("j")) * slope),
        )
        second = number(st["c"]) * steps * (steps + st.integer("i")) * bend * slope
        yield identity(f"order 1, T = {steps}", moved.coeff(gamma, 1), sp.expand(second))


def _batches(st: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    """Batches with gradient a_i + h_i θ: a_i has the mean g, and h_i a_j the mean e for i ≠ j."""
    g, e = sp.symbols("g e")
    for k in (2, 3):
        slopes, bends = sp.symbols(f"a1:{k + 1}"), sp.symbols(f"h1:{k + 1}")
        theta, jacobian = sp.Integer(0), sp.Integer(1)
        for a, bend in zip(slopes[:-1], bends[:-1], strict=True):
            theta = sp.expand(theta - gamma * (a + bend * theta))
            jacobian = jacobian * (1 - gamma * bend)
        last = slopes[-1] + bends[-1] * theta
        ended = theta - gamma * last
        found = {"maml": jacobian * last, "first": last, "reptile": -ended / gamma}

        def average(
            expression: sp.Expr, a: tuple[sp.Symbol, ...], b: tuple[sp.Symbol, ...]
        ) -> sp.Expr:
            flat = sp.expand(expression)
            kept = flat.coeff(gamma, 0) + gamma * flat.coeff(gamma, 1)
            pairs = {x * y: e for i, x in enumerate(b) for j, y in enumerate(a) if i != j}
            first = sp.expand(kept).subs(pairs)
            return sp.expand(first.subs(dict.fromkeys(a, g)))

        stated = {
            "maml": g - number(st["m"]) * (k - 1) * gamma * e,
            "first": g - number(st["f"]) * (k - 1) * gamma * e,
            "reptile": k * g - number(st["r"]) * k * (k - 1) * gamma * e,
        }
        for name, expression in found.items():
            yield identity(
                f"{name}, k = {k}", average(expression, slopes, bends), sp.expand(stated[name])
            )


CLAIMS = (
    Claim(
        "field-running-solve",
        ClaimSource.FIELD,
        "the running solve: HPO-SGLD's loop with H q beside it",
        ClaimStatement(
            "from q_0 = 0 at θ*, q_m - q* = {c}·H^{e}·(I - γH)^(m+{i})·f_θ",
            (coefficient("c", -1), exponent("e", -1), index("i", 0)),
        ),
        _running_solve,
        ClaimVerdict.HOLDS,
        remark="Its hypergradient is f_λ - q·C, so that this times C is its error.",
        scope=Scope(n=ALL, m=ALL, inner=Every("quadratic, H symmetric")),
        on="m = 1 to 4",
    ),
    Claim(
        "field-discounted",
        ClaimSource.FIELD,
        "HPO-SGLD's recursion, discounted by a scalar curvature",
        ClaimStatement(
            "at θ*, g_T = {c}·f_θ·C·ħ^{e}·(1 - (1 - {k}·γħ)^(T+{i}))",
            (coefficient("c", -1), exponent("e", -1), coefficient("k", 1), index("i", 0)),
        ),
        _discounted,
        ClaimVerdict.HOLDS,
        remark="Divided by the last factor it is the implicit term with H replaced by ħ, at once.",
        scope=Scope(n=ALL, T=ALL, inner=ALL),
        on="T = 1 to 4",
    ),
    Claim(
        "field-random-tangents",
        ClaimSource.FIELD,
        "random tangents: the mean, and the square error for each law",
        ClaimStatement(
            "E[h] = F', and E‖h - F'‖² is (p + {r})‖F'‖²/K for signs, (p + {g})‖F'‖²/K for normal "
            "numbers, (p·K^{e} + {o})‖F'‖² for K orthogonal directions",
            (
                coefficient("r", -1),
                coefficient("g", 1),
                exponent("e", -1),
                coefficient("o", -1),
            ),
        ),
        _tangents,
        ClaimVerdict.HOLDS,
        scope=Scope(p=ALL, M=ALL),
        on="p = 3; p = 2 for orthogonal directions",
    ),
    Claim(
        "field-antithetic-tangents",
        ClaimSource.FIELD,
        "antithetic directions are useless for directional derivatives",
        ClaimStatement(
            "K directions in pairs u, -u have {c} times the square error of K independent ones",
            (coefficient("c", 2),),
        ),
        _pairs,
        ClaimVerdict.HOLDS,
        scope=Scope(p=ALL, M=ALL),
        on="p = 3, K = 2",
    ),
    Claim(
        "field-uoro",
        ClaimSource.FIELD,
        "UORO: unbiased, and its variance without balancing (Tallec and Ollivier 2018)",
        ClaimStatement(
            "E[s_T w_T'] = {m}·Z_T; Var h_j = {v}·‖a‖²‖b_j‖² + {w}·(a'b_j)² - {c}·Σ a_i² b_ij²",
            (
                coefficient("m", 1),
                coefficient("v", 1),
                coefficient("w", 1),
                coefficient("c", 2),
            ),
        ),
        _uoro,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, T=ALL),
        on="n = p = 2, T = 2; n = 3 for the variance",
    ),
    Claim(
        "field-a-posteriori",
        ClaimSource.FIELD,
        "the error of an implicit hypergradient, from what was computed (Ehrhardt and Roberts 2023)",
        ClaimStatement(
            "‖error‖ ≤ {d}·L_d·δ + {q}·‖q‖·L_C·δ + {c}·‖C‖·(r + L_H·δ·‖q‖ + L_s·δ)·μ^{e}, "
            "δ = ‖∂_θ L_T‖·μ^{f}, and no constant can be smaller",
            (
                coefficient("d", 1),
                coefficient("q", 1),
                coefficient("c", 1),
                exponent("e", -1),
                exponent("f", -1),
            ),
        ),
        _posterior,
        ClaimVerdict.HOLDS,
        by_hand="The bound is the triangle inequality over the five causes; what is executed is that "
        "each is attained.",
        scope=Scope(
            n=ALL,
            p=ALL,
            f=Every("C², Lipschitz derivatives"),
            inner=Every("strongly convex, Lipschitz Hessian"),
        ),
        on="n = p = 1",
    ),
    Claim(
        "field-imaml",
        ClaimSource.FIELD,
        "iMAML: the derivative of a proximal minimiser (Rajeswaran et al. 2019)",
        ClaimStatement(
            "d/dλ f(θ*(λ)) = J'(I + {c}·H·ρ^{e})⁻¹f_θ", (coefficient("c", 1), exponent("e", -1))
        ),
        _proximal,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, inner=Every("C², one minimiser")),
        on="n = 2 for a quadratic, n = 1 for any",
    ),
    Claim(
        "field-fo-maml",
        ClaimSource.FIELD,
        "first-order MAML: its error",
        ClaimStatement(
            "FO-MAML - MAML = {c}·γ^{e}·(T+{i})·(HJ + C)'f_θ + O(γ²)",
            (coefficient("c", 1), exponent("e", 1), index("i", 0)),
        ),
        _first_order,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, T=ALL, f=Every("C²"), inner=Every("C³")),
        on="n = p = 1, T = 1, 2, 3",
    ),
    Claim(
        "field-reptile",
        ClaimSource.FIELD,
        "Reptile: its expansion on full batches (Nichol et al. 2018)",
        ClaimStatement(
            "(θ⁰ - θ^T)/γ = (T+{j})·a + {c}·T·(T+{i})·γ·H·a + O(γ²)",
            (index("j", 0), coefficient("c", "-1/2"), index("i", -1)),
        ),
        _reptile,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, T=ALL, inner=Every("C³")),
        on="n = 1, T = 1 to 4",
    ),
    Claim(
        "field-nichol",
        ClaimSource.FIELD,
        "MAML, first-order MAML and Reptile in the mean over k batches (Nichol et al. 2018)",
        ClaimStatement(
            "with g the mean gradient and e the mean of H_i a_j: MAML g - {m}(k - 1)γe, FO-MAML "
            "g - {f}(k - 1)γe, Reptile k·g - {r}·k(k - 1)γe, each + O(γ²)",
            (coefficient("m", 2), coefficient("f", 1), coefficient("r", "1/2")),
        ),
        _batches,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, M=ALL, inner=Every("C³")),
        on="n = 1, k = 2, 3",
    ),
)
