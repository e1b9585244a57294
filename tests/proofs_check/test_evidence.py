"""The checks themselves: what is equal passes, what differs does not."""

from fractions import Fraction

import flint
import pytest
import sympy as sp

from proofs_check.evidence import (
    at_most,
    encloses,
    figure,
    identity,
    less,
    matrix_identity,
    vanishes,
    within,
)

x, y = sp.symbols("x y")
h = sp.symbols("h", positive=True)
F = sp.Function("F")
A, B = sp.symbols("A B", commutative=False)


@pytest.mark.parametrize(
    "zero",
    [
        sp.S(0),
        (x + y) ** 2 - x**2 - 2 * x * y - y**2,
        sp.sin(x) ** 2 + sp.cos(x) ** 2 - 1,
        sp.diff(F(x) ** 2, x) - 2 * F(x) * sp.diff(F(x), x),
        sp.sqrt(h**2) - h,
        (A + B) * (A - B) - A * A + A * B - B * A + B * B,
    ],
)
def test_what_is_zero_vanishes(zero: sp.Expr) -> None:
    assert vanishes(zero)


@pytest.mark.parametrize(
    "other",
    [
        sp.Rational(1, 10**9),
        x,
        sp.sin(x) ** 2 + sp.cos(x) ** 2,
        sp.diff(F(x), x) - F(x),
        sp.diff(F(x), x, 2) - sp.diff(F(x), x),
        A * B - B * A,
        x * (x - sp.Rational(3, 2003)),
    ],
)
def test_what_is_not_zero_does_not_vanish(other: sp.Expr) -> None:
    assert not vanishes(other)


def test_an_identity_keeps_both_sides() -> None:
    check = identity("a square", (x + 1) ** 2, x**2 + 2 * x)
    assert not check.holds
    assert (check.left, check.right) == ("(x + 1)**2", "x**2 + 2*x")


def test_matrices_of_different_shapes_are_not_equal() -> None:
    assert not matrix_identity("shapes", sp.zeros(2, 3), sp.zeros(3, 2)).holds


def test_balls_that_overlap_prove_nothing() -> None:
    ball = flint.arb(1, 0.1)
    assert not less("overlap", ball, flint.arb(1.05, 0.1)).holds
    assert less("apart", ball, flint.arb(1.3, 0.1)).holds
    assert not at_most("unknown", flint.arb("nan"), ball).holds


def test_an_enclosure_must_be_as_sharp_as_the_digits() -> None:
    third = flint.arb(1) / 3
    assert encloses("a third", third, Fraction("0.3333"), Fraction(1, 20000)).holds
    assert not encloses("a third", third, Fraction("0.3334"), Fraction(1, 20000)).holds
    blurred = flint.arb(0.3333, 0.001)
    assert not encloses("blurred", blurred, Fraction("0.3333"), Fraction(1, 20000)).holds


def test_a_figure_agrees_when_it_rounds_to_the_printed_digits() -> None:
    assert figure("a", Fraction("0.7360"), 0.736036, 4).agrees is True
    assert figure("a", Fraction("0.7360"), 0.736051, 4).agrees is False


def test_a_measurement_that_is_not_a_number_is_not_within_anything() -> None:
    assert not within("nan", float("nan"), -1.0, 1.0).holds
