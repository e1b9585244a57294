"""Counterexamples of the convergence theorems violate one condition alone: below 1 s of the quick suite."""

from dataclasses import replace
from fractions import Fraction

import pytest

from proofs_check.claim import Assumption
from proofs_check.claims import corrected, noisy_rate
from proofs_check.errors import ClaimRefusedError
from proofs_check.tools.alone import refuse_other_violations
from proofs_check.tools.descent_instances import (
    COCOERCIVE,
    FIXED,
    LIPSCHITZ,
    MONOTONE,
    STEP,
    DescentInstance,
)

THEOREMS = [
    (module.CONDITIONS, condition, alone)
    for module, family in ((corrected, corrected.NO_DESCENT), (noisy_rate, noisy_rate.NO_RATE))
    for condition, alone in family.items()
]


@pytest.mark.parametrize(
    ("conditions", "condition", "alone"), THEOREMS, ids=lambda value: getattr(value, "key", "")
)
def test_a_counterexample_keeps_every_other_condition(
    conditions: tuple[Assumption, ...], condition: Assumption, alone: DescentInstance
) -> None:
    assert not alone.holds(condition)
    refuse_other_violations(alone, condition, conditions)


def test_every_condition_has_a_counterexample() -> None:
    assert set(corrected.NO_DESCENT) == set(corrected.CONDITIONS)
    assert set(noisy_rate.NO_RATE) == set(noisy_rate.CONDITIONS)


def test_a_field_that_falls_but_breaks_the_step_as_well_is_refused() -> None:
    wrong = replace(corrected.NO_DESCENT[MONOTONE], name="wrong", rate=Fraction(1))
    with pytest.raises(
        ClaimRefusedError, match=r"'monotone' alone, got \['monotone', 'small-step'\]"
    ):
        refuse_other_violations(wrong, MONOTONE, corrected.CONDITIONS)


@pytest.mark.parametrize(
    ("changed", "condition"),
    [
        ({"along": Fraction(1, 2)}, MONOTONE),
        ({"across": Fraction(1, 9)}, LIPSCHITZ),
        ({"across": Fraction(1, 9)}, COCOERCIVE),
        ({"rate": Fraction(2)}, STEP),
        ({"noise": Fraction(1)}, FIXED),
    ],
)
def test_a_condition_fails_as_soon_as_its_constant_is_passed(
    changed: dict[str, Fraction], condition: Assumption
) -> None:
    one = Fraction(1)
    plain = DescentInstance("plain", one, one / 2, one, one)
    assert plain.holds(condition)
    assert not replace(plain, **changed).holds(condition)  # type: ignore[arg-type]  # fractions all


def test_the_mean_square_is_that_of_a_run_over_both_signs_of_the_noise() -> None:
    turned = DescentInstance(
        "turned", Fraction(1, 2), Fraction(1, 3), Fraction(1, 2), Fraction(1), Fraction(1, 4),
        noise=Fraction(1, 25), variance=Fraction(1, 25),
    )  # fmt: skip
    a, b, rate = turned.along, turned.across, turned.rate
    points = [(Fraction(1, 10), Fraction(0))]
    for _ in range(3):
        points = [
            (x - rate * (a * x - b * y + kick), y - rate * (a * y + b * x))
            for x, y in points
            for kick in (Fraction(1, 5), Fraction(-1, 5))
        ]
    mean = sum((x**2 + y**2 for x, y in points), Fraction(0)) / len(points)
    assert mean == turned.squares(3)[-1]
