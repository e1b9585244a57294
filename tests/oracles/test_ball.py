"""Ball arithmetic: its answers are certified, and what cannot be certified is refused."""

import math
from dataclasses import replace
from decimal import Decimal

import pytest
import sympy
import torch
from flint import arb, ctx
from hypothesis import given
from hypothesis import strategies as st

from refblo.balls import minimiser
from refblo.balls.derivatives import decimal, differentiate, tape
from refblo.chain import Langevin, Schedule
from refblo.errors import ArgumentError, DivergenceError, OracleError
from refblo.noise import Draws
from refblo.oracles import Ball, ball
from refblo.oracles.ball import as_truth
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems import build
from refblo.problems.case import Case
from refblo.problems.symbolic import SymbolicProblem, symbols
from refblo.types import ErrorKind, Estimand
from tests.oracles.generated import Recipe, recipes

LAM, THETA = symbols("lam", 1), symbols("theta", 1)


def scalar_case(
    inner: sympy.Expr,
    outer: sympy.Expr,
    start: float = 0.5,
    lam: float = 0.25,
    dynamics: Langevin | None = None,
) -> Case:
    """A case with n = p = 1 for oracles that work from sympy; its tensor losses only have its sizes."""
    problem = BilevelProblem(
        lambda at, theta, _: (theta - at).square().sum(),
        lambda at, theta, _: (theta * at).sum(),
        FixedInitial(torch.tensor([start], dtype=torch.float64)),
    )
    return Case(
        "scalar",
        problem,
        torch.tensor([lam], dtype=torch.float64),
        dynamics or Langevin(0.1, 0.5, 1.0),
        Schedule(1, 2),
        SymbolicProblem(LAM, THETA, inner, outer, (sympy.Rational(start),)),
    )


x, t = LAM[0], THETA[0]


def test_a_recursion_by_hand() -> None:
    # θ¹ = θ⁰ − γ (θ⁰ − λ) + σ z, f = θ²/2: the derivative is γ θ¹, in exact arithmetic on the doubles.
    case = scalar_case((t - x) ** 2 / 2, t**2 / 2)
    case = replace(case, schedule=Schedule.last(1))
    draws = Draws(7)
    found = Ball().digits(case, Estimand.UNROLLED, draws, digits=25)
    z = draws.normal(0, 0, torch.empty(1, dtype=torch.float64)).item()
    exact = [sympy.Rational(x) for x in (0.5, 0.1, 0.25, case.dynamics.noise, z)]
    start, gamma, lam, noise, kick = exact
    expected = gamma * (start - gamma * (start - lam) + noise * kick)
    off = abs(sympy.Rational(found.midpoints[0]) - expected)
    assert off <= sympy.Rational(found.radii[0])
    assert sympy.Rational(found.radii[0]) <= abs(expected) * sympy.Rational(10) ** -24


@given(recipes(), st.integers(0, 2**32))
def test_more_digits_lie_within_fewer(recipe: Recipe, seed: int) -> None:
    case, draws = recipe.case(), Draws(seed)
    fewer = Ball().digits(case, Estimand.PATHWISE, draws, digits=10)
    more = Ball().digits(case, Estimand.PATHWISE, draws, digits=60)
    truth = Ball().truth(case, Estimand.PATHWISE, draws)
    squares = Decimal(0)
    for index, (mid, rad) in enumerate(zip(fewer.midpoints, fewer.radii, strict=True)):
        finer, finest = Decimal(more.midpoints[index]), Decimal(more.radii[index])
        assert abs(Decimal(mid) - finer) <= Decimal(rad) + finest
        squares += (Decimal(truth.value[index].item()) - finer) ** 2
    # The certified error of the rounded value covers its distance to the sixty digits.
    slack = 1 + Decimal(10) ** -20
    assert squares.sqrt() <= Decimal(truth.error) * slack + sum(map(Decimal, more.radii))
    assert truth.kind is ErrorKind.CERTIFIED


def test_the_error_includes_the_rounding_to_float64() -> None:
    # f_λ = 1/3, and θ takes no part in it: the value is off by the rounding of 1/3 and nothing else.
    case = scalar_case((t - x) ** 2 / 2, x / 3 + 0 * t)
    truth = Ball().truth(case, Estimand.IMPLICIT)
    off = abs(float(sympy.Rational(truth.value.item()) - sympy.Rational(1, 3)))
    assert off <= truth.error <= 2 * off


def test_the_certified_error_holds_the_radii_of_the_balls() -> None:
    assert as_truth([arb(1, 0.25)], 64, Estimand.UNROLLED, "a ball").error >= 0.25


def test_an_enclosure_in_few_bits_holds_the_exact_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    # The argument of the cosine is known to some 1000·2⁻²⁴: nearly all of the radius comes from H s, and it
    # grows eight times a step, so that 24 bits must be seen not to suffice.
    inner = (t - x) ** 2 / 2 - sympy.cos(1000 * t) / 10**5
    case = replace(scalar_case(inner, t, dynamics=Langevin(0.1)), schedule=Schedule.last(20))
    fine = Ball().digits(case, Estimand.UNROLLED, digits=20)
    monkeypatch.setattr(ball, "_FIRST_PRECISION", 24)
    rough = Ball(bits=1).digits(case, Estimand.UNROLLED, digits=1)
    off = abs(Decimal(rough.midpoints[0]) - Decimal(fine.midpoints[0]))
    assert off <= Decimal(rough.radii[0]) + Decimal(fine.radii[0])


def test_the_stationary_point_is_proved() -> None:
    # θ* solves θ + θ³ = λ; with f = θ the derivative is 1 / (1 + 3 θ*²).
    case = scalar_case(t**2 / 2 + t**4 / 4 - x * t, t)
    root = sympy.nsolve(t + t**3 - sympy.Rational(1, 4), t, 0.2, prec=50)
    expected = 1 / (1 + 3 * root**2)
    found = Ball().digits(case, Estimand.IMPLICIT, digits=30)
    assert abs(sympy.Float(found.midpoints[0], 50) - expected) <= sympy.Float("1e-30", 50)


@pytest.mark.parametrize(
    ("inner", "start", "message"),
    [
        (t**4 / 4 - t**2 / 2 + 0 * x, 0.0, "positive definite"),  # a maximum: Newton stays on it
        (t**4 / 4 + 0 * x, 0.0, "singular"),
        (sympy.exp(t) + 0 * x, 0.0, "minimiser"),  # none
        (t * x, 0.0, "minimiser"),
    ],
)
def test_no_proof_no_answer(inner: sympy.Expr, start: float, message: str) -> None:
    oracle = Ball(max_precision=128)
    with pytest.raises(OracleError, match=message):
        oracle.truth(scalar_case(inner, t**2, start), Estimand.IMPLICIT)


def _enclosed(inner: sympy.Expr, point: arb, monkeypatch: pytest.MonkeyPatch) -> arb:
    """What the proof makes of a point that Newton's method would not have ended at, at λ = 1/4."""
    monkeypatch.setattr(minimiser, "_newton", lambda *_: [point])
    derivatives = differentiate(SymbolicProblem(LAM, THETA, inner, t**2, (sympy.Integer(0),)))
    with ctx.workprec(128):
        return minimiser.enclose_minimiser(derivatives, [arb(0.25)])[0]


def test_a_point_near_no_stationary_point_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    # L_T' = eᵗ has no root; at every point the Hessian is positive and a Newton step has length 1.
    with pytest.raises(OracleError, match="could not be proved to be one"):
        _enclosed(sympy.exp(t) + 0 * x, arb(0), monkeypatch)


def test_an_inaccurate_point_is_enclosed_with_its_root(monkeypatch: pytest.MonkeyPatch) -> None:
    # θ + θ³ = λ has one root; the point is 10⁻³ off, so that a Newton step from it is some 10⁻⁶ off.
    root = sympy.nsolve(t + t**3 - sympy.Rational(1, 4), t, 0.2, prec=50)
    inner = t**2 / 2 + t**4 / 4 - x * t
    found = _enclosed(inner, arb(str(root)) + arb(0.001), monkeypatch)
    assert found.contains(arb(str(root)).mid())


@pytest.mark.parametrize(
    "inner", [-(t**2) + x * t, t**3 / 3 - x * t, x * t, -(t**4) + t**2, t**4 - t**5]
)
def test_a_density_that_cannot_be_normalised_is_refused(inner: sympy.Expr) -> None:
    with pytest.raises(OracleError, match=r"exp\(−inner/temperature\)"):
        Ball(max_precision=128).truth(scalar_case(inner, t**2), Estimand.GIBBS)


def test_the_gibbs_truth_of_a_gaussian_by_hand() -> None:
    # p = N(λ, t e^{−λ}) for L_T = e^λ (θ − λ)²/2 and t = τκ² = 0.5: E[θ²] = λ² + t e^{−λ}.
    case = scalar_case(sympy.exp(x) * (t - x) ** 2 / 2, t**2)
    expected = 2 * x - sympy.exp(-x) / 2
    found = Ball().digits(case, Estimand.GIBBS, digits=30)
    off = sympy.Float(found.midpoints[0], 60) - expected.subs(x, sympy.Rational(1, 4)).evalf(60)
    assert abs(off) <= sympy.Float(found.radii[0], 60)


def test_rigorous_quadrature_meets_the_gaussian_formula() -> None:
    # Both ways on one Gaussian: θ³ in the outer loss makes the second go through the moments.
    inner = 2 * (t - x) ** 2
    gaussian = Ball().truth(scalar_case(inner, t**2), Estimand.GIBBS)
    # E[θ³] = λ³ + 3 λ s² with s² = t/4 = 1/8.
    cubic = Ball().digits(scalar_case(inner, t**3), Estimand.GIBBS, digits=30)
    expected = sympy.Rational(3, 16) + sympy.Rational(3, 8)
    assert abs(sympy.Rational(cubic.midpoints[0]) - expected) <= sympy.Rational(cubic.radii[0])
    assert gaussian.value.item() == 0.5


def test_a_smooth_loss_that_is_no_polynomial_has_no_rigorous_gibbs_truth() -> None:
    assert not Ball().applies(scalar_case(sympy.cosh(t) + x * t, t), Estimand.GIBBS)


def test_a_chain_that_diverges_is_reported_with_its_step() -> None:
    case = scalar_case(t**4, t**2, start=2.0, dynamics=Langevin(1.0))
    case = replace(case, schedule=Schedule.last(50))
    with pytest.raises(DivergenceError, match="step_size") as caught:
        Ball().truth(case, Estimand.UNROLLED)
    # θ grows like the third power: 2, 30, 10⁵, 10¹⁵, …, and leaves float64 within ten steps.
    assert 1 < caught.value.step < 10


def test_statements_of_different_sizes_are_refused() -> None:
    case = build("quadratic")
    wrong = replace(case, symbolic=build("maml_quadratic").symbolic)
    with pytest.raises(ArgumentError, match=r"symbolic\.lam must have as many entries"):
        Ball().truth(wrong, Estimand.UNROLLED)


def test_a_function_that_balls_do_not_have_is_named() -> None:
    case = scalar_case((t - x) ** 2 + sympy.Function("g")(t), t)
    with pytest.raises(OracleError, match="got g in"):
        Ball(max_precision=128).truth(case, Estimand.UNROLLED)


def test_a_kink_is_crossed_beside_it_and_refused_on_it() -> None:
    beside = scalar_case((t - x) ** 2 / 2 + sympy.Abs(t), t, start=0.5)
    beside = replace(beside, schedule=Schedule.last(1), dynamics=Langevin(0.125))
    # θ¹ = θ⁰ − γ (θ⁰ − λ + 1), whose derivative by λ is γ.
    assert Ball().truth(beside, Estimand.UNROLLED).value.item() == 0.125
    on = scalar_case((t - x) ** 2 / 2 + sympy.Abs(t), t, start=0.0)
    with pytest.raises(OracleError, match="twice differentiable"):
        Ball(max_precision=128).truth(on, Estimand.UNROLLED)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (
            sympy.tanh(t) + sympy.cosh(t) - 3 * sympy.sinh(t),
            math.tanh(0.5) + math.cosh(0.5) - 3 * math.sinh(0.5),
        ),
        (sympy.sqrt(t) * t ** sympy.Rational(-5, 2), 4.0),
        (sympy.Max(t, x) - 2 * sympy.Min(t, x) + sympy.sign(t), 1.0),
        (
            sympy.log(t) + sympy.atan(t) + sympy.erf(t),
            math.log(0.5) + math.atan(0.5) + math.erf(0.5),
        ),
        (sympy.pi * t + sympy.E * x, math.pi / 2 + math.e / 4),
        (t**x, 0.5**0.25),
        (sympy.Heaviside(t) + sympy.Float(0.1), 1.1),
        (
            sympy.sin(t) + sympy.cos(t) ** 3 + sympy.tan(x),
            math.sin(0.5) + math.cos(0.5) ** 3 + math.tan(0.25),
        ),
    ],
)
def test_the_compiler_knows_its_functions(expression: sympy.Expr, expected: float) -> None:
    (value,) = tape([x, t], [expression]).compile()([arb(0.25), arb(0.5)])
    # Three functions of the C library, each right to an ulp or two of numbers below 2.
    assert abs(float(value.mid()) - expected) <= 8 * 2.0**-52


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 40))
def test_decimal_strings_contain_the_ball(number: float, digits: int) -> None:
    with ctx.workprec(200):
        ball = arb(number) / 3
        mid, rad = decimal(ball, digits)
        third = sympy.Rational(number) / 3
        assert abs(sympy.Rational(mid) - third) <= sympy.Rational(rad)


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda: Ball(bits=0), "bits must be at least 1"),
        (lambda: Ball(max_precision=1), "max_precision must be at least"),
        (
            lambda: Ball().digits(scalar_case((t - x) ** 2, t), Estimand.IMPLICIT, digits=0),
            "digits",
        ),
    ],
)
def test_settings_out_of_range(build_it: object, message: str) -> None:
    assert callable(build_it)
    with pytest.raises(ArgumentError, match=message):
        build_it()
