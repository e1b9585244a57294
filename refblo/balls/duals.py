"""Balls with tangents: forward mode in interval arithmetic, for formulas that are written once.

A `BallDual` is a vector of balls, each with its derivative by λ, a row of p balls. What a rule's formula
and a function of λ ask of their arguments, it does: + − × ÷, integer powers, indexing, and elementary
functions by method or as torch's own functions.
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
class BallDual:
    """A vector of balls with tangents; one of length 1 goes with vectors of any length.

    Args:
        values: the balls.
        rows: derivatives of the balls by λ; None for zero.
    """

    __slots__ = ("rows", "values")

    def __init__(self, values: Sequence[arb], rows: Sequence[Row] | None = None) -> None:
        self.values = list(values)
        self.rows: list[Row] = [None] * len(self.values) if rows is None else list(rows)

    @staticmethod
    def of_lam(lam: Sequence[arb]) -> "BallDual":
        """λ itself: its derivative by λ is the identity."""
        p = len(lam)
        return BallDual(lam, [[arb(int(i == j)) for j in range(p)] for i in range(p)])

    @staticmethod
    def of(value: Any) -> "BallDual":
        """A number, a tensor or a ball as exact numbers without tangents; a BallDual as it is.

        Raises:
            OracleError: for anything else.
        """
        if isinstance(value, BallDual):
            return value
        if isinstance(value, arb):
            return BallDual([value])
        if isinstance(value, Tensor):
            return BallDual([arb(number) for number in value.detach().double().flatten().tolist()])
        if isinstance(value, int | float):
            return BallDual([arb(value)])
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
                    "the rule must be differentiable along the run, got a number other than 0 divided by the "
                    "square root of 0; choose another lam or theta0"
                )
            found.append([arb(0)] * p if row is None else row)
        return found

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int | slice) -> "BallDual":
        if isinstance(index, slice):
            return BallDual(self.values[index], self.rows[index])
        return BallDual([self.values[index]], [self.rows[index]])

    def __add__(self, other: Any) -> "BallDual":
        one = arb(1)
        return self._with(other, lambda a, b: (a + b, one, one))

    def __sub__(self, other: Any) -> "BallDual":
        one = arb(1)
        return self._with(other, lambda a, b: (a - b, one, -one))

    def __mul__(self, other: Any) -> "BallDual":
        return self._with(other, lambda a, b: (a * b, b, a))

    def __truediv__(self, other: Any) -> "BallDual":
        def divided(a: arb, b: arb) -> tuple[arb, arb, arb]:
            quotient = a / b
            return quotient, 1 / b, -quotient / b

        return self._with(other, divided)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> "BallDual":
        return BallDual.of(other) - self

    def __rtruediv__(self, other: Any) -> "BallDual":
        return BallDual.of(other) / self

    def __neg__(self) -> "BallDual":
        return self * -1

    def __pow__(self, power: object) -> "BallDual":
        if not isinstance(power, int):
            raise OracleError(
                f"a power must have an integer exponent in ball arithmetic, got {power!r}; use exp and log"
            )
        if power == 0:
            return BallDual([arb(1)] * len(self))
        return self._map(lambda a: (a**power, power * a ** (power - 1)))

    def exp(self) -> "BallDual":
        """e^x."""
        return self._map(lambda a: (a.exp(), a.exp()))

    def log(self) -> "BallDual":
        """The natural logarithm."""
        return self._map(lambda a: (a.log(), 1 / a))

    def sqrt(self) -> "BallDual":
        """√x for x > 0."""
        return self._map(lambda a: (a.sqrt(), 1 / (2 * a.sqrt())))

    def tanh(self) -> "BallDual":
        """The hyperbolic tangent."""
        return self._map(lambda a: (a.tanh(), 1 - a.tanh() ** 2))

    def sigmoid(self) -> "BallDual":
        """1 / (1 + e^−x)."""
        return 1 / (1 + (-self).exp())

    def softplus(self) -> "BallDual":
        """log(1 + e^x)."""
        return (1 + self.exp()).log()

    def square(self) -> "BallDual":
        """x²."""
        return self * self

    def sum(self) -> "BallDual":
        """The sum of the entries."""
        total = BallDual([arb(0)])
        for index in range(len(self)):
            total = total + self[index]
        return total

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> "BallDual":
        """torch.exp(lam) is lam.exp(), and a tensor beside a BallDual counts as exact numbers."""
        name = function.__name__.strip("_")
        operation = _BY_NAME.get(name)
        if operation is None or kwargs:
            raise OracleError(
                "a number of the rule must be computed with operations that ball arithmetic has, got "
                f"torch's {name}; use + - * /, {', '.join(sorted(_ONE))}"
            )
        return operation(*map(BallDual.of, args))

    def _map(self, function: Callable[[arb], tuple[arb, arb]]) -> "BallDual":
        pairs = [function(value) for value in self.values]
        rows = [_scaled(slope, row) for (_, slope), row in zip(pairs, self.rows, strict=True)]
        return BallDual([value for value, _ in pairs], rows)

    def _with(self, other: Any, function: Callable[[arb, arb], tuple[arb, arb, arb]]) -> "BallDual":
        """Entry by entry: the value, and the slopes by both."""
        that = BallDual.of(other)
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
        return BallDual(values, rows)


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


_ONE: dict[str, Callable[..., BallDual]] = {
    "exp": BallDual.exp,
    "log": BallDual.log,
    "sqrt": BallDual.sqrt,
    "tanh": BallDual.tanh,
    "sigmoid": BallDual.sigmoid,
    "softplus": BallDual.softplus,
    "square": BallDual.square,
    "sum": BallDual.sum,
}
_BY_NAME: dict[str, Callable[..., BallDual]] = {
    **_ONE,
    "add": BallDual.__add__,
    "radd": BallDual.__radd__,
    "sub": BallDual.__sub__,
    "rsub": lambda one, other: other - one,
    "mul": BallDual.__mul__,
    "rmul": BallDual.__rmul__,
    "div": BallDual.__truediv__,
    "truediv": BallDual.__truediv__,
    "rtruediv": lambda one, other: other / one,
}


@final
class BallOperations:
    """The arithmetic of `BallDual` for the formulas of rules; a kink inside an enclosure is an error."""

    def root(self, v: BallDual, root_epsilon: Any) -> BallDual:
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
        return BallDual(values, rows)

    def clip(self, g: BallDual, bound: Any) -> BallDual:
        """See `refblo.rules.operations.Operations.clip`."""
        limit = BallDual.of(bound)
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
        return BallDual([p.values[0] for p in pieces], [p.rows[0] for p in pieces])

    def shrink(self, g: BallDual, norm: Any, epsilon: float) -> BallDual:
        """See `refblo.rules.operations.Operations.shrink`."""
        square = g.square().sum()
        if square.values[0] == 0:
            return g
        size, limit = self.root(square, 0) + epsilon, BallDual.of(norm)
        if size.values[0] > limit.values[0]:
            return limit / size * g
        if size.values[0] < limit.values[0]:
            return g
        raise _undecided("the gradient must be clipped or not")


def _undecided(what: str) -> OracleError:
    return OracleError(
        f"{what}, got an enclosure that contains the kink; choose another lam, theta0 or number of steps"
    )
