"""Expectation and derivative: (7), (8), (9), (17), and the covariance identity."""

from collections.abc import Iterator

import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import Check, identity, number
from proofs_check.scope import ALL, COMPONENT, FUNCTIONS, Every, Scope, by_hand
from proofs_check.statement import ClaimStatement, coefficient, exponent, sign

STATIONARY = Assumption("stationary", "every θ^m has the law p(θ|λ)")
INDEPENDENT = Assumption("independent", "the θ^m are independent of one another")
COUPLED = Assumption("coupled", "θ^m(λ) has the law p(·|λ) at every λ, its noise held fixed")

lam, z = sp.symbols("lambda z", real=True)


def _monte_carlo(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    rho, var, bias, mu = sp.symbols("rho sigma2 b mu")
    # A stationary AR(1) chain: cov(f_i, f_j) = var·rho^|i-j|; the first of its M samples may be off.
    correlation = sp.S(0) if context.has(INDEPENDENT) else rho
    shift = sp.S(0) if context.has(STATIONARY) else bias
    for m in (1, 2, 3, 5):
        covariances = (correlation ** abs(i - j) for i in range(m) for j in range(m))
        found = number(s["a"]) ** 2 * var * sum(covariances) / m**2
        yield identity(f"variance at M = {m}", found, var * sp.Integer(m) ** number(s["e"]))
        yield identity(f"bias at M = {m}", number(s["a"]) * (mu + shift / m) - mu, sp.S(0))


def _interchange(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    mu, sigma = sp.Function("mu")(lam), sp.Function("sigma")(lam)
    t = sp.symbols("theta", real=True)
    f = lam * t**2 + t**3 + lam**2
    mean = (lam * t**2).subs(t, mu) + lam * sigma**2 + mu**3 + 3 * mu * sigma**2 + lam**2
    truth = sp.diff(mean, lam)
    sample = mu + sigma * z
    slope = sp.diff(sample, lam) if context.has(COUPLED) else sp.S(0)
    direct = sp.diff(f, lam).subs(t, sample)
    indirect = sp.diff(f, t).subs(t, sample) * slope
    estimate = number(s["a"]) * direct + number(s["b"]) * indirect
    yield identity("mean of df(λ, θ^m)/dλ", normal_mean(estimate, z), truth)


def normal_mean(expression: sp.Expr, variable: sp.Symbol) -> sp.Expr:
    """The expectation of a polynomial in a standard normal variable.

    Args:
        expression: the polynomial.
        variable: the variable.

    Returns:
        Its mean, by the moments 1, 0, 1, 0, 3, ….
    """
    poly = sp.Poly(sp.expand(expression), variable)
    return sum(k * (sp.factorial2(p[0] - 1) if p[0] % 2 == 0 else 0) for p, k in poly.terms())


def _chain_rule(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # Two hyperparameters, three parameters: a transposed product cannot pass.
    l1, l2, t1, t2, t3 = sp.symbols("l1 l2 t1 t2 t3")
    lams, thetas = sp.Matrix([l1, l2]), sp.Matrix([t1, t2, t3])
    f = l1 * t1**2 + l2 * t2 * t3 + l1**2 * l2 + t3**3
    path = sp.Matrix([l1 * l2, l1 + l2**2, l2])
    total = sp.Matrix([f.subs(dict(zip(thetas, path, strict=True)))]).jacobian(lams)
    at = dict(zip(thetas, path, strict=True))
    direct = sp.Matrix([f]).jacobian(lams).subs(at)
    indirect = sp.Matrix([f]).jacobian(thetas).subs(at) * path.jacobian(lams)
    stated = number(s["a"]) * direct + number(s["b"]) * indirect
    for j in range(2):
        yield identity(f"component {j + 1} of df/dλ", total[j], stated[j])


def _covariance(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    a, b = number(s["a"]), number(s["b"])
    energies = [sp.Function(f"E{i}")(lam) for i in range(3)]
    values = [sp.Function(f"f{i}")(lam) for i in range(3)]
    weights = [sp.exp(-e) for e in energies]
    total = sum(weights)

    def mean(xs: list[sp.Expr]) -> sp.Expr:
        return sum(w * x for w, x in zip(weights, xs, strict=True)) / total

    slopes = [sp.diff(e, lam) for e in energies]
    products = [v * d for v, d in zip(values, slopes, strict=True)]
    covariance = mean(products) - mean(values) * mean(slopes)
    stated = a * mean([sp.diff(v, lam) for v in values]) + b * covariance
    over = {
        "n": by_hand("from finitely many states to a density: dominated convergence"),
        "p": COMPONENT,
        "f": FUNCTIONS,
        "inner": FUNCTIONS,
    }
    yield identity("any three states, any E and f", sp.diff(mean(values), lam), stated, over=over)
    t = sp.symbols("theta", real=True)
    # Gaussian: E = (θ - λ)²/2, f = λθ² + θ³; every moment in closed form.
    f, energy = lam * t**2 + t**3, (t - lam) ** 2 / 2

    def gauss(expression: sp.Expr) -> sp.Expr:
        return normal_mean(expression.subs(t, lam + z), z)

    force = sp.diff(energy, lam)
    cov = gauss(f * force) - gauss(f) * gauss(force)
    found = sp.diff(gauss(f), lam)
    yield identity("a Gaussian", found, a * gauss(sp.diff(f, lam)) + b * cov)


_CHAIN = (coefficient("a", 1), coefficient("b", 1))

CLAIMS = (
    Claim(
        "eq-7",
        ClaimSource.KIM,
        "the Monte Carlo objective",
        ClaimStatement(
            "E_p[f] ≈ {a}/M · Σ f(λ, θ^m): no bias, variance Var(f)·M^{e}",
            (coefficient("a", 1), exponent("e", -1)),
        ),
        _monte_carlo,
        ClaimVerdict.CONDITIONAL,
        assumptions=(STATIONARY,),
        added=(INDEPENDENT,),
        remark="Along a chain of autocorrelation ρ the variance is (1+ρ)/(1-ρ) times larger.",
        scope=Scope(M=ALL, f=Every("finite variance")),
        on="M = 1, 2, 3, 5",
    ),
    Claim(
        "eq-8",
        ClaimSource.KIM,
        "the derivative goes under the mean",
        ClaimStatement(
            "d/dλ E_p[f] ≈ 1/M · Σ df(λ, θ^m)/dλ, a mean of {a}·∂_λ f + {b}·∂_θ f·dθ^m/dλ",
            _CHAIN,
        ),
        _interchange,
        ClaimVerdict.CONDITIONAL,
        added=(COUPLED,),
        remark="A finite chain from a fixed θ⁰ has the law p(·|λ) only in the limit.",
        scope=Scope(n=ALL, p=ALL, f=Every("C¹"), inner=ALL),
        on="n = p = 1, one cubic f, a Gaussian p",
    ),
    Claim(
        "eq-9",
        ClaimSource.KIM,
        "the chain rule for one sample",
        ClaimStatement("df(λ, θ^m)/dλ = {a}·∂_λ f + {b}·∂_θ f·dθ^m/dλ", _CHAIN),
        _chain_rule,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, f=Every("C¹")),
        on="n = 3, p = 2, one cubic f",
    ),
    Claim(
        "eq-17",
        ClaimSource.KIM,
        "the indirect term g_m",
        ClaimStatement("df(λ, θ^(m))/dλ = {a}·∂_λ f + {b}·g_m, g_m := ∂_θ f·dθ^(m)/dλ", _CHAIN),
        _chain_rule,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, f=Every("C¹")),
        on="n = 3, p = 2, one cubic f",
        repeats="eq-9",
    ),
    Claim(
        "field-covariance",
        ClaimSource.FIELD,
        "the derivative of a Gibbs mean",
        ClaimStatement(
            "d/dλ E_p[f] = {a}·E_p[∂_λ f] + {b}·Cov_p(f, ∂_λ E)",
            (coefficient("a", 1), sign("b", -1)),
        ),
        _covariance,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, f=Every("C¹ and bounded"), inner=Every("C¹")),
        on="three states; a Gaussian",
    ),
)
