"""Franceschi et al. (2018) with the package's estimators: a hyper-representation, and T → ∞.

The representation λ is shared by episodes and each has a ridge head of its own; as T grows, the minimisers
and infima of the T-step problems are those of reverse and forward mode.
"""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import Check, EvidenceMethod, fact, identity, induction
from proofs_check.scope import ALL, INDUCTION, ONE_MATRIX, OPERATORS, Every, Only, Scope, by_hand
from proofs_check.statement import ClaimStatement, choice, formula
from proofs_check.tools.bilevel_instances import UNIFORM

if TYPE_CHECKING:
    from proofs_check.tools.refblo_runs import RefbloRun, Small

ONE_HEAD = Assumption(
    "one-head", "the penalty ρ is positive, so that every episode has a single head"
)

_SUM, _MEAN = "the sum", "the mean"
Mode = Callable[["Small", "RefbloRun", np.ndarray], np.ndarray]

# ---------------------------------------------------------------- hyper-representation

_CHAIN = by_hand(
    "the chain rule through P(λ) and V(λ), which move by DP and DV along a hyperparameter"
)
_APART = by_hand("the inner loss is a sum over the episodes, each with a head of its own")
_ALL = {"n": OPERATORS, "p": _CHAIN, "M": _APART}


def _representation(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    names = "P Pt DP DPt y w V DV rt H u"
    P, Pt, dP, dPt, y, w, V, dV, rt, H, u = sp.symbols(names, commutative=False)
    rho = sp.Symbol("rho", positive=True)

    def gradient(head: sp.Expr) -> sp.Expr:
        return Pt * (P * head - y) + rho * head

    bend = s.formula("hessian", Pt=Pt, P=P, ρ=rho, I=1)
    yield identity("the inner gradient at w + u less that at w", sp.expand(gradient(w + u) - gradient(w)),
                   sp.expand(bend * u), over=_ALL)  # fmt: skip
    head = s.formula("head", H=H, Pt=Pt, y=y)
    # P'(Pw - y) + ρw = Hw - P'y, H being what was just compared.
    yield identity("H times the stated head", sp.expand(H * head), Pt * y, over=_ALL)
    # The stationarity along λ: DP'(Pw - y) + P'DP·w + H·Dw = 0, solved for Dw; then the chain rule.
    moved = H**-1 * (dPt * (y - P * w) - Pt * dP * w)
    rest = dPt * (P * w - y) + Pt * dP * w
    yield identity(
        "the stationarity along λ: H times Dw", sp.expand(H * moved), sp.expand(-rest), over=_ALL
    )
    stated = s.formula("slope", rt=rt, V=V, DV=dV, w=w, H=H, Pt=Pt, P=P, DPt=dPt, DP=dP, y=y)
    yield identity("r'·(DV·w + V·Dw), r = Vw - z", sp.expand(rt * (dV * w + V * moved)), sp.expand(stated),
                   over=_ALL)  # fmt: skip
    yield _episodes(s)
    yield _one_head(context)
    yield from _heads_by_the_package(s)


def _episodes(s: ClaimStatement) -> Check:
    """The slope of the losses of two episodes, added."""
    lam = sp.Symbol("lambda")
    first, second = (sp.Function(f"F_{k}")(lam) for k in (1, 2))
    slopes = sp.diff(first, lam) + sp.diff(second, lam)
    stated = slopes if s.word("together") == _SUM else slopes / 2
    found = sp.diff(first + second, lam)
    return fact("the slope of the losses of two episodes, added", found - stated == 0, found, stated,
                EvidenceMethod.SYMBOLIC, over=dict.fromkeys(_ALL, _APART))  # fmt: skip


def _one_head(context: ClaimContext) -> Check:
    """Two training points with the same features: H = P'P + ρI at ρ = 1/2, or at 0."""
    features = sp.Matrix([[1, 2], [1, 2]])
    penalty = sp.Rational(1, 2) if context.has(ONE_HEAD) else sp.S(0)
    bend = features.T * features + penalty * sp.eye(2)
    minors = [bend[0, 0], bend.det()]
    return fact(f"the leading minors of H at ρ = {penalty}, two points with the same features",
                all(x > 0 for x in minors), minors, "all > 0", EvidenceMethod.SYMBOLIC)  # fmt: skip


_LAM = (sp.Rational(1, 2), sp.Rational(-1, 3), sp.Rational(3, 4))
_RHO = sp.Rational(1, 2)
_EPISODES = (
    (((1, 2), (-1, 1), (2, -1)), (1, -2, 3), ((1, 1), (0, 2)), (2, -1)),
    (((2, 1), (1, -1), (0, 3)), (-1, 2, 1), ((1, -2), (2, 2)), (1, 1)),
)
"""Training inputs and targets, validation inputs and targets of two episodes."""


def _features(lam: Any, x: Any, stack: Callable[..., Any]) -> Any:
    """Two features of inputs of two entries, by three hyperparameters; not linear in them."""
    a, b, c = lam
    first, second = x
    return stack(a * first + b * c * second, b * first * second + c**2 * second)


def _stated_slopes(s: ClaimStatement) -> tuple[sp.Expr, ...]:
    """The sum of the stated slopes over the episodes, along each of three hyperparameters, exactly."""
    lam = sp.symbols("l1:4")
    at = dict(zip(lam, _LAM, strict=True))
    total = [sp.S(0)] * 3
    for inputs, targets, later, later_targets in _EPISODES:
        train, valid = (
            sp.Matrix([list(_features(lam, tuple(map(sp.Integer, x)), lambda *f: f)) for x in rows])
            for rows in (inputs, later)
        )
        P, V, y = train.subs(at), valid.subs(at), sp.Matrix(targets)
        bend = s.formula("hessian", Pt=P.T, P=P, ρ=_RHO, I=sp.eye(2))
        w = sp.Matrix(s.formula("head", H=bend, Pt=P.T, y=y))
        residual = V * w - sp.Matrix(later_targets)
        for k, symbol in enumerate(lam):
            moved, later_moved = (sp.diff(each, symbol).subs(at) for each in (train, valid))
            value = s.formula(
                "slope", rt=residual.T, V=V, DV=later_moved, w=w, H=bend, Pt=P.T, P=P, DPt=moved.T,
                DP=moved, y=y,
            )  # fmt: skip
            total[k] += sp.Matrix(value)[0]
    combined = total if s.word("together") == _SUM else [each / len(_EPISODES) for each in total]
    return tuple(combined)


@cache
def _head_values() -> dict[str, np.ndarray]:
    """Two episodes, θ of two heads, λ of three entries: the closed form, dense implicit and reverse mode."""
    import torch
    from torch import Tensor

    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin, Schedule
    from refblo.estimators.closed_form_head import ClosedFormHead, Direction
    from refblo.estimators.ift import IFTDense
    from refblo.estimators.rmd import RMD
    from refblo.problem import BilevelProblem, FixedInitial

    data = [
        tuple(torch.tensor(part, dtype=torch.float64) for part in episode) for episode in _EPISODES
    ]

    def fit(lam: Tensor, head: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        features = _features(lam, inputs.T, lambda *f: torch.stack(f, dim=-1))
        loss: Tensor = (features @ head - targets).square().sum() / 2
        return loss

    def inner(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        heads = theta.reshape(2, 2)
        fits = [fit(lam, w, x, y) for w, (x, y, _, _) in zip(heads, data, strict=True)]
        return sum(fits, start=torch.zeros(())) + float(_RHO) / 2 * theta.square().sum()

    def outer(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        heads = theta.reshape(2, 2)
        fits = [fit(lam, w, x, y) for w, (_, _, x, y) in zip(heads, data, strict=True)]
        return sum(fits, start=torch.zeros(()))

    problem = BilevelProblem(inner, outer, FixedInitial(torch.zeros(4, dtype=torch.float64)))
    rule, steps = Langevin(0.3), 100
    methods = {
        "the closed form, in reverse": ClosedFormHead(),
        "the closed form, forwards": ClosedFormHead(Direction.FORWARD),
        "IFTDense after 100 steps": IFTDense(rule, steps),
        "RMD through 100 steps": RMD(rule, Schedule.last(steps)),
    }
    lam = sp.Matrix(_LAM)
    return {name: on.value(method, problem, lam) for name, method in methods.items()}


def _heads_by_the_package(s: ClaimStatement) -> Iterator[Check]:
    from proofs_check.tools import field_runs as on

    stated = sp.Matrix(_stated_slopes(s))
    for name, value in _head_values().items():
        yield on.equal(f"{name}, two episodes", value, stated, 1e-11)


# ---------------------------------------------------------------- T → ∞


def _limit(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    lam, t, w, gam, h, T = sp.symbols("lambda t w gamma h T", positive=True)

    def iterate(steps: sp.Expr) -> sp.Expr:
        return lam * (1 - s.formula("power", γ=gam, H=h, I=1, T=steps))

    over = {"n": ONE_MATRIX, "p": ONE_MATRIX, "T": INDUCTION}
    base = identity("the start, zero", iterate(sp.S(0)), sp.S(0))
    step = identity("one more step", iterate(T) - gam * h * (iterate(T) - lam), iterate(T + 1))
    yield induction("θ^T = (1 - P)λ along an eigenvector", base, step, over)
    held = {"n": ONE_MATRIX, "p": ONE_MATRIX, "T": by_hand("T enters by P alone")}
    P, common, apart, more = _differences()
    names = {"P": P, "w": w, "t": t}
    yield identity("the minimiser of f_T less that of f, times (1 + w)((1 - P)² + w)", apart,
                   sp.cancel(common * s.formula("distance", **names)), over=held)  # fmt: skip
    yield identity("inf f_T less inf f, times the same", more,
                   sp.cancel(common * s.formula("gap", **names)), over=held)  # fmt: skip
    yield _vanishing(s, context)
    yield from _minimised_by_the_package(s, context.full)
    yield from _no_closed_form(context.full)


@cache
def _differences() -> tuple[sp.Symbol, sp.Expr, sp.Expr, sp.Expr]:
    """P, a common denominator, and times it the differences of the minimisers and of the infima.

    f_T = ((1 - P)λ - t)²/2 + wλ²/2 is least where its slope vanishes, and f is the same at P = 0.
    """
    lam, t, w = sp.symbols("lambda t w", positive=True)
    P = sp.Symbol("P", real=True)
    outer = ((1 - P) * lam - t) ** 2 / 2 + w * lam**2 / 2
    best = sp.solve(sp.diff(outer, lam), lam)[0]
    least = outer.subs(lam, best)
    common = (1 + w) * ((1 - P) ** 2 + w)
    apart, more = (sp.cancel(common * (each - each.subs(P, 0))) for each in (best, least))
    return P, common, apart, more


_GEOMETRIC = by_hand("a geometric sequence vanishes where its ratio lies between -1 and 1")


def _vanishing(s: ClaimStatement, context: ClaimContext) -> Check:
    """What both differences do at any γh below 2, or at 2, where w_T goes back and forth."""
    d, h, w, t = sp.symbols("d h w t", positive=True)
    step = 2 / (1 + d) if context.has(UNIFORM) else sp.S(2)
    ratio = s.formula("power", γ=step / h, H=h, I=1, T=1)
    shrinks = bool(sp.factor(1 - ratio**2).is_positive)
    # The limit of P, or, where it has none, its value at every other T.
    ends = [
        s.formula(name, P=sp.S(0) if shrinks else sp.S(1), w=w, t=t) for name in ("distance", "gap")
    ]
    word = _VANISH if shrinks and not any(ends) else _STAY
    name = f"what both differences do at γh = {step}: 1 less the square of the ratio of P"
    return fact(f"{name} is {sp.factor(1 - ratio**2)}", word == s.word("end"), word, s.word("end"),
                EvidenceMethod.SYMBOLIC,
                over=dict.fromkeys(("n", "p", "T"), _GEOMETRIC))  # fmt: skip


_WEIGHT, _TARGET = sp.Rational(1, 2), sp.Matrix([1, -1, 2])


def _minimised_by_the_package(s: ClaimStatement, full: bool) -> Iterator[Check]:
    """n = p = 3: the λ at which the hypergradient of reverse or forward mode vanishes, and f_T there."""
    from proofs_check.tools import field_runs as on

    bend = np.array(on.H.tolist(), dtype=np.float64)
    eigenvalues, basis = np.linalg.eigh(bend)
    target, w = basis.T @ on.numbers(_TARGET), float(_WEIGHT)
    for T in (3, 30, 120):
        powers = [
            s.formula("power", float, γ=float(on.GAMMA), H=h, I=1.0, T=T) for h in eigenvalues
        ]
        pairs = list(zip(powers, target, strict=True))
        apart = np.array([s.formula("distance", float, P=P, w=w, t=t) for P, t in pairs])
        more = sum(s.formula("gap", float, P=P, w=w, t=t) for P, t in pairs)
        stated = basis @ (target / (1 + w) + apart)
        least = float(w * (target @ target) / (2 * (1 + w)) + more)
        for mode in ("RMD", "FMD") if full or T == 3 else ("RMD",):
            best, value = _minimiser_of(mode, T)
            gap = float(np.abs(best - stated).max())
            yield fact(f"refblo: {mode}, T = {T}: minimiser of f_T", gap <= 1e-11, gap, "<= 1e-11",
                       EvidenceMethod.NUMERIC)  # fmt: skip
            yield fact(f"refblo: {mode}, T = {T}: inf f_T", abs(value - least) <= 1e-11, value, least,
                       EvidenceMethod.NUMERIC)  # fmt: skip


@cache
def _minimiser_of(mode: str, T: int) -> tuple[np.ndarray, float]:
    """The root of the package's hypergradient, which is affine in λ, and f_T there."""
    import torch

    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin, Schedule
    from refblo.estimators.fmd import FMD
    from refblo.estimators.rmd import RMD
    from refblo.problem import BilevelProblem, FixedInitial

    bend, target, w = on.tensor(on.H), on.tensor(_TARGET), float(_WEIGHT)
    problem = BilevelProblem(
        lambda lam, theta, _: (theta - lam) @ bend @ (theta - lam) / 2,
        lambda lam, theta, _: ((theta - target).square().sum() + w * lam.square().sum()) / 2,
        FixedInitial(torch.zeros(3, dtype=torch.float64)),
    )
    method = {"RMD": RMD, "FMD": FMD}[mode](Langevin(float(on.GAMMA)), Schedule.last(T))
    zero = torch.zeros(3, dtype=torch.float64)
    offset = method.estimate(problem, zero).value
    columns = [
        method.estimate(problem, row).value - offset for row in torch.eye(3, dtype=torch.float64)
    ]
    best = torch.linalg.solve(torch.stack(columns, dim=1), -offset)
    result = method.estimate(problem, best)
    return on.numbers(best), float(problem.outer(best, result.theta, None))


@cache
def _no_closed_form(full: bool) -> tuple[Check, ...]:
    """Inner log cosh(θ - λ) + θ²/4, outer (θ - 1)²/2 + λ²/4: roots of the package's hypergradient."""
    from proofs_check.tools.refblo_runs import RefbloRun, Small, forward_mode, reverse_mode

    small = Small(
        lambda lam, theta: ((theta - lam).cosh().log() + theta**2 / 4).sum(),
        lambda lam, theta: ((theta - 1) ** 2 / 2 + lam**2 / 4).sum(),
        np.zeros(1),
    )

    def root(mode: Mode, T: int) -> float:
        """By the secant method."""
        run = RefbloRun(0.5, T - 1, 1)
        before, now = 0.5, 1.0
        slope = float(mode(small, run, np.array([before]))[0])
        for _ in range(6):
            here = float(mode(small, run, np.array([now]))[0])
            if abs(here) <= 1e-14:
                break
            before, now, slope = now, now - here * (now - before) / (here - slope), here
        return now

    checks = []
    for name, mode in (("RMD", reverse_mode), ("FMD", forward_mode))[: 2 if full else 1]:
        end = root(mode, 40)
        away = [abs(root(mode, T) - end) for T in (3, 6, 12)]
        halved = all(after <= first / 2 for first, after in pairwise(away))
        title = f"refblo: {name}, no closed form: |minimiser of f_T - that at T = 40|, T = 3, 6, 12"
        checks.append(fact(title, halved, ", ".join(f"{x:.2g}" for x in away),
                           "at most half of the one before", EvidenceMethod.NUMERIC))  # fmt: skip
    return tuple(checks)


_VANISH, _STAY = "vanish as T grows", "do not both vanish as T grows"

CLAIMS = (
    Claim(
        "franceschi-representation",
        ClaimSource.FRANCESCHI,
        "a representation shared by episodes, with ridge heads",
        ClaimStatement(
            "the head w of an episode is {head}, H being {hessian}; its validation loss has along a "
            "hyperparameter the slope {slope}, P and V the features of its training and validation points, "
            "DP and DV what they move by, r the residuals of validation, a final t a transpose; for the loss "
            "of all episodes, which is the sum of theirs, the slope is {together} of theirs",
            (
                formula("head", "H**(-1) @ Pt @ y", "H Pt y"),
                formula("hessian", "Pt @ P + ρ*I", "Pt P"),
                formula(
                    "slope",
                    "rt @ (DV @ w + V @ H**(-1) @ (DPt @ (y - P @ w) - Pt @ DP @ w))",
                    "rt DV w V H DPt y P Pt DP",
                ),
                choice("together", _SUM, _MEAN),
            ),
        ),
        _representation,
        ClaimVerdict.HOLDS,
        assumptions=(ONE_HEAD,),
        remark="The inner problem is convex, and one solve with H gives the hypergradient exactly: no inner "
        "run is needed.",
        scope=Scope(
            n=ALL,
            p=ALL,
            M=Every("episodes"),
            f=Only("half the squared validation error"),
            inner=Only(
                "half the squared training error with half a penalty ρ of the head's square"
            ),
        ),
    ),
    Claim(
        "franceschi-limit",
        ClaimSource.FRANCESCHI,
        "what the solutions of the T-step problems tend to",
        ClaimStatement(
            "along an eigenvector of H, t being the target's coordinate, the minimiser of the T-step problem "
            "differs from that of the exact one by {distance}, and its infimum by {gap}, P being {power}; "
            "both {end}",
            (
                formula("distance", "t*P*(1 - P - w)/((1 + w)*((1 - P)**2 + w))"),
                formula("gap", "w*t**2*P*(2 - P)/(2*(1 + w)*((1 - P)**2 + w))"),
                formula("power", "(I - γ*H)**T"),
                choice("end", _VANISH, _STAY),
            ),
        ),
        _limit,
        ClaimVerdict.HOLDS,
        assumptions=(UNIFORM,),
        remark="The conclusion of the convergence theorem on one family, with its rate: both differences are "
        "P times something bounded. That it follows in general is franceschi-convergence.",
        scope=Scope(
            n=ALL,
            p=ALL,
            T=ALL,
            f=Only("½‖θ - t‖² + ½w‖λ‖²"),
            inner=Only(
                "½(θ - λ)'H(θ - λ), H positive definite, by gradient descent of step γ from zero"
            ),
        ),
    ),
)
