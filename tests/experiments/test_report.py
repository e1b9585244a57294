"""The rules by which a printed figure and ours are called equal, near or apart."""

import json
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refblo.errors import ArgumentError
from refblo.experiments.report import (
    ENOUGH_RUNS,
    MOST_NUMBERS,
    REPORT_FORMAT,
    TAIL,
    ExperimentReport,
    ExperimentRow,
    ExperimentVerdict,
    Scale,
    agrees_to_printed_digits,
    decimals,
    deterministic_row,
    each_run,
    seeded_row,
)


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_a_figure_agrees_with_its_own_rounding(whole: int, digits: int) -> None:
    value = whole / 10**digits
    assert agrees_to_printed_digits(f"{value:.{digits}f}", value)


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from((-1, 1)))
def test_a_figure_one_unit_off_does_not_agree(whole: int, digits: int, sign: int) -> None:
    value = whole / 10**digits
    off = value + sign * 10.0**-digits
    assert not agrees_to_printed_digits(f"{value:.{digits}f}", off)


@pytest.mark.parametrize("printed", ["", "0.7x", "12 ± 1", "1e-3", "0."])
def test_what_is_no_decimal_is_refused(printed: str) -> None:
    if printed == "0.":
        assert decimals(printed) == 0
        return
    with pytest.raises(ArgumentError, match="printed must be a decimal"):
        decimals(printed)


def test_a_deterministic_row_says_whether_the_digits_agree() -> None:
    good = deterministic_row("a", "λ*", "0.7360", 0.73604, "s")
    poor = deterministic_row("a", "λ*", "0.7360", 0.73606, "s")
    bare = deterministic_row("a", "λ*", None, 0.73606, "s")
    assert (good.verdict, good.agrees) == (ExperimentVerdict.REPRODUCED, True)
    assert (poor.verdict, poor.agrees) == (ExperimentVerdict.NOT_REPRODUCED, False)
    assert (bare.verdict, bare.agrees) == (ExperimentVerdict.MEASURED, None)


def test_a_figure_far_outside_the_runs_is_not_reproduced() -> None:
    values = np.linspace(0.70, 0.72, ENOUGH_RUNS)
    assert seeded_row("a", "λ*", "0.7488", values, "s").verdict is ExperimentVerdict.NOT_REPRODUCED
    assert seeded_row("a", "λ*", "0.6988", values, "s").verdict is ExperimentVerdict.NOT_REPRODUCED
    assert (
        seeded_row("a", "λ*", "0.7488", values, "s", stated=False).verdict
        is ExperimentVerdict.TRIED
    )


def test_too_few_runs_accuse_no_figure() -> None:
    values = np.linspace(0.70, 0.72, ENOUGH_RUNS - 2)
    assert seeded_row("a", "λ*", "0.7488", values, "s").verdict is ExperimentVerdict.WITHIN_SPREAD


def test_a_figure_among_the_runs_is_within_their_spread() -> None:
    values = np.linspace(0.70, 0.72, ENOUGH_RUNS + 1)
    row = seeded_row("a", "λ*", "0.7100", values, "s")
    assert row.verdict is ExperimentVerdict.WITHIN_SPREAD
    assert row.percentile == pytest.approx(50)
    assert (
        seeded_row("a", "λ*", "0.7100", values, "s", stated=False).verdict
        is ExperimentVerdict.OTHER_SETTINGS
    )


def test_one_more_run_is_accused_as_often_as_stated() -> None:
    # 4000 fresh runs among 999 others: the accusation rate is 2·TAIL = 1 % up to the luck of the 999,
    # whose tail shares have standard deviation sqrt(TAIL / 1000) = 0.0022 each, so 0.0032 together, and
    # the 4000 add 0.0016; 5 standard deviations of both together allow 0.018 (error rate below 1e-6).
    rng = np.random.Generator(np.random.Philox(1))
    others, fresh = rng.standard_normal(999), rng.standard_normal(4000)
    accused = sum(
        seeded_row("a", "λ*", f"{value:.9f}", others, "s").verdict
        is ExperimentVerdict.NOT_REPRODUCED
        for value in fresh
    )
    assert abs(accused / fresh.size - 2 * TAIL) < 0.018


def test_a_report_is_valid_json_with_every_setting() -> None:
    row = seeded_row("a", "λ*", "0.7100", np.linspace(0.70, 0.72, 300), "γ = 0.005")
    text = ExperimentReport(
        "table-2", "w", Scale.SMOKE, 3, (row,), ("found",), ("p.png",), 1.0
    ).to_json()
    content = json.loads(text)
    assert content["scale"] == "smoke"
    assert content["rows"][0]["setting"] == "γ = 0.005"
    assert content["rows"][0]["verdict"] == ExperimentVerdict.WITHIN_SPREAD.value
    assert content["rows"][0]["agrees to the printed digits"] is True
    assert (content["format"], content["refblo"]) == (REPORT_FORMAT, version("refblo"))


@pytest.mark.parametrize("lost", [False, True])
def test_a_report_holds_the_number_of_each_run(lost: bool) -> None:
    values = np.array([0.7, np.nan if lost else 0.1, 0.3])
    row = ExperimentRow(
        "a", "error", None, 0.5, ExperimentVerdict.MEASURED, "s", runs=3, numbers=each_run(values)
    )
    text = ExperimentReport("toy", "w", Scale.SMOKE, 3, (row,)).to_json()
    assert json.loads(text)["rows"][0]["numbers"] == [0.7, None if lost else 0.1, 0.3]


def test_a_row_of_very_many_runs_holds_their_mean_alone() -> None:
    few, many = np.linspace(0, 1, MOST_NUMBERS), np.linspace(0, 1, MOST_NUMBERS + 1)
    assert seeded_row("a", "λ*", None, few, "s").numbers == tuple(few.tolist())
    assert seeded_row("a", "λ*", "0.7100", many, "s").numbers == ()
