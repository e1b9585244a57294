"""Verdicts on paired runs: error rates, power, the words. Four seconds of processor time."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from refblo.errors import ArgumentError
from refblo.experiments.endpoints import Endpoint, EndpointKind
from refblo.experiments.paired import (
    ERROR_RATE,
    bootstrap_interval,
    detectable,
    fewest_seeds,
    holm,
    judge,
)
from refblo.experiments.report import Scale


def endpoint(kind: EndpointKind = EndpointKind.LOWER, margin: float = 1.0) -> Endpoint:
    return Endpoint("a claim.", "error", ("ours",), ("theirs",), kind, margin)


def verdict(kind: EndpointKind, d: np.ndarray, scale: Scale = Scale.SMALL) -> str:
    return judge([endpoint(kind)], [d], scale)[0].verdict


def spread_around(mean: float, deviation: float, seeds: int = 10) -> np.ndarray:
    values = np.linspace(-1, 1, seeds) + 0.01 * np.cos(np.arange(seeds))
    scaled: np.ndarray = mean + deviation * (values - values.mean()) / values.std(ddof=1)
    return scaled


@pytest.mark.parametrize(
    ("kind", "mean", "word"),
    [
        (EndpointKind.LOWER, -3.0, "confirmed at small scale"),
        (EndpointKind.LOWER, 3.0, "refuted at small scale"),
        (EndpointKind.LOWER, 0.0, "refuted at small scale"),
        (EndpointKind.EQUIVALENT, 0.0, "confirmed at small scale"),
        (EndpointKind.EQUIVALENT, -3.0, "refuted at small scale"),
        (EndpointKind.EQUIVALENT, 3.0, "refuted at small scale"),
    ],
)
def test_a_clear_difference_gets_its_word(kind: EndpointKind, mean: float, word: str) -> None:
    assert verdict(kind, spread_around(mean, 0.3)) == word


@pytest.mark.parametrize("kind", list(EndpointKind))
def test_a_wide_spread_is_undecided_and_says_what_would_have_been_seen(kind: EndpointKind) -> None:
    said = verdict(kind, spread_around(-0.5, 5.0))
    assert said.startswith("undecided (smallest effect that would have been seen: ")


def test_the_report_holds_what_is_judged_again() -> None:
    d = spread_around(-0.5, 0.3)
    claim = Endpoint("c", "m", ("a",), ("b",), EndpointKind.LOWER, 1.0)
    kept = judge([claim], [d], Scale.SMALL)[0].differences
    assert judge([claim], [np.array(kept)], Scale.SMALL) == judge([claim], [d], Scale.SMALL)


def test_too_few_seeds_can_show_nothing() -> None:
    said = verdict(EndpointKind.LOWER, np.array([-9.0, -9.1, -9.2]))
    assert said == "undecided (no effect could have been seen with 3 seeds; 6 can)"


def test_a_smoke_run_is_never_judged() -> None:
    said = verdict(EndpointKind.LOWER, spread_around(-9.0, 0.1), Scale.SMOKE)
    assert said.startswith("not judged at smoke scale")


def test_the_fewest_seeds_are_those_with_which_the_smallest_p_value_is_low_enough() -> None:
    for endpoints in (1, 4, 7):
        few = fewest_seeds(endpoints)
        for seeds, enough in ((few, True), (few - 1, False)):
            d = spread_around(-100.0, 0.1, seeds)
            judged = judge([endpoint()] * endpoints, [d] * endpoints, Scale.SMALL)[0]
            assert (judged.p_confirmed <= ERROR_RATE / 2) == enough
            assert math.isinf(judged.detectable) != enough


def test_holm_is_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("kind", list(EndpointKind))
def test_wrong_verdicts_are_as_rare_as_stated(kind: EndpointKind) -> None:
    """400 tables at the edge of each hypothesis, where a wrong word is likeliest.

    The count of wrong words has a mean of at most 400 · 5 % = 20; beyond 37 it is by chance once in 10^4.
    """
    rng = np.random.default_rng(0)
    edge = 0.0 if kind is EndpointKind.LOWER else 1.0
    wrong = 0
    for d in rng.normal(edge, 1.0, size=(400, 12)):
        wrong += verdict(kind, d).startswith("confirmed")
    assert wrong <= 37


def test_the_detectable_effect_is_detected_as_often_as_stated() -> None:
    """Of 200 tables 80 % are expected; the standard deviation is 3 %, and the formula is for large S."""
    rng = np.random.default_rng(1)
    effect = detectable(1.0, 16, 2)
    seen = 0
    for _ in range(200):
        d = rng.normal(-effect, 1.0, size=(2, 16))
        seen += judge([endpoint()] * 2, list(d), Scale.SMALL)[0].verdict.startswith("confirmed")
    assert 0.68 < seen / 200 < 0.92


def test_an_interval_holds_the_mean_and_is_the_same_again() -> None:
    d = spread_around(2.0, 1.0)
    low, high = bootstrap_interval(d)
    assert low < 2.0 < high
    assert (low, high) == bootstrap_interval(d)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: endpoint(margin=0.0), "margin"),
        (lambda: Endpoint("c", "m", ("a",), ("b",), EndpointKind.LOWER, 1.0, spread=True), "arms"),
        (lambda: judge([endpoint()], [], Scale.SMALL), "pairs"),
        (lambda: judge([endpoint()], [np.ones(1)], Scale.SMALL), "seeds"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        call()
