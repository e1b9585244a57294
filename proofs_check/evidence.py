"""What evidence is made of: checks that were executed, each with both its sides.

A check never carries an opinion: it is an equality, an enclosure or a bound that was evaluated, and
`holds` is what came out. How a claim's checks make a verdict is in `ledger.py`.
"""

import enum
from dataclasses import dataclass
from fractions import Fraction
from typing import final

import flint
import sympy as sp

from proofs_check.scope import Cover, Covers, verify


class Role(enum.Enum):
    """What a check is for."""

    SUPPORT = "supports the statement"
    COUNTEREXAMPLE = "refutes the printed statement"
    VACUITY = "shows that the statement says nothing"
    FIGURE = "the paper's figure beside ours"
    SCALED = "the scaled-down run"
    JUDGED = "a claim about training runs, judged on smaller ones"
    PRINTED = "compares figures of the paper with one another"
    DEFINITION = "says what a symbol means; carries no evidence"


class EvidenceMethod(enum.Enum):
    """How a check was evaluated, from the strongest to the weakest."""

    SYMBOLIC = "symbolic"
    EXACT = "exact arithmetic"
    BALL = "ball arithmetic"
    NUMERIC = "floating point"
    STATISTICAL = "statistical"


@final
@dataclass(frozen=True)
class Check:
    """One executed check.

    Attributes:
        name: what was compared, in words.
        holds: whether the comparison came out as the statement says.
        method: how it was evaluated.
        left: what was found.
        right: what the statement says.
        role: what the check is for.
        agrees: for a figure of the paper, whether ours agrees with it; None otherwise.
        over: what of the claim's scope the check covers in general, and how.
        power: for a figure held against an interval, the share of the possible values that would not
            have agreed; None otherwise.
        equal: whether the two sides are expressions that were compared for equality.
    """

    name: str
    holds: bool
    method: EvidenceMethod
    left: str
    right: str
    role: Role = Role.SUPPORT
    agrees: bool | None = None
    over: tuple[tuple[str, Cover], ...] = ()
    power: float | None = None
    equal: bool = False


def brief(value: object) -> str:
    """A value short enough for one cell of a table.

    Args:
        value: anything printable.

    Returns:
        At most 120 characters.
    """
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _probe(expression: sp.Expr) -> sp.Expr:
    """The expression at one generic point, where unknown functions take values of their own."""
    unknown = expression.atoms(sp.Derivative, sp.core.function.AppliedUndef)
    named = {piece: sp.Dummy(real=True) for piece in sorted(unknown, key=str)}
    flat = expression.xreplace(named)
    primes = iter(sp.primerange(3, 2000))
    # Below 1, so that the papers' √(1 - λ²) stays real; integers stay integers.
    values = {
        symbol: sp.Integer(next(primes)) if symbol.is_integer else sp.Rational(next(primes), 2003)
        for symbol in sorted(flat.free_symbols, key=str)
    }
    return flat.xreplace(values).evalf(40, maxn=400)


def _by_operators(expanded: sp.Expr) -> dict[tuple[sp.Expr, ...], sp.Expr]:
    """The commuting factor of each ordered product of a sum."""
    factors: dict[tuple[sp.Expr, ...], sp.Expr] = {}
    for term in sp.Add.make_args(expanded):
        commuting, ordered = term.args_cnc()
        key = tuple(ordered)
        factors[key] = factors.get(key, sp.S(0)) + sp.Mul(*commuting)
    return factors


def vanishes(expression: sp.Expr) -> bool:
    """Whether an expression is identically zero, by exact simplification.

    A value at one generic point decides quickly that it is not; that it is, only algebra decides.

    Args:
        expression: a sympy expression, commutative or not.

    Returns:
        True only when sympy reduces it to 0.
    """
    expanded = sp.expand(expression)
    if expanded == 0:
        return True
    if not getattr(expanded, "is_commutative", True):
        return all(vanishes(factor) for factor in _by_operators(expanded).values())
    value = _probe(expression)
    if value.is_number and abs(value) > sp.Float("1e-20"):
        return False
    return bool(sp.simplify(expanded) == 0)


def covered(over: Covers | None, *sides: sp.Expr) -> tuple[tuple[str, Cover], ...]:
    """The covers of a check, each held against the expressions that were compared."""
    for name, cover in (over or {}).items():
        verify(name, cover, sides)
    return tuple((over or {}).items())


def identity(
    name: str,
    found: sp.Expr,
    stated: sp.Expr,
    role: Role = Role.SUPPORT,
    over: Covers | None = None,
) -> Check:
    """An equality of expressions, for all values of their symbols.

    Args:
        name: what is compared.
        found: what the derivation gives.
        stated: what the statement says.
        role: what the check is for.
        over: what of the claim's scope it covers in general, and how.

    Returns:
        The check; it holds when the difference reduces to zero.
    """
    found, stated = sp.sympify(found), sp.sympify(stated)
    holds = vanishes(found - stated)
    shown = brief(found), brief(stated)
    return Check(
        name,
        holds,
        EvidenceMethod.SYMBOLIC,
        *shown,
        role,
        over=covered(over, found, stated),
        equal=True,
    )


def matrix_identity(
    name: str, found: sp.Matrix, stated: sp.Matrix, over: Covers | None = None
) -> Check:
    """An equality of matrices of expressions, entry by entry.

    Args:
        name: what is compared.
        found: what the derivation gives.
        stated: what the statement says, of the same shape.
        over: what of the claim's scope it covers in general, and how.

    Returns:
        The check.
    """
    holds = found.shape == stated.shape and all(vanishes(e) for e in found - stated)
    shown = brief(found.tolist()), brief(stated.tolist())
    over_ = covered(over, *found, *stated)
    return Check(name, holds, EvidenceMethod.SYMBOLIC, *shown, over=over_, equal=True)


def induction(name: str, base: Check, step: Check, over: Covers) -> Check:
    """A statement for every index, from its base and its step, both executed.

    Args:
        name: what is proved.
        base: the statement at the first index.
        step: the statement at index + 1 from that at a symbolic index.
        over: what else the two cover, and how; the index itself among them.

    Returns:
        The check; it holds when both do, and it shows the one that does not.
    """
    both = (base, step)
    shown = next((check for check in both if not check.holds), step)
    methods = {check.method for check in both}
    method = EvidenceMethod.SYMBOLIC if methods == {EvidenceMethod.SYMBOLIC} else base.method
    return Check(
        f"{name}: {'base' if shown is base else 'base and step'} ({shown.name})",
        base.holds and step.holds,
        method,
        shown.left,
        shown.right,
        over=tuple(over.items()),
        equal=shown.equal,
    )


def exact(
    name: str, found: Fraction | int, stated: Fraction | int, role: Role = Role.SUPPORT
) -> Check:
    """An equality of rational numbers.

    Args:
        name: what is compared.
        found: what was computed.
        stated: what the statement says.
        role: what the check is for.

    Returns:
        The check.
    """
    return Check(name, found == stated, EvidenceMethod.EXACT, brief(found), brief(stated), role)


def fact(
    name: str,
    holds: bool,
    found: object,
    stated: object,
    method: EvidenceMethod = EvidenceMethod.EXACT,
    role: Role = Role.SUPPORT,
    over: Covers | None = None,
) -> Check:
    """A comparison made by the caller, with both of its sides recorded.

    Args:
        name: what is compared.
        holds: what came out.
        found: what was computed.
        stated: what the statement says of it.
        method: how it was evaluated.
        role: what the check is for.
        over: what of the claim's scope it covers in general, and how.

    Returns:
        The check.
    """
    shown = brief(found), brief(stated)
    return Check(name, bool(holds), method, *shown, role, over=tuple((over or {}).items()))


def less(name: str, small: flint.arb, large: flint.arb, role: Role = Role.SUPPORT) -> Check:
    """A certified inequality between balls: every point of one lies below every point of the other.

    Args:
        name: what is compared.
        small: the ball that must lie below.
        large: the ball that must lie above.
        role: what the check is for.

    Returns:
        The check.
    """
    return Check(
        name, bool(small < large), EvidenceMethod.BALL, ball(small), f"< {ball(large)}", role
    )


def at_most(name: str, small: flint.arb, large: flint.arb, role: Role = Role.SUPPORT) -> Check:
    """A certified inequality between balls that may touch (for bounds that are sharp)."""
    return Check(
        name, bool(small <= large), EvidenceMethod.BALL, ball(small), f"<= {ball(large)}", role
    )


def encloses(
    name: str, enclosure: flint.arb, stated: Fraction, radius: Fraction, role: Role = Role.SUPPORT
) -> Check:
    """A number that a ball proves to lie within a radius of the stated one.

    Args:
        name: what is compared.
        enclosure: a ball that contains the true number.
        stated: the number of the statement.
        radius: how far the statement may be off: half a unit of its last digit.
        role: what the check is for.

    Returns:
        The check; it holds when no point of the ball is further away than the radius.
    """
    distance = abs(enclosure - rational(stated))
    holds = bool(distance <= rational(radius))
    return Check(name, holds, EvidenceMethod.BALL, ball(enclosure), brief(float(stated)), role)


def within(name: str, found: float, low: float, high: float, role: Role = Role.SUPPORT) -> Check:
    """A measured number inside an interval that the theory or the sampling error gives.

    Args:
        name: what is measured.
        found: the measurement.
        low: lower end.
        high: upper end.
        role: what the check is for.

    Returns:
        The check.
    """
    stated = f"in [{low:.6g}, {high:.6g}]"
    return Check(
        name, bool(low <= found <= high), EvidenceMethod.STATISTICAL, f"{found:.6g}", stated, role
    )


def figure(name: str, paper: Fraction, ours: float, decimals: int) -> Check:
    """A figure of the paper beside ours; they agree when ours rounds to the printed digits.

    The check itself always holds: it records what was found. Whether it agrees decides between the
    verdicts *reproduced* and *not reproduced*.

    Args:
        name: what the figure is.
        paper: the printed number.
        ours: our number.
        decimals: the number of printed decimals.

    Returns:
        The check.
    """
    half_unit = 0.5 * 10.0**-decimals
    agrees = bool(abs(ours - float(paper)) <= half_unit)
    printed, found = f"{float(paper):.{decimals}f}", f"{ours:.{decimals + 2}f}"
    return Check(name, True, EvidenceMethod.NUMERIC, found, printed, Role.FIGURE, agrees)


def spread(
    name: str, printed: float, interval: tuple[float, float], possible: tuple[float, float]
) -> Check:
    """A figure of the paper held against the spread of our own runs, with its power.

    Args:
        name: what the figure is.
        printed: the printed number.
        interval: the central 99 % of our runs.
        possible: the values that the quantity could have had.

    Returns:
        The check: it always holds; `agrees` says whether the figure is inside, and `power` which share
        of the possible values is not.
    """
    low, high = interval
    covered_part = max(0.0, min(high, possible[1]) - max(low, possible[0]))
    power = 1 - covered_part / (possible[1] - possible[0])
    return Check(
        name,
        True,
        EvidenceMethod.STATISTICAL,
        f"[{low:.4f}, {high:.4f}], {100 * (1 - power):.0f} % of [{possible[0]:g}, {possible[1]:g}]",
        f"{printed:.4f}",
        Role.FIGURE,
        bool(low <= printed <= high),
        power=power,
    )


def rational(value: Fraction | int) -> flint.arb:
    """A rational number as a ball.

    Args:
        value: the number.

    Returns:
        The tightest ball at the working precision.
    """
    fraction = Fraction(value)
    return flint.arb(flint.fmpq(fraction.numerator, fraction.denominator))


def ball(value: flint.arb) -> str:
    """A ball with the digits that matter and its radius."""
    return str(value.str(12)) if hasattr(value, "str") else str(value)


def number(value: Fraction) -> sp.Rational:
    """A rational number for sympy."""
    return sp.Rational(value.numerator, value.denominator)
