"""Invariance learning: (59), (60), the generators of Section 4.6 and the angle that was found."""

from collections.abc import Iterator
from fractions import Fraction

import flint
import sympy as sp

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.evidence import (
    Check,
    EvidenceMethod,
    encloses,
    fact,
    identity,
    less,
    matrix_identity,
    rational,
)
from proofs_check.scope import ALL, NORM, Scope
from proofs_check.statement import ClaimStatement, coefficient, formula

BOX = Assumption("bounded-lambda", "λ is confined to a bounded set")
ATTAINED = Assumption("attained", "the training loss has a minimiser (data not separable)")

a = sp.symbols("a", real=True)


def _bounds(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    rho, r, top, room, loss, near = sp.symbols("rho r K s l d", positive=True)
    largest = sp.symbols("R", positive=True)
    norm = {"p": NORM}
    # (59) is -ρr² + l, l being between 0 and K, and r² at most R².
    yield identity("the upper bound less the objective is K - l", s.formula("most", ρ=rho, r=r, K=loss + room)
                   - (loss - rho * r**2), room, over=norm)  # fmt: skip
    under = -rho * (largest**2 - near) + loss - s.formula("least", ρ=rho, R=largest)
    yield identity("the objective less the lower bound is l + ρ(R² - r²)", sp.expand(under),
                   loss + rho * near, over=norm)  # fmt: skip
    edge = sp.Integer(10) if context.has(BOX) else sp.oo
    lowest = sp.limit(s.formula("most", ρ=rho, r=r, K=top), r, edge)
    yield fact("the upper bound at the edge of λ's set", lowest != -sp.oo, lowest, "finite",
               EvidenceMethod.SYMBOLIC)  # fmt: skip


def _separable(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    t = sp.symbols("theta", real=True)
    one = s.formula("loss", t=t)
    slope = sp.diff(one, t)
    yield identity("minus the log of the logistic probability", one, -sp.log(1 / (1 + sp.exp(-t))),
                   over={"n": NORM})  # fmt: skip
    yield fact("a logistic loss falls with its margin", bool(slope.subs(t, 0) < 0),
               slope.subs(t, 0), "< 0", EvidenceMethod.SYMBOLIC,
               over={"n": NORM})  # fmt: skip
    # Two points of one class only: separable. With a third of the other class a minimum exists.
    loss = 2 * one
    if context.has(ATTAINED):
        loss += sp.log(1 + sp.exp(t))
    end = sp.limit(sp.diff(loss, t), t, sp.oo)
    start = sp.limit(sp.diff(loss, t), t, -sp.oo)
    yield fact("the slope changes sign along θ", bool(start < 0 < end), f"{start} to {end}",
               "from below 0 to above 0", EvidenceMethod.SYMBOLIC)  # fmt: skip


GENERATORS = {
    "X-translation": sp.Matrix([[0, 0, 1], [0, 0, 0], [0, 0, 0]]),
    "Y-translation": sp.Matrix([[0, 0, 0], [0, 0, 1], [0, 0, 0]]),
    "rotation": sp.Matrix([[0, -1, 0], [1, 0, 0], [0, 0, 0]]),
    "X-scaling": sp.Matrix([[1, 0, 0], [0, 0, 0], [0, 0, 0]]),
    "Y-scaling": sp.Matrix([[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
    "shearing": sp.Matrix([[0, 1, 0], [1, 0, 0], [0, 0, 0]]),
}


def closed_forms(s: ClaimStatement) -> dict[str, sp.Matrix]:
    """Exp(a·G) for the six generators, with a statement's formulas.

    Args:
        s: a statement with the formulas shift, cos, sin, scale, cosh and sinh.

    Returns:
        One 3 x 3 matrix a generator.
    """
    shift, cos, sin, grow, ch, sh = (
        s.formula(name, a=a) for name in ("shift", "cosine", "sine", "scale", "even", "odd")
    )
    return {
        "X-translation": sp.Matrix([[1, 0, shift], [0, 1, 0], [0, 0, 1]]),
        "Y-translation": sp.Matrix([[1, 0, 0], [0, 1, shift], [0, 0, 1]]),
        "rotation": sp.Matrix([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]),
        "X-scaling": sp.Matrix([[grow, 0, 0], [0, 1, 0], [0, 0, 1]]),
        "Y-scaling": sp.Matrix([[1, 0, 0], [0, grow, 0], [0, 0, 1]]),
        "shearing": sp.Matrix([[ch, sh, 0], [sh, ch, 0], [0, 0, 1]]),
    }


def _lie_group(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    # T = exp(aG) is the only solution of dT/da = G·T with T = I at a = 0.
    for name, matrix in closed_forms(s).items():
        generator = GENERATORS[name]
        yield matrix_identity(f"{name}: dT/da = G·T", sp.diff(matrix, a), generator * matrix)
        yield matrix_identity(f"{name}: T = I at a = 0", matrix.subs(a, 0), sp.eye(3))
    g, k = GENERATORS["X-translation"], GENERATORS["rotation"]
    bracket = g * k - k * g
    yield fact("translation and rotation do not commute, so exp of the sum is not the product",
               bracket != sp.zeros(3), bracket.tolist(), "not 0", EvidenceMethod.SYMBOLIC)  # fmt: skip


def _quarter_turn(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    half_unit = Fraction(1, 200)
    yield encloses(
        "the angle of a quarter turn, in radians", flint.arb.pi() / 2, s["lam"], half_unit
    )
    printed = Fraction(104, 100)
    degrees = rational(printed) * 180 / flint.arb.pi()
    yield encloses("degrees of the printed 1.04", degrees, s["degrees"], Fraction(1, 20))
    yield less("the printed 1.04 against a quarter turn", rational(printed), flint.arb.pi() / 2)


CLAIMS = (
    Claim(
        "eq-59",
        ClaimSource.KIM,
        "the outer objective of invariance learning",
        ClaimStatement(
            "with r the norm of λ, at most R, and an averaged validation loss between zero and K, the outer "
            "objective is at most {most} and at least {least}",
            (formula("most", "K - ρ*r**2"), formula("least", "-ρ*R**2")),
        ),
        _bounds,
        ClaimVerdict.CONDITIONAL,
        added=(BOX,),
        remark="Unbounded below in the rotation parameter: the averaged loss stays between 0 and its "
        "bound, so a large |λ₃| such as 10 is drift of the iterates, not an optimum.",
        scope=Scope(p=ALL, about="any validation loss that is bounded"),
    ),
    Claim(
        "eq-60",
        ClaimSource.KIM,
        "the inner problem of invariance learning",
        ClaimStatement(
            "θ at the optimum minimises the mean training loss, for a binary label {loss} of the margin t",
            (formula("loss", "log(1 + exp(-t))"),),
        ),
        _separable,
        ClaimVerdict.CONDITIONAL,
        added=(ATTAINED,),
        scope=Scope(n=ALL, about="the logistic loss"),
    ),
    Claim(
        "text-lie-group",
        ClaimSource.KIM,
        "the transformations T_λ",
        ClaimStatement(
            "the exponentials of the generators: a translation by {shift}; a rotation with rows "
            "({cosine}, {sine}) and so on; a scaling by {scale}; a shearing with rows ({even}, {odd}) and "
            "so on",
            (
                formula("shift", "a"),
                formula("cosine", "cos(a)"),
                formula("sine", "-sin(a)"),
                formula("scale", "exp(a)"),
                formula("even", "cosh(a)"),
                formula("odd", "sinh(a)"),
            ),
        ),
        _lie_group,
        ClaimVerdict.HOLDS,
        remark="Generators as in the cited work; the paper prints none. Since they do not commute, "
        "each λ_i is not the extent of its own transformation alone.",
        scope=Scope(about="the six generators of the plane"),
    ),
    Claim(
        "text-rotation-angle",
        ClaimSource.OWN,
        "how far the rotation goes that was learned for ±90°",
        ClaimStatement(
            "as an angle in radians the printed rotation parameter covers {degrees} degrees to each side, "
            "where a right angle is {lam} radians",
            (coefficient("degrees", "59.6"), coefficient("lam", "1.57")),
        ),
        _quarter_turn,
        ClaimVerdict.HOLDS,
        remark="The paper says that the rotation parameter is identified: of the six it alone is far from "
        "0. The generator makes it an angle; the paper states no unit.",
        scope=Scope(about="the printed 1.04"),
        on="the printed 1.04, read in radians",
    ),
)
