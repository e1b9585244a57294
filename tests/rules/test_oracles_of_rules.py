"""Every rule by tangents, in reverse, by differences and in balls: all agree within their bounds. 5 s.

The problem has gradients that are exactly zero and moves away from points where v = 0. The ball's answer is
certified; the others are judged by `hypergradient_report`, whose truth is a forward tangent confirmed by
differences, and which allows what it measures that rounding does.
"""

from functools import cache

import pytest
import torch
from torch import Tensor

from refblo.balls.duals import BallDual, BallOperations
from refblo.chain import Langevin, Schedule
from refblo.conformance import Verdict, hypergradient_report
from refblo.errors import ArgumentError, OracleError
from refblo.estimators import FMD, RMD, Compiled, FMDDirectional
from refblo.noise import Draws
from refblo.oracles.ball import Ball
from refblo.rules import SGD, Adam, AdamW, RMSprop, Rule
from refblo.testing.rules import OF_LAM, RULE_VARIANTS, RuleVariant
from refblo.types import Estimand
from tests.rules.rule_case import LAM, STEPS, THETA0, inner, outer, rule_case

EPSILON = 0.02
"""ε here: at v = 0 the derivative is γ/ε, and differences need steps far below ε."""


def _quick() -> set[str]:
    """One rule of each formula, with clipping, and with every number a function of λ."""
    first: dict[object, str] = {}
    for variant in RULE_VARIANTS:
        rule = variant.middle(EPSILON)
        first.setdefault((rule.formula, rule.clips, len(rule.functions) > 4), variant.name)
    return set(first.values())


QUICK = _quick()
VARIANTS = [
    pytest.param(each, id=each.name, marks=[] if each.name in QUICK else [pytest.mark.full])
    for each in RULE_VARIANTS
]
WIDEST = max(RULE_VARIANTS, key=lambda each: len(each.middle(EPSILON).functions)).name
WITH_A_REPORT = [
    pytest.param(each, id=each.name, marks=[] if each.name == WIDEST else [pytest.mark.full])
    for each in RULE_VARIANTS
]
"""A report takes half a second: the quick run makes those of the rule with the most functions of λ."""


@cache
def truth(variant: RuleVariant) -> tuple[Tensor, float]:
    found = Ball(rule=variant.middle(EPSILON)).truth(rule_case(), Estimand.UNROLLED)
    return found.value, found.error


@pytest.mark.parametrize("variant", WITH_A_REPORT)
def test_tangents_and_differences_confirm_the_balls(variant: RuleVariant) -> None:
    value, _ = truth(variant)
    report = hypergradient_report(
        inner, outer, LAM, THETA0, value, rule=variant.middle(EPSILON), steps=STEPS
    )
    assert report.right, report.describe()
    assert report.floor == 1e-9


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_modes_agree_with_the_balls(variant: RuleVariant) -> None:
    """Within 64 roundings a step of the largest number on the way: at v = 0 that is γ/ε."""
    value, error = truth(variant)
    rule, case = variant.middle(EPSILON), rule_case()
    gamma = rule.constant_step_size or 1.0
    largest = max(1.0, float(value.norm()), gamma / EPSILON)
    bound = error + 64 * STEPS * torch.finfo(torch.float64).eps * largest
    for method in (RMD(rule, Schedule.last(STEPS)), FMD(rule, Schedule.last(STEPS))):
        found = method.estimate(case.problem, LAM).value
        assert float((found - value).norm()) <= bound, method.name
    u = torch.tensor([0.3, -0.7], dtype=torch.float64)
    along = FMDDirectional(rule, Schedule.last(STEPS)).derivative(case.problem, LAM, u)
    assert abs(along - float(value @ u)) <= bound


@pytest.mark.parametrize("variant", WITH_A_REPORT)
def test_what_the_rule_of_another_run_gives_is_wrong(variant: RuleVariant) -> None:
    """The same rule one step longer, and a λ that reaches the numbers of the rule without its derivative."""
    rule, case = variant.middle(EPSILON), rule_case()
    longer = RMD(rule, Schedule.last(STEPS + 1)).estimate(case.problem, LAM).value
    wrong = [longer]
    if variant in OF_LAM:
        held = rule.mapped(lambda _, number: lambda lam, t: _called(number, lam.detach(), t))
        wrong.append(RMD(held, Schedule.last(STEPS)).estimate(case.problem, LAM).value)
    for value in wrong:
        report = hypergradient_report(
            inner, outer, LAM, THETA0, value, rule=rule, steps=STEPS, diagnosis_seconds=0
        )
        assert report.verdict is Verdict.WRONG


def _called(number: object, lam: Tensor, t: int) -> object:
    try:
        return number(lam, t)  # type: ignore[operator]  # a function, of one argument or two
    except TypeError:
        return number(lam)  # type: ignore[operator]  # likewise


@pytest.mark.parametrize("states", [2, 3])
def test_a_run_with_few_stored_states_is_the_same(states: int) -> None:
    case, rule = rule_case(), AdamW(0.1, eps=EPSILON, weight_decay=lambda lam: lam[1])
    whole, few, roots = (
        RMD(rule, Schedule(2, 5), **options).estimate(case.problem, LAM).value
        for options in ({}, {"states": states, "graph_bytes": 0}, {"checkpointed": True})
    )
    torch.testing.assert_close(few, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(roots, whole, rtol=1e-12, atol=0)
    blocks = FMD(rule, Schedule(2, 5), block=1).estimate(case.problem, LAM).value
    torch.testing.assert_close(blocks, whole, rtol=1e-12, atol=0)


def test_a_rule_that_is_gradient_descent_is_langevin_without_noise() -> None:
    case, schedule = rule_case(), Schedule.last(STEPS)
    draws = Draws(3)
    for rule, dynamics in (
        (Rule(0.1), Langevin(0.1)),
        (Rule(0.1, temperature=0.2, noise_scale=0.5), Langevin(0.1, 0.2, 0.5)),
    ):
        for one, other in (
            (RMD(rule, schedule), RMD(dynamics, schedule)),
            (FMD(rule, schedule), FMD(dynamics, schedule)),
        ):
            expected = other.estimate(case.problem, LAM, draws).value
            found = one.estimate(case.problem, LAM, draws).value
            torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-15)
        ball = Ball(rule=rule).truth(rule_case(), Estimand.UNROLLED, draws)
        torch.testing.assert_close(ball.value, expected, rtol=1e-13, atol=1e-15)


def test_the_last_transitions_alone_are_pulled_through() -> None:
    case, rule = rule_case(), SGD(0.1, 0.9)
    truncated = RMD(rule, Schedule.last(6), last_transitions=2)
    whole = RMD(rule, Schedule.last(6))
    one, other = (each.estimate(case.problem, LAM).value for each in (truncated, whole))
    assert float((one - other).norm()) > 1e-3
    all_of_them = RMD(rule, Schedule.last(6), last_transitions=6)
    assert torch.equal(all_of_them.estimate(case.problem, LAM).value, other)


# ---------------------------------------------------------------- the limits


@pytest.mark.parametrize(
    ("rule", "slope"),
    [
        (Adam(0.1, eps=1e-3), 0.1 / 1e-3),
        (Adam(0.1, eps=1e-3, eps_root=1e-4), 0.1 / (1e-2 + 1e-3)),
        (Adam(0.1, eps=0.0, eps_root=1e-4), 0.1 / 1e-2),
        (RMSprop(0.1, eps=1e-3), 0.1 / 1e-3),
        (RMSprop(0.1, eps=0.0, eps_root=1e-4), 0.1 / 1e-2),
        (RMSprop(0.1, eps=1e-3, momentum=0.5), 0.1 / 1e-3),
        (SGD(0.1, clip_norm=1.0), 0.1),
        (SGD(0.1, clip_value=1.0), 0.1),
    ],
)
def test_the_derivative_of_a_step_at_a_gradient_of_exactly_zero(rule: Rule, slope: float) -> None:
    """Analytic, by forward mode, in reverse and by a one-sided quotient that goes to it."""
    state = rule.state(torch.tensor([0.3, -0.2], dtype=torch.float64))
    zero = torch.zeros(2, dtype=torch.float64)

    def moved(g: Tensor) -> Tensor:
        return rule.advance(state, g, 0, None)[:2]

    forward = torch.func.jacfwd(moved)(zero)
    backward = torch.func.jacrev(moved)(zero)
    expected = -slope * torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(forward, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(backward, expected, rtol=1e-12, atol=0)
    h = 1e-9
    quotient = (moved(zero + h) - moved(zero)) / h
    torch.testing.assert_close(quotient, expected.sum(0), rtol=1e-5, atol=0)


def test_a_root_of_zero_under_what_is_not_zero_has_no_derivative() -> None:
    """β₂ = 0: v = g² vanishes while m does not, and |g| has a kink."""
    operations = BallOperations()
    zero, one = (
        BallDual([0 * BallDual.of(1.0).values[0]]),
        BallDual.of_lam([BallDual.of(1.0).values[0]]),
    )
    size = operations.root(zero, 0.0) + 1e-3
    assert (zero / size).tangent(1)[0][0] == 0
    with pytest.raises(OracleError, match="a number other than 0 divided by the square root of 0"):
        (one / size).tangent(1)


def test_a_gradient_that_may_be_clipped_or_not_has_no_enclosure() -> None:
    """The bound is |∂_θ L_T| of θ_1 at the start, 1/4 exactly."""
    case = rule_case()
    assert torch.func.grad(lambda theta: inner(LAM, theta))(THETA0)[1] == -0.25
    at_the_tie = SGD(0.1, clip_value=0.25)
    with pytest.raises(OracleError, match="must be clipped or not"):
        Ball(rule=at_the_tie, max_precision=256).truth(case, Estimand.UNROLLED)


# ---------------------------------------------------------------- what a method cannot run


def test_no_kernel_is_compiled_for_a_rule() -> None:
    with pytest.raises(ArgumentError, match=r"compiled, got a Rule \(Adam\)"):
        Compiled(RMD(Adam(0.1), Schedule.last(2)))


def test_a_number_out_of_range_at_some_step_is_named_before_the_run() -> None:
    case, rule = rule_case(), SGD(lambda lam, t: 0.1 - 0.04 * t)
    for method in (RMD(rule, Schedule.last(4)), FMD(rule, Schedule.last(4))):
        with pytest.raises(ArgumentError, match=r"step_size\(lam\) at step 3 must be at least 0"):
            method.estimate(case.problem, LAM)


def test_balls_name_a_function_that_they_do_not_have() -> None:
    rule = SGD(lambda lam: torch.cos(lam[0]) / 10)
    with pytest.raises(OracleError, match="got torch's cos"):
        Ball(rule=rule, max_precision=128).truth(rule_case(), Estimand.UNROLLED)
    assert not Ball(rule=rule).applies(rule_case(), Estimand.IMPLICIT)
