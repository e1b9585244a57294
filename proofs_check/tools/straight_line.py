"""Straight-line programs, their forward and reverse mode, executed in exact arithmetic and counted.

A program is a list of operations on numbers: additions, products and calls of one function φ, here
φ(u) = u³. One unit is one addition, one product, or one call of φ or of φ'. What a mode costs is what it
executes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, final

Kind = Literal["add", "mul", "phi"]
KINDS: tuple[Kind, ...] = ("add", "mul", "phi")


@final
@dataclass(frozen=True)
class Operation:
    """One operation; its result is the next number.

    Attributes:
        kind: which.
        left: place of the first operand among the numbers.
        right: place of the second; that of the first for a call.
    """

    kind: Kind
    left: int
    right: int


@final
@dataclass
class OperationCounter:
    """Arithmetic that counts what it executes.

    Attributes:
        units: additions, products and calls.
    """

    units: int = 0

    def add(self, u: Fraction, v: Fraction) -> Fraction:
        """u + v."""
        self.units += 1
        return u + v

    def mul(self, u: Fraction, v: Fraction) -> Fraction:
        """u·v."""
        self.units += 1
        return u * v

    def phi(self, u: Fraction) -> Fraction:
        """φ(u)."""
        self.units += 1
        return u**3

    def phi_slope(self, u: Fraction) -> Fraction:
        """φ'(u)."""
        self.units += 1
        return 3 * u**2

    def apply(self, operation: Operation, numbers: Sequence[Fraction]) -> Fraction:
        """The value of one operation."""
        u, v = numbers[operation.left], numbers[operation.right]
        if operation.kind == "add":
            return self.add(u, v)
        return self.mul(u, v) if operation.kind == "mul" else self.phi(u)


@final
@dataclass(frozen=True)
class CountedRun:
    """What a run of a program gave, and what it took.

    Attributes:
        result: the derivative along a direction, or the gradient, or the value.
        units: of the arithmetic.
        stored: numbers that were kept for a second pass.
    """

    result: tuple[Fraction, ...]
    units: int
    stored: int = 0


def evaluate(program: Sequence[Operation], inputs: Sequence[Fraction]) -> CountedRun:
    """The program itself."""
    meter, numbers = OperationCounter(), list(inputs)
    for operation in program:
        numbers.append(meter.apply(operation, numbers))
    return CountedRun((numbers[-1],), meter.units)


def forward(
    program: Sequence[Operation], inputs: Sequence[Fraction], direction: Sequence[Fraction]
) -> CountedRun:
    """Value and tangent, operation by operation."""
    meter, numbers, tangents = OperationCounter(), list(inputs), list(direction)
    for operation in program:
        u, v = numbers[operation.left], numbers[operation.right]
        du, dv = tangents[operation.left], tangents[operation.right]
        if operation.kind == "add":
            tangent = meter.add(du, dv)
        elif operation.kind == "mul":
            tangent = meter.add(meter.mul(du, v), meter.mul(u, dv))
        else:
            tangent = meter.mul(meter.phi_slope(u), du)
        numbers.append(meter.apply(operation, numbers))
        tangents.append(tangent)
    return CountedRun((tangents[-1],), meter.units)


def reverse(program: Sequence[Operation], inputs: Sequence[Fraction]) -> CountedRun:
    """The values, kept, and then the adjoints from the last operation to the first."""
    meter, numbers = OperationCounter(), list(inputs)
    for operation in program:
        numbers.append(meter.apply(operation, numbers))
    adjoints = [Fraction(0)] * len(numbers)
    adjoints[-1] = Fraction(1)
    for place in reversed(range(len(program))):
        operation, own = program[place], adjoints[len(inputs) + place]
        u, v = numbers[operation.left], numbers[operation.right]
        if operation.kind == "add":
            adjoints[operation.left] = meter.add(adjoints[operation.left], own)
            adjoints[operation.right] = meter.add(adjoints[operation.right], own)
        elif operation.kind == "mul":
            adjoints[operation.left] = meter.add(adjoints[operation.left], meter.mul(own, v))
            adjoints[operation.right] = meter.add(adjoints[operation.right], meter.mul(own, u))
        else:
            slope = meter.mul(own, meter.phi_slope(u))
            adjoints[operation.left] = meter.add(adjoints[operation.left], slope)
    return CountedRun(tuple(adjoints[: len(inputs)]), meter.units, len(numbers) - len(inputs))
