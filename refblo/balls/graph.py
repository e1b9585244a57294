"""Expressions as graphs of elementary operations: differentiated symbolically, compiled to balls.

sympy states the problem and supplies the derivative of every elementary function; the chain rule is applied
here, on a graph in which equal parts are one node, because sympy's own derivatives of nested sums grow
large and take seconds. A node is a number; its operation has smaller numbers as arguments.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias, final

import sympy
from flint import arb, fmpq

from refblo.errors import OracleError

Balls: TypeAlias = list[arb]
Operation: TypeAlias = Callable[[Balls], arb]

_U = sympy.Dummy("u", real=True)
"""The argument in templates: an elementary function of one argument is a sympy expression in it."""


def _away_from_zero(ball: arb) -> arb:
    """DiracDelta: 0 where its argument cannot be 0."""
    if ball.contains(arb(0)):
        raise OracleError(
            "symbolic must be twice differentiable along the run, got a kink inside the enclosure; choose "
            "another lam or theta0"
        )
    return arb(0)


_FUNCTIONS: dict[type, Callable[[arb], arb]] = {
    sympy.exp: arb.exp,
    sympy.log: arb.log,
    sympy.sin: arb.sin,
    sympy.cos: arb.cos,
    sympy.tan: arb.tan,
    sympy.atan: arb.atan,
    sympy.sinh: arb.sinh,
    sympy.cosh: arb.cosh,
    sympy.tanh: arb.tanh,
    sympy.erf: arb.erf,
    sympy.Abs: abs,
    sympy.sign: arb.sgn,
    sympy.Heaviside: lambda ball: (ball.sgn() + 1) / 2,
    sympy.DiracDelta: _away_from_zero,
}


@final
@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        kind: "input", "constant", "+", "*" or "apply".
        arguments: the nodes it works on; of an input, its position.
        what: of a constant, its value; of an application, the template.
    """

    kind: str
    arguments: tuple[int, ...] = ()
    what: sympy.Expr | None = None


@final
@dataclass
class Graph:
    """A growing graph over some inputs.

    Args:
        symbols: the inputs.
    """

    symbols: tuple[sympy.Symbol, ...]
    nodes: list[Node] = field(default_factory=list)
    _numbers: dict[Node, int] = field(default_factory=dict)
    _derivatives: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for position in range(len(self.symbols)):
            self._node(Node("input", (position,)))

    def build(self, expression: sympy.Expr) -> int:
        """The node of an expression in the symbols.

        Raises:
            OracleError: for a function that ball arithmetic does not have.
        """
        known = {symbol: position for position, symbol in enumerate(self.symbols)}
        return self._build(sympy.sympify(expression), known)

    def derivative(self, node: int, symbol: sympy.Symbol) -> int:
        """The node of ∂node/∂symbol."""
        return self._derivative(node, self.symbols.index(symbol))

    def is_zero(self, node: int) -> bool:
        """Whether a node is 0 for all inputs; it may be 0 without being seen to be."""
        found = self.nodes[node]
        return found.kind == "constant" and found.what == 0

    def compile(self, outputs: Sequence[int]) -> Callable[[Sequence[arb]], Balls]:
        """The function from inputs to outputs, its constants rounded at the current precision."""
        needed, pending = set(outputs), list(outputs)
        while pending:
            node = self.nodes[pending.pop()]
            if node.kind != "input":
                fresh = [argument for argument in node.arguments if argument not in needed]
                needed.update(fresh)
                pending.extend(fresh)
        order = sorted(needed)
        slots = {number: slot for slot, number in enumerate(order)}
        inputs_at, operations = [], []
        for slot, number in enumerate(order):
            node = self.nodes[number]
            if node.kind == "input":
                inputs_at.append((slot, node.arguments[0]))
            else:
                operations.append((slot, _operation(node, slots)))
        positions = [slots[number] for number in outputs]

        def evaluate(inputs: Sequence[arb]) -> Balls:
            values: Balls = [arb(0)] * len(order)
            for slot, position in inputs_at:
                values[slot] = inputs[position]
            for slot, operation in operations:
                values[slot] = operation(values)
            return [values[position] for position in positions]

        return evaluate

    def _node(self, node: Node) -> int:
        number = self._numbers.get(node)
        if number is None:
            number = self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
        return number

    def _constant(self, value: sympy.Expr) -> int:
        return self._node(Node("constant", (), value))

    def _build(self, expression: sympy.Expr, known: dict[sympy.Symbol, int]) -> int:
        if not expression.args:
            return self._leaf(expression, known)
        if isinstance(expression, sympy.Pow) and not expression.exp.is_Rational:
            # a^b = exp(b log a), for a > 0 as in ball arithmetic.
            exponent = expression.exp * sympy.log(expression.base)
            return self._apply(sympy.exp(_U), self._build(exponent, known))
        arguments = [self._build(part, known) for part in expression.args]
        fold = self._folds().get(type(expression))
        if fold is not None:
            return self._fold(fold, arguments)
        if isinstance(expression, sympy.Pow):
            return self._apply(_U**expression.exp, arguments[0])
        if type(expression) in _FUNCTIONS:
            return self._apply(expression.func(_U), arguments[0])
        raise _unknown(expression)

    def _folds(self) -> dict[type, Callable[[int, int], int]]:
        return {
            sympy.Add: self._add,
            sympy.Mul: self._multiply,
            sympy.Max: lambda one, other: self._extreme(one, other, 1),
            sympy.Min: lambda one, other: self._extreme(one, other, -1),
        }

    def _leaf(self, expression: sympy.Expr, known: dict[sympy.Symbol, int]) -> int:
        if expression in known:
            return known[expression]
        if isinstance(expression, sympy.Float):
            # The binary number that the Float is, not the decimal one that it prints as.
            return self._constant(_rational(expression))
        if isinstance(expression, sympy.Rational) or expression in (sympy.pi, sympy.E):
            return self._constant(expression)
        raise _unknown(expression)

    def _fold(self, operation: Callable[[int, int], int], arguments: list[int]) -> int:
        # In pairs, so that the graph of a long sum is not as deep as the sum is long.
        while len(arguments) > 1:
            paired = [operation(*arguments[i : i + 2]) for i in range(0, len(arguments) - 1, 2)]
            arguments = paired + arguments[2 * len(paired) :]
        return arguments[0]

    def _value(self, node: int) -> sympy.Expr | None:
        """The value of a rational constant."""
        found = self.nodes[node]
        rational = found.kind == "constant" and isinstance(found.what, sympy.Rational)
        return found.what if rational else None

    def _add(self, one: int, other: int) -> int:
        left, right = self._value(one), self._value(other)
        if left is not None and right is not None:
            return self._constant(left + right)
        if left == 0:
            return other
        if right == 0:
            return one
        return self._node(Node("+", (min(one, other), max(one, other))))

    def _multiply(self, one: int, other: int) -> int:
        left, right = self._value(one), self._value(other)
        if left is not None and right is not None:
            return self._constant(left * right)
        if left == 0 or right == 1:
            return one
        if right == 0 or left == 1:
            return other
        return self._node(Node("*", (min(one, other), max(one, other))))

    def _extreme(self, one: int, other: int, sign: int) -> int:
        """max(a, b) = (a + b + |a − b|)/2, and min with the other sign."""
        difference = self._add(one, self._multiply(self._constant(sympy.S.NegativeOne), other))
        size = self._multiply(
            self._constant(sympy.Integer(sign)), self._apply(sympy.Abs(_U), difference)
        )
        return self._multiply(self._constant(sympy.S.Half), self._add(self._add(one, other), size))

    def _apply(self, template: sympy.Expr, argument: int) -> int:
        return self._node(Node("apply", (argument,), template))

    def _derivative(self, node: int, by: int) -> int:
        key = (node, by)
        if key not in self._derivatives:
            self._derivatives[key] = self._differentiate(self.nodes[node], node, by)
        return self._derivatives[key]

    def _differentiate(self, found: Node, node: int, by: int) -> int:
        if found.kind == "input":
            return self._constant(sympy.Integer(int(node == by)))
        if found.kind == "constant":
            return self._constant(sympy.S.Zero)
        changes = [self._derivative(argument, by) for argument in found.arguments]
        if found.kind == "+":
            return self._add(*changes)
        if found.kind == "*":
            one, other = found.arguments
            return self._add(self._multiply(changes[0], other), self._multiply(one, changes[1]))
        if self.is_zero(changes[0]):
            return changes[0]
        slope = self._build(_slope(found.what), {_U: found.arguments[0]})
        return self._multiply(slope, changes[0])


def _unknown(expression: sympy.Expr) -> OracleError:
    return OracleError(
        "symbolic must use its own symbols, finite real constants and functions that ball arithmetic has, "
        f"got {type(expression).__name__} in {expression}; state the problem in exp, log, sin, cos, tanh, "
        "powers, Abs, Max and the like"
    )


@lru_cache(maxsize=256)
def _slope(template: sympy.Expr) -> sympy.Expr:
    """The derivative of an elementary function, from sympy."""
    return template.diff(_U)


def _rational(number: sympy.Float) -> sympy.Rational:
    sign, mantissa, exponent, _ = number._mpf_
    signed = -int(mantissa) if sign else int(mantissa)
    return sympy.Rational(signed) * sympy.Rational(2) ** exponent


def _operation(node: Node, slots: dict[int, int]) -> Operation:
    """The closure that evaluates one operation on the list of all values."""
    if node.kind == "constant":
        constant = _ball(node.what)
        return lambda _: constant
    first, *rest = (slots[argument] for argument in node.arguments)
    if node.kind == "+":
        return lambda values: values[first] + values[rest[0]]
    if node.kind == "*":
        return lambda values: values[first] * values[rest[0]]
    template = node.what
    if isinstance(template, sympy.Pow):
        return _power(template.exp, first)
    function = _FUNCTIONS[type(template)]
    return lambda values: function(values[first])


def _power(exponent: sympy.Rational, first: int) -> Operation:
    if exponent == 2:
        return lambda values: values[first] * values[first]
    if exponent == sympy.S.Half:
        return lambda values: values[first].sqrt()
    if exponent.is_Integer:
        power = int(exponent)
        return lambda values: values[first] ** power
    ball = _ball(exponent)
    return lambda values: values[first] ** ball


def _ball(number: sympy.Expr | None) -> arb:
    if isinstance(number, sympy.Rational):
        return arb(fmpq(int(number.p), int(number.q)))
    return arb.pi() if number is sympy.pi else arb.const_e()
