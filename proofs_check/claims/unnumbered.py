"""Sentences of Kim and Hospedales that have no number: what can be checked of them."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import Check, EvidenceMethod, exact, fact, identity, induction
from proofs_check.scope import (
    ALL,
    IN_SYMBOLS,
    NORM,
    ONE,
    OPERATORS,
    SYMBOL_OF_STEP,
    Every,
    Only,
    Scope,
    by_hand,
)
from proofs_check.statement import ClaimStatement, choice, formula

DIFFER = Assumption(
    "points-differ", "at the minimiser the gradients of the points are not all zero"
)
CONVEX_F = Assumption("convex-f", "F is convex")

gam, b, eta = sp.symbols("gamma b eta", positive=True)


def _any_start(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    """The chain θ - γ(θ² - b²) of Synth-1D, b² = 1 - λ²."""
    theta, d = sp.symbols("theta d", positive=True)

    def step(at: sp.Expr) -> sp.Expr:
        return at - gam * (at**2 - b**2)

    low, high = s.formula("low", b=b, γ=gam), s.formula("high", b=b, γ=gam)
    for name, end in (("lower", low), ("upper", high)):
        yield fact(
            f"the {name} end is a number",
            bool(end.is_finite),
            end,
            "finite",
            EvidenceMethod.SYMBOLIC,
        )
    yield identity("the lower end stays", step(low), low)
    slope = sp.diff(step(theta), theta)
    yield identity(
        "and repels: the slope there is 1 + 2γb", slope.subs(theta, low), 1 + 2 * gam * b
    )
    yield identity("a step below it goes down by γd(d + 2b)", sp.expand(step(low - d)),
                   sp.expand(low - d - gam * d * (d + 2 * b)))  # fmt: skip
    yield identity("the upper end goes to the lower", sp.expand(step(high)), low)
    yield identity("with the slope -1 - 2γb", sp.expand(slope.subs(theta, high)), -1 - 2 * gam * b)
    # In between: b - θ⁺ = (b - θ)(1 - γ(b + θ)), so that the distance to b shrinks, or θ changes sides once.
    yield identity(
        "a step in between", sp.factor(b - step(theta)), (b - theta) * (1 - gam * (b + theta))
    )


def _first_g(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    slope, start = sp.symbols("f_θ S0", commutative=False)
    over = {"n": OPERATORS, "p": OPERATORS, "f": by_hand("the chain rule")}
    yield identity("f_θ·dθ⁰/dλ", slope * start, s.formula("g", f_θ=slope, S0=start), over=over)


def _outer_step(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    lam, slope = sp.symbols("lambda h", real=True)
    moved = s.formula("step", λ=lam, η=eta, h=slope)
    # dF/dη at η = 0 is -h², if h is F's derivative.
    fall = sp.diff(moved, eta).subs(eta, 0) * slope
    yield identity("how fast F falls with η", fall, -(slope**2), over={"p": IN_SYMBOLS})
    yield identity("no step", moved.subs(eta, 0), lam, over={"p": IN_SYMBOLS})
    yield identity(
        "nothing of second order in η", sp.diff(moved, eta, 2), sp.S(0), over={"p": IN_SYMBOLS}
    )
    yield _outer_step_of_the_package(s)


def _outer_step_of_the_package(s: ClaimStatement) -> Check:
    import torch

    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin, Schedule
    from refblo.estimators.hpo_sgld import HPOSGLD
    from refblo.outer.loop import OuterLoop

    method = HPOSGLD(Langevin(float(on.GAMMA)), Schedule(2, 3))
    loop = OuterLoop(on.problem(), method, lambda each: torch.optim.SGD(each, lr=0.25), steps=1)
    lam, h = on.numbers(on.LAM), on.value(method)
    stated = s.formula("step", float, λ=lam, h=h, η=0.25)
    found = on.numbers(loop.run(on.tensor(on.LAM)).lam)
    gap = float(np.abs(found - stated).max())
    return fact("refblo: one outer step on HPO-SGLD's estimate", gap <= on.ROUNDINGS, gap,
                f"<= {on.ROUNDINGS:.1e}", EvidenceMethod.NUMERIC)  # fmt: skip


def _minibatch_gradient(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    size, count, square, product = sp.symbols("b N V c", positive=True)
    stated = s.formula("square", N=count, b=size, V=square)
    # The sum of all gradients is 0: N·V + N(N - 1)·c = 0, c the mean product of two of them.
    pair = sp.solve(count * square + count * (count - 1) * product, product)
    mean = (size * square + size * (size - 1) * pair[0]) / size**2 if pair else sp.nan
    yield identity(
        "mean square of the mean of b of N that sum to 0", mean, stated, over={"n": NORM}
    )
    slopes = (*sp.symbols("g1:4"), -sum(sp.symbols("g1:4")))
    pairs = [(slopes[i] + slopes[j]) ** 2 / 4 for i in range(4) for j in range(i)]
    each = sum(x**2 for x in slopes) / 4
    of_four = s.formula("square", N=sp.S(4), b=sp.S(2), V=each)
    yield identity("all six pairs of four", sp.expand(sum(pairs) / 6), sp.expand(of_four))
    spread = Fraction(1 if context.has(DIFFER) else 0)
    left = s.formula("square", Fraction, N=Fraction(4), b=Fraction(2), V=spread)
    yield fact(f"a pair's mean square at V = {spread}", left > 0, left, "> 0")


_TAKEN = by_hand("the descent lemma, in the mean over the noise of a step")
_SQUARE = "the squared norm of the gradient"


def _cited(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    gg, noise, start, lips, k = sp.symbols("gg V D L k", positive=True)
    kept = eta * (1 - lips * eta / 2)
    # E F(x⁺) ≤ F(x) - η·gg + L/2·η²(gg + V).
    fall = -eta * gg + lips / 2 * eta**2 * (gg + noise)
    over = {"p": NORM, "m": SYMBOL_OF_STEP, "f": _TAKEN}
    left = -kept * gg + lips * eta**2 * noise / 2
    yield identity("one step, in the mean", sp.expand(fall), sp.expand(left), over=over)

    def bound(steps: sp.Expr) -> sp.Expr:
        return s.formula("bound", D=start, V=noise, L=lips, η=eta, k=steps)

    base = identity("one step", kept * bound(sp.S(1)), start + lips * eta**2 * noise / 2)
    more = identity("one step more", k * kept * bound(k) + lips * eta**2 * noise / 2,
                    (k + 1) * kept * bound(k + 1))  # fmt: skip
    yield induction("kη(1 - ηL/2) times the bound after k steps", base, more, over)
    # F = 1 + cos x at x = 0: stationary, L = 1, bounded below by 0; no step leaves it.
    x = sp.symbols("x")
    curve = 1 + sp.cos(x)
    found = sp.diff(curve, x) ** 2 if s.word("what") == _SQUARE else curve
    value, most = found.subs(x, 0), s.formula("bound", D=2, V=0, L=1, η=1, k=10)
    yield fact("the mean over 10 steps at η = 1 on 1 + cos x from x = 0, against the bound",
               bool(value <= most), value, f"<= {most}", EvidenceMethod.SYMBOLIC)  # fmt: skip


def _not_convex(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    x = sp.symbols("x")
    convex = s.word("kind") == "convex" and context.has(CONVEX_F)
    curve, start, best = (x**2 / 2, sp.S(1), sp.S(0)) if convex else (1 + sp.cos(x), sp.S(0), sp.pi)
    at = start
    for _ in range(10):
        at = at - sp.diff(curve, x).subs(x, at)
    gap = curve.subs(x, at) - curve.subs(x, best)
    bound = s.formula("bound", D=(start - best) ** 2, η=sp.S(1), k=sp.S(10))
    yield fact(f"after 10 steps at η = 1/L = 1 on {curve} from {start}, the gap against the bound",
               bool(gap <= bound), gap, f"<= {bound}", EvidenceMethod.SYMBOLIC)  # fmt: skip
    yield identity("the bound of Theorem 2", s.formula("bound", D=x, η=eta, k=b), x / (2 * eta * b))


def _auxiliary(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    hess, right = sp.symbols("H b", commutative=False)
    stated = s.formula("solution", H=hess, b=right)
    over = {"n": OPERATORS}
    yield identity("the gradient Hz - b there, plus b", sp.expand(hess * stated), right, over=over)
    h11, h12, h22, b1, b2, z1, z2 = sp.symbols("h11 h12 h22 b1 b2 z1 z2")
    matrix, column, at = (
        sp.Matrix([[h11, h12], [h12, h22]]),
        sp.Matrix([b1, b2]),
        sp.Matrix([z1, z2]),
    )
    value = s.formula("quadratic", zt=at.T, H=matrix, z=at, bt=column.T)
    whole = sp.Matrix(value)
    if whole.shape != (1, 1):
        raise TypeError(f"a quadratic must be a number, got shape {whole.shape}")
    gradient = whole.jacobian((z1, z2))
    pairs = {"n": by_hand("a sum over pairs of components: executed for two")}
    for k, name in enumerate(("first", "second")):
        yield identity(f"its slope in the {name} component", sp.expand(gradient[k]),
                       sp.expand((matrix * at - column)[k]), over=pairs)  # fmt: skip


def _start_alone(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin
    from refblo.estimators.ift import IFTDense

    direct, slope, hess = sp.symbols("f_λ f_θ H", commutative=False)
    implicit = by_hand("the implicit function theorem and the chain rule")
    over = {"n": OPERATORS, "p": OPERATORS, "f": implicit, "inner": implicit}
    through = direct - slope * hess**-1 * sp.S(0) - direct  # C = 0
    vanishes = s.word("part") == "vanishes"
    yield fact("-f_θ·H⁻¹·C at C = 0", (through == 0) == vanishes, through, s.word("part"),
               EvidenceMethod.SYMBOLIC, over=over)  # fmt: skip
    value = on.value(IFTDense(Langevin(float(on.GAMMA)), 3), on.meta_problem(), on.META_LAM)
    yield fact("refblo: IFTDense with θ⁰ = λ and f of θ alone", (not value.any()) == vanishes, value.tolist(),
               s.word("part"), EvidenceMethod.NUMERIC)  # fmt: skip


def _held(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    lam, theta = sp.symbols("lambda theta", real=True)
    found = sp.diff((lam - theta) ** 2, lam)
    gradient = s.formula("gradient", λ=lam, θ=theta)
    yield identity(
        "one component, θ held", sp.expand(found), sp.expand(gradient), over={"n": IN_SYMBOLS}
    )
    scale = s.formula("scale", γ=gam)
    yield identity("a multiple of (λ - θ)/γ", sp.expand(scale * (lam - theta) / gam), sp.expand(gradient),
                   over={"n": IN_SYMBOLS})  # fmt: skip
    yield _reptile(s)


def _reptile(s: ClaimStatement) -> Check:
    from proofs_check.tools import field_runs as on
    from refblo.chain import Langevin
    from refblo.estimators.reptile import Reptile

    result = Reptile(Langevin(float(on.GAMMA)), 4).estimate(
        on.meta_problem(), on.tensor(on.META_LAM)
    )
    gradient = s.formula("gradient", float, λ=on.numbers(on.META_LAM), θ=on.numbers(result.theta))
    scaled = s.formula("scale", float, γ=float(on.GAMMA)) * on.numbers(result.value)
    gap = float(np.abs(gradient - scaled).max())
    return fact("refblo: Reptile, 4 steps", gap <= on.ROUNDINGS, gap, f"<= {on.ROUNDINGS:.1e}",
                EvidenceMethod.NUMERIC)  # fmt: skip


def _absolute(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    theta, lam, h, c, d = sp.symbols("theta lambda h c d", positive=True)
    slope = sp.diff(s.formula("loss", h=h, θ=theta, c=c, λ=lam), theta)
    plain = h * (theta - c) + lam
    yield identity("the slope where θ > 0", slope, plain)
    least = s.formula("least", c=c, λ=lam, h=h)
    yield identity("the slope at the stated minimiser", slope.subs(theta, least), sp.S(0))
    edge = s.formula("edge", c=c, h=h)
    yield identity("the minimiser at the stated λ", least.subs(lam, edge), sp.S(0))
    yield identity(
        "from there on the slope at 0 from the right is", slope.subs({theta: 0, lam: edge + d}), d
    )


def _lying_on(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    from proofs_check.claims.toy import COLUMNS, TRAINING, VALIDATION, fitted, lam, t2, x

    for at, y in (*TRAINING, *VALIDATION):
        yield exact(f"the curve at {at}", s.formula("curve", Fraction, x=at), y)
    column = s.formula("free", Fraction)
    model = fitted().subs({lam: 0, t2: sp.Rational(column)})
    yield identity("the inner optimum with that parameter, λ = 0", sp.expand(model),
                   sp.expand(s.formula("curve", x=x)))  # fmt: skip
    where = COLUMNS.index(column) + 1 if column in COLUMNS else 0
    yield exact("its column of the grid", where, s.formula("column", Fraction))


_ENDS = ClaimStatement(
    "without noise the chain on Synth-1D tends to its inner optimum b from every start between {low} and "
    "{high}, and from none outside",
    (formula("low", "-b"), formula("high", "1/γ + b")),
)
_BOUNDED = ClaimStatement(
    "what the cited theorem bounds is {what}, in the mean over k steps by {bound}, D the gap to the least F "
    "at the start and V the variance of the gradient",
    (
        choice("what", _SQUARE, "the gap to the least F"),
        formula("bound", "D/(k*η*(1 - L*η/2)) + L*η*V/(2 - L*η)"),
    ),
)
_KIND = ClaimStatement(
    "for an F that is {kind} the gap after k steps, as in Theorem 2, is at most {bound}",
    (choice("kind", "convex", "no more than differentiable"), formula("bound", "D/(2*η*k)")),
)

CLAIMS = (
    Claim(
        "text-any-start",
        ClaimSource.KIM,
        "the chain may start anywhere",
        _ENDS.saying(low="-INF", high="INF"),
        _any_start,
        ClaimVerdict.REFUTED,
        corrected=_ENDS,
        by_hand="In between the distance to b shrinks from step to step, after at most one change of sides.",
        remark="Outside, it goes to -∞. With noise it leaves the interval sooner or later, and does not come "
        "back: nothing keeps it in [0, 1]. In general p must have a normaliser, see text-existence.",
        scope=Scope(n=ONE, p=ONE, inner=Only("Synth-1D, with a step γ below 1/(2b)")),
    ),
    Claim(
        "text-first-g",
        ClaimSource.KIM,
        "where the recursion starts",
        ClaimStatement("before the first step g is {g}", (formula("g", "f_θ @ S0", "f_θ S0"),)),
        _first_g,
        ClaimVerdict.HOLDS,
        remark="So it is 0 for a start that does not depend on λ, and f_θ for one at λ. See eq-22 for a run "
        "of the package from such a start.",
        scope=Scope(n=ALL, p=ALL, f=Every("C¹")),
    ),
    Claim(
        "text-outer-step",
        ClaimSource.KIM,
        "the outer step of Algorithm 1",
        ClaimStatement("an outer step moves λ to {step}", (formula("step", "λ - η*h"),)),
        _outer_step,
        ClaimVerdict.HOLDS,
        scope=Scope(p=ALL),
    ),
    Claim(
        "text-minibatch-gradient",
        ClaimSource.KIM,
        "a minibatch's gradient does not vanish where that of all points does",
        ClaimStatement(
            "at the minimiser over N points the gradient of b of them, drawn without replacement, has the "
            "mean square {square}, V that of one point",
            (formula("square", "(N - b)/(b*(N - 1))*V"),),
        ),
        _minibatch_gradient,
        ClaimVerdict.CONDITIONAL,
        added=(DIFFER,),
        remark="A model that fits every point, as in the toy problem, has V = 0: there every minibatch's "
        "gradient vanishes.",
        scope=Scope(n=ALL, about="minibatches drawn without replacement"),
    ),
    Claim(
        "text-cited-theorem",
        ClaimSource.KIM,
        "what the theorem bounds that the proof of Theorem 4 cites",
        _BOUNDED.saying(what="the gap to the least F"),
        _cited,
        ClaimVerdict.REFUTED,
        corrected=_BOUNDED,
        remark="Its hypotheses are those that the proof lists: F bounded below, a Lipschitz gradient, a "
        "bounded variance. They do not give (48), whose left side is a gap.",
        scope=Scope(p=ALL, m=ALL, f=Every("bounded below, its gradient Lipschitz")),
        on="1 + cos x",
    ),
    Claim(
        "text-not-convex",
        ClaimSource.KIM,
        "the proof of Theorem 4 does not require convexity",
        _KIND.saying(kind="no more than differentiable"),
        _not_convex,
        ClaimVerdict.REFUTED,
        corrected=_KIND,
        remark="The convex case is proved in thm-2.",
        scope=Scope(p=ONE, f=Only("1 + cos x, and x²/2")),
        on="1 + cos x, and x²/2",
    ),
    Claim(
        "text-auxiliary-quadratic",
        ClaimSource.KIM,
        "the quadratic that AmIGO descends",
        ClaimStatement(
            "the minimiser over z of {quadratic} is {solution}, zt and bt being transposes",
            (
                formula("quadratic", "1/2*zt @ H @ z - bt @ z", "zt H z bt"),
                formula("solution", "H**(-1) @ b", "H b"),
            ),
        ),
        _auxiliary,
        ClaimVerdict.HOLDS,
        remark="AmIGO on it, step by step: see field-aid.",
        scope=Scope(n=ALL, about="a symmetric positive definite H"),
    ),
    Claim(
        "text-ift-start",
        ClaimSource.KIM,
        "implicit differentiation has difficulty with a start that depends on λ",
        ClaimStatement(
            "where λ enters through the start alone, the part of the implicit hypergradient that goes "
            "through θ {part}",
            (choice("part", "vanishes", "does not vanish"),),
        ),
        _start_alone,
        ClaimVerdict.HOLDS,
        remark="It is not a difficulty of the estimators: the inner minimiser does not depend on the start, "
        "so that nothing is left to be estimated. iMAML's proximal term makes it depend.",
        scope=Scope(n=ALL, p=ALL, f=Every("C¹"), inner=Every("C², without λ")),
    ),
    Claim(
        "text-stop-gradient",
        ClaimSource.KIM,
        "the regulariser of the INR experiments is Reptile's direction",
        ClaimStatement(
            "the gradient in λ of the squared distance to a held θ is {gradient}, which at the last iterate "
            "from λ is {scale} times Reptile's direction",
            (formula("gradient", "2*(λ - θ)"), formula("scale", "2*γ")),
        ),
        _held,
        ClaimVerdict.HOLDS,
        scope=Scope(n=ALL),
    ),
    Claim(
        "text-l1",
        ClaimSource.KIM,
        "the penalty λ|θ|",
        ClaimStatement(
            "for θ above zero the inner loss is {loss}, with its minimiser at {least}; where λ is at least "
            "{edge} the minimiser is zero",
            (
                formula("loss", "h/2*(θ - c)**2 + λ*θ"),
                formula("least", "c - λ/h"),
                formula("edge", "h*c"),
            ),
        ),
        _absolute,
        ClaimVerdict.HOLDS,
        remark="There the minimiser no longer depends on λ: the hypergradient of a weight at zero is 0, and "
        "descent does not bring it back.",
        scope=Scope(n=ONE, p=ONE, inner=Only("a quadratic with its penalty, c above zero")),
    ),
    Claim(
        "text-toy-data",
        ClaimSource.KIM,
        "the toy data lie on the true curve",
        ClaimStatement(
            "all points lie on {curve}; at λ zero the inner optimum with the free parameter {free}, in "
            "column {column} of the figure, is that curve",
            (
                formula("curve", "-2/5*x**2 - 1/5*x - 3/10"),
                formula("free", "-2/5"),
                formula("column", "4"),
            ),
        ),
        _lying_on,
        ClaimVerdict.HOLDS,
        scope=Scope(about="the toy problem of Figure 1"),
        on="the toy problem of Figure 1",
    ),
)
