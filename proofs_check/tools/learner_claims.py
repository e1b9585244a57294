"""One check for each claim about a meta-learner: the package's estimator against the claim's own formula.

The package is imported inside the functions: it takes two seconds, and most claims need none of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, final

import numpy as np
import sympy as sp

from proofs_check.evidence import Check, EvidenceMethod, fact
from proofs_check.statement import ClaimStatement
from proofs_check.sums import At


def imaml(s: ClaimStatement) -> Check:
    """IMAML where its adaptation has converged, θ⁰ = λ."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin
    from refblo.estimators.imaml import IMAML

    rho = sp.Integer(1)
    rest = (on.H + rho * on.EYE).inv() * (on.K * on.LAM + rho * on.META_LAM)
    stated = s.formula("h", Jt=on.EYE, I=on.EYE, H=on.H, ρ=rho, f_θ=rest - on.TARGET)
    found = on.value(IMAML(Langevin(0.4), 120, 3, float(rho)), on.meta_problem(), on.META_LAM)
    return on.equal("IMAML, θ⁰ = λ", found, stated, 1e-12)


def _order_two(name: str, gaps: list[float]) -> Check:
    """That what a first-order statement leaves falls four times where γ is halved."""
    ratio = gaps[0] / gaps[1]
    # What follows the second order is a part in a hundred at these γ.
    return fact(f"refblo: {name}, what is left at γ over that at γ/2", abs(ratio - 4) < 0.1, ratio, "near 4",
                EvidenceMethod.NUMERIC)  # fmt: skip


def first_order(s: ClaimStatement) -> Check:
    """FO-MAML less MAML, and the stated gap: what is left is of order γ²."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin
    from refblo.estimators.fo_maml import FOMAML
    from refblo.estimators.maml import MAML

    gaps, steps = [], 4
    for gamma in (sp.Rational(1, 500), sp.Rational(1, 1000)):
        rule = Langevin(float(gamma))
        short, whole = (
            on.value(kind(rule, steps), on.meta_problem(), on.META_LAM) for kind in (FOMAML, MAML)
        )
        slope = (on.META_LAM - on.TARGET).T
        stated = s.formula("gap", γ=gamma, T=sp.Integer(steps), f_θ=slope, H=on.H, J=on.EYE,
                           C=sp.zeros(3, 3))  # fmt: skip
        gaps.append(float(np.abs(short - whole - on.numbers(stated)).max()))
    return _order_two("FO-MAML less MAML less the stated", gaps)


def reptile(s: ClaimStatement) -> Check:
    """Reptile's direction, and the stated one: what is left is of order γ²."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin
    from refblo.estimators.reptile import Reptile

    gaps, steps = [], 4
    first = on.H * on.META_LAM - on.K * on.LAM
    for gamma in (sp.Rational(1, 500), sp.Rational(1, 1000)):
        found = on.value(Reptile(Langevin(float(gamma)), steps), on.meta_problem(), on.META_LAM)
        stated = s.formula("moved", γ=gamma, T=sp.Integer(steps), H=on.H, a=first)
        gaps.append(float(np.abs(found - on.numbers(stated)).max()))
    return _order_two("Reptile less the stated", gaps)


@final
@dataclass(frozen=True)
class _Drawn:
    """Batches whose numbers are given, one a step."""

    numbers: tuple[int, ...]

    def __call__(self, draws: Any, stream: int, step: int) -> Any:  # noqa: ARG002
        """The number of one step."""
        import torch

        return torch.tensor(self.numbers[step])


@cache
def _over_batches(gamma: float) -> dict[str, Any]:
    """The three learners at λ, averaged over all 2³ ways to draw three batches from two."""
    import torch
    from torch import Tensor

    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin
    from refblo.estimators.fo_maml import FOMAML
    from refblo.estimators.maml import MAML
    from refblo.estimators.reptile import Reptile
    from refblo.problem import BilevelProblem, identity_initial

    bends, pushes = (torch.stack([on.tensor(each) for each in pair]) for pair in (BENDS, PUSHES))

    def loss(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
        value = theta @ bends[batch] @ theta / 2 - theta @ pushes[batch] + 0 * lam.sum()
        return value.sum()

    rule = Langevin(gamma)
    rows: dict[str, list[Any]] = {"maml": [], "first": [], "reptile": []}
    for drawn in product((0, 1), repeat=3):
        batches = _Drawn(drawn)
        problem = BilevelProblem(loss, loss, identity_initial(), batches, batches)
        rows["maml"].append(on.value(MAML(rule, 2), problem, on.META_LAM))
        rows["first"].append(on.value(FOMAML(rule, 2), problem, on.META_LAM))
        rows["reptile"].append(on.value(Reptile(rule, 3), problem, on.META_LAM))
    return {name: np.mean(found, axis=0) for name, found in rows.items()}


BENDS = (
    sp.Matrix([[2, 1, 0], [1, 3, 1], [0, 1, 1]]) / 2,
    sp.Matrix([[1, 0, -1], [0, 2, 1], [-1, 1, 4]]) / 2,
)
PUSHES = (sp.Matrix([1, -1, 2]), sp.Matrix([0, 2, 1]))
"""Hessian and -gradient at 0 of either batch."""


def batches(s: ClaimStatement) -> Iterator[Check]:
    """MAML, FO-MAML and Reptile on batches, and the stated means: what is left is of order γ²."""
    from proofs_check.tools import field_runs as on

    slopes = [bend * on.META_LAM - push for bend, push in zip(BENDS, PUSHES, strict=True)]
    # Batches are drawn independently, so that e is the product of the means.
    g, e = sum(slopes, sp.zeros(3, 1)) / 2, sum(BENDS, sp.zeros(3)) / 2
    for name in ("maml", "first", "reptile"):
        gaps = []
        for gamma in (sp.Rational(1, 500), sp.Rational(1, 1000)):
            stated = s.formula(name, g=g, e=e * g, k=sp.Integer(3), γ=gamma)
            gaps.append(float(np.abs(_over_batches(float(gamma))[name] - on.numbers(stated)).max()))
        yield _order_two(f"{name} over batches less the stated", gaps)


SUPPORT = sp.Matrix([[1, sp.Rational(1, 2)], [-1, 2], [sp.Rational(1, 2), 1]])
QUERY = sp.Matrix([[2, 1], [0, -1], [1, sp.Rational(1, 2)]])
TARGETS = sp.Matrix([1, -1, 2])
PRIOR = sp.Matrix([sp.Rational(1, 2), -1, sp.Rational(-1, 4), sp.Rational(1, 8)])
"""One task of ABML: features and targets, and λ = (μ, η) of two weights."""

_MU, _ETA = sp.symbols("mu1:3"), sp.symbols("eta1:3")
_MEAN, _RHO = sp.symbols("m1:3"), sp.symbols("rho1:3")


@cache
def _task() -> Any:
    """The package's case with that one task."""
    from refblo.problems.abml import case_of

    def array(matrix: sp.Matrix) -> Any:
        return np.array(matrix.tolist(), dtype=np.float64)

    targets = array(TARGETS)[None, :, 0]
    data = {
        "support_features": array(SUPPORT)[None],
        "support_targets": targets,
        "query_features": array(QUERY)[None],
        "query_targets": targets,
    }
    return case_of("one task", data, array(PRIOR)[:, 0])


def _bound(s: ClaimStatement) -> tuple[sp.Expr, sp.Expr]:
    """The inner and the outer loss that the statement makes, the prior over λ the package's own."""
    from refblo.problems.abml import RATE, SHAPE, VARIANCE

    def expected(inputs: sp.Matrix) -> sp.Expr:
        residual = TARGETS - inputs * sp.Matrix(_MEAN)
        spread = sum(s.formula("spread", x=x, ρ=_RHO[k % 2]) for k, x in enumerate(inputs))
        return (residual.dot(residual) + spread) / (2 * sp.Rational(VARIANCE))

    divergence = sum(
        s.formula("divergence", m=m, μ=mu, ρ=rho, η=eta)
        for m, mu, rho, eta in zip(_MEAN, _MU, _RHO, _ETA, strict=True)
    )
    shape, rate = sp.Rational(SHAPE), sp.Rational(RATE)
    hyper = sum(
        mu**2 / 2 + 2 * (shape - 1) * eta + rate * sp.exp(-2 * eta)
        for mu, eta in zip(_MU, _ETA, strict=True)
    )
    inner = expected(SUPPORT) + divergence
    return inner, inner + expected(QUERY) + hyper


def abml(s: ClaimStatement) -> Check:
    """MAML through two steps on the package's ABML, and the same derivative of the stated bound."""
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin
    from refblo.estimators.maml import MAML

    gamma, steps, digits = sp.Rational(1, 20), 2, 30
    inner, outer = _bound(s)
    lam, theta = (*_MU, *_ETA), (*_MEAN, *_RHO)
    slope = sp.Matrix([sp.diff(inner, x) for x in theta])
    bend, cross = slope.jacobian(theta), slope.jacobian(lam)
    here = dict(zip(lam, PRIOR, strict=True))
    at, tangent = PRIOR, sp.eye(4)
    for _ in range(steps):
        values = here | dict(zip(theta, at, strict=True))
        moved = (bend.subs(values) * tangent + cross.subs(values)).evalf(digits)
        at = (at - gamma * slope.subs(values)).evalf(digits)
        tangent = tangent - gamma * moved
    values = here | dict(zip(theta, at, strict=True))
    direct, through = (
        sp.Matrix([sp.diff(outer, x).subs(values) for x in names]) for names in (lam, theta)
    )
    found = on.value(MAML(Langevin(float(gamma)), steps), _task().problem, PRIOR)
    return on.equal("MAML on ABML, 2 steps", found, direct + tangent.T * through)


@cache
def _at_minimum_and_around() -> tuple[Any, Any, Any]:
    """θ* by gradient descent; the implicit gradient; rows of the covariance identity's, at t = 1.

    The outer loss is e^(2ρ₁) + e^(2ρ₂) + ½m'Bm with B = X_q'X_q.
    """
    from dataclasses import replace

    from torch import Tensor

    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin, Schedule
    from refblo.estimators.covariance import CovarianceIdentity
    from refblo.estimators.ift import IFTDense
    from refblo.noise import Draws

    case = _task()
    query, lam = on.tensor(QUERY), on.tensor(PRIOR)

    def outer(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        return (2 * theta[2:]).exp().sum() + (query @ theta[:2]).square().sum() / 2 + 0 * lam.sum()

    problem = replace(case.problem, outer=outer)
    rest = IFTDense(Langevin(case.dynamics.step_size), 600).estimate(problem, lam)
    # Adjusted, so that a long step makes no bias; the shift is then 24 standard errors.
    rule = Langevin(4 * case.dynamics.step_size, float(TEMPERATURE) * 4, 0.5)
    method = CovarianceIdentity(rule, Schedule(60, 100), 1000)
    rows = method.samples(problem, lam, Draws(7))
    return on.numbers(rest.theta), on.numbers(rest.value), np.array(rows.tolist())


TEMPERATURE = sp.Integer(1)


def abml_gibbs(s: ClaimStatement) -> Iterator[Check]:
    """The minimum that IFTDense finds, and the covariance identity's gradient in η less IFTDense's."""
    from proofs_check.tools import field_runs as on

    rest, implicit, rows = _at_minimum_and_around()
    precision = SUPPORT.T * SUPPORT + sp.diag(*(sp.exp(-2 * eta) for eta in _ETA))
    at = dict(zip(_ETA, PRIOR[2:], strict=True))
    best = sp.Matrix([s.formula("rho", A=precision[k, k]) for k in (0, 1)])
    yield on.equal("ρ where IFTDense's descent ends", rest[2:], best.subs(at))
    B, t = QUERY.T * QUERY, TEMPERATURE
    stated = []
    for k in (0, 1):
        moment = sp.diff(s.formula("mean", ρ=best[k]) - sp.exp(2 * best[k]), _ETA[k])
        shift = s.formula("shift", t=t, η=_ETA[k], P=precision, B=B)
        entry = shift[k, k] if isinstance(shift, sp.MatrixBase) else sp.nan
        stated.append((moment + entry).subs(at))
    yield on.mean_of("the covariance identity less IFTDense in η", rows[:, 2:] - implicit[2:],
                     on.numbers(sp.Matrix(stated)))  # fmt: skip


def _kernel(x: sp.Expr, y: sp.Expr, h: sp.Expr) -> sp.Expr:
    return sp.exp(-((x - y) ** 2) / h)


def bmaml(s: ClaimStatement) -> Check:
    """BMAML through one step of two particles on a line, and the same of the stated step."""
    import torch

    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin
    from refblo.estimators.bmaml import BMAML
    from refblo.problem import BilevelProblem, identity_initial

    gamma, h, tau = sp.Rational(1, 4), sp.Rational(3, 2), sp.Rational(1, 2)
    i, j = sp.symbols("i j")
    pair = sp.symbols("a b")
    moved = []
    for x in pair:
        step = sp.Integer(0)
        for y in pair:
            push = s.formula("push", θ=At({i: x, j: y}.__getitem__), h=h, i=i, j=j)
            step += _kernel(x, y, h) * (y**3 - tau * push)
        moved.append(x - gamma / 2 * step)
    outer = sp.Matrix([(moved[0] - 1) ** 2 / 2 + 2 * moved[1] ** 2])
    start = sp.Matrix([sp.Rational(1, 2), sp.Rational(-1, 4)])
    stated = outer.jacobian(pair).subs(dict(zip(pair, start, strict=True)))
    weights = torch.tensor([0.5, 2.0], dtype=torch.float64)
    target = torch.tensor([1.0, 0.0], dtype=torch.float64)
    problem = BilevelProblem(
        lambda lam, theta, _: theta.pow(4).sum() / 4 + 0 * lam.sum(),
        lambda lam, theta, _: ((theta - target).square() * weights).sum() + 0 * lam.sum(),
        identity_initial(),
    )
    method = BMAML(Langevin(float(gamma), float(tau)), 1, particles=2, bandwidth=float(h))
    return on.equal("BMAML, one step of two particles", on.value(method, problem, start), stated)


def stein_mean(s: ClaimStatement) -> Check:
    """The step of a particle that one drawn from p to the stated power drives and repels."""
    import torch

    from proofs_check.tools import field_runs as on
    from refblo.estimators.bmaml import Stein
    from refblo.noise import Draws, Stream

    # p is normal with variance 1, and p to the power q is with variance 1/q.
    count, weight = 4000, sp.Rational(1, 2)
    power = float(s.formula("power", w=weight))
    if not power > 0:
        return fact("refblo: the power of p", False, power, "> 0", EvidenceMethod.STATISTICAL)
    z = Draws(9).normal(Stream.DIRECTIONS, 0, torch.zeros(count, dtype=torch.float64))
    theta = torch.stack((torch.full_like(z, 0.7), z / power**0.5), dim=1)
    step = Stein(count, 2, 1.5, float(weight)).direction(theta.reshape(-1), theta.reshape(-1))
    # A particle drives itself too, by its own slope.
    rows = 2 * step.reshape(count, 2)[:, :1] - theta[:, :1]
    return on.mean_of("mean step of a particle by another", np.array(rows.tolist()), np.zeros(1))
