"""Balls with tangents: forward mode in interval arithmetic, for formulas that are written once.

A `Dual` is a vector of balls, each with its derivative by λ, a row of p balls. What a rule's formula and a
function of λ ask of their arguments, it does: + − × ÷, integer powers, indexing, and elementary functions by
method or as torch's own functions.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, final

from flint import arb
from torch import Tensor

from refblo.errors import OracleError

Row: TypeAlias = "list[arb] | _Unknown | None"
"""A derivative by λ; None where it is zero."""


@final
class _Unknown:
    """A derivative that does not exist, as that of √v at v = 0: only a factor of exactly 0 removes it."""


_UNKNOWN = _Unknown()


@final
class Dual:
    """A vector of balls with tangents; one of length 1 goes with vectors of any length.

    Args:
        values: the balls.
        rows: their derivatives by λ; None for zero.
    """

    __slots__ = ("rows", "values")

    def __init__(self, values: Sequence[arb], rows: Sequence[Row] | None = None) -> None:
        self.values = list(values)
        self.rows: list[Row] = [None] * len(self.values) if rows is None else list(rows)

    @staticmethod
    def of_lam(lam: Sequence[arb]) -> "Dual":
        """λ itself: its derivative by λ is the identity."""
        p = len(lam)
        return Dual(lam, [[arb(int(i == j)) for j in range(p)] for i in range(p)])

    @staticmethod
    def of(value: Any) -> "Dual":
        """A number, a tensor or a ball as exact numbers without tangents; a Dual as it is.

        Raises:
            OracleError: for anything else.
        """
        if isinstance(value, Dual):
            return value
        if isinstance(value, arb):
            return Dual([value])
        if isinstance(value, Tensor):
            return Dual([arb(number) for number in value.detach().double().flatten().tolist()])
        if isinstance(value, int | float):
            return Dual([arb(value)])
        raise OracleError(
            f"a number of the rule must be computed with operations that ball arithmetic has, got a "
            f"{type(value).__name__}; use + - * /, exp, log, sqrt, sigmoid and the like"
        )

    def tangent(self, p: int) -> list[list[arb]]:
        """The derivatives by λ, n rows of p.

        Raises:
            OracleError: if one does not exist.
        """
        found = []
        for row in self.rows:
            if isinstance(row, _Unknown):
                raise OracleError(
                    "the rule must be differentiable where the run goes, got a square root of 0 under a "
                    "numerator that is not 0; choose a point away from it"
                )
            found.append([arb(0)] * p if row is None else row)
        return found

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int | slice) -> "Dual":
        if isinstance(index, slice):
            return Dual(self.values[index], self.rows[index])
        return Dual([self.values[index]], [self.rows[index]])

    def __add__(self, other: Any) -> "Dual":
        one = arb(1)
        return self._with(other, lambda a, b: (a + b, one, one))

    def __sub__(self, other: Any) -> "Dual":
        one = arb(1)
        return self._with(other, lambda a, b: (a - b, one, -one))

    def __mul__(self, other: Any) -> "Dual":
        return self._with(other, lambda a, b: (a * b, b, a))

    def __truediv__(self, other: Any) -> "Dual":
        def divided(a: arb, b: arb) -> tuple[arb, arb, arb]:
            quotient = a / b
            return quotient, 1 / b, -quotient / b

        return self._with(other, divided)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> "Dual":
        return Dual.of(other) - self

    def __rtruediv__(self, other: Any) -> "Dual":
        return Dual.of(other) / self

    def __neg__(self) -> "Dual":
        return self * -1

    def __pow__(self, power: object) -> "Dual":
        if not isinstance(power, int):
            raise OracleError(
                f"a power must have an integer exponent in ball arithmetic, got {power!r}; use exp and log"
            )
        if power == 0:
            return Dual([arb(1)] * len(self))
        return self._map(lambda a: (a**power, power * a ** (power - 1)))

    def exp(self) -> "Dual":
        """e^x."""
        return self._map(lambda a: (a.exp(), a.exp()))

    def log(self) -> "Dual":
        """The natural logarithm."""
        return self._map(lambda a: (a.log(), 1 / a))

    def sqrt(self) -> "Dual":
        """√x for x > 0."""
        return self._map(lambda a: (a.sqrt(), 1 / (2 * a.sqrt())))

    def tanh(self) -> "Dual":
        """The hyperbolic tangent."""
        return self._map(lambda a: (a.tanh(), 1 - a.tanh() ** 2))

    def sigmoid(self) -> "Dual":
        """1 / (1 + e^−x)."""
        return 1 / (1 + (-self).exp())

    def softplus(self) -> "Dual":
        """log(1 + e^x)."""
        return (1 + self.exp()).log()

    def square(self) -> "Dual":
        """x²."""
        return self * self

    def sum(self) -> "Dual":
        """The sum of the entries."""
        total = Dual([arb(0)])
        for index in range(len(self)):
            total = total + self[index]
        return total

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> "Dual":
        """torch.exp(lam) is lam.exp(), and a tensor beside a Dual counts as exact numbers."""
        name = function.__name__.strip("_")
        operation = _BY_NAME.get(name)
        if operation is None or kwargs:
            raise OracleError(
                "a number of the rule must be computed with operations that ball arithmetic has, got "
                f"torch's {name}; use + - * /, {', '.join(sorted(_ONE))}"
            )
        return operation(*map(Dual.of, args))

    def _map(self, function: Callable[[arb], tuple[arb, arb]]) -> "Dual":
        pairs = [function(value) for value in self.values]
        rows = [_scaled(slope, row) for (_, slope), row in zip(pairs, self.rows, strict=True)]
        return Dual([value for value, _ in pairs], rows)

    def _with(self, other: Any, function: Callable[[arb, arb], tuple[arb, arb, arb]]) -> "Dual":
        """Entry by entry: the value, and the slopes by both."""
        that = Dual.of(other)
        size = max(len(self), len(that))
        if {len(self), len(that)} - {1, size}:
            raise OracleError(
                f"vectors must have one length, got {len(self)} and {len(that)}; look at the rule's numbers"
            )
        values, rows = [], []
        for index in range(size):
            i, j = index % len(self), index % len(that)
            value, one, two = function(self.values[i], that.values[j])
            values.append(value)
            rows.append(_sum(_scaled(one, self.rows[i]), _scaled(two, that.rows[j])))
        return Dual(values, rows)


def _scaled(slope: arb, row: Row) -> Row:
    if row is None or slope == 0:
        return None
    if isinstance(row, _Unknown):
        return row
    return [slope * entry for entry in row]


def _sum(one: Row, other: Row) -> Row:
    if isinstance(one, _Unknown) or isinstance(other, _Unknown):
        return _UNKNOWN
    if one is None:
        return other
    return one if other is None else [a + b for a, b in zip(one, other, strict=True)]


_ONE: dict[str, Callable[..., Dual]] = {
    "exp": Dual.exp,
    "log": Dual.log,
    "sqrt": Dual.sqrt,
    "tanh": Dual.tanh,
    "sigmoid": Dual.sigmoid,
    "softplus": Dual.softplus,
    "square": Dual.square,
    "sum": Dual.sum,
}
_BY_NAME: dict[str, Callable[..., Dual]] = {
    **_ONE,
    "add": Dual.__add__,
    "radd": Dual.__radd__,
    "sub": Dual.__sub__,
    "rsub": lambda one, other: other - one,
    "mul": Dual.__mul__,
    "rmul": Dual.__rmul__,
    "div": Dual.__truediv__,
    "truediv": Dual.__truediv__,
    "rtruediv": lambda one, other: other / one,
}


@final
class BallOperations:
    """The arithmetic of `Dual` for the formulas of rules; a kink inside an enclosure is an error."""

    def root(self, v: Dual, root_epsilon: Any) -> Dual:
        """See `refblo.rules.operations.Operations.root`."""
        total = v + root_epsilon
        values: list[arb] = []
        rows: list[Row] = []
        for value, row in zip(total.values, total.rows, strict=True):
            if value > 0:
                found = value.sqrt()
                values.append(found)
                rows.append(_scaled(1 / (2 * found), row))
            elif value == 0:
                values.append(arb(0))
                rows.append(_UNKNOWN)
            else:
                raise _undecided("v of the rule must be 0 or positive")
        return Dual(values, rows)

    def clip(self, g: Dual, bound: Any) -> Dual:
        """See `refblo.rules.operations.Operations.clip`."""
        limit = Dual.of(bound)
        pieces = []
        for index in range(len(g)):
            entry, most = g[index], limit[index % len(limit)]
            size, least = entry.values[0], most.values[0]
            if size > least:
                entry = most
            elif size < -least:
                entry = -most
            elif not (size < least and size > -least):
                raise _undecided("an entry of the gradient must be clipped or not")
            pieces.append(entry)
        return Dual([p.values[0] for p in pieces], [p.rows[0] for p in pieces])

    def shrink(self, g: Dual, norm: Any, epsilon: float) -> Dual:
        """See `refblo.rules.operations.Operations.shrink`."""
        square = g.square().sum()
        if square.values[0] == 0:
            return g
        size, limit = self.root(square, 0) + epsilon, Dual.of(norm)
        if size.values[0] > limit.values[0]:
            return limit / size * g
        if size.values[0] < limit.values[0]:
            return g
        raise _undecided("the gradient must be clipped or not")


def _undecided(what: str) -> OracleError:
    return OracleError(
        f"{what}, got an enclosure that holds the kink between; choose a run that keeps away from it"
    )
