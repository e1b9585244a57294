"""Expectation and derivative: (7), (8), (9), (17), and the covariance identity."""

from collections.abc import Iterator

import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import Check, identity, matrix_identity
from proofs_check.scope import ALL, FUNCTIONS, JETS, OPERATORS, SYMBOL, Every, Scope, by_hand
from proofs_check.statement import ClaimStatement, formula
from proofs_check.sums import At
from proofs_check.tools import field_claims

STATIONARY = Assumption("stationary", "every θ^m has the law p(θ|λ)")
INDEPENDENT = Assumption("independent", "the θ^m are independent of one another")
COUPLED = Assumption("coupled", "θ^m(λ) has the law p(·|λ) at every λ, its noise held fixed")

lam, z = sp.symbols("lambda z", real=True)
M = sp.symbols("M", positive=True)


def _monte_carlo(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    mu, bias, var, rho = sp.symbols("mu b V rho")
    shift = sp.S(0) if context.has(STATIONARY) else bias
    finite = by_hand(
        "the mean and the variance of a sum; f enters by its mean μ and its variance V"
    )
    over = {"M": SYMBOL, "f": finite}
    mean = s.formula("estimate", f=At(lambda _: mu + shift), M=M)
    yield identity("mean of the estimate", sp.expand(mean * M), sp.expand(mu * M), over=over)
    # M variances, and M(M - 1) covariances, which vanish for independent samples.
    correlation = sp.S(0) if context.has(INDEPENDENT) else rho
    found = (M * var + M * (M - 1) * correlation * var) / M**2
    yield identity("variance of the estimate", found, s.formula("variance", V=var, M=M), over=over)
    for size in (1, 2, 3):
        samples = sp.symbols(f"x1:{size + 1}")
        value = s.formula("estimate", f=At(lambda k: sp.Symbol(f"x{k}")), M=sp.Integer(size))
        yield identity(f"the estimate at M = {size}", value, sum(samples) / sp.Integer(size))


def _interchange(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    direct, slope, tangent = sp.symbols("f_λ f_θ S", commutative=False)
    moved = tangent if context.has(COUPLED) else sp.S(0)
    dominated = by_hand("dominated convergence: the derivative goes under the mean over the noise")
    over = {"n": OPERATORS, "p": OPERATORS, "f": JETS, "inner": dominated}
    stated = s.formula("slope", f_λ=direct, f_θ=slope, S=moved)
    yield identity("the chain rule for one draw of the noise", _first_order(direct, slope, tangent),
                   stated, over=over)  # fmt: skip
    mu, sigma = sp.Function("mu")(lam), sp.Function("sigma")(lam)
    t = sp.symbols("theta", real=True)
    f = lam * t**2 + t**3 + lam**2
    mean = (lam * t**2).subs(t, mu) + lam * sigma**2 + mu**3 + 3 * mu * sigma**2 + lam**2
    sample = mu + sigma * z
    path = sp.diff(sample, lam) if context.has(COUPLED) else sp.S(0)
    estimate = s.formula("slope", f_λ=sp.diff(f, lam).subs(t, sample),
                         f_θ=sp.diff(f, t).subs(t, sample), S=path)  # fmt: skip
    yield identity("mean over a Gaussian, f a cubic", normal_mean(estimate, z), sp.diff(mean, lam))


def _first_order(direct: sp.Expr, slope: sp.Expr, tangent: sp.Expr) -> sp.Expr:
    """The coefficient of δ in f(λ + δ, θ + Sδ) = f + f_λ·δ + f_θ·Sδ + O(δ²)."""
    step = sp.symbols("delta")
    return sp.expand(direct * step + slope * (tangent * step)).coeff(step, 1)


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
    direct, slope, tangent = sp.symbols("f_λ f_θ S", commutative=False)
    over = {"n": OPERATORS, "p": OPERATORS, "f": JETS}
    stated = s.formula("slope", f_λ=direct, f_θ=slope, S=tangent)
    yield identity("to first order", _first_order(direct, slope, tangent), stated, over=over)
    # Two hyperparameters, three parameters: a transposed product cannot pass.
    l1, l2, t1, t2, t3 = sp.symbols("l1 l2 t1 t2 t3")
    lams, thetas = sp.Matrix([l1, l2]), sp.Matrix([t1, t2, t3])
    f = l1 * t1**2 + l2 * t2 * t3 + l1**2 * l2 + t3**3
    path = sp.Matrix([l1 * l2, l1 + l2**2, l2])
    at = dict(zip(thetas, path, strict=True))
    total = sp.Matrix([f.subs(at)]).jacobian(lams)
    stated = s.formula(
        "slope",
        f_λ=sp.Matrix([f]).jacobian(lams).subs(at),
        f_θ=sp.Matrix([f]).jacobian(thetas).subs(at),
        S=path.jacobian(lams),
    )
    yield matrix_identity("n = 3, p = 2, one cubic f", total, sp.Matrix(stated))


def _covariance(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    energies = [sp.Function(f"E{i}")(lam) for i in range(3)]
    values = [sp.Function(f"f{i}")(lam) for i in range(3)]
    weights = [sp.exp(-e) for e in energies]

    def mean(xs: list[sp.Expr]) -> sp.Expr:
        return sum(w * x for w, x in zip(weights, xs, strict=True)) / sum(weights)

    def covariance(xs: list[sp.Expr], ys: list[sp.Expr]) -> sp.Expr:
        return mean([x * y for x, y in zip(xs, ys, strict=True)]) - mean(xs) * mean(ys)

    stated = s.formula(
        "slope", E_p=mean, Cov_p=covariance, f=values, f_λ=[sp.diff(v, lam) for v in values],
        E_λ=[sp.diff(e, lam) for e in energies],
    )  # fmt: skip
    over = {
        "n": by_hand("from finitely many states to a density: dominated convergence"),
        "p": by_hand("one component of λ at a time"),
        "f": FUNCTIONS,
        "inner": FUNCTIONS,
    }
    yield identity("any three states, any E and f", sp.diff(mean(values), lam), stated, over=over)
    yield _gaussian(s)
    yield field_claims.covariance()


def _gaussian(s: ClaimStatement) -> Check:
    """E = (θ - λ)²/2, f = λθ² + θ³; every moment in closed form."""
    t = sp.symbols("theta", real=True)
    f, energy = lam * t**2 + t**3, (t - lam) ** 2 / 2

    def gauss(expression: sp.Expr) -> sp.Expr:
        return normal_mean(expression.subs(t, lam + z), z)

    stated = s.formula(
        "slope", E_p=gauss, Cov_p=lambda x, y: gauss(x * y) - gauss(x) * gauss(y), f=f,
        f_λ=sp.diff(f, lam), E_λ=sp.diff(energy, lam),
    )  # fmt: skip
    return identity("a Gaussian", sp.diff(gauss(f), lam), stated)


_SLOPE = (formula("slope", "f_λ + f_θ @ S", "f_λ f_θ S"),)

CLAIMS = (
    Claim(
        "eq-7",
        ClaimSource.KIM,
        "the Monte Carlo objective",
        ClaimStatement(
            "the mean of f under p is estimated without bias by {estimate}, with the variance {variance}",
            (formula("estimate", "1/M*Σ(m, 1, M, f[m])"), formula("variance", "V/M")),
        ),
        _monte_carlo,
        ClaimVerdict.CONDITIONAL,
        assumptions=(STATIONARY,),
        added=(INDEPENDENT,),
        remark="Along a chain of autocorrelation ρ the variance is (1+ρ)/(1-ρ) times larger.",
        scope=Scope(M=ALL, f=Every("finite variance")),
    ),
    Claim(
        "eq-8",
        ClaimSource.KIM,
        "the derivative goes under the mean",
        ClaimStatement(
            "the derivative of the mean of f is the mean over the samples of {slope}", _SLOPE
        ),
        _interchange,
        ClaimVerdict.CONDITIONAL,
        added=(COUPLED,),
        remark="A finite chain from a fixed θ⁰ has the law p(·|λ) only in the limit.",
        scope=Scope(n=ALL, p=ALL, f=Every("C¹"), inner=ALL),
    ),
    Claim(
        "eq-9",
        ClaimSource.KIM,
        "the chain rule for one sample",
        ClaimStatement("the total derivative of f at a sample is {slope}", _SLOPE),
        _chain_rule,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, f=Every("C¹")),
    ),
    Claim(
        "eq-17",
        ClaimSource.KIM,
        "the indirect term g_m",
        ClaimStatement(
            "the total derivative of f at a sample is {slope}, of which the second is called g",
            _SLOPE,
        ),
        _chain_rule,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, f=Every("C¹")),
        repeats="eq-9",
    ),
    Claim(
        "field-covariance",
        ClaimSource.FIELD,
        "the derivative of a Gibbs mean",
        ClaimStatement(
            "the derivative of the mean of f under p is {slope}",
            (formula("slope", "E_p(f_λ) - Cov_p(f, E_λ)"),),
        ),
        _covariance,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, f=Every("C¹ and bounded"), inner=Every("C¹")),
    ),
)
