"""Theorems 1 and 3: the error of the recursion as a series, and at a fixed horizon."""

from collections.abc import Iterator
from fractions import Fraction

import flint
import numpy as np
import sympy as sp
from sympy.polys.rings import PolyElement
from torch import Tensor

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.recursion import (
    FF,
    TAYLOR,
    A,
    B,
    E,
    F,
    leading_tangent,
    series_check,
)
from proofs_check.claims.tangent import FIXED_STEPS
from proofs_check.evidence import (
    Check,
    EvidenceMethod,
    encloses,
    fact,
    identity,
    induction,
    within,
)
from proofs_check.scope import ALL, INDUCTION, ONE, OPERATORS, Every, Only, Scope, by_hand
from proofs_check.statement import ClaimStatement, coefficient, formula
from proofs_check.sums import SIZE, At, Indexed
from proofs_check.tools.algebra import EPS, Jets, Series, chain_series, root, weight
from proofs_check.tools.measure import STANDARD_ERRORS, limit_check, slope_check
from proofs_check.tools.refblo_runs import RefbloRun, Small, Vector, forward_mode, hpo_sgld, noises

START = Assumption("A1", "θ⁰ does not depend on λ")
ORTHOGONAL = Assumption("orthogonal-mixed", "B·Bᵀ is a multiple of the identity")

_OPS = "f_θ f_θθ A B E_θ z"

f1, f2, b0, e1, e2 = sp.symbols("f1 f2 b0 e1 e2")


def recursion_series(series: Series, steps: int) -> PolyElement:
    """(22) from g_0 = f'(θ⁰)·dθ⁰/dλ, cut as the series is.

    Args:
        series: the chain's expansion.
        steps: m.

    Returns:
        The recursion's g_m.
    """
    half, start = weight(Fraction(1, 2)), series.s[0]
    g = series.product(series.f1[0], start)
    for k in range(1, steps + 1):
        moved = series.delta[k] - series.delta[k - 1]
        pushed = series.b[k - 1] + series.product(series.a[k - 1], start)
        g += series.product(moved, series.f2[k - 1], start)
        g += series.product(root() ** 2, series.f1[k], pushed) * half
    return g


def _fixed_steps(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    yield from leading_tangent(sp.S(0))
    names = {"ε": EPS, "f_θ": F, "f_θθ": FF, "A": A, "B": B, "E_θ": E}
    z = Indexed("z")

    def stated(name: str, m: sp.Expr) -> sp.Expr:
        return sp.expand(s.formula(name, m=m, z=z, **names))

    # What the m-th step adds: Δθ'f_θθ·s_(m-1) + ε/2·f_θ·A·s_(m-1), with s_(m-1) = ε/2·(m-1)·B.
    before = EPS / 2 * SIZE * B  # s_m, beside the step from m to m + 1
    added = {
        "error": sp.sqrt(EPS) * z[SIZE] * FF * before,
        "quiet": EPS / 2 * F * A * before - EPS / 2 * E * FF * before,
        "g": EPS / 2 * F * B,
    }
    over = {"n": OPERATORS, "p": OPERATORS, "m": INDUCTION, "f": TAYLOR, "inner": TAYLOR}
    for name, first in (("error", sp.S(1)), ("quiet", sp.S(1)), ("g", sp.S(0))):
        base = identity(f"m = {first}", stated(name, first), sp.S(0))
        if name == "error":
            two = sp.sqrt(EPS) * z[1] * FF * (EPS / 2 * B)
            base = identity("m = 2", stated(name, sp.S(2)), sp.expand(two))
        step = identity(
            "one more step", stated(name, SIZE + 1), sp.expand(stated(name, SIZE) + added[name])
        )
        yield induction(f"{_TITLES[name]}, for every m", base, step, over)
    yield from _in_one_dimension(s, context)
    yield _relative_error(context)
    yield from _measured_orders(s, context)


_TITLES = {"error": "the error", "quiet": "the error without noise", "g": "the indirect term"}


def _in_one_dimension(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    plain = {"ε": EPS, "f_θ": f1, "f_θθ": f2, "A": -e2, "B": b0, "E_θ": e1}
    z = At(lambda k: sp.Symbol(f"z{k}"))
    jets = {
        "error": Jets(depends=not context.has(START)),
        "quiet": Jets(noisy=False, depends=not context.has(START)),
    }
    for m in (2, 3, 4):
        for name, jet in jets.items():
            series = chain_series(m, 4, jet)
            gap = series.g(m) - recursion_series(series, m)
            value = s.formula(name, m=sp.Integer(m), z=z, **plain)
            yield series_check(f"{_TITLES[name]}, n = p = 1, m = {m}", gap, value)


def _relative_error(context: ClaimContext) -> Check:
    """Recursion over truth for a linear f and a scalar Hessian, at fixed steps or at a fixed horizon."""
    h, horizon = sp.symbols("h S", positive=True)
    m = sp.Integer(4) if context.has(FIXED_STEPS) else 2 * horizon / EPS
    truth = (1 - (1 - EPS * h / 2) ** m) / h
    ratio = sp.limit(m * EPS / 2 / truth, EPS, 0)
    return identity("limit of the recursion over the truth as ε → 0", ratio, sp.S(1))


def _inner(lam: Tensor, theta: Tensor) -> Tensor:
    quadratic = theta[0] ** 2 + 2 * theta[1] ** 2 + 3 * theta[2] ** 2 + theta[0] * theta[1]
    mixed = lam[0] * theta[0] * theta[1] - 2 * lam[0] * theta[2] + lam[1] ** 2 * theta[0]
    return quadratic + mixed + lam[1] * theta[2] ** 2 + theta[0] ** 3 / 5


def _outer(_lam: Tensor, theta: Tensor) -> Tensor:
    return theta[0] ** 2 * theta[1] + 2 * theta[1] * theta[2] + theta[2] ** 3 - 3 * theta[0]


_LAM = np.array([0.5, -0.3])
_THETA0 = np.array([0.4, -0.2, 0.3])
_SMALL = Small(_inner, _outer, _THETA0)


def _predicted_noise_error(walk: Vector) -> Vector:
    """½·walkᵀ·f_θθ·B at θ⁰, by hand from `_inner` and `_outer`."""
    t1, t2, t3 = _THETA0
    curvature = np.array([[2 * t2, 2 * t1, 0.0], [2 * t1, 0.0, 2.0], [0.0, 2.0, 6 * t3]])
    mixed = -np.array([[t2, 2 * _LAM[1]], [t1, 0.0], [-2.0, 2 * t3]])
    product: Vector = walk @ curvature @ mixed / 2
    return product


def _measured_in_steps(context: ClaimContext) -> Iterator[Check]:
    """The growth with m: the constant's spread over the noise is ½·√(Σ_(j<m) j²)."""
    seeds, epsilon = (200 if context.full else 24), 1e-9
    pair = (4, 16)
    means = []
    for m in pair:
        run = [
            RefbloRun(epsilon / 2, m - 1, 1, noise_scale=1.0, seed=1000 + k) for k in range(seeds)
        ]
        gaps = [forward_mode(_SMALL, r, _LAM) - hpo_sgld(_SMALL, r, _LAM) for r in run]
        means.append(np.array([float(g @ g) for g in gaps]))
    stated = sum(j * j for j in range(1, pair[1])) / sum(j * j for j in range(1, pair[0]))
    ratio = means[1].mean() / means[0].mean()
    # Delta method for a ratio of independent means, four standard errors.
    relative = [x.std(ddof=1) / np.sqrt(seeds) / x.mean() for x in means]
    half = STANDARD_ERRORS * ratio * float(np.hypot(*relative))
    yield within("mean square error at m = 16 over that at m = 4", float(ratio), stated - half,
                 stated + half)  # fmt: skip


def _order_of(s: ClaimStatement, name: str) -> float:
    """The power of ε of a stated leading term."""
    value = s.formula(
        name, m=sp.S(3), z=At(lambda _: sp.S(1)), ε=EPS, f_θ=1, f_θθ=1, A=1, B=1, E_θ=2
    )
    return float(sp.expand(value).as_coeff_exponent(EPS)[1])


def _measured_orders(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    """The real estimators: HPO-SGLD against forward mode on the same noise, over decades of ε."""
    seeds, m = (24 if context.full else 6), 5
    epsilons = np.logspace(-9, -6, 7 if context.full else 4)
    errors = np.zeros((seeds, epsilons.size))
    ratios = np.zeros((seeds, epsilons.size))
    for seed in range(seeds):
        z = noises(_SMALL, RefbloRun(1.0, m - 1, 1, noise_scale=1.0, seed=seed), _LAM)
        walk = sum(j * z[j] for j in range(1, m))
        for k, epsilon in enumerate(epsilons):
            run = RefbloRun(epsilon / 2, m - 1, 1, noise_scale=1.0, seed=seed)
            gap = forward_mode(_SMALL, run, _LAM) - hpo_sgld(_SMALL, run, _LAM)
            errors[seed, k] = float(np.linalg.norm(gap))
            predicted = _predicted_noise_error(walk) * epsilon**1.5
            ratios[seed, k] = float(gap @ predicted / (predicted @ predicted))
    yield slope_check("measured order with noise", epsilons, errors, _order_of(s, "error"))
    yield limit_check("measured over predicted constant", ratios[:, 0], ratios[:, -1], 1.0)
    steps = np.logspace(-5, -3, 7 if context.full else 3)
    quiet = np.zeros((1, steps.size))
    for k, epsilon in enumerate(steps):
        run = RefbloRun(epsilon / 2, m - 1, 1)
        gap = forward_mode(_SMALL, run, _LAM) - hpo_sgld(_SMALL, run, _LAM)
        quiet[0, k] = float(np.linalg.norm(gap))
    yield slope_check("measured order without noise", steps, quiet, _order_of(s, "quiet"))
    if context.full:
        yield from _measured_in_steps(context)


def _fixed_horizon(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    h, horizon, m = sp.symbols("h S m", positive=True)
    gamma = horizon / m
    truth = (1 - (1 - gamma * h) ** m) / h
    ratio = sp.limit(horizon / truth, m, sp.oo)
    yield identity("limit of recursion over truth", ratio, s.formula("ratio", h=h, S=horizon))
    far = sp.limit(sp.limit(truth, m, sp.oo), horizon, sp.oo)
    yield identity("the truth as S → ∞, -f_θA⁻¹B", far, 1 / h)
    k = sp.symbols("k")
    summed = sp.summation(gamma, (k, 1, m))
    yield identity("while the recursion's sum over the steps grows as S", summed, horizon)
    yield _curvature_dropped()
    yield from _measured_horizon(s, context)


def _curvature_dropped() -> Check:
    """A kept exact, f_θθ alone dropped: f = θ²/2, θ' = b·λ - hθ from θ⁰ = 0 at λ = 1."""
    h, b, t, horizon = sp.symbols("h b t S", positive=True)
    theta = b / h * (1 - sp.exp(-h * t))
    tangent = theta  # dθ/dλ at λ = 1: θ is linear in λ.
    truth = (theta * tangent).subs(t, horizon)
    dropped = sp.integrate(sp.expand(theta * sp.diff(tangent, t)), (t, 0, horizon))
    left = sp.limit(sp.simplify(truth - dropped).subs({h: 1, b: 1}), horizon, sp.oo)
    name = "with A kept exactly and only f_θθ dropped, f = θ²/2: truth less sum as S → ∞"
    return fact(name, bool(left != 0), left, "not 0",
                EvidenceMethod.SYMBOLIC)  # fmt: skip


def _measured_horizon(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    h, horizon = 2.0, 1.5
    small = Small(
        lambda lam, theta: h / 2 * ((theta - lam) ** 2).sum(),
        lambda _, theta: theta.sum(),
        np.zeros(1),
    )
    counts = (40, 80, 160, 320, 640) if context.full else (40, 80, 160)
    lam = np.array([0.7])
    found = []
    for count in counts:
        run = RefbloRun(horizon / count, count - 1, 1)
        found.append(float(hpo_sgld(small, run, lam)[0] / forward_mode(small, run, lam)[0]))
    # The error is a power series in γ: one Richardson step leaves O(γ²).
    limit = 2 * found[-1] - found[-2]
    stated = float(s.formula("ratio", h=sp.Float(h), S=sp.Float(horizon)))
    bound = 4 * (h * horizon) ** 3 / counts[-2] ** 2 * stated
    yield within("refblo: HPO-SGLD over FMD as γ → 0, S = 1.5, h = 2", limit, stated - bound,
                 stated + bound)  # fmt: skip


def _aligned_on_data(context: ClaimContext) -> Iterator[Check]:
    """The cosine on problems with real data: HPO-SGLD against a dense implicit hypergradient."""
    from refblo.estimators import HPOSGLD, IFTDense
    from refblo.problems import build

    names = ("ridge_diabetes", "softmax_digits") if context.full else ("ridge_diabetes",)
    for name in names:
        case = build(name)
        found = HPOSGLD(case.dynamics, case.schedule).estimate(case.problem, case.lam).value
        steps = 20 * case.schedule.steps
        truth = IFTDense(case.dynamics, steps).estimate(case.problem, case.lam).value
        cosine = float(found @ truth / found.norm() / truth.norm())
        # No bound holds for a general B: the sign is what a user needs.
        yield fact(f"cosine on {name}", cosine > 0, cosine, "> 0", EvidenceMethod.NUMERIC)


def _both_assumptions(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    h, m, gam, x = sp.symbols("h m gamma x", positive=True)
    start, target = sp.symbols("theta0 theta_star")
    moved = start
    for _ in range(3):
        moved = sp.expand(moved - gam * h * (moved - target))
    transient = (1 - gam * h) ** 3
    yield identity("mean of a Gaussian chain after 3 steps, off its target by", moved - target,
                   transient * (start - target))  # fmt: skip
    left = sp.limit((1 - x / m) ** m, m, sp.oo)
    yield identity("what is left of θ⁰ at x = mγh", left, s.formula("left", x=x))
    truth = 1 - left
    yield identity(
        "the recursion's relative error", sp.simplify(x / truth - 1), s.formula("error", x=x)
    )
    # (A3) wants e^-x small, exactness wants x/(1 - e^-x) - 1 small; one falls, the other rises.
    low, high = flint.arb("0.5"), flint.arb(2)
    for _ in range(80):
        middle = ((low + high) / 2).mid()
        decay = (-middle).exp()
        rising = middle / (1 - decay) - 1 - decay
        if rising < 0:
            low = middle
        elif rising > 0:
            high = middle
        else:
            break
    both = (-(low.union(high))).exp()
    yield encloses("the smaller of the two errors at best", both, s["d"], Fraction(1, 20000))


def _alignment(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    low, high, x = sp.symbols("m M x", positive=True)
    # Kantorovich: (M - x)(x - m)/x ≥ 0 for every eigenvalue x, averaged over the spectrum.
    kept = (high - x) * (x - low) / x
    yield identity("(M-x)(x-m)/x", kept, low + high - x - low * high / x)
    kappa = sp.symbols("kappa", positive=True)
    # Extremal vector: two eigenvalues 1 and κ with weights that make the bound sharp.
    v = sp.Matrix([1, sp.sqrt(kappa)])
    w = sp.Matrix([1, 1 / sp.sqrt(kappa)])  # H⁻¹v
    cosine = (v.T * w)[0] / sp.sqrt((v.T * v)[0] * (w.T * w)[0])
    over = {
        "n": by_hand("Kantorovich's inequality from the averaged bound, by the AM-GM inequality")
    }
    yield identity("cosine at the extremal vector", cosine, s.formula("cosine", κ=kappa), over=over)
    hessian = np.diag([1.0, 3.0, 10.0])
    mixed = np.eye(3) if context.has(ORTHOGONAL) else np.array([[1.0], [0.0], [-2.0]])
    slope = np.array([1.0, 0.2, 0.9])
    recursed = mixed.T @ slope
    implicit = mixed.T @ np.linalg.solve(hessian, slope)
    found = float(recursed @ implicit / np.linalg.norm(recursed) / np.linalg.norm(implicit))
    bound = float(s.formula("cosine", κ=sp.Float(10)))
    yield fact("cosine of the recursion with the implicit truth, κ = 10", found >= bound, found,
               f">= {bound:.4f}", EvidenceMethod.NUMERIC)  # fmt: skip
    yield from _aligned_on_data(context)


_HORIZON = ClaimStatement(
    "at a horizon S and a curvature h the recursion over the truth tends, as ε vanishes, to {ratio}",
    (formula("ratio", "h*S/(1 - exp(-h*S))"),),
)
_BOTH = ClaimStatement(
    "where x is γh times the number of steps, {left} of θ⁰ is left and the recursion's relative error is "
    "{error}; some x makes both as small as {d}, and none makes both smaller",
    (
        formula("left", "exp(-x)"),
        formula("error", "x/(1 - exp(-x)) - 1"),
        coefficient("d", "0.4508"),
    ),
)
_LINEAR = Scope(n=ONE, p=ONE, f=Only("a linear function"), inner=Only("a quadratic"))

CLAIMS = (
    Claim(
        "thm-1",
        ClaimSource.KIM,
        "exactness of the first-order approximation",
        ClaimStatement(
            "the error of g after m steps is, to leading order in ε, {error}, or without noise {quiet}, "
            "while g itself is {g}",
            (
                formula("error", "1/2*ε**(3/2)*Σ(j, 1, m-1, j*z[j]) @ f_θθ @ B", _OPS),
                formula("quiet", "1/8*ε**2*m*(m - 1)*(f_θ @ A - E_θ @ f_θθ) @ B", _OPS),
                formula("g", "1/2*ε*m*f_θ @ B", _OPS),
            ),
        ),
        _fixed_steps,
        ClaimVerdict.CONDITIONAL,
        assumptions=(START,),
        added=(FIXED_STEPS,),
        remark="At fixed m the indirect term is itself O(ε), so that the relative error is O(√ε), or O(ε) "
        "without noise or with a linear f. It is a statement about a chain that does not move, and "
        "irrelevant to the use that is made of it: see thm-3.",
        scope=Scope(n=ALL, p=ALL, m=ALL, f=Every("C³"), inner=Every("C³")),
        on="n = p = 1 with every derivative a symbol, m = 2, 3, 4",
    ),
    Claim(
        "thm-3",
        ClaimSource.KIM,
        "exactness of the hypergradient",
        _HORIZON.saying(ratio="1"),
        _fixed_horizon,
        ClaimVerdict.REFUTED,
        corrected=_HORIZON,
        remark="θ⁰ does not depend on λ here, as (A1) asks. (A3) wants m → ∞ and (A2) ε → 0; what decides "
        "is S = mγ. The recursion grows linearly in S, the truth tends to -f_θA⁻¹B. With a linear f and a "
        "quadratic inner loss the noise takes no part in either.",
        scope=_LINEAR,
    ),
    Claim(
        "text-assumptions-2-3",
        ClaimSource.KIM,
        "(A2) and (A3) together",
        _BOTH.having(d=0),
        _both_assumptions,
        ClaimVerdict.REFUTED,
        corrected=_BOTH,
        remark="A converged chain and an exact recursion exclude one another (linear f, scalar "
        "Hessian), however small ε is.",
        scope=_LINEAR,
        on="a linear f and a scalar Hessian",
    ),
    Claim(
        "text-alignment",
        ClaimSource.OWN,
        "where the wrong scale does no harm",
        ClaimStatement(
            "the cosine of the recursion with the implicit hypergradient is at least {cosine}, κ the "
            "condition number of H",
            (formula("cosine", "2*κ**(1/2)/(1 + κ)"),),
        ),
        _alignment,
        ClaimVerdict.CONDITIONAL,
        added=(ORTHOGONAL,),
        remark="With a direct term the wrong scale moves the fixed point; with a general B even "
        "the sign can be wrong.",
        scope=Scope(n=ALL, about="a recursion without a direct term, at the inner minimiser"),
    ),
)
