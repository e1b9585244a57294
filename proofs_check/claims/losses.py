"""Learned losses, (28), (29), (53) to (56), and learned initial points, (57), (58)."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import Check, EvidenceMethod, exact, fact, identity, induction
from proofs_check.scope import (
    ALL,
    COMPONENT,
    FUNCTIONS,
    INDUCTION,
    ONE,
    ONE_MATRIX,
    SYMBOL_OF_H,
    SYMBOL_OF_STEP,
    Every,
    Only,
    Scope,
    by_hand,
)
from proofs_check.statement import ClaimStatement, choice, formula, index
from proofs_check.sums import SIZE, At, Indexed
from proofs_check.tools.refblo_runs import RefbloRun, Small, forward_mode, hpo_sgld

BOUNDED = Assumption(
    "bounded-below", "the learned loss is bounded below over what the model puts out"
)

u, y = sp.symbols("f y", real=True)
LAMS = sp.symbols("lambda0:8", real=True)
C = sp.symbols("C", positive=True)


def one_component(s: ClaimStatement) -> sp.Expr:
    """The summand of (53), before the sum over the classes.

    Args:
        s: a statement with the formula `term`.

    Returns:
        The polynomial in f, y and λ.
    """
    return s.formula("term", λ=At(lambda k: LAMS[k]), u=u - LAMS[1], v=y - LAMS[0])


def _taylor(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    powers = {2: (1, 0), 3: (2, 0), 4: (3, 0), 5: (1, 1), 6: (2, 1), 7: (1, 2)}
    derivative = {k: sp.Symbol(f"F{i}{j}") for k, (i, j) in powers.items()}
    du, dy = u - LAMS[1], y - LAMS[0]
    # The third-order polynomial of any F(f, y) about (λ₁, λ₀), each derivative its own symbol.
    taylor = sum(
        sp.Symbol(f"F{i}{j}") * du**i * dy**j / (sp.factorial(i) * sp.factorial(j))
        for i in range(4) for j in range(4 - i)
    )  # fmt: skip
    term = one_component(s)
    jets = sp.expand(term.subs({LAMS[k]: derivative[k] for k in powers}, simultaneous=True))
    yield identity("its derivative in f is that of the Taylor polynomial", sp.diff(jets, u),
                   sp.diff(taylor, u))  # fmt: skip
    yield identity("without f it vanishes at λ₁", jets.subs(u, LAMS[1]), sp.S(0))
    # The loss is the expectation of -F: for one-hot labels, minus the mean over the C classes.
    whole = s.formula("loss", C=C, S=sp.Symbol("S"))
    mean = by_hand("the mean over the classes of the polynomial, with the sign of a log likelihood")
    yield identity("the loss is minus the mean over the classes", whole, -sp.Symbol("S") / C,
                   over={"M": mean})  # fmt: skip
    # On one-hot labels the loss is a cubic in f for y = 0 and another for y = 1.
    columns = []
    for label in (0, 1):
        poly = sp.Poly(sp.expand(term.subs(y, label)), u)
        columns += [poly.coeff_monomial(u**k) for k in (1, 2, 3)]
    jacobian = sp.Matrix(columns).jacobian(LAMS)
    point = dict(zip(LAMS, [sp.Rational(k * k + 1, 7) for k in range(8)], strict=True))
    rank = jacobian.subs(point).rank()
    yield exact("parameters that one-hot labels can tell apart", int(rank), s["rank"])


def _mean_loss(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    losses = Indexed("l", commutes=True)
    whole = s.formula("loss", N=SIZE, l=losses)
    one_more = s.formula("loss", N=SIZE + 1, l=losses)
    over = {"M": INDUCTION, "inner": FUNCTIONS_OF_A_LOSS}
    base = identity("one point", s.formula("loss", N=sp.S(1), l=losses), losses[1])
    step = identity("N + 1 points", sp.expand((SIZE + 1) * one_more),
                    sp.expand(SIZE * whole + losses[SIZE + 1]))  # fmt: skip
    yield induction("the mean over every number of points", base, step, over)
    values = sp.symbols("l_1:5")
    full = s.formula("loss", N=sp.S(4), l=At(lambda k: sp.Symbol(f"l_{k}")))
    batches = [sum(pair) / 2 for pair in combinations(values, 2)]
    yield identity(
        "and the mean over all minibatches of two of four", sum(batches) / len(batches), full
    )
    yield _bounded_loss(context)


FUNCTIONS_OF_A_LOSS = by_hand("the loss of each point is a symbol")


def _bounded_loss(context: ClaimContext) -> Check:
    """-(c₃u² + c₄u³): with λ₄ = 0 and λ₃ < 0 it is bounded below in a logit; a cubic term unbounds it."""
    cubic = sp.S(0) if context.has(BOUNDED) else sp.S(1)
    one = -(-(u**2) / 2 + cubic * u**3 / 6)
    ends = [sp.limit(one, u, side) for side in (sp.oo, -sp.oo)]
    return fact("the loss far out in the logits", -sp.oo not in ends, ends, "not -oo",
                EvidenceMethod.SYMBOLIC)  # fmt: skip


def _cross_entropy(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # Any number of classes: the other logits enter through the sum of their exponentials, a symbol.
    f, own, rest = sp.symbols("f f_y R", real=True)
    classes = by_hand("the sum over the other classes is one symbol R")
    total = sp.exp(own) + rest
    loss = s.formula("loss", f_y=own, Z=total)
    yield identity("its slope in the label's logit: softmax minus 1", sp.diff(loss, own),
                   sp.exp(own) / total - 1, over={"M": classes})  # fmt: skip
    other = sp.exp(f) + rest
    loss = s.formula("loss", f_y=own, Z=other)
    yield identity("in another logit: its softmax", sp.diff(loss, f), sp.exp(f) / other,
                   over={"M": classes})  # fmt: skip
    yield identity("it vanishes where the label is certain", s.formula("loss", f_y=own, Z=sp.exp(own)),
                   sp.S(0), over={"M": classes})  # fmt: skip


def _argmin(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # θ* solves ∂L/∂(variable) = 0; only over θ is it a function of λ at which L is stationary in θ.
    lam, theta = sp.symbols("lambda theta")
    loss = sp.Function("L")(lam, theta)
    over = theta if s.word("over") == "θ" else lam
    every = {"n": COMPONENT, "p": COMPONENT, "inner": FUNCTIONS}
    yield identity("the stationarity that defines it", sp.diff(loss, over), sp.diff(loss, theta),
                   over=every)  # fmt: skip
    quadratic = (theta - lam) ** 2 / 2 + theta**2
    solution = sp.solve(sp.diff(quadratic, over), over)[0]
    yield fact("for a quadratic, a θ that depends on λ", solution.free_symbols == {lam}, solution,
               "a function of λ", EvidenceMethod.SYMBOLIC)  # fmt: skip


# ---------------------------------------------------------------- θ⁰ = λ


def _initial_point(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    eta, h = sp.symbols("eta h", positive=True)
    steps = sp.symbols("K", positive=True)

    def jacobian(count: sp.Expr) -> sp.Expr:
        return s.formula("jacobian", I=1, H=h, η=eta, K=count)

    base = identity("θ⁰ = λ", jacobian(sp.S(0)), sp.S(1))
    step = identity("one more update", (1 - eta * h) * jacobian(steps), jacobian(steps + 1))
    over = {"n": ONE_MATRIX, "T": INDUCTION, "inner": SYMBOL_OF_H}
    yield induction("dθ^K/dλ for every K", base, step, over)


def _one_update(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    eta, x = sp.symbols("eta x")
    loss = sp.Function("L")
    iterates = {k: sp.Symbol(f"theta_{k}") for k in range(-3, 4)}

    def gradient(k: int) -> sp.Expr:
        return sp.diff(loss(x), x).subs(x, iterates[k])

    found = iterates[-1] - eta * gradient(-1)
    stated = s.formula("update", θ=At(lambda k: iterates[k]), g=At(gradient), η=eta, k=sp.S(0))
    over = {"n": COMPONENT, "T": by_hand("the update is the same at every k"), "inner": FUNCTIONS}
    yield identity("a gradient step", found, stated, over=over)
    h, c, w = sp.symbols("h c w")
    value = h * (w - c) ** 2 / 2
    plain = {"θ": At(lambda _: w), "g": At(lambda _: sp.diff(value, w)), "η": eta, "k": sp.S(0)}
    moved = s.formula("update", **plain)
    drop = value.subs(w, moved) - value
    yield identity(
        "its change of a quadratic", drop, -eta * h**2 * (w - c) ** 2 * (1 - eta * h / 2)
    )


def _constant_objective(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    theta, gam, h, lam = sp.symbols("theta gamma h lambda")
    m = sp.symbols("m", positive=True, integer=True)
    energy = sp.Function("E")(theta)
    # d/dλ E_p[f] = E_p[∂_λ f] - Cov_p(f, ∂_λE): f and E do not contain λ.
    unrolled = sp.symbols("unrolled")
    gradient = sp.diff(energy, lam)
    over = {"m": SYMBOL_OF_STEP}
    yield identity("gradient of the stochastic objective", gradient, s.formula("gibbs", G=unrolled),
                   over=over)  # fmt: skip
    recursion = 1 + sp.summation(-gam * h, (sp.Symbol("j"), 1, m))
    yield identity(
        "what (22) gives for a linear f", recursion, s.formula("g", m=m, γ=gam, h=h), over=over
    )
    truth = s.formula("truth", m=m, γ=gam, h=h)
    first = identity("the truth without a step", s.formula("truth", m=sp.S(0), γ=gam, h=h), sp.S(1))
    next_ = identity("and one more step", (1 - gam * h) * truth,
                     s.formula("truth", m=m + 1, γ=gam, h=h))  # fmt: skip
    yield induction("the unrolled truth for every m", first, next_, {"m": INDUCTION})
    yield from _package(s)


def _package(s: ClaimStatement) -> Iterator[Check]:
    small = Small(lambda _, t: (t**2).sum(), lambda _, t: t.sum(), None)
    run, at = RefbloRun(0.05, 7, 1), np.array([0.6])
    found, truth = float(hpo_sgld(small, run, at)[0]), float(forward_mode(small, run, at)[0])
    numbers = {"m": 8, "γ": 0.05, "h": 2.0}
    wanted, unrolled = (s.formula(name, float, **numbers) for name in ("g", "truth"))
    rounding = 64 * 2.0**-53
    yield fact("refblo's HPO-SGLD, m = 8, γh = 1/10", abs(found - wanted) <= rounding, found, wanted,
               EvidenceMethod.NUMERIC)  # fmt: skip
    yield fact("the unrolled truth", abs(truth - unrolled) <= rounding, truth, unrolled,
               EvidenceMethod.NUMERIC)  # fmt: skip


_MEAN = (formula("loss", "1/N*Σ(k, 1, N, l[k])"),)
_MEAN_SCOPE = Scope(M=ALL, inner=ALL)
_CROSS = (formula("loss", "log(Z) - f_y"),)
_CROSS_SCOPE = Scope(M=ALL, about="the cross-entropy")
_ARGMIN = ClaimStatement(
    "θ at the optimum minimises the inner loss over {over}", (choice("over", "θ", "λ"),)
)
_MAML = ClaimStatement(
    "where the energy does not contain λ and G is the unrolled gradient, that of (2) is {gibbs}; (22) "
    "gives {g} where the unrolled truth is {truth}",
    (
        formula("gibbs", "0"),
        formula("g", "1 - m*γ*h"),
        formula("truth", "(1 - γ*h)**m"),
    ),
)
_CUBIC = (
    "Where the model puts out logits and λ₄ ≠ 0, the loss (53) is an odd cubic and no inner minimum "
    "exists; on the probabilities of a class vector it is bounded."
)

CLAIMS = (
    Claim(
        "eq-28",
        ClaimSource.KIM,
        "the inner loss of loss learning",
        ClaimStatement("the inner loss is {loss} over the N training points", _MEAN),
        _mean_loss,
        ClaimVerdict.CONDITIONAL,
        added=(BOUNDED,),
        remark=_CUBIC,
        scope=_MEAN_SCOPE,
    ),
    Claim(
        "eq-29",
        ClaimSource.KIM,
        "the outer loss of loss learning",
        ClaimStatement(
            "the outer loss of a point is {loss}, Z the sum of the exponentials of the logits and f_y the "
            "label's",
            _CROSS,
        ),
        _cross_entropy,
        ClaimVerdict.HOLDS,
        scope=_CROSS_SCOPE,
    ),
    Claim(
        "eq-53",
        ClaimSource.KIM,
        "the learned loss as a Taylor polynomial",
        ClaimStatement(
            "the learned loss is {loss}, S the sum over the C classes of {term}, u and v the component and "
            "the label from the point of expansion; on labels that are classes {rank} of its parameters "
            "can be told apart",
            (
                formula("loss", "-S/C"),
                formula(
                    "term",
                    "λ[2]*u + 1/2*λ[3]*u**2 + 1/6*λ[4]*u**3 + λ[5]*u*v + 1/2*λ[6]*u**2*v + "
                    "1/2*λ[7]*u*v**2",
                ),
                index("rank", 5),
            ),
        ),
        _taylor,
        ClaimVerdict.HOLDS,
        remark="Third order about (λ₁, λ₀), without the terms that do not depend on f.",
        scope=Scope(about="one component of the learned loss"),
        on="one generic λ for the rank, and any function of a component and a label",
    ),
    Claim(
        "eq-54",
        ClaimSource.KIM,
        "loss learning as a bilevel problem",
        _ARGMIN.saying(over="λ"),
        _argmin,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=_ARGMIN,
        slip=True,
        scope=Scope(n=ALL, p=ALL, inner=Every("C¹")),
    ),
    Claim(
        "eq-55",
        ClaimSource.KIM,
        "the inner loss of loss learning, again",
        ClaimStatement("the inner loss is {loss} over the N training points", _MEAN),
        _mean_loss,
        ClaimVerdict.CONDITIONAL,
        added=(BOUNDED,),
        remark="As (28).",
        scope=_MEAN_SCOPE,
        repeats="eq-28",
    ),
    Claim(
        "eq-56",
        ClaimSource.KIM,
        "the outer loss of loss learning, again",
        ClaimStatement(
            "the outer loss of a point is {loss}, Z the sum of the exponentials of the logits and f_y the "
            "label's",
            _CROSS,
        ),
        _cross_entropy,
        ClaimVerdict.HOLDS,
        scope=_CROSS_SCOPE,
        repeats="eq-29",
    ),
    Claim(
        "eq-57",
        ClaimSource.KIM,
        "the outer objective of INR meta-learning",
        ClaimStatement(
            "the validation loss is taken after K updates from λ; the Jacobian of the last iterate is "
            "{jacobian}",
            (formula("jacobian", "(I - η*H)**K"),),
        ),
        _initial_point,
        ClaimVerdict.HOLDS,
        remark="An unrolled objective, not the stochastic one of (2): see text-maml.",
        scope=Scope(n=ALL, T=ALL, inner=Every("quadratic, H symmetric")),
    ),
    Claim(
        "eq-58",
        ClaimSource.KIM,
        "the inner updates of INR meta-learning",
        ClaimStatement(
            "starting at λ the k-th update makes {update}, g the gradient",
            (formula("update", "θ[k-1] - η*g[k-1]"),),
        ),
        _one_update,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL, T=ALL, inner=Every("C¹")),
    ),
    Claim(
        "text-maml",
        ClaimSource.KIM,
        "HPO-SGLD on θ⁰ = λ solves (2)",
        _MAML.saying(gibbs="G"),
        _constant_objective,
        ClaimVerdict.REFUTED,
        corrected=_MAML,
        remark="The stochastic objective is then constant in λ; what is estimated is the unrolled "
        "gradient, to first order in mγh.",
        scope=Scope(n=ONE, m=ALL, f=Only("a linear function"), inner=Only("a quadratic without λ")),
    ),
)
