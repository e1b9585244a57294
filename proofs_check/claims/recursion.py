"""The recursion: (18) to (23), (25), Algorithm 1."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import sympy as sp
from sympy.polys.rings import PolyElement

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.tangent import FIXED_STEPS, equal
from proofs_check.evidence import Check, EvidenceMethod, fact, identity, number
from proofs_check.scope import ALL, Every, Scope
from proofs_check.statement import ClaimStatement, coefficient, exponent, index
from proofs_check.tools.algebra import EPS, Jets, chain_series, lowest, root, weight
from proofs_check.tools.world import Exact, World, world

START_FIXED = Assumption("start-fixed", "θ⁰ does not depend on λ, or f has no third derivative")

b0, f1, f2, f3, e2, s0, z1, z2 = sp.symbols("b0 f1 f2 f3 e2 s0 z1 z2")


def _definition(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    run, m = world(), 3
    stated = run.f_theta(m + s.integer("i")) @ run.tangents[m + s.integer("j")]
    found = run.total(m) - run.f_lambda(m)
    yield equal("df/dλ - ∂f/∂λ by dual numbers through f", found, stated)


def _one_step(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    run, m = world(), 3
    k = m + s.integer("j")
    inside = run.B(k) * s["b"] + run.A(k) @ run.tangents[k] * s["a"]
    stated = run.f_theta(m) @ (run.tangents[k] + run.epsilon * inside)
    yield equal("g_m by dual numbers", run.total(m) - run.f_lambda(m), stated)


def _step_cut(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    m = 3
    series = chain_series(m, 4, Jets(depends=True))
    outer = series.product(series.f1[m], series.a[m - 1], root() ** 2)
    exact = series.product(outer, series.s[m - 1]) * weight(Fraction(1, 2))
    kept = series.product(outer, series.s[0]) * weight(s["a"])
    power, leading = lowest(exact - kept)
    yield order_check("order in ε of what is dropped", power, s["e"])
    stated = number(s["c"]) * f1 * -e2 * (m - 1) * (b0 - e2 * s0)
    yield identity("its coefficient at m = 3", leading, stated)
    yield _accumulated(context)


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
    """Evidence for the first-order approximation of one step: its order and its constant.

    Args:
        s: a statement with the terms c, e and i of `STEP_ERROR`.
        context: which conditions are on.

    Yields:
        The order in ε, the leading coefficient, and what the errors add up to.
    """
    m = 3
    power, leading = lowest(product_error(Jets(depends=not context.has(START_FIXED)), m))
    yield order_check("order in ε of the error", power, s["e"])
    stated = number(s["c"]) * z2 * f2 * b0 * (m + number(s["i"]))
    yield identity("its coefficient at m = 3", leading, stated)
    yield _accumulated(context)


def recursion(run: World, s: ClaimStatement, steps: int) -> Exact:
    """(22) with a statement's own numbers, in exact arithmetic.

    Args:
        run: the exact world.
        s: a statement with the terms a, b, c (the weights) and i, j (index offsets).
        steps: m.

    Returns:
        g_m, shape (p,).
    """
    start = run.tangents[0]
    g: Exact = run.f_theta(0) @ start
    for m in range(1, steps + 1):
        moved = np.array(run.thetas[m], dtype=object) - np.array(run.thetas[m - 1], dtype=object)
        k, outer = m + s.integer("j"), m + s.integer("i")
        inside = run.B(k) * s["b"] + run.A(k) @ start * s["a"]
        taylor = moved @ run.f_theta2(m - 1) @ start
        g = g + s["c"] * taylor + run.epsilon * run.f_theta(outer) @ inside
    return g


def _recursion(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    # With θ⁰ independent of λ it telescopes; the sum below is written down, not recurred.
    fixed = world(depends=False)
    m = 4
    half = Fraction(1, 2) * fixed.epsilon
    telescoped = half * sum(fixed.f_theta(k) @ fixed.B(k - 1) for k in range(1, m + 1))
    yield equal("θ⁰ fixed: (ε/2)·Σ f_θ(θ^k)·B(θ^(k-1))", telescoped, recursion(fixed, s, m))
    run = world()
    yield from _order_of_the_step(s, run)
    h, horizon = sp.symbols("h S", positive=True)
    steps = sp.Integer(4) if context.has(FIXED_STEPS) else 2 * horizon / EPS
    truth = (1 - (1 - EPS * h / 2) ** steps) / h
    ratio = sp.limit(number(s["b"]) * steps * EPS / truth, EPS, 0)
    yield identity("limit of (22) over the truth as ε → 0", ratio, sp.S(1))
    yield from _package_recursion(s)


def _order_of_the_step(s: ClaimStatement, run: World) -> Iterator[Check]:
    """The terms with dθ⁰/dλ, told apart by the first step, which (22) makes exact to O(ε)."""
    start = run.tangents[0]
    moved = np.array(run.thetas[1], dtype=object) - np.array(run.thetas[0], dtype=object)
    one = run.f_theta(0) @ start + moved @ run.f_theta2(0) @ start
    half = Fraction(1, 2) * run.epsilon
    one = one + half * run.f_theta(1) @ (run.B(0) + run.A(0) @ start)
    yield equal("θ⁰(λ): one step, term by term", one, recursion(run, s, 1))


def _package_recursion(s: ClaimStatement) -> Iterator[Check]:
    """Refblo's HPO-SGLD on the same problem, with the noise that its own generator draws."""
    from proofs_check.tools.own_estimators import recursion_of_the_package

    found, stated, bound = recursion_of_the_package(
        float(s["a"]), float(s["b"]), float(s["c"]), s.integer("i"), s.integer("j")
    )
    gap = float(np.max(np.abs(found - stated)))
    yield fact("refblo's HPO-SGLD against (22)", gap <= bound, gap, f"<= {bound:.1e}",
               EvidenceMethod.NUMERIC)  # fmt: skip


def _vector_product(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
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
    stated = float(s["c"]) * (t2.numpy() @ dense)
    # A dozen operations on numbers of this size.
    bound = 64 * 2.0**-53 * float(np.abs(t2.numpy()) @ np.abs(dense) @ np.ones(2))
    gap = float(np.max(np.abs(found.numpy() - stated)))
    yield fact("grad(t₁, λ, grad_outputs=t₂) against t₂·B", gap <= bound, gap, f"<= {bound:.1e}",
               EvidenceMethod.NUMERIC)  # fmt: skip


def _average(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    from proofs_check.tools.own_estimators import average_of_the_package

    found, iterates, bound = average_of_the_package()
    burn_in, samples = 2, 3
    first = burn_in + s.integer("first")
    kept = iterates[first : first + samples]
    weight = float(samples) ** float(s["e"])
    stated = weight * sum(float(s["d"]) * d + float(s["g"]) * g for d, g in kept)
    gap = abs(found - stated)
    yield fact("refblo's h against the mean of the last M", gap <= bound, gap, f"<= {bound:.1e}",
               EvidenceMethod.NUMERIC)  # fmt: skip


STEP_ERROR = ClaimStatement(
    "f_θ(θ^(m))·dθ^(m-1)/dλ ≈ g_(m-1) + (θ^(m) - θ^(m-1))·f_θθ·dθ⁰/dλ, with the error "
    "{c}·ε^{e}·z^(m-1)·f_θθ·B·(m+{i}) + higher",
    (coefficient("c", "1/2"), exponent("e", "3/2"), index("i", -1)),
)
STEP_REMARK = (
    "If θ⁰ depends on λ and f has a third derivative, a term ½·ε·z²·f_θθθ·dθ⁰/dλ is dropped that is "
    "as large as those kept."
)
_HALVES = (coefficient("a", "1/2"), coefficient("b", "1/2"))

CLAIMS = (
    Claim(
        "eq-18",
        ClaimSource.KIM,
        "g_m, defined",
        ClaimStatement(
            "g_m := ∂f(λ, θ^(m+{i}))/∂θ · dθ^(m+{j})/dλ = df/dλ - ∂f/∂λ",
            (index("i", 0), index("j", 0)),
        ),
        _definition,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C¹"), inner=Every("C²")),
        on="n = 3, p = 2, m = 3, one cubic E and f, one rational trajectory",
    ),
    Claim(
        "eq-19",
        ClaimSource.KIM,
        "g_m, one step back",
        ClaimStatement(
            "g_m = f_θ(θ^(m))·(dθ^(m+{j})/dλ + ε·({b}·B(θ^(m+{j})) + {a}·A(θ^(m+{j}))·"
            "dθ^(m+{j})/dλ))",
            (*_HALVES, index("j", -1)),
        ),
        _one_step,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C¹"), inner=Every("C²")),
        on="n = 3, p = 2, m = 3, one cubic E and f, one rational trajectory",
    ),
    Claim(
        "eq-20",
        ClaimSource.KIM,
        "the tangent next to A is replaced by dθ⁰/dλ",
        ClaimStatement(
            "g_m ≃ the same with {a}·ε·A·dθ⁰/dλ: each step drops "
            "{c}·ε^{e}·f_θ·A·(m-1)·(B + A·dθ⁰/dλ) + higher",
            (coefficient("a", "1/2"), coefficient("c", "1/4"), exponent("e", 2)),
        ),
        _step_cut,
        ClaimVerdict.CONDITIONAL,
        added=(FIXED_STEPS,),
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C²"), inner=Every("C³")),
        on="n = p = 1, m = 3",
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
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C³"), inner=Every("C³")),
        on="n = p = 1, m = 3",
    ),
    Claim(
        "eq-22",
        ClaimSource.KIM,
        "the recursion of HPO-SGLD",
        ClaimStatement(
            "g_m = g_(m-1) + {c}·(θ^(m) - θ^(m-1))·f_θθ(θ^(m-1))·dθ⁰/dλ + "
            "ε·f_θ(θ^(m+{i}))·({b}·B(θ^(m+{j})) + {a}·A(θ^(m+{j}))·dθ⁰/dλ)",
            (coefficient("c", 1), *_HALVES, index("i", 0), index("j", -1)),
        ),
        _recursion,
        ClaimVerdict.CONDITIONAL,
        added=(FIXED_STEPS,),
        remark="Forward mode with every transition Jacobian replaced by the identity.",
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C²"), inner=Every("C²")),
        on="n = 3, p = 2, m = 1, 4, one cubic E and f, one rational trajectory",
    ),
    Claim(
        "eq-23",
        ClaimSource.KIM,
        "the product f_θ·B by automatic differentiation",
        ClaimStatement("grad(t₁, λ, grad_outputs=t₂) = {c}·t₂·B", (coefficient("c", 1),)),
        _vector_product,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, inner=Every("C²")),
        on="n = 3, p = 2, one E, one draw in double precision",
    ),
    Claim(
        "eq-25",
        ClaimSource.KIM,
        "the average over the samples",
        ClaimStatement(
            "h = M^{e}·Σ({d}·∂_λ f(θ^(m)) + {g}·g_m) over the M steps from B+{first} on",
            (exponent("e", -1), coefficient("d", 1), coefficient("g", 1), index("first", 1)),
        ),
        _average,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, M=ALL, f=Every("C¹"), inner=Every("C²")),
        on="n = p = 1, B = 2, M = 3, one run in double precision",
    ),
    Claim(
        "alg-1",
        ClaimSource.KIM,
        "HPO-SGLD",
        ClaimStatement(
            "for m = 1 to B+M do (24), (22), (25): h has M^{e}·Σ({d}·∂_λ f + {g}·g_m) from "
            "B+{first} on",
            (exponent("e", -1), coefficient("d", 1), coefficient("g", 1), index("first", 1)),
        ),
        _average,
        ClaimVerdict.HOLDS,
        remark="The algorithm is well defined; that h is the hypergradient is Theorem 1.",
        scope=Scope(n=ALL, p=ALL, M=ALL, f=Every("C¹"), inner=Every("C²")),
        on="n = p = 1, B = 2, M = 3, one run in double precision",
        repeats="eq-25",
    ),
)
