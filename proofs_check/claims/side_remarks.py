"""Remarks of Kim and Hospedales in footnotes and supplements: a start's product, space, samples, warm solves.

Footnote 3, Supplement C.2, Supplement D.6 and Supplement E.2.
"""

from collections.abc import Callable, Iterator
from functools import cache

import flint
import numpy as np
import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims.cheap_modes import unit_costs
from proofs_check.evidence import (
    Check,
    EvidenceMethod,
    Role,
    ball,
    exact,
    fact,
    identity,
    number,
    rational,
)
from proofs_check.scope import ALL, OPERATORS, SYMBOL, Every, Scope, by_hand
from proofs_check.statement import ClaimStatement, choice, coefficient, formula
from proofs_check.sums import Indexed
from proofs_check.tools.straight_line import KINDS

CHEAP_START = Assumption("cheap-start", "θ⁰(λ) itself takes O(dim(θ) + dim(λ)) operations")
CURVED = Assumption("curved", "neither f_θ nor B is the same at every θ")
DRAWN_APART = Assumption("independent-samples", "the samples are independent of one another")

# ---------------------------------------------------------------- footnote 3

_ADD_UP = by_hand("operations are executed one after another, each at its own cost: costs add up")


def _start_product(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    numbers = dict(zip(KINDS, sp.symbols("a b c", nonnegative=True), strict=True))
    costs, over = unit_costs(), {"n": _ADD_UP, "p": _ADD_UP}
    spent = sum(count * costs[kind][1] for kind, count in numbers.items())
    room = sp.expand(number(s["r"]) * sum(numbers.values()) - spent)
    least = min(room.coeff(count) for count in numbers.values())
    yield fact("a additions, b products and c calls: the bound less reverse mode has no negative term, and "
               "not all three, so that it is reached", least == 0, room, "the least coefficient is 0",
               EvidenceMethod.SYMBOLIC, over=over)  # fmt: skip
    v, u, a, step = sp.symbols("vt u at d", commutative=False)
    moved = sp.expand(v * u * a * (step + 1) - v * u * a)  # at λ + d less at λ = 1
    yield identity("v·θ⁰ for θ⁰ = u·(a·λ), along d", moved, s.formula("product", vt=v, u=u, at=a) * step,
                   over={"n": OPERATORS, "p": OPERATORS})  # fmt: skip
    yield from _counted_start(s, context)


_SIZES: dict[str, Callable[[int], tuple[int, int]]] = {
    "n": lambda k: (20 + 10 * k, 7),
    "p": lambda k: (7, 20 + 10 * k),
    "n and p": lambda k: (10 * k, 10 * k),
}
"""(n, p) of the k-th of five measurements, by the sizes that grow."""


@cache
def _product_operations(n: int, p: int, dense: bool) -> int:
    """Operations of the package's product v·dθ⁰/dλ for θ⁰ = u·(a·λ), or Wλ with a whole matrix W."""
    import torch

    from proofs_check.tools.counting import counted
    from refblo.derivatives import initial_vjp
    from refblo.problem import LamInitial

    u, a, v = (torch.linspace(1, 2, size, dtype=torch.float64) for size in (n, p, n))
    matrix = torch.outer(u, a)
    start = LamInitial(lambda lam: matrix @ lam if dense else u * (a @ lam))
    lam = torch.full((p,), 0.5, dtype=torch.float64)
    return counted(lambda: initial_vjp(start, lam, v)).operations


def _nonzero_entries(n: int, p: int) -> int:
    """Entries of dθ⁰/dλ for θ⁰ = u·(a·λ) that are not zero, one product of the package a row."""
    import torch

    from refblo.derivatives import initial_vjp
    from refblo.problem import LamInitial

    u, a = (torch.linspace(1, 2, size, dtype=torch.float64) for size in (n, p))
    start, lam = LamInitial(lambda lam: u * (a @ lam)), torch.full((p,), 0.5, dtype=torch.float64)
    rows = [initial_vjp(start, lam, row) for row in torch.eye(n, dtype=torch.float64)]
    return int(torch.stack(rows).count_nonzero())


def _counted_start(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    from proofs_check.tools.counting import degree

    dense = not context.has(CHEAP_START)
    least = [s.formula("cost", n=n, p=p) for n, p in ((1, 2), (2, 1))]
    yield fact("a cost is positive", min(least) > 0, least, "> 0")
    k = sp.Symbol("k", positive=True)
    for axis, sizes in _SIZES.items():
        found = degree([_product_operations(*sizes(j), dense) for j in range(1, 6)])
        grown = {
            x: k * sp.Symbol(x) if x in axis.split(" and ") else sp.Symbol(x) for x in ("n", "p")
        }
        stated = sp.expand(s.formula("cost", **grown))
        power = int(sp.degree(stated, k)) if stated.has(k) else 0
        start = "Wλ" if dense else "u·(a·λ)"
        yield exact(
            f"refblo's v·dθ⁰/dλ for θ⁰ = {start}: degree of its operations in {axis}", found, power
        )
    for n, p in ((5, 3), (4, 7)):
        yield exact(f"entries of dθ⁰/dλ that are not zero, n = {n}, p = {p}", _nonzero_entries(n, p),
                    int(s.formula("entries", n=n, p=p)))  # fmt: skip


# ---------------------------------------------------------------- Supplement C.2

_ONE_STEP = by_hand(
    "the chain rule through one step, its tangent in front of A taken to be that of the start, 0"
)
_OTHER_ENTRIES = by_hand("one entry of f_θ·B: the others have the same two arguments")


def _two_iterates(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    eps, m = sp.symbols("epsilon m", positive=True)
    steep, cross = Indexed("f_θ"), Indexed("B")
    over = {"n": OPERATORS, "p": OPERATORS, "f": _ONE_STEP, "inner": _ONE_STEP}
    yield identity("f_θ(θ^m) times what a step of (24) adds to the tangent, ε/2·B(θ^(m-1))",
                   steep[m] * (eps / 2 * cross[m - 1]), s.formula("term", ε=eps, m=m, f_θ=steep, B=cross),
                   over=over)  # fmt: skip
    now, before, n = sp.symbols("theta_m theta_before n", positive=True)
    slope, mixed = sp.Function("f_θ")(now), sp.Function("B")(before)
    if not context.has(CURVED):
        slope = sp.Symbol("f_θ")
    term = slope * mixed
    needed = sum(1 for at in (now, before) if sp.diff(term, at) != 0)
    over = {"n": SYMBOL, "p": _OTHER_ENTRIES, "f": _OTHER_ENTRIES, "inner": _OTHER_ENTRIES}
    yield identity(f"f_θ(θ^m)·B(θ^(m-1)) depends on {needed} iterates", needed * n,
                   s.formula("iterates", n=n), over=over)  # fmt: skip
    yield from _kept_by_the_package(s)


def _kept_by_the_package(s: ClaimStatement) -> Iterator[Check]:
    for n, p in ((5, 3), (7, 2)):
        alive, kept = _iterates_alive(n, p)
        yield exact(f"refblo's HPO-SGLD, n = {n}, p = {p}: numbers of iterates alive while f_θ·B is formed",
                    n * alive, int(s.formula("iterates", n=n)))  # fmt: skip
        yield exact(f"and in its state from step to step, n = {n}, p = {p}", kept,
                    int(s.formula("kept", n=n, p=p)))  # fmt: skip
    with_g, alone = _peaks()
    yield fact("refblo, one loss: peak of all that is alive in a step with (22), over that of (24) alone",
               alone < with_g < 2 * alone, f"{with_g / alone:.2f}", "between 1 and 2")  # fmt: skip


@cache
def _iterates_alive(n: int, p: int) -> tuple[int, int]:
    """How many iterates of four steps of the package are alive while f_θ·B is formed, and what a state holds.

    The losses note the storage of each θ that they are given; θ⁰ is the caller's, and is left out.
    """
    import gc
    import weakref

    import torch
    from torch import Tensor

    from refblo.chain import Chain, Langevin, Schedule
    from refblo.estimators.hpo_sgld import HPOSGLD
    from refblo.noise import Draws
    from refblo.problem import BilevelProblem, FixedInitial

    first = torch.full((n,), 0.1, dtype=torch.float64)
    given: dict[int, weakref.ref[torch.UntypedStorage]] = {}
    alive = 0

    def note(theta: Tensor) -> None:
        storage = theta.untyped_storage()
        if storage.nbytes() == 8 * n and storage.data_ptr() != first.untyped_storage().data_ptr():
            given[storage._cdata] = weakref.ref(storage)

    def inner(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        note(theta)
        return theta.square().sum() * (1 + lam.square().sum()) / 2 + theta.sum()

    def outer(_lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        nonlocal alive
        note(theta)
        gc.collect()
        alive = sum(each() is not None for each in given.values())
        return theta.square().sum()

    chain = Chain(BilevelProblem(inner, outer, FixedInitial(first)), Langevin(1e-2), Draws(0))
    method, lam = (
        HPOSGLD(Langevin(1e-2), Schedule.last(4)),
        torch.full((p,), 0.5, dtype=torch.float64),
    )
    state = method.init(chain, lam)
    for m in range(1, 5):
        state, _ = method.step(chain, lam, state, m)
    held = sum(value.numel() for value in vars(state).values() if isinstance(value, Tensor))
    return alive, held


@cache
def _peaks() -> tuple[int, int]:
    """Peak bytes of three steps of the package with (22), and of three of (24) alone, n = 1000, p = 10."""
    import torch

    from proofs_check.tools.counting import counted
    from refblo.chain import Chain, Langevin, Schedule
    from refblo.estimators.hpo_sgld import HPOSGLD
    from refblo.noise import Draws
    from refblo.problem import BilevelProblem, FixedInitial

    problem = BilevelProblem(
        lambda lam, theta, _: theta.square().sum() * (1 + lam.square().sum()) / 2 + theta.sum(),
        lambda _lam, theta, _: theta.square().sum(),
        FixedInitial(torch.full((1000,), 0.1, dtype=torch.float64)),
    )
    lam = torch.full((10,), 0.01, dtype=torch.float64)
    method = HPOSGLD(Langevin(1e-3), Schedule.last(3))
    chain = Chain(problem, method.dynamics, Draws(0))

    def recursion() -> None:
        state = method.init(chain, lam)
        for m in range(1, 4):
            state, _ = method.step(chain, lam, state, m)

    return counted(recursion).peak, counted(lambda: chain.last(lam, 3)).peak


# ---------------------------------------------------------------- Supplement D.6

_MOMENTS = by_hand("the loss enters by its curvature b, which is the same at all outputs")


def _samples(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    M, V, b, mean, target, rho = sp.symbols("M V b mu y rho", positive=True)
    # A sum of M: M variances, and a covariance ρV for each of the M(M - 1) ordered pairs.
    shared = sp.S(0) if context.has(DRAWN_APART) else rho
    variance = sp.expand((M * V + M * (M - 1) * shared * V) / M**2)
    over = {"M": SYMBOL, "f": _MOMENTS}
    yield identity("variance of the average", variance, s.formula("variance", M=M, V=V), over=over)
    # The mean of b/2·(x - y)² is b/2·((μ - y)² + Var x).
    excess = b / 2 * ((mean - target) ** 2 + variance) - b / 2 * (mean - target) ** 2
    yield identity("mean loss of the average less the loss of ḡ", sp.expand(excess),
                   s.formula("excess", b=b, M=M, V=V), over=over)  # fmt: skip
    share = sp.sqrt(s.formula("variance", M=number(s["count"]), V=sp.S(1)))
    held = bool(abs(share - number(s["share"])) <= sp.Rational(1, 20000))
    yield fact("standard deviation of the average over that of one sample, at the printed number", held,
               share, number(s["share"]), EvidenceMethod.SYMBOLIC,
               over={"M": _PRINTED_COUNT, "f": _MOMENTS})  # fmt: skip
    yield _cross_entropy()
    if context.full:
        yield _averaged_by_the_package(s)


_PRINTED_COUNT = by_hand("the formula at the printed number of samples")


def _cross_entropy() -> Check:
    """Two samples ±d of a logit: exp of their summed loss against that of twice the loss of their mean, 4."""
    d = sp.symbols("d", positive=True)
    summed = sp.expand((1 + sp.exp(d)) * (1 + sp.exp(-d)))
    more = 2 * (sp.cosh(d) - 1)
    same = sp.expand(summed - 4 - more.rewrite(sp.exp)) == 0
    rises = bool(sp.diff(more, d).is_positive) and more.subs(d, 0) == 0
    name = (
        "a cross-entropy at two logits ±d: the exponential of its sum, less that of twice the loss of the "
        "mean"
    )
    return fact(name, same and rises, more, "> 0 for every d above 0", EvidenceMethod.SYMBOLIC)


def _averaged_by_the_package(s: ClaimStatement) -> Check:
    """ḡ of the package's experiment, by as many maps as are printed, against the mean over each map alone."""
    import torch
    from torch import Tensor

    from refblo.experiments.invariance import averaged
    from refblo.noise import Draws, Stream

    count = s.integer("count")
    draws, lam = Draws(0), torch.linspace(-0.3, 0.3, 6, dtype=torch.float64)
    pictures = draws.uniform(Stream.INSTANCE, 0, (4, 8, 8), 0.0, 1.0)
    theta = draws.uniform(Stream.INSTANCE, 1, (64 * 3,), -1.0, 1.0)
    epsilon = draws.uniform(Stream.DIRECTIONS, 0, (6 * count,), -1.0, 1.0)

    def logits(weights: Tensor, images: Tensor) -> Tensor:
        return torch.tanh(images.flatten(1) @ weights.reshape(64, 3))

    whole = averaged(logits, lam, theta, pictures, epsilon)
    single = [averaged(logits, lam, theta, pictures, row) for row in epsilon.reshape(count, 6)]
    gap = float((whole - torch.stack(single).mean(dim=0)).abs().max())
    return fact(f"refblo's experiment: ḡ by {count} maps against the mean over each alone", gap <= 1e-13, gap,
                "<= 1e-13", EvidenceMethod.NUMERIC)  # fmt: skip


# ---------------------------------------------------------------- Supplement E.2

_KRYLOV = by_hand(
    "the N-th error of conjugate gradients is the least of a polynomial of degree N, equal to 1 at 0, of H "
    "times the first one, at most ρ_N times that, ρ_N from the Chebyshev polynomial: see field-cg"
)
_TRIANGLE = by_hand("the triangle inequality, in the norm of H; ρ_N as in field-cg")


def _warm_and_cold(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    cold, warm, condition, steps = sp.symbols("Q D kappa N", positive=True)
    root = sp.sqrt(condition)
    rate = 2 * ((root - 1) / (root + 1)) ** steps
    # From 0 the first error is q* itself, of norm Q; from a start at distance D from q*, D.
    apart = rate * cold + rate * warm
    yield identity("ρ_N·Q + ρ_N·D, the errors from zero and from the start", apart,
                   s.formula("apart", κ=condition, N=steps, Q=cold, D=warm),
                   over={"n": _TRIANGLE})  # fmt: skip
    for name in ("easy", "hard"):
        share = _share(s, name)
        held = bool(abs(share - rational(s[f"{name}_share"])) <= flint.arb("0.00005"))
        yield fact(f"ρ_N at the printed iterations and the {name} condition number", held, ball(share),
                   float(s[f"{name}_share"]), EvidenceMethod.BALL, over={"n": _KRYLOV})  # fmt: skip
    # Without a step the errors are Q and D: a share of 1 or more is no bound on what the steps do.
    share = _share(s, "hard")
    word = _NOTHING if share >= 1 else _SOMETHING
    yield fact("whether that is below 1, which no step at all gives", word == s.word("says"), ball(share),
               s.word("says"), EvidenceMethod.BALL, over={"n": _KRYLOV})  # fmt: skip
    for name in ("easy", "hard"):
        yield _solved_by_the_package(s, name)
    yield _slow_solve(s)
    yield from _printed_apart()


_NOTHING, _SOMETHING = "says nothing", "says something"


def _share(s: ClaimStatement, name: str) -> flint.arb:
    """The stated bound at the printed iterations and one condition number, at Q + D = 1."""
    with flint.ctx.workprec(200):
        sizes = {"κ": rational(s[name]), "N": rational(s["count"])}
        share: flint.arb = s.formula("apart", flint.arb, Q=flint.arb(1), D=flint.arb(0), **sizes)
    return share


@cache
def _solutions(
    condition: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """q of IFT-CG, of AmIGO-CG at the second of two λ, its start, q* and H's eigenvalues, n = 40.

    Inner ½θ'Hθ - θ'λ with a diagonal H, outer ½‖θ - t‖², so that a hypergradient is q.
    """
    import torch

    from refblo.chain import Langevin
    from refblo.estimators.amigo import AmIGO
    from refblo.estimators.ift import IFTConjugateGradient
    from refblo.noise import Draws, Stream
    from refblo.problem import BilevelProblem, FixedInitial

    bend = torch.logspace(0, float(np.log10(condition)), 40, dtype=torch.float64) / condition
    target, lam, change = (Draws(k).normal(Stream.INSTANCE, 0, bend) for k in range(3))
    problem = BilevelProblem(
        lambda at, theta, _: (bend * theta.square()).sum() / 2 - theta @ at,
        lambda at, theta, _: (theta - target).square().sum() / 2 + 0 * at.sum(),
        FixedInitial(lam / bend),
    )
    rule = Langevin(1.0)
    warm, cold = AmIGO(rule, 1, count), IFTConjugateGradient(rule, 1, count)
    _, carried = warm.advance(problem, lam, warm.begin(problem, lam))
    after = lam + 0.01 * change
    h_cold = cold.estimate(problem.starting_at(carried.theta), after)
    h_warm, _ = warm.advance(problem, after, carried)
    exact_ = (h_cold.theta - target) / bend
    found = (h_cold.value, h_warm.value, carried.q, exact_, bend)
    return tuple(np.array(each.tolist()) for each in found)  # type: ignore[return-value]  # five of them


def _lengths(s: ClaimStatement, name: str) -> tuple[float, float, float]:
    """How far the package's two solves end apart, Q and D, in the norm of H."""
    cold, warm, start, solution, bend = _solutions(int(s[name]), s.integer("count"))
    apart, full, left = (
        float(np.sqrt(q @ (bend * q))) for q in (cold - warm, solution, solution - start)
    )
    return apart, full, left


def _solved_by_the_package(s: ClaimStatement, name: str) -> Check:
    found, full, left = _lengths(s, name)
    sizes = {"κ": float(s[name]), "N": float(s["count"]), "Q": full, "D": left}
    stated = s.formula("apart", float, **sizes)
    return fact(f"refblo: IFT-CG and AmIGO-CG at a second λ, the {name} condition number",
                1e-12 < found <= stated, found, f"<= {stated:.4g}", EvidenceMethod.NUMERIC)  # fmt: skip


def _slow_solve(s: ClaimStatement) -> Check:
    """At the hard condition number the share of Q + D is larger than the bound's at the easy one."""
    found, full, left = _lengths(s, "hard")
    share = found / (full + left)
    return fact("refblo: the latter, over Q + D", share > s["easy_share"], share,
                f"> {float(s['easy_share']):g}", EvidenceMethod.NUMERIC)  # fmt: skip


_L1_REG = {
    "Pets": (("27.47", "0.90"), ("26.57", "1.15")),
    "DTD": (("34.80", "0.31"), ("34.86", "0.47")),
    "Flowers": (("15.15", "0.15"), ("15.55", "0.21")),
}
"""Table 14: errors of IFT-CG and of AmIGO-CG, each with what is printed behind its ±."""


def _printed_apart() -> Iterator[Check]:
    for name, pair in _L1_REG.items():
        (cold, cold_by), (warm, warm_by) = ((float(x), float(y)) for x, y in pair)
        title = f"Table 14, L1-Reg ({name}): IFT-CG less AmIGO-CG over the combined ±"
        units = abs(cold - warm) / float(np.hypot(cold_by, warm_by))
        yield fact(
            title, units < 1.96, f"{units:.2f}", "< 1.96", EvidenceMethod.NUMERIC, Role.PRINTED
        )


_APART = formula("apart", "2*((κ**(1/2) - 1)/(κ**(1/2) + 1))**N*(Q + D)")

CLAIMS = (
    Claim(
        "text-start-product",
        ClaimSource.KIM,
        "what the product with dθ⁰/dλ costs",
        ClaimStatement(
            "the product of a vector v with the tangent of θ⁰ takes at most {r} times the operations of θ⁰ "
            "itself; for u times the inner product of a and λ it is {product}, vt and at being transposes, "
            "in a number of operations that grows as {cost}, though {entries} entries of the tangent are not "
            "zero",
            (
                coefficient("r", 5),
                formula("product", "vt @ u @ at", "vt u at"),
                formula("cost", "n + p"),
                formula("entries", "n*p"),
            ),
        ),
        _start_product,
        ClaimVerdict.CONDITIONAL,
        added=(CHEAP_START,),
        remark="Footnote 3 means by (sub)linearly sparse that the product takes O(dim(θ) + dim(λ)) time and "
        "space. Zeros in dθ⁰/dλ are not needed for that: it is enough that θ⁰ itself is cheap, which Wλ with "
        "a whole matrix W is not. For the space of reverse mode see thm-5.",
        scope=Scope(
            n=ALL, p=ALL, about="starts that are programs of additions, products and calls"
        ),
        on="the package's product, θ⁰ = u·(a·λ), five sizes an axis",
    ),
    Claim(
        "text-two-iterates",
        ClaimSource.KIM,
        "the recursion keeps two iterates",
        ClaimStatement(
            "for a start without λ the m-th step of (22) adds {term} to g, which depends on both iterates, "
            "so that {iterates} numbers of iterates are kept while it is formed; from step to step {kept} "
            "numbers are kept, of θ and g",
            (
                formula("term", "1/2*ε*f_θ[m] @ B[m-1]", "f_θ B"),
                formula("iterates", "2*n"),
                formula("kept", "n + p"),
            ),
        ),
        _two_iterates,
        ClaimVerdict.CONDITIONAL,
        added=(CURVED,),
        remark="The text says that precisely two times the space is needed. That is so for the iterates, and "
        "only within a step; all that is alive in a step, the derivatives' own numbers among them, is not "
        "doubled. A linear f, or a B that is the same everywhere, needs one iterate alone.",
        scope=Scope(n=ALL, p=ALL, f=Every("C²"), inner=Every("C³")),
        on="the package's HPO-SGLD, n = 5 and 7",
    ),
    Claim(
        "text-samples",
        ClaimSource.KIM,
        "ḡ by the average of samples",
        ClaimStatement(
            "the average of M samples has the variance {variance}, V that of one; for a squared error the "
            "mean loss of the average exceeds the loss of ḡ by {excess}, b its curvature; with the printed "
            "{count} samples the standard deviation is {share} of that of one",
            (
                formula("variance", "V/M"),
                formula("excess", "b*V/(2*M)"),
                coefficient("count", 31),
                coefficient("share", "0.1796"),
            ),
        ),
        _samples,
        ClaimVerdict.HOLDS,
        assumptions=(DRAWN_APART,),
        remark="So (59) and (60) with the average are not those with ḡ: by Jensen's inequality a convex "
        "loss, such as the cross-entropy, is too large in the mean. The paper does not say so.",
        scope=Scope(M=ALL, f=Every("a squared error of curvature b")),
    ),
    Claim(
        "text-warm-solve",
        ClaimSource.KIM,
        "how far a cold and a warm solve end apart",
        ClaimStatement(
            "after N iterations of conjugate gradients from zero, and from a start at D from the solution, "
            "whose norm is Q, the results are at most {apart} apart, in the norm of H and κ its condition "
            "number; with the printed {count} iterations that is {easy_share} of the sum of Q and D at the "
            "printed condition number {easy}, and {hard_share} at {hard}, which {says}",
            (
                _APART,
                coefficient("count", 10),
                coefficient("easy", 10),
                coefficient("easy_share", "0.0029"),
                coefficient("hard", 1000),
                coefficient("hard_share", "1.0623"),
                choice("says", _NOTHING, _SOMETHING),
            ),
        ),
        _warm_and_cold,
        ClaimVerdict.HOLDS,
        remark="The text says that there is rarely a significant difference, since the iterations converge "
        "so quickly. Where they do, as at the first condition number, the bound says so. At the second the "
        "package's two solves end further apart than that. The errors printed in Table 14 differ by less "
        "than 1.96 times their combined ±.",
        scope=Scope(n=ALL, about="a symmetric positive definite H"),
    ),
)
