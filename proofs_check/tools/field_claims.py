"""One check for each claim of the field: the package's estimator against the claim's own formula.

The package is imported inside the functions: it takes two seconds, and most claims need none of it.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
import sympy as sp

from proofs_check.evidence import Check, EvidenceMethod, fact
from proofs_check.statement import ClaimStatement


def implicit(s: ClaimStatement) -> Check:
    """IFTDense against f_λ - f_θ·H⁻¹·C."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin
    from refblo.estimators.ift import IFTDense

    stated = s.formula("slope", f_λ=on.LAM.T, f_θ=on.SLOPE.T, H=on.H, C=-on.K)
    found = on.value(IFTDense(Langevin(float(on.GAMMA)), 1))
    return on.equal("IFTDense at θ*", found, stated)


def neumann(s: ClaimStatement) -> Iterator[Check]:
    """K terms of the series, by IFT-Neumann and by stocBiO: their distance from the truth."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin
    from refblo.estimators import Estimator
    from refblo.estimators.ift import IFTNeumann
    from refblo.estimators.stocbio import StocBiO

    gamma, terms = float(on.GAMMA), 4
    left = s.formula("error", H=on.H, I=on.EYE, α=on.GAMMA, K=sp.Integer(terms))
    # h - truth = (q - q*)·K for C = -K.
    stated = on.TRUTH - on.K.T * left * on.SLOPE
    methods: dict[str, Estimator] = {
        "IFT-Neumann": IFTNeumann(Langevin(gamma), 1, gamma, terms),
        "stocBiO": StocBiO(gamma, gamma, terms, steps=1),
    }
    for name, method in methods.items():
        yield on.equal(f"{name} with {terms} terms at θ*", on.value(method), stated)


def conjugate_gradient(s: ClaimStatement) -> Iterator[Check]:
    """IFT-CG at θ* of an outer loss with K = I, so that h - λ is q."""
    import torch

    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin
    from refblo.estimators.ift import IFTConjugateGradient
    from refblo.problem import BilevelProblem, FixedInitial

    hessian = on.tensor(on.H)
    slope = sp.Matrix([1, -2, 3])
    problem = BilevelProblem(
        lambda lam, theta, _: theta @ hessian @ theta / 2 - theta @ lam,
        lambda lam, theta, _: theta @ on.tensor(slope) + 0 * lam.sum(),
        FixedInitial(torch.zeros(3, dtype=torch.float64)),
    )
    exact, bend = on.numbers(on.H.inv() * slope), np.array(on.H.tolist(), dtype=np.float64)
    eigenvalues = np.linalg.eigvalsh(bend)
    condition = float(eigenvalues[-1] / eigenvalues[0])
    for count in (1, 2):
        method = IFTConjugateGradient(Langevin(float(on.GAMMA)), 1, count)
        away = on.value(method, problem, sp.zeros(3, 1)) - exact
        left = float(np.sqrt(away @ bend @ away / (exact @ bend @ exact)))
        stated = float(s.formula("bound", κ=sp.Float(condition), k=sp.Integer(count)))
        yield fact(f"refblo: IFT-CG after {count} steps, κ = {condition:.3g}", 1e-6 < left <= stated,
                   left, f"<= {stated:.4g}", EvidenceMethod.NUMERIC)  # fmt: skip


def running_solve(s: ClaimStatement) -> Iterator[Check]:
    """m steps of the running solve, and of SOBA and FSLA, from q = 0 at θ*."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin, Schedule
    from refblo.estimators.running_solve import RunningSolve
    from refblo.estimators.soba import SOBA

    gamma, steps = float(on.GAMMA), 5
    error = s.formula("error", H=on.H, I=on.EYE, γ=on.GAMMA, f_θ=on.SLOPE, m=sp.Integer(steps))
    stated = on.TRUTH + on.K.T * error
    # Both give the hypergradient at the q that m steps have made, and then take one more.
    solve = RunningSolve(Langevin(gamma), Schedule.last(steps + 1))
    yield on.equal(f"running solve after {steps} steps at θ*", on.value(solve), stated)
    loop = SOBA(gamma, gamma, steps=steps + 1)
    yield on.equal(f"SOBA after {steps} steps at θ*", on.value(loop), stated)


def discounted(s: ClaimStatement) -> Iterator[Check]:
    """T steps of the discounted recursion at θ*, bare and divided by its weight."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin, Schedule
    from refblo.estimators.discounted import DiscountedHPOSGLD

    steps, model = 6, sp.Rational(3, 2)
    g = s.formula("g", f_θ=on.SLOPE.T, C=-on.K, ħ=model, γ=on.GAMMA, T=sp.Integer(steps))
    rule, schedule = Langevin(float(on.GAMMA)), Schedule.last(steps)
    bare = DiscountedHPOSGLD(rule, schedule, float(model), filled=False)
    yield on.equal("its discounted recursion at θ*", on.value(bare), on.LAM.T + g)
    filled = DiscountedHPOSGLD(rule, schedule, float(model))
    yield on.equal("and divided by the weight: H replaced by ħ", on.value(filled),
                   on.LAM + on.K.T * on.SLOPE / model)  # fmt: skip


@cache
def _tangent_rows(law: str) -> tuple[np.ndarray, np.ndarray]:
    """400 single directions of a law: the estimates less the exact gradient, and the gradient."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin, Schedule
    from refblo.estimators.random_tangents import Law, RandomTangents
    from refblo.estimators.rmd import RMD
    from refblo.noise import Draws

    rule, schedule, groups = Langevin(float(on.GAMMA)), Schedule.last(2), 400
    exact = on.value(RMD(rule, schedule))
    method = RandomTangents(rule, schedule, 1, Law[law], groups, block=groups)
    samples = method.samples(on.problem(), on.tensor(on.LAM), Draws(3))
    return np.array(samples.tolist()) - exact, exact


def random_tangents(s: ClaimStatement) -> Iterator[Check]:
    """Means and square errors over single directions, of one exact gradient."""
    from proofs_check.tools import field_runs as on

    for law, hole in (
        ("RADEMACHER", "signs"),
        ("GAUSSIAN", "normal"),
        ("ORTHOGONAL", "orthogonal"),
    ):
        rows, exact = _tangent_rows(law)
        square = (rows**2).sum(axis=1)[:, None]
        names = {"p": sp.Integer(2), "K": sp.Integer(1), "N": sp.Float(float(exact @ exact))}
        stated = float(s.formula(hole, **names))
        if hole == "normal":
            yield on.mean_of(f"square error, {hole}", square, np.array([stated]))
        else:  # for p = 2 and K = 1 the square error is the same for every direction of these laws
            gap = float(np.abs(square - stated).max())
            yield fact(f"refblo: square error, {hole}", gap <= on.ROUNDINGS * stated, gap,
                       f"<= {on.ROUNDINGS:.1e} of it", EvidenceMethod.NUMERIC)  # fmt: skip
        yield on.mean_of(f"mean, {hole}", rows, np.zeros(2))


def pairs() -> Check:
    """Four directions in pairs give what the two that they are made of give."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin, Schedule
    from refblo.estimators.random_tangents import Law, RandomTangents

    rule, schedule = Langevin(float(on.GAMMA)), Schedule.last(2)
    paired = on.value(RandomTangents(rule, schedule, 4, Law.ANTITHETIC))
    single = on.value(RandomTangents(rule, schedule, 2, Law.RADEMACHER))
    gap = float(np.abs(paired - single).max())
    return fact("refblo: two pairs against their two directions", gap <= on.ROUNDINGS, gap,
                f"<= {on.ROUNDINGS:.1e}", EvidenceMethod.NUMERIC)  # fmt: skip


@cache
def _uoro_rows() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """100 replicas: of two steps, of one step without balancing, and what RMD gives for each."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin, Schedule
    from refblo.estimators.rmd import RMD
    from refblo.estimators.uoro import UORO

    rule, count = Langevin(float(on.GAMMA)), 100
    two, one = Schedule.last(2), Schedule.last(1)
    found = np.array([on.value(UORO(rule, two, replica=k)) for k in range(count)])
    bare = np.array([on.value(UORO(rule, one, balanced=False, replica=k)) for k in range(count)])
    return found, bare, on.value(RMD(rule, two)), on.value(RMD(rule, one))


def uoro(s: ClaimStatement) -> Iterator[Check]:
    """Replicas of UORO: the mean is that of RMD, and without balancing the variance is the stated one."""
    from proofs_check.tools import field_runs as on

    found, bare, exact, mean = _uoro_rows()
    yield on.mean_of("mean of UORO, T = 2", found, exact)
    # At θ* θ stays: a = f_θ, and b is γ times a column of K.
    a, stated = on.SLOPE, []
    for column in range(2):
        b = on.GAMMA * on.K[:, column]
        both = sum(x**2 * y**2 for x, y in zip(a, b, strict=True))
        stated.append(float(s.formula("variance", aa=a.dot(a), bb=b.dot(b), ab=a.dot(b), d=both)))
    yield on.mean_of("variance of UORO without balancing, T = 1", (bare - mean) ** 2,
                     np.array(stated))  # fmt: skip


def bounded(s: ClaimStatement) -> Iterator[Check]:
    """The bound that BoundedImplicit reports, on a quadratic: L_H = L_C = L_d = 0 and L_s = 1."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin
    from refblo.estimators.adaptive import BoundedImplicit
    from refblo.estimators.error_bound import Constants

    bend, cross = (np.array(m.tolist(), dtype=np.float64) for m in (on.H, on.K))
    mu, size = float(np.linalg.eigvalsh(bend)[0]), float(np.linalg.norm(cross, 2))
    method = BoundedImplicit(
        Langevin(float(on.GAMMA)), 8, 2, Constants(mu, size, 0.0, 0.0, 1.0, 0.0)
    )
    result = method.estimate(on.problem(at_rest=False), on.tensor(on.LAM))
    theta, target = on.numbers(result.theta), on.numbers(on.TARGET)
    # q from h = λ + K'q would need K to be square: two steps of CG are done again here, by hand.
    q, residual = _two_steps(bend, theta - target)
    gradient = float(np.linalg.norm(bend @ theta - cross @ on.numbers(on.LAM)))
    distance = float(s.formula("distance", G=sp.Float(gradient), μ=sp.Float(mu)))
    stated = float(
        s.formula(
            "bound", L_d=sp.Float(0), L_C=sp.Float(0), L_H=sp.Float(0), L_s=sp.Float(1),
            C=sp.Float(size), q=sp.Float(float(np.linalg.norm(q))), r=sp.Float(residual),
            μ=sp.Float(mu), δ=sp.Float(distance),
        )
    )  # fmt: skip
    reported = float("nan") if result.error is None else float(result.error)
    yield fact("refblo: the bound that BoundedImplicit reports",
               abs(reported - stated) <= 1e-10 * stated, reported, stated,
               EvidenceMethod.NUMERIC)  # fmt: skip
    off = float(np.linalg.norm(on.numbers(result.value) - on.numbers(on.TRUTH)))
    yield fact("refblo: its error against that", 0 < off <= stated, off, f"<= {stated:.4g}",
               EvidenceMethod.NUMERIC)  # fmt: skip


def _two_steps(bend: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, float]:
    """Two steps of conjugate gradients from 0, and the norm of the residual that they leave."""
    basis = np.stack([right, bend @ right], axis=1)
    weights = np.linalg.solve(basis.T @ bend @ basis, basis.T @ right)
    q: np.ndarray = basis @ weights
    return q, float(np.linalg.norm(bend @ q - right))


def residual(s: ClaimStatement) -> Check:
    """IFT-CG after two steps of three: the error of q against its residual over the least eigenvalue."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin
    from refblo.estimators.ift import IFTConjugateGradient

    bend = np.array(on.H.tolist(), dtype=np.float64)
    slope, cross = on.numbers(on.SLOPE), np.array(on.K.tolist(), dtype=np.float64)
    q, left = _two_steps(bend, slope)
    found = on.value(IFTConjugateGradient(Langevin(float(on.GAMMA)), 1, 2))
    same = np.abs(found - on.numbers(on.LAM) - cross.T @ q).max() <= 1e-12
    off = float(np.linalg.norm(q - np.linalg.solve(bend, slope)))
    least = float(np.linalg.eigvalsh(bend)[0])
    stated = float(s.formula("bound", r=sp.Float(left), μ=sp.Float(least)))
    return fact("refblo: IFT-CG is that q, two steps of CG, and its error against the bound",
                bool(same) and off <= stated, off, f"<= {stated:.4g}", EvidenceMethod.NUMERIC)  # fmt: skip


def covariance() -> Check:
    """CovarianceIdentity on the quadratic at κ = 1/2, where d E[f]/dλ is the implicit hypergradient."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin, Schedule
    from refblo.estimators.covariance import CovarianceIdentity
    from refblo.noise import Draws

    # f is quadratic and H does not contain λ: the Gaussian's spread adds a constant to E[f].
    method = CovarianceIdentity(
        Langevin(float(on.GAMMA), 0.5, 0.5), Schedule(30, 5), 200, control=0
    )
    rows = method.samples(on.problem(), on.tensor(on.LAM), Draws(5))
    return on.mean_of("the covariance identity over chains, κ = 1/2", np.array(rows.tolist()),
                      on.numbers(on.TRUTH))  # fmt: skip


def evolution(s: ClaimStatement) -> Check:
    """Evolution strategies on a quadratic F, whose smoothed gradient is its gradient."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin, Schedule
    from refblo.estimators.evolution import EvolutionStrategies, Variant
    from refblo.estimators.rmd import RMD
    from refblo.noise import Draws, Stream

    rule, schedule, mu = Langevin(float(on.GAMMA)), Schedule.last(2), 0.5
    method = EvolutionStrategies(rule, schedule, mu, 800, Variant.PRINTED, block=800)
    lam, draws = on.tensor(on.LAM), Draws(6)
    rows = np.array(method.samples(on.problem(), lam, draws).tolist())
    z = np.array(draws.normal(Stream.DIRECTIONS, 0, lam.new_empty(800, 2)).tolist())
    # The values that the package took, from its own rows; then the stated estimate of them.
    values = mu * rows[:, 0] / z[:, 0]
    stated = np.array(
        [s.formula("estimate", float, z=z[k, 1], F=values[k], μ=mu) for k in range(len(z))]
    )
    same = float(np.abs(rows[:, 1] - stated).max()) <= 1e-9 * float(np.abs(rows).max())
    check = on.mean_of("mean of evolution strategies", rows, on.value(RMD(rule, schedule)))
    return fact(check.name, check.holds and same, check.left, check.right,
                EvidenceMethod.STATISTICAL)  # fmt: skip


def stationary(s: ClaimStatement) -> Check:
    """The chain of the package at τ = 1/2, κ = 1/2: second moments of many runs that have forgotten θ⁰."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Chain, Langevin
    from refblo.noise import Draws

    tau, kappa = sp.Rational(1, 2), sp.Rational(1, 2)
    rule = Langevin(float(on.GAMMA), float(tau), float(kappa))
    chain = Chain(on.problem(), rule, Draws(8))
    path = np.array([t.tolist() for t in chain.iterates(on.tensor(on.LAM), 3000)])
    # The slowest eigenvalue is forgotten by 1/e in 20 steps: every 60th iterate is nearly independent.
    away = path[60::60] - on.numbers(on.REST)
    stated = s.formula("covariance", τ=tau, κ=kappa, H=on.H, I=on.EYE, γ=on.GAMMA)
    wanted = np.array(sp.Matrix(stated).evalf(20).tolist(), dtype=np.float64)
    rows = np.stack([away[:, i] * away[:, j] for i in range(3) for j in range(i, 3)], axis=1)
    return on.mean_of("second moments of the chain, κ = 1/2", rows,
                      np.array([wanted[i, j] for i in range(3) for j in range(i, 3)]))  # fmt: skip


def iterative(s: ClaimStatement) -> Check:
    """FMD through an affine contraction of factor q: c = 0, and the bound is attained."""
    from proofs_check.tools.refblo_runs import RefbloRun, Small, forward_mode

    steps = 7
    # θ ← qθ + (1 - q)λ with q = 1/2: the tangent tends to 1.
    small = Small(lambda lam, t: ((t - lam) ** 2).sum() / 2, lambda _, t: t.sum(), np.array([0.3]))
    found = float(forward_mode(small, RefbloRun(0.5, steps - 1, 1), np.array([0.7]))[0])
    stated = float(s.formula("bound", q=sp.Rational(1, 2), e=1, c=0, T=sp.Integer(steps)))
    gap = abs(1 - found)
    return fact("refblo: FMD's error against the bound, an affine map",
                abs(gap - stated) <= 1e-15, gap, stated, EvidenceMethod.NUMERIC)  # fmt: skip


def approximate(s: ClaimStatement) -> Check:
    """AmIGO-SGD on inner h/2·θ² - λθ, outer θ³/3, from θ = q = 0, both steps γ: the error in two parts."""
    import torch

    from proofs_check.tools.field_runs import equal, value
    from refblo.chain import Langevin
    from refblo.estimators.amigo import AmIGO
    from refblo.problem import BilevelProblem, FixedInitial

    h, gamma, lam, steps, solves = sp.Integer(2), sp.Rational(1, 8), sp.Rational(3, 2), 5, 3
    problem = BilevelProblem(
        lambda at, theta, _: (float(h) / 2 * theta**2 - at * theta).sum(),
        lambda at, theta, _: (theta**3).sum() / 3 + 0 * at.sum(),
        FixedInitial(torch.zeros(1, dtype=torch.float64)),
    )
    q, star = 1 - gamma * h, lam / h
    names = {
        "L": star * (2 - q**steps) / h,
        "e": star,
        "C": 1,
        "V": (star * (1 - q**steps)) ** 2 / h,
    }
    error = s.formula("error", q=q, T=sp.Integer(steps), k=sp.Integer(solves), **names)
    method = AmIGO(Langevin(float(gamma)), steps, solves, float(gamma))
    found = value(method, problem, sp.Matrix([lam]))
    name = "AmIGO-SGD after 5 inner steps and 3 of the solve"
    return equal(name, found, sp.Matrix([star**2 / h - error]))
