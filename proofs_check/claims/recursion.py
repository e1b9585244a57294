"""The recursion: (18) to (23), (25), Algorithm 1."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import sympy as sp
from sympy.polys.rings import PolyElement

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.tangent import FIXED_STEPS, equal, of_world
from proofs_check.evidence import Check, EvidenceMethod, fact, identity, induction, matrix_identity
from proofs_check.scope import ALL, FUNCTIONS, INDUCTION, OPERATORS, SYMBOL, Every, Scope, by_hand
from proofs_check.statement import ClaimStatement, formula
from proofs_check.sums import SIZE, At, Indexed
from proofs_check.tools.algebra import EPS, Jets, chain_series, lowest, root, weight
from proofs_check.tools.world import Exact, World, world

START_FIXED = Assumption("start-fixed", "θ⁰ does not depend on λ, or f has no third derivative")

b0, f1, f2, f3, e2, s0 = sp.symbols("b0 f1 f2 f3 e2 s0")

TAYLOR = by_hand("Taylor: A, B, f_θ and f_θθ at θ^k are those at θ⁰ up to O(√ε)")
LEADING = {"n": OPERATORS, "p": OPERATORS, "m": SYMBOL, "f": TAYLOR, "inner": TAYLOR}
A, B, S0, F, FF, Z, E = sp.symbols("A B S0 f_θ f_θθ z E_θ", commutative=False)


def leading_tangent(start: sp.Expr) -> Iterator[Check]:
    """That s_m - s_0 is ε/2·m·(B + A s_0) to first order in ε, for every m.

    Args:
        start: s_0, the operator or zero.

    Yields:
        One induction.
    """
    moved = EPS / 2 * (B + A * start)
    base = identity("no step", sp.S(0) * moved, sp.S(0))
    step = identity("one more step", SIZE * moved + moved, sp.expand((SIZE + 1) * moved))
    over = {"n": OPERATORS, "p": OPERATORS, "m": INDUCTION, "f": TAYLOR, "inner": TAYLOR}
    yield induction("s_m - s_0 = ε/2·m·(B + A·s_0) + higher", base, step, over)


def _definition(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    slope, tangent = Indexed("f_θ"), Indexed("S")
    # One component of df(λ, θ(λ))/dλ - ∂f/∂λ: f_θ of that iterate times the tangent of that iterate.
    found = slope[SIZE] * tangent[SIZE]
    chain = by_hand("the chain rule")
    over = {"n": OPERATORS, "p": OPERATORS, "m": SYMBOL, "f": chain, "inner": chain}
    stated = s.formula("g", f_θ=slope, S=tangent, m=SIZE)
    yield identity("df/dλ - ∂f/∂λ by the chain rule", found, stated, over=over)
    run = world()
    exact = s.formula("g", Fraction, **{**of_world(run), "m": 3})
    yield equal(
        "df/dλ - ∂f/∂λ by dual numbers through f, m = 3", run.total(3) - run.f_lambda(3), exact
    )


def _one_step(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    names = {x: Indexed(x) for x in ("f_θ", "S", "A", "B")}
    before = SIZE - 1
    after = names["S"][before] + EPS / 2 * (
        names["A"][before] * names["S"][before] + names["B"][before]
    )
    found = sp.expand(names["f_θ"][SIZE] * after)
    stated = sp.expand(s.formula("g", m=SIZE, ε=EPS, **names))
    over = {"n": OPERATORS, "p": OPERATORS, "m": SYMBOL, "f": OPERATORS, "inner": OPERATORS}
    yield identity("g_m from the tangent's own step", found, stated, over=over)
    run = world()
    exact = s.formula("g", Fraction, **{**of_world(run), "m": 3})
    yield equal("g_m by dual numbers, m = 3", run.total(3) - run.f_lambda(3), exact)


def _step_cut(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    yield from leading_tangent(S0)
    # f_θ·ε/2·A·(s_(m-1) - s_0), the lemma put in.
    m = SIZE
    found = sp.expand(F * EPS / 2 * A * (EPS / 2 * (m - 1) * (B + A * S0)))
    stated = sp.expand(s.formula("dropped", f_θ=F, A=A, B=B, S0=S0, ε=EPS, m=m))
    yield identity("what a step drops", found, stated, over=LEADING)
    for steps in (2, 3, 5):
        series = chain_series(steps, 4, Jets(depends=True))
        outer = series.product(series.f1[steps], series.a[steps - 1], root() ** 2)
        gap = series.product(outer, series.s[steps - 1] - series.s[0]) * weight(Fraction(1, 2))
        stated = s.formula("dropped", f_θ=f1, A=-e2, B=b0, S0=s0, ε=EPS, m=sp.Integer(steps))
        yield series_check(f"n = p = 1, m = {steps}", gap, stated)
    yield _accumulated(context)


def series_check(name: str, series: PolyElement, stated: sp.Expr) -> Check:
    """That a series in √ε starts with a stated term in ε.

    Args:
        name: what is compared.
        series: the series.
        stated: its leading term, with ε.

    Returns:
        The check.
    """
    power, leading = lowest(series)
    found = leading * EPS ** sp.Rational(power, 2)
    return identity(name, sp.expand(found), sp.expand(stated))


def order_check(name: str, power: int, stated: Fraction) -> Check:
    """That a series starts at a stated power of ε, its power of √ε being given."""
    found = Fraction(power, 2)
    return fact(name, found == stated, found, stated, EvidenceMethod.SYMBOLIC)


def _accumulated(context: ClaimContext) -> Check:
    """The sum of the dropped terms over the steps, for A = -h, B = b, f' = 1, dθ⁰/dλ = 0."""
    h, b, horizon = sp.symbols("h b S", positive=True)
    steps = sp.Integer(4) if context.has(FIXED_STEPS) else 2 * horizon / EPS
    decay = 1 - EPS * h / 2
    # Σ_{k<steps} (ε/2)·h·s_k with s_k = (b/h)(1 - decay^k); the geometric sum in closed form.
    total = EPS / 2 * b * (steps - (1 - decay**steps) / (1 - decay))
    limit = sp.limit(total, EPS, 0)
    return identity("limit of the accumulated error as ε → 0", limit, sp.S(0))


def product_error(jet: Jets, m: int, order: int = 3) -> PolyElement:
    """f'(θ^m)·s_{m-1} minus what (21) puts in its place, as a polynomial in √ε.

    Args:
        jet: which derivatives at θ⁰ are generic.
        m: the step.
        order: the highest power of √ε kept.

    Returns:
        The error of the first-order approximation of one step.
    """
    series = chain_series(m, order, jet)
    moved = series.delta[m] - series.delta[m - 1]
    stated = series.g(m - 1) + series.product(moved, series.f2[m - 1], series.s[0])
    return series.product(series.f1[m], series.s[m - 1]) - stated


def first_order(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    """Evidence for the first-order approximation of one step: its leading error for every m.

    Args:
        s: a statement with the formula `error` of `STEP_ERROR`.
        context: which conditions are on.

    Yields:
        The lemma, the error in operators, the series of one parameter, and what the errors add up to.
    """
    yield from leading_tangent(sp.S(0))
    # Δθ'·f_θθ·s_(m-1) with Δθ = √ε·z + O(ε), and s_(m-1) from the lemma at dθ⁰/dλ = 0.
    m = SIZE
    found = sp.sqrt(EPS) * Z * FF * (EPS / 2 * (m - 1) * B)
    stated = s.formula("error", z=At(_noise_of_the_step), f_θθ=FF, B=B, ε=EPS, m=m)
    yield identity("the error of one step", sp.expand(found), sp.expand(stated), over=LEADING)
    jet = Jets(depends=not context.has(START_FIXED))
    for steps in (2, 3, 5):
        z = At(lambda k: sp.Symbol(f"z{k}"))
        stated = s.formula("error", z=z, f_θθ=f2, B=b0, ε=EPS, m=sp.Integer(steps))
        yield series_check(f"n = p = 1, m = {steps}", product_error(jet, steps), stated)
    yield _accumulated(context)


def _noise_of_the_step(at: object) -> sp.Expr:
    """The noise of the step that ends at θ^(m): that of the index m - 1."""
    return Z if sp.sympify(at) == SIZE - 1 else sp.Symbol(f"z_{at}", commutative=False)


def recursion(run: World, s: ClaimStatement, steps: int) -> Exact:
    """(22) as a statement has it, in exact arithmetic.

    Args:
        run: the exact world.
        s: a statement with the formula `g`.
        steps: m.

    Returns:
        g_m, shape (p,).
    """
    values: dict[int, Exact] = {0: run.f_theta(0) @ run.tangents[0]}
    for m in range(1, steps + 1):
        names = {**of_world(run), "g": At(lambda k: values[k]), "m": m}
        values[m] = s.formula("g", Fraction, **names)
    return values[steps]


def _recursion(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    names = {x: Indexed(x) for x in ("g", "θ", "f_θ", "f_θθ", "A", "B")}
    stated = sp.expand(s.formula("g", m=SIZE, S0=S0, ε=EPS, **names))
    # (19) with (20) and (21) put in: f_θ(θ^m)·s_(m-1) by (21), and s_(m-1) beside A by (20).
    before = SIZE - 1
    moved = (names["θ"][SIZE] - names["θ"][before]) * names["f_θθ"][before] * S0
    push = names["f_θ"][SIZE] * EPS / 2 * (names["A"][before] * S0 + names["B"][before])
    over = {"n": OPERATORS, "p": OPERATORS, "m": SYMBOL, "f": OPERATORS, "inner": OPERATORS}
    yield identity("(19), (20) and (21) put together", sp.expand(names["g"][before] + moved + push),
                   stated, over=over)  # fmt: skip
    # With θ⁰ independent of λ it telescopes; the sum below is written down, not recurred.
    fixed, m = world(depends=False), 4
    half = Fraction(1, 2) * fixed.epsilon
    telescoped = half * sum(fixed.f_theta(k) @ fixed.B(k - 1) for k in range(1, m + 1))
    yield equal("θ⁰ fixed: (ε/2)·Σ f_θ(θ^k)·B(θ^(k-1))", telescoped, recursion(fixed, s, m))
    h, horizon = sp.symbols("h S", positive=True)
    steps = sp.Integer(4) if context.has(FIXED_STEPS) else 2 * horizon / EPS
    truth = (1 - (1 - EPS * h / 2) ** steps) / h
    ratio = sp.limit(steps * EPS / 2 / truth, EPS, 0)
    yield identity("limit of (22) over the truth as ε → 0", ratio, sp.S(1))
    yield _package_recursion(s)


def _package_recursion(s: ClaimStatement) -> Check:
    """Refblo's HPO-SGLD on the same problem, with the noise that its own generator draws."""
    from proofs_check.tools.own_estimators import recursion_of_the_package

    found, stated, bound = recursion_of_the_package(s)
    gap = float(np.max(np.abs(found - stated)))
    return fact("refblo's HPO-SGLD against (22)", gap <= bound, gap, f"<= {bound:.1e}",
                EvidenceMethod.NUMERIC)  # fmt: skip


def _vector_product(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # grad(t₁·t₂, λ) with t₁ = ∂_θ(-E): one column of t₂·B, E an unspecified function of two parameters.
    lam, *x = sp.symbols("lambda x1 x2")
    energy, row = sp.Function("E")(lam, *x), sp.Matrix([sp.symbols("t1 t2")])
    found = sum((t * sp.diff(-energy, v) for t, v in zip(row, x, strict=True)), sp.S(0))
    column = sp.Matrix([-sp.diff(energy, v, lam) for v in x])
    linear = by_hand("a sum over the parameters, two of which are executed; columns one at a time")
    stated = sp.Matrix([s.formula("product", t=row, B=column)])
    yield matrix_identity("the derivative of t₁·t₂ in λ", sp.Matrix([sp.diff(found, lam)]), stated,
                          over={"n": linear, "p": linear, "inner": FUNCTIONS})  # fmt: skip
    yield _vector_product_in_torch(s)


def _vector_product_in_torch(s: ClaimStatement) -> Check:
    import torch

    generator = np.random.default_rng(7)
    lam = torch.tensor(generator.normal(size=2), requires_grad=True)
    theta = torch.tensor(generator.normal(size=3), requires_grad=True)
    weights = torch.tensor(generator.normal(size=(2, 3)))
    energy = (lam @ weights @ theta) ** 2 + (lam.sum() * theta**3).sum()
    (t1,) = torch.autograd.grad(-energy, theta, create_graph=True)
    t2 = torch.tensor(generator.normal(size=3))
    (found,) = torch.autograd.grad(t1, lam, grad_outputs=t2)
    # B = -∂²E/∂λ∂θ by hand: E = u² + (λ₁ + λ₂)Σθ³ with u = λ·W·θ.
    l, t, w = lam.detach().numpy(), theta.detach().numpy(), weights.numpy()  # noqa: E741
    u = l @ w @ t
    dense = -(2 * np.outer(w.T @ l, w @ t) + 2 * u * w.T + 3 * np.outer(t**2, np.ones(2)))
    stated = s.formula("product", float, t=t2.numpy(), B=dense)
    # A dozen operations on numbers of this size.
    bound = 64 * 2.0**-53 * float(np.abs(t2.numpy()) @ np.abs(dense) @ np.ones(2))
    gap = float(np.max(np.abs(found.numpy() - stated)))
    return fact("grad(t₁, λ, grad_outputs=t₂) against t₂·B", gap <= bound, gap, f"<= {bound:.1e}",
                EvidenceMethod.NUMERIC)  # fmt: skip


def _average(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    from proofs_check.tools.own_estimators import average_of_the_package

    found, iterates, bound = average_of_the_package()
    burn_in, samples = 2, 3
    direct = At(lambda m: iterates[m][0])
    indirect = At(lambda m: iterates[m][1])
    stated = s.formula("h", float, f_λ=direct, g=indirect, B=burn_in, M=samples)
    gap = abs(found - stated)
    yield fact("refblo's h against the mean of the last M", gap <= bound, gap, f"<= {bound:.1e}",
               EvidenceMethod.NUMERIC)  # fmt: skip


STEP_ERROR = ClaimStatement(
    "replacing f_θ times the tangent before by g before and the Taylor term leaves, to leading order "
    "in ε, the error {error}",
    (formula("error", "1/2*ε**(3/2)*(m - 1)*z[m-1] @ f_θθ @ B", "z f_θθ B"),),
)
STEP_REMARK = (
    "If θ⁰ depends on λ and f has a third derivative, a term ½·ε·z²·f_θθθ·dθ⁰/dλ is dropped that is "
    "as large as those kept."
)
_OPS = "f_θ S A B S0 f_θθ θ"
_AVERAGE = (formula("h", "1/M*Σ(m, B+1, B+M, f_λ[m] + g[m])"),)
_EVERY = Scope(n=ALL, p=ALL, m=ALL, f=Every("C²"), inner=Every("C²"))
_ONE_RUN = "n = p = 1, B = 2, M = 3, one run in double precision"

CLAIMS = (
    Claim(
        "eq-18",
        ClaimSource.KIM,
        "g_m, defined",
        ClaimStatement(
            "the indirect term after m steps is {g}", (formula("g", "f_θ[m] @ S[m]", _OPS),)
        ),
        _definition,
        ClaimVerdict.HOLDS,
        scope=_EVERY,
    ),
    Claim(
        "eq-19",
        ClaimSource.KIM,
        "g_m, one step back",
        ClaimStatement(
            "the indirect term after m steps is {g}",
            (formula("g", "f_θ[m] @ (S[m-1] + ε*(1/2*B[m-1] + 1/2*A[m-1] @ S[m-1]))", _OPS),),
        ),
        _one_step,
        ClaimVerdict.HOLDS,
        scope=_EVERY,
    ),
    Claim(
        "eq-20",
        ClaimSource.KIM,
        "the tangent next to A is replaced by dθ⁰/dλ",
        ClaimStatement(
            "replacing the tangent beside A by that of θ⁰ drops at the m-th step, to leading order in ε, "
            "{dropped}",
            (formula("dropped", "1/4*ε**2*(m - 1)*f_θ @ A @ (B + A @ S0)", "f_θ A B S0"),),
        ),
        _step_cut,
        ClaimVerdict.CONDITIONAL,
        added=(FIXED_STEPS,),
        scope=_EVERY,
    ),
    Claim(
        "eq-21",
        ClaimSource.KIM,
        "the first-order approximation of one step",
        STEP_ERROR,
        first_order,
        ClaimVerdict.CONDITIONAL,
        added=(START_FIXED, FIXED_STEPS),
        remark=STEP_REMARK,
        scope=_EVERY,
    ),
    Claim(
        "eq-22",
        ClaimSource.KIM,
        "the recursion of HPO-SGLD",
        ClaimStatement(
            "g after m steps is {g}",
            (
                formula(
                    "g",
                    "g[m-1] + (θ[m] - θ[m-1]) @ f_θθ[m-1] @ S0 + "
                    "ε*f_θ[m] @ (1/2*B[m-1] + 1/2*A[m-1] @ S0)",
                    _OPS,
                ),
            ),
        ),
        _recursion,
        ClaimVerdict.CONDITIONAL,
        added=(FIXED_STEPS,),
        remark="Forward mode with every transition Jacobian replaced by the identity.",
        scope=_EVERY,
    ),
    Claim(
        "eq-23",
        ClaimSource.KIM,
        "the product f_θ·B by automatic differentiation",
        ClaimStatement(
            "grad(t, λ, grad_outputs) with a second vector t is {product}",
            (formula("product", "t @ B", "t B"),),
        ),
        _vector_product,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, inner=Every("C²")),
        on="n = 3, p = 2, one E, one draw in double precision",
    ),
    Claim(
        "eq-25",
        ClaimSource.KIM,
        "the average over the samples",
        ClaimStatement("the hypergradient h is {h}", _AVERAGE),
        _average,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, M=ALL, f=Every("C¹"), inner=Every("C²")),
        on=_ONE_RUN,
    ),
    Claim(
        "alg-1",
        ClaimSource.KIM,
        "HPO-SGLD",
        ClaimStatement("the algorithm returns {h}", _AVERAGE),
        _average,
        ClaimVerdict.HOLDS,
        remark="The algorithm is well defined; that h is the hypergradient is Theorem 1.",
        scope=Scope(n=ALL, p=ALL, M=ALL, f=Every("C¹"), inner=Every("C²")),
        on=_ONE_RUN,
        repeats="eq-25",
    ),
)
