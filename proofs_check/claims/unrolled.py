"""Claims about the unrolled program, from Kim and Hospedales: equations (49) to (52), and Table 1.

Each claim at the end of the file states what the paper prints and names the function above that executes its
evidence. A function yields checks; it takes every number and formula of the claim from its argument `s`, the
statement, and derives the other side without it (by dual numbers in `world()`, by sympy, by counting refblo's
own operations). So a planted error in a number of the statement makes a check fail: the ledger tests that.

A verdict and a scope may be changed only together with the evidence. `on` of Table 1 describes the ranges in
`AXES` and `_POINTS` by hand: change them together.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from fractions import Fraction
from functools import cache

import numpy as np
import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.tangent import equal, identity_matrix, of_world
from proofs_check.evidence import Check, EvidenceMethod, exact, fact, identity
from proofs_check.scope import ALL, COMPONENT, FUNCTIONS, OPERATORS, SYMBOL, Every, Scope, by_hand
from proofs_check.statement import ClaimStatement, formula
from proofs_check.sums import At, Indexed
from proofs_check.tools.counting import counted, degree
from proofs_check.tools.refblo_runs import RefbloRun, Small, Vector, forward_mode, reverse_mode
from proofs_check.tools.world import world

_T = sp.Symbol("T", positive=True)


def _chain_rule(name: str, s: ClaimStatement) -> Check:
    """The check of f_λ + f_θ·S at the last iterate, in operators that do not commute."""
    direct, slope, tangent = Indexed("f_λ"), Indexed("f_θ"), Indexed("S")
    rule = by_hand("the chain rule")
    over = {"n": OPERATORS, "p": OPERATORS, "T": SYMBOL, "f": rule, "inner": rule}
    stated = s.formula(name, f_λ=direct, f_θ=slope, S=tangent, T=_T)
    return identity("the chain rule at the T-th iterate", direct[_T] + slope[_T] * tangent[_T], stated,
                    over=over)  # fmt: skip


def _unrolled(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield _chain_rule("slope", s)
    run, steps = world(), 4
    exact_ = s.formula("slope", Fraction, **{**of_world(run), "T": steps})
    yield equal("d/dλ L_V(λ, θ^T), T = 4, by dual numbers", run.total(steps), exact_)
    yield from _both_modes()


def _both_modes() -> Iterator[Check]:
    small, lam = _quartic()
    run = RefbloRun(0.05, 11, 1)
    forward, reverse = forward_mode(small, run, lam), reverse_mode(small, run, lam)
    gap = float(np.max(np.abs(forward - reverse)))
    # A few thousand roundings on numbers of order one.
    yield fact(
        "refblo's forward and reverse mode", gap <= 1e-12, gap, "<= 1e-12", EvidenceMethod.NUMERIC
    )


def _quartic() -> tuple[Small, Vector]:
    small = Small(
        lambda lam, t: (t**4).sum() / 4 + (lam.sum() * t).sum() + (t[0] * lam[1]) ** 2,
        lambda lam, t: ((t - 1) ** 2).sum() + (lam[0] * t[2]) ** 2,
        np.array([0.3, -0.2, 0.5]),
    )
    return small, np.array([0.4, -0.7])


def _forward_step(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    a, b, tangent = Indexed("a"), Indexed("b"), Indexed("S")
    # θ^t = Φ(θ^(t-1), λ): the two partial derivatives are taken where Φ is.
    rule = by_hand("the chain rule")
    over = {"n": OPERATORS, "p": OPERATORS, "T": SYMBOL, "inner": rule}
    before = _T - 1
    stated = s.formula("step", a=a, b=b, S=tangent, T=_T)
    yield identity("one step, differentiated", a[before] * tangent[before] + b[before], stated,
                   over=over)  # fmt: skip
    run = world()
    half = Fraction(1, 2) * run.epsilon
    names = {
        "a": At(lambda k: identity_matrix(run.n) + half * run.A(k)),
        "b": At(lambda k: half * run.B(k)),
        "S": At(lambda k: run.tangents[k]),
        "T": 3,
    }
    yield equal(
        "dθ^t/dλ at t = 3 by dual numbers", run.tangents[3], s.formula("step", Fraction, **names)
    )


def _hypergradient(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield _chain_rule("slope", s)
    run, steps = world(), 4
    exact_ = s.formula("slope", Fraction, **{**of_world(run), "T": steps})
    yield equal("the hypergradient by dual numbers through f", run.total(steps), exact_)


def _deterministic(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    x, lam = sp.symbols("theta lambda")
    eps, tau = sp.symbols("epsilon tau", positive=True)
    loss = sp.Function("L")(lam, x)
    energy = loss / tau
    step = x - eps / 2 * sp.diff(energy, x)
    stated = s.formula("step", θ=x, ε=eps, τ=tau, L_θ=sp.diff(loss, x))
    over = {"n": COMPONENT, "p": COMPONENT, "inner": FUNCTIONS}
    yield identity("one step with E = L_T/τ, no noise", step, stated, over=over)
    curvature, mixed = -sp.diff(energy, x, 2), -sp.diff(energy, x, lam)
    names = {"I": 1, "ε": eps, "τ": tau, "A": curvature, "B": mixed}
    yield identity("its Jacobian in θ", sp.diff(step, x), s.formula("a", **names), over=over)
    yield identity("its Jacobian in λ", sp.diff(step, lam), s.formula("b", **names), over=over)


# ---------------------------------------------------------------- Table 1

Measured = tuple[int, int]


@cache
def _sizes(kind: str, steps: int, n: int, p: int) -> Measured:
    """Operations and peak bytes of one hypergradient by refblo.

    The inner loss costs O(n + p) to evaluate and couples every λ with every θ, as Table 1 assumes.
    """
    import torch

    from refblo.chain import Langevin, Schedule
    from refblo.estimators import Estimator
    from refblo.estimators.fmd import FMD
    from refblo.estimators.hpo_sgld import HPOSGLD
    from refblo.estimators.rmd import RMD
    from refblo.problem import BilevelProblem, FixedInitial

    problem = BilevelProblem(
        inner=lambda lam, t, _: (t.square().sum() * (1 + lam.square().sum())) / 2 + t.sum(),
        outer=lambda lam, t, _: t.square().sum() + lam.sum(),
        initial=FixedInitial(torch.full((n,), 0.1, dtype=torch.float64)),
    )
    dynamics, schedule = Langevin(1e-3), Schedule.last(steps)
    methods: dict[str, Estimator] = {
        "columns": FMD(dynamics, schedule, block=1),
        "matrix": FMD(dynamics, schedule),
        "reverse": RMD(dynamics, schedule),
        "recursion": HPOSGLD(dynamics, schedule),
    }
    lam = torch.full((p,), 0.01, dtype=torch.float64)
    method = methods[kind]
    counts = counted(lambda: method.estimate(problem, lam))
    return counts.operations, counts.peak


AXES: dict[str, Callable[[int], tuple[int, int, int]]] = {
    "T": lambda k: (k + 2, 10, 3),
    "n": lambda k: (1, 20 + 10 * k, 3),
    "p": lambda k: (1, 2, 12 + 4 * k),
    "T and n": lambda k: (k + 2, 20 * k, 3),
    "n and p": lambda k: (1, 6 * k, 6 * k),
}
"""(T, n, p) of the k-th measurement, k = 1, 2, …, by the sizes that grow."""

_POINTS = {"T": 4, "n": 4}
"""Measurements on an axis: three more than the degree to be found; 5 on axes that are not listed."""


@cache
def _degrees(kind: str, axis: str) -> Measured:
    found = [_sizes(kind, *AXES[axis](k)) for k in range(1, _POINTS.get(axis, 5) + 1)]
    return degree([f[0] for f in found]), degree([f[1] for f in found])


def _stated_degree(s: ClaimStatement, name: str, axis: str) -> int:
    """The degree in k of a stated cost when the sizes of an axis are multiplied by k."""
    sizes = {x: sp.Symbol(x, positive=True) for x in ("T", "n", "p")}
    k = sp.Symbol("k", positive=True)
    grown = {x: k * sizes[x] if x in axis.split(" and ") else sizes[x] for x in sizes}
    value = sp.expand(s.formula(name, **grown))
    return int(sp.degree(value, k)) if value.has(k) else 0


_METHODS = {"columns": "FMD, column by column", "reverse": "RMD", "recursion": "HPO-SGLD"}


def _complexity(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    for hole in _COMPLEXITY:
        costs = [s.formula(hole.name, T=1, n=n, p=p) for n, p in ((1, 2), (2, 1))]
        yield fact(f"{hole.name}: a cost is positive", min(costs) > 0, costs, "> 0")
    for kind, title in _METHODS.items():
        for axis in AXES:
            for what, value in zip(("time", "space"), _degrees(kind, axis), strict=True):
                stated = _stated_degree(s, f"{kind}_{what}", axis)
                yield exact(f"{title}: degree of {what} in {axis}", value, stated)
    for axis in ("n", "p", "n and p"):
        _, space = _degrees("matrix", axis)
        stated = _stated_degree(s, "matrix_space", axis)
        yield exact(f"FMD with the whole tangent: degree of space in {axis}", space, stated)
    yield from _at_scale()


def _forward_space(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    sizes = [s.formula("space", n=n, p=p) for n, p in ((1, 2), (2, 1))]
    yield fact("a space is positive", min(sizes) > 0, sizes, "> 0")
    for axis in ("T", "n", "p", "n and p"):
        _, space = _degrees("columns", axis)
        yield exact(f"refblo's FMD, column by column: degree of space in {axis}", space,
                    _stated_degree(s, "space", axis))  # fmt: skip


VIT_B16 = 86_567_656
"""Parameters of ViT-B/16 with 1000 classes; λ has as many."""


def recursion_peak(n: int, fake: bool) -> int:
    """Peak bytes of three steps of refblo's HPO-SGLD with p = n in float32, R = Σ λ_j θ_j².

    Args:
        n: the number of parameters.
        fake: whether to compute with tensors that have a size but no storage.

    Returns:
        The bytes.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from refblo.chain import Chain, Langevin, Schedule
    from refblo.estimators.hpo_sgld import HPOSGLD
    from refblo.noise import Draws
    from refblo.problem import BilevelProblem, FixedInitial

    with FakeTensorMode() if fake else nullcontext():
        lam, theta = torch.full((n,), 0.01), torch.full((n,), 0.1)
        problem = BilevelProblem(
            inner=lambda x, t, _: (x * t * t).sum() + t.square().sum(),
            outer=lambda _x, t, _: t.square().sum(),
            initial=FixedInitial(theta),
        )
        method = HPOSGLD(Langevin(1e-3), Schedule.last(3))
        chain = Chain(problem, method.dynamics, Draws(0))

        def run() -> None:
            state = method.init(chain, lam)
            for m in range(1, 4):
                state, _ = method.step(chain, lam, state, m)

        return counted(run).peak


def _at_scale() -> Iterator[Check]:
    small, large = recursion_peak(1000, fake=False), recursion_peak(2000, fake=False)
    slope = (large - small) // 1000
    predicted = small + slope * (VIT_B16 - 1000)
    found = recursion_peak(VIT_B16, fake=True)
    yield exact("HPO-SGLD: peak bytes at ViT-B/16 size, by fake tensors", found, predicted)


_COMPLEXITY = (
    formula("columns_time", "T*p*(n + p)"),
    formula("columns_space", "n + p"),
    formula("reverse_time", "T*(n + p)"),
    formula("reverse_space", "T*n + p"),
    formula("recursion_time", "T*(n + p)"),
    formula("recursion_space", "n + p"),
    formula("matrix_space", "p*(n + p)"),
)
_DETERMINISTIC = ClaimStatement(
    "a step without noise moves θ to {step}; its Jacobians are {a} in θ and {b} in λ",
    (
        formula("step", "θ - 1/2*ε/τ*L_θ"),
        formula("a", "I + 1/2*ε*A"),
        formula("b", "1/2*ε*B"),
    ),
)
_FORWARD_SPACE = ClaimStatement(
    "up to factors the space that forward mode needs is {space}", (formula("space", "n + p"),)
)
_OPS = "a b S f_λ f_θ"
_SLOPE = (formula("slope", "f_λ[T] + f_θ[T] @ S[T]", _OPS),)

CLAIMS = (
    Claim(
        "eq-49",
        ClaimSource.KIM,
        "the unrolled problem",
        ClaimStatement(
            "λ minimises the validation loss at the last of T iterates; its slope in λ is {slope}",
            _SLOPE,
        ),
        _unrolled,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, T=ALL, f=Every("C¹"), inner=Every("C²")),
    ),
    Claim(
        "eq-50",
        ClaimSource.KIM,
        "the forward-mode recursion",
        ClaimStatement(
            "the tangent after T steps is {step}, a and b the Jacobians of a step",
            (formula("step", "a[T-1] @ S[T-1] + b[T-1]", _OPS),),
        ),
        _forward_step,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, T=ALL, inner=Every("C²")),
    ),
    Claim(
        "eq-51",
        ClaimSource.KIM,
        "the forward-mode hypergradient",
        ClaimStatement("the hypergradient after T steps is {slope}", _SLOPE),
        _hypergradient,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, T=ALL, f=Every("C¹"), inner=Every("C²")),
    ),
    Claim(
        "eq-52",
        ClaimSource.KIM,
        "the deterministic step, and its Jacobians",
        _DETERMINISTIC.saying(a="I + 1/2*ε/τ*A", b="1/2*ε/τ*B"),
        _deterministic,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=_DETERMINISTIC,
        slip=True,
        remark="The step itself is right; the sentence after it has a_t = I + γA, but A already "
        "carries 1/τ.",
        scope=Scope(n=ALL, p=ALL, inner=Every("C²")),
    ),
    Claim(
        "tab-1",
        ClaimSource.KIM,
        "time and space of FMD, RMD and HPO-SGLD",
        ClaimStatement(
            "up to factors the time and the space are, for FMD column by column, {columns_time} and "
            "{columns_space}, for RMD {reverse_time} and {reverse_space}, for HPO-SGLD {recursion_time} and "
            "{recursion_space}; FMD with the whole tangent takes the space {matrix_space}",
            _COMPLEXITY,
        ),
        _complexity,
        ClaimVerdict.HOLDS,
        remark="Exact counts of refblo's estimators on a loss that costs n + p, with T, n and p varied "
        "apart, are polynomials of these degrees. The printed FMD row is the column-wise variant; keeping "
        "the tangent takes n·p, and the unit vectors along λ that it is made from take p² more.",
        scope=Scope(n=ALL, p=ALL, T=ALL),
        on="T = 1 to 7, n = 2 to 100, p = 3 to 32, one at a time and two together",
    ),
    Claim(
        "text-fmd-memory",
        ClaimSource.KIM,
        "forward mode needs to save A and B",
        _FORWARD_SPACE.saying(space="n**2 + n*p"),
        _forward_space,
        ClaimVerdict.REFUTED,
        corrected=_FORWARD_SPACE,
        remark="It applies them to the tangent, a column at a time, and keeps neither; the paper's own "
        "Table 1 has this space. With the whole tangent it is that of tab-1.",
        scope=Scope(n=ALL, p=ALL, T=ALL),
        on="T = 1 to 7, n = 2 to 100, p = 3 to 32, one at a time and two together",
    ),
)
