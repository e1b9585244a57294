"""The chain: (10) to (12), (24), (27); what it samples, and at which temperature."""

from collections.abc import Iterator
from fractions import Fraction

import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import Check, EvidenceMethod, fact, identity, number
from proofs_check.scope import (
    ALL,
    COMPONENT,
    FUNCTIONS,
    NORM,
    ONE,
    ONE_MATRIX,
    SYMBOL_OF_H,
    Every,
    Only,
    Scope,
)
from proofs_check.statement import ClaimStatement, coefficient, exponent, index, sign

UNIT_KAPPA = Assumption("unit-noise", "κ = 1, so that the chain's temperature is that of p")
VANISHING_STEP = Assumption("vanishing-step", "ε → 0 along the chain")
FULL_GRADIENT = Assumption("full-gradient", "the gradient has no minibatch noise")
STABLE = Assumption("stable-step", "γ·h < 2 for every eigenvalue h of the inner Hessian")

_EVERY = {"n": COMPONENT, "inner": FUNCTIONS}

x, lam = sp.symbols("theta lambda", real=True)
eps, kap, tau, h, gam = sp.symbols("epsilon kappa tau h gamma", positive=True)


def stationary_variance(decay: sp.Expr, noise: sp.Expr) -> sp.Expr:
    """The variance v of x ← decay·x + noise·z at stationarity: v = decay²·v + noise².

    Args:
        decay: the factor of the linear map.
        noise: the standard deviation added each step.

    Returns:
        v, solved exactly.
    """
    v = sp.symbols("v")
    return sp.solve(sp.Eq(v, decay**2 * v + noise**2), v)[0]


def _langevin(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    kappa = sp.S(1) if context.has(UNIT_KAPPA) else sp.S(2)
    energy = sp.Function("E")(x)
    # dθ = drift dt + √(2D) dW with one step of length ε: the Fokker-Planck current must vanish.
    drift = -number(s["c"]) * sp.diff(energy, x)
    diffusion = eps ** (2 * number(s["e"]) - 1) * kappa**2 / 2
    density = sp.exp(-energy)
    carried, spread = drift, diffusion * sp.diff(density, x) / density
    yield identity("the stationary current under exp(-E)", carried, spread, over=_EVERY)
    variance = stationary_variance(1 - number(s["c"]) * eps * h, eps ** number(s["e"]) * kappa)
    found = sp.limit(variance, eps, 0) if context.has(VANISHING_STEP) else variance
    yield identity("the stationary variance for E = hθ²/2", found, 1 / h)


def _score(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    energy = sp.Function("E")(lam, x)
    normaliser = sp.Function("Z")(lam)
    log_density = -energy - sp.log(normaliser)
    stated = number(s["s"]) * sp.diff(energy, x)
    over = {"n": COMPONENT, "p": COMPONENT, "inner": FUNCTIONS}
    yield identity("∂ log p/∂θ", sp.diff(log_density, x), stated, over=over)
    mixed = sp.diff(log_density, lam, x)
    yield identity("and its λ derivative needs no Z", mixed, sp.diff(stated, lam))


def _step(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    noise = sp.symbols("z")
    loss = sp.Function("L")
    # The iterates around the m-th, by their offset from it; the gradient is taken where {at} says.
    iterates = {offset: sp.Symbol(f"theta_{offset}", real=True) for offset in range(-2, 2)}
    before, at = iterates[-1], iterates.get(s.integer("at"), lam)
    score = sp.diff(loss(lam, x) / tau, x).subs(x, at)
    stated = at - number(s["c"]) * eps * score + eps ** number(s["e"]) * noise
    step = eps / (2 * tau)
    code = (
        before - step * sp.diff(loss(lam, x), x).subs(x, before) + sp.sqrt(2 * tau * step) * noise
    )
    over = {"n": COMPONENT, "m": NORM, "inner": FUNCTIONS}
    yield identity("against a gradient step γ = ε/(2τ) and noise √(2τγ)", stated, code, over=over)
    yield from _step_of_the_package(s)


def _step_of_the_package(s: ClaimStatement) -> Iterator[Check]:
    from proofs_check.tools.refblo_runs import langevin_step

    theta, slope, epsilon, temperature = 0.4, 1.7, 0.02, 0.5
    found, noise = langevin_step(theta, slope, epsilon, temperature)
    drift = float(s["c"]) * epsilon * slope / temperature
    stated = theta - drift + epsilon ** float(s["e"]) * noise
    # One multiplication and two additions in double precision.
    close = abs(found - stated) <= 8 * 2.0**-53
    yield fact("one transition of refblo.chain", close, found, stated, EvidenceMethod.NUMERIC)


def _ula(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    variance = stationary_variance(1 - gam * h, sp.sqrt(2 * tau * gam) * kap)
    stated = tau * kap ** number(s["k"]) / h / (1 - number(s["c"]) * gam * h)
    over = {"n": ONE_MATRIX, "inner": SYMBOL_OF_H}
    yield identity("one eigenvalue of H", variance, stated, over=over)
    # The matrix equation Σ = (I - γH)Σ(I - γH) + 2τγκ² I with a full H.
    a, b, d = sp.Rational(2), sp.Rational(1, 3), sp.Rational(3, 2)
    hessian = sp.Matrix([[a, b], [b, d]])
    step = sp.Rational(1, 5)
    eye = sp.eye(2)
    sigma = hessian.inv() * (eye - number(s["c"]) * step * hessian).inv()
    push = (eye - step * hessian) * sigma * (eye - step * hessian) + 2 * step * eye
    for i, j in ((0, 0), (0, 1), (1, 1)):
        yield identity(f"Lyapunov equation, entry {i}{j}", sigma[i, j], push[i, j])
    at = sp.Rational(1) if context.has(STABLE) else sp.Rational(5, 2)
    spread = variance.subs({h: 1, tau: 1, kap: 1, gam: at})
    yield fact(f"the variance is positive at γh = {at}", spread > 0, spread, "> 0")


def _temperature(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    energy = sp.Function("E")(x)
    density = sp.exp(-energy * kap ** number(s["k"]))
    spread = kap**2 / 2 * sp.diff(density, x) / density
    carried = -sp.diff(energy, x) / 2
    yield identity("the stationary current", carried, spread, over=_EVERY)


def _minibatch(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    sigma = sp.symbols("sigma", positive=True)
    noise = sigma if not context.has(FULL_GRADIENT) else sp.S(0)
    variance = stationary_variance(1 - gam * h, sp.sqrt(2 * tau * gam + gam**2 * noise**2))
    at_zero_noise = stationary_variance(1 - gam * h, sp.sqrt(2 * tau * gam))
    yield identity("the law with minibatch gradients", variance, at_zero_noise)
    shifted = tau + number(s["c"]) * gam ** number(s["e"]) * sigma**2
    noisy = stationary_variance(1 - gam * h, sp.sqrt(2 * tau * gam + gam**2 * sigma**2))
    yield identity(
        "the effective temperature",
        noisy,
        stationary_variance(1 - gam * h, sp.sqrt(2 * shifted * gam)),
    )


def noise_temperature(theta: Fraction) -> Fraction:
    """γσ²/2 of (27) at the paper's γ = 0.005: what its perturbation adds to the temperature.

    Args:
        theta: where the gradient is taken.

    Returns:
        γ/2 · Var(3ε₁θ² - ε₂) with both uniform on (-0.3, 0.3).
    """
    uniform_variance = Fraction(6, 10) ** 2 / 12
    return Fraction(5, 1000) / 2 * uniform_variance * (9 * theta**4 + 1)


def _noisy_loss(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    e1, e2, w = sp.symbols("e1 e2 w")
    width = number(s["w"])

    def uniform_mean(expression: sp.Expr) -> sp.Expr:
        inner = sp.integrate(expression, (e1, -w, w)) / (2 * w)
        return sp.simplify(sp.integrate(inner, (e2, -w, w)) / (2 * w))

    loss = (number(s["a"]) + e1) * x**3 - (1 - lam**2 + e2) * x
    plain = x**3 / 3 - (1 - lam**2) * x
    yield identity("its mean is the noiseless loss", uniform_mean(loss), plain)
    yield fact("the interval of the noise is not empty", width > 0, width, "> 0")
    slope = sp.diff(loss, x) - sp.diff(plain, x)
    variance = uniform_mean(slope**2).subs(w, width)
    yield identity("variance of its gradient", variance, sp.Rational(3, 100) * (9 * x**4 + 1))
    added = noise_temperature(Fraction(6629, 10000))
    yield fact("γσ²/2 at θ* exceeds τ = 1e-5", added > Fraction(1, 10**5), float(added), 1e-5)
    yield fact("and is below τ = 1e-2", added < Fraction(1, 100), float(added), 1e-2)


_STEP = ClaimStatement(
    "θ^(m) = θ^(m+{at}) + {c}·ε·∂ log p/∂θ + ε^{e}·z",
    (index("at", -1), coefficient("c", "1/2"), exponent("e", "1/2")),
)

CLAIMS = (
    Claim(
        "eq-10",
        ClaimSource.KIM,
        "Langevin dynamics samples p(θ|λ)",
        ClaimStatement(
            "θ ← θ + {c}·ε·∂ log p/∂θ + ε^{e}·z with z ~ N(0, κ²I) has p as its stationary law",
            (coefficient("c", "1/2"), exponent("e", "1/2")),
        ),
        _langevin,
        ClaimVerdict.CONDITIONAL,
        added=(UNIT_KAPPA, VANISHING_STEP),
        remark="At κ ≠ 1 it samples exp(-E/κ²); at a constant step the law is off by O(ε).",
        scope=Scope(n=ALL, inner=Every("C¹")),
        on="n = 1",
    ),
    Claim(
        "eq-11",
        ClaimSource.KIM,
        "the score needs no normaliser",
        ClaimStatement("∂ log p/∂θ = {s}·∂E/∂θ", (sign("s", -1),)),
        _score,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, inner=Every("C¹")),
        on="n = 1",
    ),
    Claim(
        "eq-12",
        ClaimSource.KIM,
        "the first transition",
        _STEP,
        _step,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, inner=Every("C¹")),
        on="n = 1",
    ),
    Claim(
        "eq-24",
        ClaimSource.KIM,
        "the m-th transition",
        _STEP,
        _step,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, m=ALL, inner=Every("C¹")),
        on="n = 1",
        repeats="eq-12",
    ),
    Claim(
        "eq-27",
        ClaimSource.KIM,
        "the noisy inner loss",
        ClaimStatement(
            "L_T = ({a} + ε₁)θ³ - (1 - λ² + ε₂)θ, both uniform on (-{w}, {w})",
            (coefficient("a", "1/3"), coefficient("w", "3/10")),
        ),
        _noisy_loss,
        ClaimVerdict.HOLDS,
        remark="It adds γσ²/2 ≈ 2.1e-4 to the temperature: two of Table 3's three are swamped.",
        scope=Scope(n=ONE, inner=Only("the noisy Synth-1D")),
        on="the noisy Synth-1D",
    ),
    Claim(
        "text-temperature",
        ClaimSource.KIM,
        "the role of κ",
        ClaimStatement("the chain with noise scale κ samples exp(-E·κ^{k})", (exponent("k", 0),)),
        _temperature,
        ClaimVerdict.REFUTED,
        corrected=ClaimStatement(
            "the chain with noise scale κ samples exp(-E·κ^{k})", (exponent("k", -2),)
        ),
        remark="Table 4's κ = 1e-6 lowers the temperature by a factor of 1e12.",
        scope=Scope(n=ALL, inner=Every("C¹")),
        on="n = 1",
    ),
    Claim(
        "text-minibatch",
        ClaimSource.KIM,
        "minibatch gradients keep the guarantee",
        ClaimStatement(
            "a minibatch gradient of variance σ² leaves the stationary law as it is "
            "(at a constant step it adds {c}·γ^{e}·σ² to the temperature)",
            (coefficient("c", "1/2"), exponent("e", 1)),
        ),
        _minibatch,
        ClaimVerdict.CONDITIONAL,
        added=(FULL_GRADIENT,),
        remark="Also true where γ → 0, which no experiment of the paper does.",
        scope=Scope(n=ONE, inner=Only("a quadratic")),
        on="a quadratic, n = 1",
    ),
    Claim(
        "field-ula",
        ClaimSource.FIELD,
        "constant-step Langevin on a Gaussian",
        ClaimStatement(
            "the stationary covariance is τκ^{k}·H⁻¹(I - {c}·γH)⁻¹",
            (exponent("k", 2), coefficient("c", "1/2")),
        ),
        _ula,
        ClaimVerdict.CONDITIONAL,
        added=(STABLE,),
        scope=Scope(n=ALL, inner=Every("quadratic, H symmetric and positive definite")),
        on="n = 1, 2",
    ),
)
