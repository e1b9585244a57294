"""The certified points, checked by means that share nothing with ball arithmetic."""

import math

import pytest
import sympy

from refblo.experiments.landmarks import (
    Certified,
    drift_limit,
    first_order_limit,
    grid_optimum,
    optimum,
)
from refblo.experiments.report import agrees_to_printed_digits

UNIT = 10.0**-15
"""One unit in the last certified digit: flint proves a printed digit up to that."""


def reduced() -> tuple[sympy.Symbol, sympy.Expr]:
    lam = sympy.Symbol("lambda", positive=True)
    theta = sympy.sqrt(1 - lam**2)
    return lam, (lam - theta) ** 2 + (theta - sympy.Rational(1, 2)) ** 2


def test_the_optimum_is_the_root_of_the_reduced_gradient() -> None:
    lam, loss = reduced()
    root = sympy.nsolve(sympy.diff(loss, lam), lam, (0.7, 0.8), solver="bisect", prec=40)
    assert abs(sympy.Float(optimum().lam_text, 40) - root) <= UNIT
    assert abs(sympy.Float(optimum().theta_text, 40) - sympy.sqrt(1 - root**2)) <= UNIT


def test_no_point_of_a_fine_grid_is_better() -> None:
    lam, loss = reduced()
    value = sympy.lambdify(lam, loss, "math")
    best = value(optimum().point.lam)
    # The two sides round at most a few units of 1e-16; nothing else can make the grid look better.
    assert all(value(k / 20_000) >= best - 1e-15 for k in range(20_001))


@pytest.mark.parametrize("certified", [optimum(), drift_limit(), first_order_limit()])
def test_every_point_lies_on_the_inner_optima(certified: Certified) -> None:
    point = certified.point
    # Two roundings of each coordinate, each by half a unit of 1.1e-16, times derivatives below 2.
    assert math.isclose(point.lam**2 + point.theta**2, 1, rel_tol=4e-16)


def test_the_drift_limit_zeroes_the_outer_slope() -> None:
    point = drift_limit().point
    assert abs(4 * point.theta - 2 * point.lam - 1) <= 1e-15  # a few roundings of numbers below 4


def test_the_printed_optimum_is_that_of_a_thousand_grid_points() -> None:
    found = grid_optimum()
    assert agrees_to_printed_digits("0.7487", found.lam)
    assert agrees_to_printed_digits("0.6629", found.theta)
    assert not agrees_to_printed_digits("0.7487", optimum().point.lam)
    assert not agrees_to_printed_digits("0.6629", optimum().point.theta)
