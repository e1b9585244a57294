"""Learned losses, (28), (29), (53) to (56), and learned initial points, (57), (58)."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import Check, EvidenceMethod, Role, exact, fact, identity, number
from proofs_check.scope import ALL, ONE, Every, Only, Scope
from proofs_check.statement import ClaimStatement, coefficient, exponent, index, sign
from proofs_check.tools.refblo_runs import RefbloRun, Small, forward_mode, hpo_sgld

BOUNDED = Assumption("bounded-below", "the learned loss is bounded below in the logits")

u, y = sp.symbols("f y", real=True)
LAMS = sp.symbols("lambda0:8", real=True)


def taylor_loss(s: ClaimStatement) -> sp.Expr:
    """One component of (53), before the mean over the classes.

    Args:
        s: a statement with the terms c2 to c7 (the weights of λ₂ to λ₇).

    Returns:
        The polynomial in f, y and λ.
    """
    du, dy = u - LAMS[1], y - LAMS[0]
    monomials = {2: du, 3: du**2, 4: du**3, 5: du * dy, 6: du**2 * dy, 7: du * dy**2}
    return sum(number(s[f"c{k}"]) * LAMS[k] * value for k, value in monomials.items())


def _taylor(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    a, b = sp.symbols("a b")
    function = sp.Function("F")(a, b)
    powers = {2: (1, 0), 3: (2, 0), 4: (3, 0), 5: (1, 1), 6: (2, 1), 7: (1, 2)}
    derivative = {k: sp.Symbol(f"F{i}{j}") for k, (i, j) in powers.items() if function is not None}
    du, dy = u - LAMS[1], y - LAMS[0]
    # The third-order polynomial of any F(f, y) about (λ₁, λ₀), each derivative its own symbol.
    taylor = sum(
        sp.Symbol(f"F{i}{j}") * du**i * dy**j / (sp.factorial(i) * sp.factorial(j))
        for i in range(4) for j in range(4 - i)
    )  # fmt: skip
    stated = taylor_loss(s).subs({LAMS[k]: derivative[k] for k in powers})
    yield identity("its derivative in f is that of the Taylor polynomial",
                   sp.diff(stated, u), sp.diff(taylor, u))  # fmt: skip
    yield fact("the mean over the classes carries a minus", s["m"] == -1, s["m"], -1,
               role=Role.DEFINITION)  # fmt: skip
    # On one-hot labels the loss is a cubic in f for y = 0 and another for y = 1.
    columns = []
    for label in (0, 1):
        poly = sp.Poly(sp.expand(taylor_loss(s).subs(y, label)), u)
        columns += [poly.coeff_monomial(u**k) for k in (1, 2, 3)]
    jacobian = sp.Matrix(columns).jacobian(LAMS)
    point = dict(zip(LAMS, [sp.Rational(k * k + 1, 7) for k in range(8)], strict=True))
    rank = jacobian.subs(point).rank()
    yield exact("parameters that one-hot labels can tell apart", int(rank), s["rank"])


def _mean_loss(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    losses = sp.symbols("l1:5")
    full = sum(losses) / 4
    batches = [sum(pair) / 2 for pair in combinations(losses, 2)]
    yield identity("the mean over all minibatches", number(s["a"]) * sum(batches) / len(batches),
                   full)  # fmt: skip
    ones = ClaimStatement("", tuple(coefficient(f"c{k}", "1/2") for k in range(2, 8)))
    values = dict.fromkeys(LAMS, sp.S(0)) | {LAMS[3]: sp.S(-1)}
    if not context.has(BOUNDED):
        values[LAMS[4]] = sp.S(1)
    one = -taylor_loss(ones).subs(values)
    ends = [sp.limit(one, u, side) for side in (sp.oo, -sp.oo)]
    yield fact("the loss far out in the logits", -sp.oo not in ends, ends, "not -oo",
               EvidenceMethod.SYMBOLIC)  # fmt: skip


def _cross_entropy(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    logits = sp.symbols("f1:4", real=True)
    total = sum(sp.exp(f) for f in logits)
    loss = number(s["a"]) * (sp.log(total) - logits[0])
    for j, f in enumerate(logits):
        softmax = sp.exp(f) / total
        yield identity(f"gradient in logit {j + 1}: softmax minus label", sp.diff(loss, f),
                       softmax - (1 if j == 0 else 0))  # fmt: skip
    losses = sp.symbols("l1:5")
    yield identity("and the mean over the set", number(s["a"]) * sum(losses) / 4, sum(losses) / 4)


def _argmin(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    lam, theta = sp.symbols("lambda theta")
    loss = (theta - lam) ** 2 / 2 + theta**2
    over = theta if s["over"] == 1 else lam
    solution = sp.solve(sp.diff(loss, over), over)[0]
    yield fact("the argmin is a θ that depends on λ", solution.free_symbols == {lam}, solution,
               "a function of λ", EvidenceMethod.SYMBOLIC)  # fmt: skip
    slope = sp.diff(loss, theta).subs(theta, solution)
    yield identity("and the inner loss is stationary there", slope, sp.S(0))


# ---------------------------------------------------------------- θ⁰ = λ


def _initial_point(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    lam, eta, h, c = sp.symbols("lambda eta h c")
    theta = [lam]
    for _ in range(3):
        theta.append(sp.expand(theta[-1] - eta * h * (theta[-1] - c)))
    at = 3 + s.integer("at")
    found = sp.diff(theta[at] if 0 <= at < len(theta) else sp.S(0), lam)
    yield identity("dθ^K/dλ, K = 3, for a quadratic", found, (1 - eta * h) ** (3 * number(s["k"])))


def _one_update(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    lam, eta, h, c = sp.symbols("lambda eta h c")
    loss = sp.symbols("w")
    value = h * (loss - c) ** 2 / 2
    moved = loss + number(s["s"]) * eta * sp.diff(value, loss)
    yield identity("one step on a quadratic", moved, loss * (1 - eta * h) + eta * h * c)
    drop = value.subs(loss, moved) - value
    yield identity(
        "its change of the loss", drop, -eta * h**2 * (loss - c) ** 2 * (1 - eta * h / 2)
    )
    truth = (1 - eta * h) ** 3
    theta = lam
    for _ in range(3):
        theta = moved.subs(loss, theta)
    yield identity("after three steps, dθ³/dλ", sp.diff(theta, lam), truth)


def _constant_objective(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    lam, theta, gam, h = sp.symbols("lambda theta gamma h")
    energy = h * theta**2 / 2
    force = sp.diff(energy, lam)
    # d/dλ E_p[f] = E_p[∂_λ f] - Cov_p(f, ∂_λE) with both terms zero.
    gradient = number(s["k"]) * 1 + force
    yield identity("gradient of the stochastic objective over the unrolled one", gradient, sp.S(0))
    m = sp.symbols("m", positive=True, integer=True)
    recursion = 1 + sp.summation(-gam * h, (sp.Symbol("j"), 1, m))
    yield identity("what (22) gives for a linear f", recursion, 1 + number(s["b"]) * m * gam * h)
    small = Small(lambda _, t: (t**2).sum(), lambda _, t: t.sum(), None)
    run, at = RefbloRun(0.05, 7, 1), np.array([0.6])
    found, truth = float(hpo_sgld(small, run, at)[0]), float(forward_mode(small, run, at)[0])
    wanted = 1 + float(s["b"]) * 8 * 0.05 * 2
    rounding = 64 * 2.0**-53
    yield fact("refblo's HPO-SGLD, m = 8, γh = 1/10", abs(found - wanted) <= rounding, found, wanted,
               EvidenceMethod.NUMERIC)  # fmt: skip
    yield fact("the unrolled truth, (1 - γh)^8", abs(truth - 0.9**8) <= rounding, truth, 0.9**8,
               EvidenceMethod.NUMERIC)  # fmt: skip


_WEIGHTS = tuple(
    coefficient(f"c{k}", value)
    for k, value in ((2, 1), (3, "1/2"), (4, "1/6"), (5, 1), (6, "1/2"), (7, "1/2"))
)
_MEAN = (coefficient("a", 1),)

CLAIMS = (
    Claim(
        "eq-28",
        ClaimSource.KIM,
        "the inner loss of loss learning",
        ClaimStatement("L_T = {a}·mean over the training set of l_λ(f(x; θ), y)", _MEAN),
        _mean_loss,
        ClaimVerdict.CONDITIONAL,
        added=(BOUNDED,),
        remark="With λ₄ ≠ 0 the loss (53) is an odd cubic in a logit: no inner minimum exists.",
        scope=Scope(M=ALL, inner=ALL),
        on="four losses in minibatches of two",
    ),
    Claim(
        "eq-29",
        ClaimSource.KIM,
        "the outer loss of loss learning",
        ClaimStatement("L_V = {a}·mean over the validation set of the cross-entropy", _MEAN),
        _cross_entropy,
        ClaimVerdict.HOLDS,
        scope=Scope(M=ALL, about="the cross-entropy of any number of classes"),
        on="three classes, four losses",
    ),
    Claim(
        "eq-53",
        ClaimSource.KIM,
        "the learned loss as a Taylor polynomial",
        ClaimStatement(
            "l_λ = {m}/C·Σ_j of {c2}·λ₂u + {c3}·λ₃u² + {c4}·λ₄u³ + {c5}·λ₅uv + {c6}·λ₆u²v + "
            "{c7}·λ₇uv², u = f_j - λ₁, v = y_j - λ₀; on one-hot labels {rank} of its 8 parameters "
            "can be told apart",
            (sign("m", -1), *_WEIGHTS, index("rank", 5)),
        ),
        _taylor,
        ClaimVerdict.HOLDS,
        remark="Third order about (λ₁, λ₀), without the terms that do not depend on f.",
        scope=Scope(about="one component of the learned loss"),
        on="one component of the learned loss",
    ),
    Claim(
        "eq-54",
        ClaimSource.KIM,
        "loss learning as a bilevel problem",
        ClaimStatement(
            "θ*(λ) minimises L_T(λ, θ) over variable {over} (0: λ, 1: θ)", (index("over", 0),)
        ),
        _argmin,
        ClaimVerdict.TYPOGRAPHICAL,
        corrected=ClaimStatement(
            "θ*(λ) minimises L_T(λ, θ) over variable {over} (0: λ, 1: θ)", (index("over", 1),)
        ),
        slip=True,
        scope=Scope(n=ALL, p=ALL, inner=ALL),
        on="n = p = 1, one quadratic",
    ),
    Claim(
        "eq-55",
        ClaimSource.KIM,
        "the inner loss of loss learning, again",
        ClaimStatement("L_T = {a}·mean over the training set of l_λ(f(x; θ), y)", _MEAN),
        _mean_loss,
        ClaimVerdict.CONDITIONAL,
        added=(BOUNDED,),
        remark="As (28).",
        scope=Scope(M=ALL, inner=ALL),
        on="four losses in minibatches of two",
        repeats="eq-28",
    ),
    Claim(
        "eq-56",
        ClaimSource.KIM,
        "the outer loss of loss learning, again",
        ClaimStatement("L_V = {a}·mean over the validation set of the cross-entropy", _MEAN),
        _cross_entropy,
        ClaimVerdict.HOLDS,
        scope=Scope(M=ALL, about="the cross-entropy of any number of classes"),
        on="three classes, four losses",
        repeats="eq-29",
    ),
    Claim(
        "eq-57",
        ClaimSource.KIM,
        "the outer objective of INR meta-learning",
        ClaimStatement(
            "L_V(λ, θ^(K+{at})) with θ⁰ = λ: for a quadratic dθ^K/dλ = (1 - ηh)^(K·{k})",
            (index("at", 0), exponent("k", 1)),
        ),
        _initial_point,
        ClaimVerdict.HOLDS,
        remark="An unrolled objective, not the stochastic one of (2): see text-maml.",
        scope=Scope(T=ALL, n=ALL, inner=Every("quadratic")),
        on="n = 1, K = 3",
    ),
    Claim(
        "eq-58",
        ClaimSource.KIM,
        "the inner updates of INR meta-learning",
        ClaimStatement("θ^k = θ^(k-1) + {s}·η·∇L(θ^(k-1)), θ⁰ = λ", (sign("s", -1),)),
        _one_update,
        ClaimVerdict.HOLDS,
        scope=Scope(T=ALL, n=ALL, inner=Every("C¹")),
        on="n = 1, three steps on a quadratic",
    ),
    Claim(
        "text-maml",
        ClaimSource.KIM,
        "HPO-SGLD on θ⁰ = λ solves (2)",
        ClaimStatement(
            "where E does not depend on λ, the gradient of (2) is {k} times the unrolled one; for a "
            "quadratic (22) gives 1 + {b}·mγh where the unrolled truth is (1 - γh)^m",
            (coefficient("k", 1), coefficient("b", -1)),
        ),
        _constant_objective,
        ClaimVerdict.REFUTED,
        corrected=ClaimStatement(
            "where E does not depend on λ, the gradient of (2) is {k} times the unrolled one; for a "
            "quadratic (22) gives 1 + {b}·mγh where the unrolled truth is (1 - γh)^m",
            (coefficient("k", 0), coefficient("b", -1)),
        ),
        remark="The stochastic objective is then constant in λ; what is estimated is the unrolled "
        "gradient, to first order in mγh.",
        scope=Scope(n=ONE, m=ALL, f=Only("a linear function"), inner=Only("a quadratic without λ")),
        on="m = 8",
    ),
)
