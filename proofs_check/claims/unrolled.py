"""The unrolled program: (49) to (52), Theorem 5, Table 1."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from fractions import Fraction
from functools import cache

import numpy as np
import sympy as sp

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.tangent import equal
from proofs_check.evidence import Check, EvidenceMethod, exact, fact, identity, number
from proofs_check.scope import ALL, COMPONENT, FUNCTIONS, Every, Scope
from proofs_check.statement import ClaimStatement, Term, coefficient, exponent, index
from proofs_check.tools.counting import Tape, counted, degree
from proofs_check.tools.refblo_runs import RefbloRun, Small, Vector, forward_mode, reverse_mode
from proofs_check.tools.world import Exact, world


def _unrolled(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    run, steps = world(), 4
    found = run.total(steps + s.integer("at"))
    wanted = run.f_lambda(steps) + run.f_theta(steps) @ run.tangents[steps]
    yield equal("d/dλ L_V(λ, θ^T), T = 4, by dual numbers", found, wanted)
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
    run, t = world(), 3
    k = t + s.integer("j")
    half = Fraction(1, 2) * run.epsilon
    transition: Exact = np.array(
        [[Fraction(int(i == j)) for j in range(run.n)] for i in range(run.n)], dtype=object
    )
    transition = transition + half * run.A(k)
    stated = s["a"] * (transition @ run.tangents[k]) + s["b"] * half * run.B(k)
    yield equal("dθ^t/dλ at t = 3 by dual numbers", run.tangents[t], stated)


def _hypergradient(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    run, steps = world(), 4
    indirect = run.f_theta(steps) @ run.tangents[steps + s.integer("at")]
    stated = s["d"] * run.f_lambda(steps) + s["g"] * indirect
    yield equal("the hypergradient by dual numbers through f", run.total(steps), stated)


def _deterministic(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    x, lam = sp.symbols("theta lambda")
    eps, tau = sp.symbols("epsilon tau", positive=True)
    loss = sp.Function("L")(lam, x)
    energy = loss / tau
    step = x - eps / 2 * sp.diff(energy, x)
    stated = x - number(s["c"]) * eps / tau * sp.diff(loss, x)
    over = {"n": COMPONENT, "p": COMPONENT, "inner": FUNCTIONS}
    yield identity("one step with E = L_T/τ, no noise", step, stated, over=over)
    curvature = -sp.diff(energy, x, 2)
    transition = 1 + number(s["c"]) * eps * tau ** number(s["k"]) * curvature
    yield identity("its Jacobian in θ", sp.diff(step, x), transition, over=over)
    mixed = -sp.diff(energy, x, lam)
    push = number(s["c"]) * eps * tau ** number(s["k"]) * mixed
    yield identity("its Jacobian in λ", sp.diff(step, lam), push, over=over)


# ---------------------------------------------------------------- Theorem 5


def _cheap_modes(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    ratios_forward, ratios_reverse = [], []
    for kind in ("add", "mul", "phi"):
        one = Tape()
        one.add(kind)
        ratios_forward.append(one.forward)
        ratios_reverse.append(one.reverse)
    yield exact("dearest operation in forward mode", max(ratios_forward), s["f"])
    yield exact("dearest operation in reverse mode", max(ratios_reverse), s["r"])
    tape = Tape()
    for kind in ("mul", "phi", "add", "mul", "mul", "add", "phi") * 11:
        tape.add(kind)
    length = len(tape.kinds)
    yield fact("forward mode of a program of 77 operations", tape.forward <= s["f"] * length,
               tape.forward, f"<= {s['f'] * length}")  # fmt: skip
    yield fact("reverse mode of it", tape.reverse <= s["r"] * length, tape.reverse,
               f"<= {s['r'] * length}")  # fmt: skip
    yield exact(
        "numbers that reverse mode keeps, for each operation", tape.stored // length, s["k"]
    )


# ---------------------------------------------------------------- Table 1

Measured = tuple[int, int]


@cache
def _sizes(kind: str, steps: int, n: int, p: int) -> Measured:
    """Operations and peak bytes of one hypergradient of refblo.

    The inner loss costs O(n + p) to evaluate and couples every λ with every θ.
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


def _degrees(kind: str, vary: Callable[[int], tuple[int, int, int]], points: int) -> Measured:
    found = [_sizes(kind, *vary(k)) for k in range(1, points + 1)]
    return degree([f[0] for f in found]), degree([f[1] for f in found])


def _complexity(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    names = {"columns": "FMD, column by column", "reverse": "RMD", "recursion": "HPO-SGLD"}
    for kind, title in names.items():
        in_steps = _degrees(kind, lambda k: (3 * k, 10, 3), 5)
        in_size = _degrees(kind, lambda k: (3, 10 * k, 4 * k), 5)
        for axis, found in (("T", in_steps), ("size", in_size)):
            for what, value in zip(("time", "space"), found, strict=True):
                stated = s[f"{kind}_{axis}_{what}"]
                yield exact(f"{title}: degree of {what} in {axis}", value, stated)
    _, matrix = _degrees("matrix", lambda k: (3, 10 * k, 4 * k), 5)
    yield exact(
        "FMD with the whole tangent: degree of space in size", matrix, s["matrix_size_space"]
    )
    yield from _at_scale()


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


_COMPLEXITY: tuple[Term, ...] = tuple(
    exponent(f"{kind}_{axis}_{what}", value)
    for kind, axis, what, value in (
        ("columns", "T", "time", 1), ("columns", "T", "space", 0),
        ("columns", "size", "time", 2), ("columns", "size", "space", 1),
        ("reverse", "T", "time", 1), ("reverse", "T", "space", 1),
        ("reverse", "size", "time", 1), ("reverse", "size", "space", 1),
        ("recursion", "T", "time", 1), ("recursion", "T", "space", 0),
        ("recursion", "size", "time", 1), ("recursion", "size", "space", 1),
        ("matrix", "size", "space", 2),
    )
)  # fmt: skip

CLAIMS = (
    Claim(
        "eq-49",
        ClaimSource.KIM,
        "the unrolled problem",
        ClaimStatement(
            "min over λ of L_V(λ, θ^(T+{at})) with θ^t = Φ_t(θ^(t-1), λ), t = 1, …, T",
            (index("at", 0),),
        ),
        _unrolled,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, T=ALL, f=Every("C¹"), inner=Every("C²")),
        on="n = 3, p = 2, T = 4, one cubic E and f",
    ),
    Claim(
        "eq-50",
        ClaimSource.KIM,
        "the forward-mode recursion",
        ClaimStatement(
            "s_t = {a}·a_(t+{j})·s_(t+{j}) + {b}·b_(t+{j})",
            (coefficient("a", 1), coefficient("b", 1), index("j", -1)),
        ),
        _forward_step,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, T=ALL, inner=Every("C²")),
        on="n = 3, p = 2, t = 3, one cubic E",
    ),
    Claim(
        "eq-51",
        ClaimSource.KIM,
        "the forward-mode hypergradient",
        ClaimStatement(
            "dL_V/dλ = {d}·∂_λ L_V(λ, θ^T) + {g}·∂_θ L_V(λ, θ^T)·s_(T+{at})",
            (coefficient("d", 1), coefficient("g", 1), index("at", 0)),
        ),
        _hypergradient,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, p=ALL, T=ALL, f=Every("C¹"), inner=Every("C²")),
        on="n = 3, p = 2, T = 4, one cubic E and f",
    ),
    Claim(
        "eq-52",
        ClaimSource.KIM,
        "the deterministic step, and its Jacobians",
        ClaimStatement(
            "θ^m = θ^(m-1) - {c}·(ε/τ)·∂_θ L_T; a_t = I + {c}·ε·τ^{k}·A, b_t = {c}·ε·τ^{k}·B",
            (coefficient("c", "1/2"), exponent("k", -1)),
        ),
        _deterministic,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=ClaimStatement(
            "θ^m = θ^(m-1) - {c}·(ε/τ)·∂_θ L_T; a_t = I + {c}·ε·τ^{k}·A, b_t = {c}·ε·τ^{k}·B",
            (coefficient("c", "1/2"), exponent("k", 0)),
        ),
        slip=True,
        remark="The step itself is right; the sentence after it has a_t = I + γA, but A already "
        "carries 1/τ.",
        scope=Scope(n=ALL, p=ALL, inner=Every("C²")),
        on="n = p = 1",
    ),
    Claim(
        "thm-5",
        ClaimSource.KIM,
        "the cost of a product with a Jacobian",
        ClaimStatement(
            "forward mode costs at most {f} times the function, reverse mode {r} times, and reverse "
            "mode keeps {k} number for each operation",
            (coefficient("f", 4), coefficient("r", 5), coefficient("k", 1)),
        ),
        _cheap_modes,
        ClaimVerdict.HOLDS,
        by_hand="Induction over the operations of the program.",
        remark="Constants for additions, products and one nonlinear call at unit cost each.",
        scope=Scope(m=ALL, about="programs of additions, products and calls of one function"),
        on="three operations, and a program of 77 of them",
    ),
    Claim(
        "tab-1",
        ClaimSource.KIM,
        "time and space of FMD, RMD and HPO-SGLD",
        ClaimStatement(
            "exponents in T and in the common size of n and p: FMD column by column time "
            "T^{columns_T_time}·size^{columns_size_time}, space "
            "T^{columns_T_space}·size^{columns_size_space}; RMD time "
            "T^{reverse_T_time}·size^{reverse_size_time}, space "
            "T^{reverse_T_space}·size^{reverse_size_space}; HPO-SGLD time "
            "T^{recursion_T_time}·size^{recursion_size_time}, space "
            "T^{recursion_T_space}·size^{recursion_size_space}; FMD with the whole tangent space "
            "size^{matrix_size_space}",
            _COMPLEXITY,
        ),
        _complexity,
        ClaimVerdict.HOLDS,
        remark="Exact counts of refblo's estimators are polynomials of these degrees. The printed FMD "
        "row is the column-wise variant; keeping the tangent takes n·p.",
        scope=Scope(n=ALL, p=ALL, T=ALL),
        on="T = 3 to 15, n = 10 to 50 with p = 0.4·n",
    ),
)
